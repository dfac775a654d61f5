package snapshot

import "github.com/infrapuzzle/kscertctl/orchestrator/certs"

// Authority returns the certificate of a CA on the node, in its own place.
func (n Node) Authority(name certs.Authority) (certs.Certificate, bool) {
	for _, row := range certs.Table() {
		if row.CA && !row.Copy && row.Authority == name {
			if c, ok := n.Certificate(row.Kind); ok {
				return c, true
			}
		}
	}
	return certs.Certificate{}, false
}

// AuthorityAt returns the certificate of a CA whose file, as Digests names it, is at a path.
func (n Node) AuthorityAt(path string) (certs.Authority, certs.Certificate) {
	folders := map[certs.Base]string{certs.PKI: n.Facts["pki-real"], certs.EtcdPKI: n.Facts["etcd-dir"]}
	for _, row := range certs.Table() {
		if dir := folders[row.Base]; row.CA && dir != "" && dir+"/"+row.Path == path {
			c, _ := n.Certificate(row.Kind)
			return row.Authority, c
		}
	}
	return "", certs.Certificate{}
}
