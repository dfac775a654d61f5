package snapshot

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// kubeconfigText is a kubeconfig as the collector brings it: YAML or JSON, in which every word that
// is not known to be public is replaced by a number, the same one each time.
type kubeconfigText struct {
	CurrentContext string              `yaml:"current-context"`
	Clusters       []kubeconfigCluster `yaml:"clusters"`
	Contexts       []kubeconfigContext `yaml:"contexts"`
	Users          []kubeconfigUser    `yaml:"users"`
}

type kubeconfigCluster struct {
	Name    string `yaml:"name"`
	Cluster struct {
		Server string `yaml:"server"`
		CA     string `yaml:"certificate-authority-data"`
	} `yaml:"cluster"`
}

type kubeconfigContext struct {
	Name    string `yaml:"name"`
	Context struct {
		Cluster string `yaml:"cluster"`
		User    string `yaml:"user"`
	} `yaml:"context"`
}

type kubeconfigUser struct {
	Name string `yaml:"name"`
	User struct {
		Certificate string `yaml:"client-certificate-data"`
		File        string `yaml:"client-certificate"`
		Key         string `yaml:"client-key"`
		KeyData     string `yaml:"client-key-data"`
	} `yaml:"user"`
}

// login is the client certificate of a user in a kubeconfig: in the file, by its index among the
// node's, or in a file of its own.
type login struct {
	certificate int
	file, key   string
	// current: the user is that of the current context.
	current bool
}

// notEmbedded means that no certificate is in a kubeconfig itself.
const notEmbedded = -1

// readKubeconfig: metadata path, with the text. If it is not understood, the reason is kept:
// identify knows whether the path is for a kubeconfig at all.
func readKubeconfig(n *reading, f []string, text []byte) error {
	file, err := metadata(f)
	if err != nil {
		return err
	}
	k := Kubeconfig{Path: f[5]}
	defer func() { n.Kubeconfigs = append(n.Kubeconfigs, k) }()
	var doc kubeconfigText
	var tree yaml.Node
	switch {
	case file.Size == 0:
		n.misread[k.Path] = "it is empty"
		return nil
	case yaml.Unmarshal(text, &tree) != nil ||
		lastOfKeys(&tree).Decode(&doc) != nil: // the error may be long, and has quotes
		n.misread[k.Path] = "it is not a kubeconfig: neither YAML nor JSON that can be parsed"
		return nil
	}
	inUse, of, unused := doc.current()
	if of >= 0 && of < len(doc.Clusters) {
		c := doc.Clusters[of].Cluster
		k.Server = c.Server
		chain, err := n.fromBase64(c.CA)
		switch {
		case c.CA == "":
		case errors.Is(err, ErrTooMuch):
			return fmt.Errorf("%s: %w", k.Path, err)
		case err != nil:
			n.without[k.Path] = "certificate-authority-data: " + err.Error()
		default:
			k.trust(chain)
			n.trusted = append(n.trusted, chain...)
		}
	}
	// The user of the current context first.
	slices.SortStableFunc(doc.Users, func(a, b kubeconfigUser) int { return rank(inUse(a)) - rank(inUse(b)) })
	for _, u := range doc.Users {
		l := login{certificate: notEmbedded, file: relativeTo(k.Path, u.User.File), key: relativeTo(k.Path, u.User.Key),
			current: inUse(u)}
		if u.User.KeyData != "" { // counts before the file (client-go, clientcmd: getUserIdentificationPartialConfig)
			l.key = ""
		}
		if l.current && k.ClientCertificateFile == "" && u.User.Certificate == "" {
			k.ClientCertificateFile = l.file
		}
		if u.User.Certificate != "" {
			chain, err := n.fromBase64(u.User.Certificate)
			if errors.Is(err, ErrTooMuch) {
				return fmt.Errorf("%s: %w", k.Path, err)
			}
			if err != nil {
				if l.current { // another user's does not matter here
					n.without[k.Path] = "client-certificate-data: " + err.Error()
				}
				continue
			}
			if l.current && k.ClientFingerprint == "" {
				k.ClientFingerprint = certs.Describe(chain[0]).Fingerprint
			}
			if n.lists(k.Path, chain[0]) {
				continue // of two users, or of an alias
			}
			l.certificate, l.file = len(n.Certificates), ""
			n.add(certs.Certificate{Path: k.Path, File: file}, chain)
		}
		if l.certificate != notEmbedded || l.file != "" {
			n.logins[k.Path] = append(n.logins[k.Path], l)
		}
	}
	switch {
	case n.without[k.Path] != "":
	case len(doc.Users) == 0:
		n.without[k.Path] = "it names no user"
	case len(n.logins[k.Path]) == 0:
		n.without[k.Path] = noCertificate
	case unused != "":
		n.without[k.Path] = unused
	}
	return nil
}

