package run

import "github.com/infrapuzzle/kscertctl/orchestrator/certs"

// AuthoritiesFile has the CA certificates that a run has re-issued.
const AuthoritiesFile = "authorities.json"

// AuthoritiesSchema is the version of AuthoritiesFile.
const AuthoritiesSchema = 1

type authoritiesDocument struct {
	Schema int `json:"schema"`
	// Authorities are certificates in PEM, by the name of the CA.
	Authorities map[certs.Authority]string `json:"authorities"`
}

// SaveAuthorities saves the CA certificates of this run, in PEM: they are checked, and every node
// gets them, also when the run is resumed.
func (d *Dir) SaveAuthorities(pem map[certs.Authority]string) error {
	return d.Save(AuthoritiesFile, authoritiesDocument{AuthoritiesSchema, pem})
}

// LoadAuthorities returns the saved CA certificates of a run; none if it has none, or was stopped
// before.
func LoadAuthorities(root, id string) (map[certs.Authority]string, error) {
	doc := authoritiesDocument{Authorities: map[certs.Authority]string{}}
	if err := loadNoted(root, id, AuthoritiesFile, AuthoritiesSchema, &doc); err != nil {
		return nil, err
	}
	return doc.Authorities, nil
}
