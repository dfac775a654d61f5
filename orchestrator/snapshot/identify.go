package snapshot

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// folders maps each base to the fact that names its directory on the node.
var folders = map[certs.Base]string{
	certs.PKI:     "pki",
	certs.Config:  "config-dir",
	certs.Kubelet: "kubelet-dir",
	certs.EtcdPKI: "etcd-dir",
	certs.Home:    "home-dir",
	certs.Calico:  "calico-dir",
	certs.Cilium:  "cilium-dir",
}

// identify sets the purpose of each certificate, its signer and whether its key is its own. The
// error wraps ErrTooMuch.
func (n *reading) identify() error {
	n.checkKubeconfigs()
	var issuers []certs.Issuer
	listed := map[string]certs.Authority{} // a CA is in many places: its signatures are verified once
	issuer := func(a certs.Authority, x *x509.Certificate) {
		if as, ok := listed[string(x.Raw)]; !ok || a != "" && a != as {
			listed[string(x.Raw)] = a
			issuers = append(issuers, certs.Issuer{Authority: a, Certificate: x})
		}
	}
	rows := make([]certs.Row, len(n.Certificates))
	for i := range n.Certificates {
		c := &n.Certificates[i]
		if c.Served {
			continue
		}
		row, keyFile := n.row(c.Path)
		rows[i] = row
		c.Kind = cmp.Or(row.Kind, certs.KindUnknown)
		for _, l := range n.logins[c.Path] {
			if l.certificate == i && l.key != "" {
				keyFile = l.key
			}
		}
		c.Key = n.keyState(*c, keyFile)
		if row.Authority != "" {
			issuer(row.Authority, n.chains[i][0])
		}
	}
	n.settleKeys()
	compared := len(issuers) > 0
	// Other trusted CAs: none of them has signed for the cluster.
	for i, c := range n.Certificates {
		if c.IsCA && !c.Served && rows[i].Authority == "" {
			issuer("", n.chains[i][0])
		}
	}
	for _, ca := range n.trusted {
		issuer("", ca)
	}
	checks := maxSignatures
	names := map[*x509.Certificate]string{}
	signsAs := func(ca *x509.Certificate) string {
		if names[ca] == "" {
			names[ca] = certs.Describe(ca).SignsAs()
		}
		return names[ca]
	}
	for i, row := range rows {
		// Two CAs may share a key: the one that the place requires counts.
		mine := slices.Clone(issuers)
		slices.SortStableFunc(mine, func(a, b certs.Issuer) int {
			wanted := func(i certs.Issuer) bool { return i.Authority != "" && i.Authority == row.Signer }
			return rank(wanted(a)) - rank(wanted(b))
		})
		by, signers := certs.Signers(n.chains[i][0], n.chains[i][1:], mine, &checks)
		n.Certificates[i].SignedBy = by
		for _, ca := range signers {
			n.Certificates[i].Signers = append(n.Certificates[i].Signers, signsAs(ca))
		}
	}
	if checks < 0 {
		return fmt.Errorf("more than %d signatures to verify: %w", maxSignatures, ErrTooMuch)
	}
	n.dropOthers(compared)
	return nil
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// row is that of Node, or the one for files that kubeconfigs name.
func (n *reading) row(file string) (row certs.Row, keyFile string) {
	if row, keyFile := n.Node.row(file); row.Kind != "" {
		return row, keyFile
	}
	if _, l, ok := n.refers(file); ok {
		row, _ := certs.Lookup(certs.KindKubeconfigFile)
		return row, cmp.Or(l.key, file)
	}
	return certs.Row{}, ""
}

// At is what the place alone determines about a certificate.
func (n Node) At(file string) certs.Certificate {
	row, _ := n.row(file)
	return certs.Certificate{Kind: cmp.Or(row.Kind, certs.KindUnknown), Path: file}
}

// row finds the row of the table for a file's place, and the path of its key; a zero row if there
// is none.
func (n Node) row(file string) (row certs.Row, keyFile string) {
	if file == n.KubeletConf() {
		row, _ := certs.Lookup(certs.KindKubeletConf)
		return row, file
	}
	for _, row := range certs.Table() {
		if row.Base == certs.Setting {
			if n.Facts[row.Path] == file {
				return row, cmp.Or(n.Facts[row.Key], file)
			}
			continue
		}
		dir := n.Facts[folders[row.Base]]
		rel, below := strings.CutPrefix(file, dir+"/")
		if ok, err := path.Match(row.Path, rel); dir == "" || !below || !ok || err != nil {
			continue
		}
		if key := row.KeyFile(rel); key != "" {
			return row, path.Join(dir, key)
		}
		return row, file
	}
	return certs.Row{}, ""
}

// keyState compares the certificate with what was found of its key.
func (n *reading) keyState(c certs.Certificate, keyFile string) certs.KeyState {
	sums := n.keys[keyFile]
	switch {
	case keyFile == "" || n.Facts["openssl"] == "":
		return ""
	case len(sums) == 0:
		return certs.KeyMissing
	case slices.Contains(sums, c.PublicKey):
		return certs.KeyMatches
	case slices.Contains(sums, "unreadable"):
		return certs.KeyUnreadable
	default:
		return certs.KeyMismatch
	}
}

// settleKeys: with several CAs in a file the key next to it belongs to one of them, and proves
// nothing about the others.
func (n *reading) settleKeys() {
	settled := map[string]bool{}
	for _, c := range n.Certificates {
		settled[c.Path] = settled[c.Path] || c.Position > 0 && c.Key == certs.KeyMatches
	}
	for i := range n.Certificates {
		c := &n.Certificates[i]
		if c.Key == certs.KeyMismatch && (c.Position > 0 && settled[c.Path] || c.Position > 1) {
			c.Key = ""
		}
	}
}