// lastOfKeys drops from mappings all but the last of several entries with one key: that is the one
// which kubectl and the components take.
func lastOfKeys(n *yaml.Node) *yaml.Node {
	for _, child := range n.Content {
		lastOfKeys(child)
	}
	if n.Kind != yaml.MappingNode {
		return n
	}
	last := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		last[n.Content[i].Value] = i
	}
	var kept []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Kind != yaml.ScalarNode || last[key.Value] == i {
			kept = append(kept, key, n.Content[i+1])
		}
	}
	n.Content = kept
	return n
}

// noCertificate is why it is unknown how long a kubeconfig can be used.
const noCertificate = "its user logs in without a certificate, so its expiry is not known"

// trust records what a kubeconfig trusts.
func (k *Kubeconfig) trust(bundle []*x509.Certificate) {
	for i, x := range bundle {
		ca := certs.Describe(x)
		ca.Kind, ca.Path = certs.KindKubeconfigCA, k.Path
		if len(bundle) > 1 {
			ca.Position = i + 1
		}
		k.CAs = append(k.CAs, ca)
	}
	k.CAFingerprint, k.CANotAfter = k.CAs[0].Fingerprint, k.CAs[0].NotAfter
}

// current returns which user is that of the current context, and the index of its cluster. Without
// one, both are the first, and unused is why kubectl and the components use neither.
func (t kubeconfigText) current() (inUse func(kubeconfigUser) bool, of int, unused string) {
	var user string
	switch at := slices.IndexFunc(t.Contexts, func(c kubeconfigContext) bool { return c.Name == t.CurrentContext }); {
	case at >= 0:
		cluster := t.Contexts[at].Context.Cluster
		user = t.Contexts[at].Context.User
		of = slices.IndexFunc(t.Clusters, func(c kubeconfigCluster) bool { return c.Name == cluster })
		if !slices.ContainsFunc(t.Users, func(u kubeconfigUser) bool { return u.Name == user }) {
			unused = "the user of its current context does not exist"
		}
	case t.CurrentContext == "":
		unused = "it names no current context, so none of its users is used"
	default:
		unused = "its current context does not exist, so none of its users is used"
	}
	if unused != "" && user == "" && len(t.Users) > 0 {
		user = t.Users[0].Name
	}
	return func(u kubeconfigUser) bool { return u.Name == user }, of, unused
}

// relativeTo is the path of a file that a kubeconfig names, which may be relative to its own.
func relativeTo(kubeconfig, file string) string {
	switch {
	case file == "":
		return ""
	case path.IsAbs(file):
		return path.Clean(file)
	default:
		return path.Join(path.Dir(kubeconfig), file)
	}
}

// lists reports whether a certificate in a kubeconfig is listed already.
func (n *reading) lists(file string, c *x509.Certificate) bool {
	for i, listed := range n.Certificates {
		if listed.Path == file && n.chains[i][0].Equal(c) {
			return true
		}
	}
	return false
}

