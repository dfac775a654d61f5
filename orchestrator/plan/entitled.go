package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Entitled returns the CA that must sign the successor of a certificate that a node reports, by a file
// on a control plane, or on a node of etcd for its CA. The error is why the node must not have one: what
// a node reports proves nothing. Its roles are those of the inventory, the CA is one that every control
// plane has, and a kubelet can only be that of its own node.
func Entitled(s snapshot.Snapshot, n snapshot.Node, c certs.Certificate) (certs.Certificate, error) {
	row, _ := certs.Lookup(c.Kind)
	if !belongs(n, row, c) {
		return certs.Certificate{}, fmt.Errorf("no node with its roles in the inventory has the certificate %s",
			c.Label())
	}
	if isKubelet(row.Kind) {
		switch {
		case c.CommonName != "system:node:"+s.NameOf(n) || !slices.Equal(c.Organizations, []string{"system:nodes"}):
			return certs.Certificate{}, fmt.Errorf("it is for %s, and not for that node", c.Subject)
		case len(c.SANs) > 0 || !slices.Equal(c.Usages, []string{"client auth"}):
			return certs.Certificate{}, fmt.Errorf("a kubelet's has no names and is for client auth only, and it has "+
				"the names %q and the usages %q", c.SANs, c.Usages)
		}
	}
	agreed, err := agreed(s, row.Signer)
	if err != nil {
		return certs.Certificate{}, err
	}
	for _, signer := range c.Signers {
		if ca, ok := agreed[signer]; ok && c.SignedBy == row.Signer {
			return ca, nil
		}
	}
	return certs.Certificate{}, fmt.Errorf("the %s of the control planes has not signed it", row.Signer)
}

// belongs reports whether a node of these roles has such a certificate: control planes have any, and
// others their kubelet's and what etcd, or a client of it such as Calico, needs.
func belongs(n snapshot.Node, row certs.Row, c certs.Certificate) bool {
	host, _ := strings.CutPrefix(strings.TrimSuffix(path.Base(c.Path), ".pem"), "node-")
	switch {
	case n.Is(cluster.ControlPlane):
		return true
	case isKubelet(row.Kind):
		return n.Is(cluster.Worker)
	case row.Signer == certs.EtcdHostCA:
		return n.Is(cluster.Etcd) || row.Kind == certs.KindEtcdNode && host == n.Name
	case row.Signer == certs.EtcdCA:
		return n.Is(cluster.Etcd) && row.Kind != certs.KindAPIServerEtcdClient
	default:
		return false
	}
}

// agreed are the CAs of a name that every control plane has, as far as it was inspected, by
// Certificate.SignsAs; of one that was issued again the one that expires last. A CA of etcd must be on
// every node of etcd, too. A node that has none of that name does not count.
func agreed(s snapshot.Snapshot, name certs.Authority) (map[string]certs.Certificate, error) {
	var common map[string]certs.Certificate
	who, ofEtcd := "control planes", name == certs.EtcdCA || name == certs.EtcdHostCA
	if ofEtcd {
		who += " and nodes of etcd"
	}
	for _, n := range s.Nodes {
		if !n.Is(cluster.ControlPlane) && (!ofEtcd || !n.Is(cluster.Etcd)) {
			continue
		}
		has := map[string]certs.Certificate{}
		for _, ca := range n.Certificates {
			row, _ := certs.Lookup(ca.Kind)
			known := has[ca.SignsAs()]
			if row.CA && !row.Copy && row.Authority == name && !ca.Served && !s.Unused(n, ca) &&
				!ca.NotAfter.Before(known.NotAfter) {
				has[ca.SignsAs()] = ca
			}
		}
		switch {
		case len(has) == 0:
		case common == nil:
			common = has
		default:
			for signer := range common {
				if _, too := has[signer]; !too {
					delete(common, signer)
				}
			}
		}
	}
	switch {
	case common == nil:
		return nil, fmt.Errorf("no control plane has reported the %s", name)
	case len(common) == 0:
		return nil, fmt.Errorf("the %s do not agree on the key of the %s", who, name)
	}
	return common, nil
}
