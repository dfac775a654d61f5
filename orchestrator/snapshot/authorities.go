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

// FilesOf are the paths of the certificate and the key of a CA on the node, as Digests names them.
func (n Node) FilesOf(name certs.Authority) []string {
	for _, row := range certs.Table() {
		if dir := n.realDir(row.Base); row.CA && !row.Copy && row.Authority == name && dir != "" {
			return []string{dir + "/" + row.Path, dir + "/" + row.Key}
		}
	}
	return nil
}

// realDir is a directory of CAs by its real path; empty for others.
func (n Node) realDir(base certs.Base) string {
	return map[certs.Base]string{certs.PKI: n.Facts["pki-real"], certs.EtcdPKI: n.Facts["etcd-dir"]}[base]
}

// AuthorityAt returns the certificate of a CA whose file, as Digests names it, is at a path.
func (n Node) AuthorityAt(path string) (certs.Authority, certs.Certificate) {
	for _, row := range certs.Table() {
		if dir := n.realDir(row.Base); row.CA && dir != "" && dir+"/"+row.Path == path {
			c, _ := n.Certificate(row.Kind)
			return row.Authority, c
		}
	}
	return "", certs.Certificate{}
}