func (n *reading) fromBase64(s string) ([]*x509.Certificate, error) {
	n.encoded += len(s)
	if err := bounded("certificates in kubeconfigs", n.encoded, maxEncoded); err != nil {
		return nil, err
	}
	if strings.Contains(s, "-----BEGIN CERTIFICATE-----") { // decoded already, as !!binary
		return n.chain([]byte(s))
	}
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, fmt.Errorf("decoding base64: %w", err)
	}
	return n.chain(data)
}

// checkKubeconfigs reports the cluster's kubeconfigs that could not be understood. Root's own may
// log in otherwise, and so may a kubelet that joins.
func (n *reading) checkKubeconfigs() {
	for _, k := range n.Kubeconfigs {
		row, _ := n.row(k.Path)
		if row.Kind == "" { // another file, read only to see what it is
			n.Unreadable = slices.DeleteFunc(n.Unreadable, func(u Unreadable) bool { return u.Path == k.Path })
			continue
		}
		others := row.Base == certs.Home || row.Copy
		switch misread, without := n.misread[k.Path], n.without[k.Path]; {
		case misread != "" && !n.reported(k.Path):
			n.unreadable(k.Path, misread)
		case others:
		case without != "" && !n.reported(k.Path):
			n.unreadable(k.Path, without)
		case row.Kind != certs.KindKubeletConf: // that of the kubelet is checked with its files
			for _, l := range n.logins[k.Path] {
				if l.file != "" && l.current && !n.has(l.file) {
					n.unreadable(k.Path, "it refers to "+l.file+", in which no certificate was found")
				}
			}
		}
	}
}

// reported returns whether a file is already reported as one that cannot be read.
func (n *reading) reported(file string) bool {
	return slices.ContainsFunc(n.Unreadable, func(u Unreadable) bool { return u.Path == file })
}

// has reports whether a certificate was read from a file, or why none was. A file may have been
// listed under another name, if directories are links.
func (n *reading) has(file string) bool {
	same := func(p string) bool { return path.Base(p) == path.Base(file) }
	return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool { return same(c.Path) }) ||
		n.reported(file)
}

// refers finds the login that names a file as its certificate, and the kubeconfig.
func (n *reading) refers(file string) (kubeconfig string, l login, ok bool) {
	for _, k := range n.Kubeconfigs {
		for _, l := range n.logins[k.Path] {
			if l.file == file {
				return k.Path, l, true
			}
		}
	}
	return "", login{}, false
}

// dropOthers drops what kubeconfigs hold for other clusters: what none of the node's CAs has
// signed, of users other than that of the current context, and of all in root's own. Without a CA
// to compare with, all stays.
func (n *reading) dropOthers(compared bool) {
	other := map[int]bool{}
	for _, k := range n.Kubeconfigs {
		row, _ := n.row(k.Path)
		for _, l := range n.logins[k.Path] {
			if l.certificate != notEmbedded && (!l.current || row.Base == certs.Home) {
				other[l.certificate] = true
			}
		}
	}
	var kept []certs.Certificate
	for i, c := range n.Certificates {
		if k, l, ok := n.refers(c.Path); ok && c.Kind == certs.KindKubeconfigFile {
			row, _ := n.row(k)
			other[i] = !l.current || row.Base == certs.Home
		}
		if !compared || !other[i] || cmp.Or(c.SignedBy, certs.SelfSigned) != certs.SelfSigned {
			kept = append(kept, c)
		}
	}
	n.Certificates, n.chains = kept, nil
	n.checkDropped()
}

// checkDropped reports the cluster's kubeconfigs of which nothing is left but users without a
// certificate.
func (n *reading) checkDropped() {
	for _, k := range n.Kubeconfigs {
		row, _ := n.row(k.Path)
		logins := n.logins[k.Path]
		named := func(l login) bool { return l.current || l.file != "" }
		left := func(c certs.Certificate) bool { return c.Path == k.Path }
		if row.Kind != "" && row.Base != certs.Home && !row.Copy && len(logins) > 0 &&
			!slices.ContainsFunc(logins, named) &&
			!slices.ContainsFunc(n.Certificates, left) && !n.reported(k.Path) {
			n.unreadable(k.Path, noCertificate)
		}
	}
}
