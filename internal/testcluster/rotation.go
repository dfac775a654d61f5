package testcluster

import (
	"path"
	"slices"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Next is the variant of a CA that follows it in a rotation.
const Next = "next"

// signing is the file with which kube-controller-manager signs.
const signing = "kube-controller-manager.cluster-signing-cert-file"

// Signing has kube-controller-manager sign with a file of the PKI.
func Signing(file string) NodeEdit {
	return func(n *snapshot.Node) {
		if n.Is(cluster.ControlPlane) {
			n.Facts[signing] = path.Join(PKI, file)
		}
	}
}

// rotated are the files of the CAs that Rotating takes through stages: the next and the former one, and
// where the present one's directory is.
var rotated = map[certs.Kind]struct {
	next, former certs.Kind
	dir          string
	on           cluster.Role
}{
	certs.KindCA:           {certs.KindCANext, certs.KindCAFormer, PKI, cluster.ControlPlane},
	certs.KindFrontProxyCA: {certs.KindFrontProxyCANext, certs.KindFrontProxyCAFormer, PKI, cluster.ControlPlane},
	certs.KindEtcdHostCA:   {certs.KindEtcdHostCANext, certs.KindEtcdHostCAFormer, EtcdPKI, cluster.Etcd},
}

// Rotating takes the CA of a kind through the stages of a rotation, in their order, up to the one of
// that number; none if it is 0. It is the cluster's, that of the front proxy, or Kubespray's of etcd.
func Rotating(ca certs.Kind, stages int) NodeEdit {
	of := rotated[ca]
	row, _ := certs.Lookup(ca)
	return func(n *snapshot.Node) {
		_, has := n.Certificate(ca)
		if stages == 0 || !has {
			return
		}
		if n.Is(of.on) {
			for kind, variant := range map[certs.Kind]string{of.next: Next, of.former: ""} {
				file, _ := certs.Lookup(kind)
				c := CA(ca, variant)
				c.Kind, c.Path = kind, path.Join(of.dir, file.Path)
				if kind == of.next {
					c.Key = certs.KeyMatches
				}
				n.Certificates = append(n.Certificates, c)
			}
		}
		bundle := func(issuing string, variants ...string) {
			Bundle(ca, issuing, variants...)(n)
			if ca == certs.KindCA {
				Trusting("", variants...)(n)
			}
		}
		for _, at := range []struct {
			stage  int
			server bool
		}{{3, false}, {4, true}} {
			var kinds []certs.Kind
			for _, c := range n.Certificates {
				leaf, _ := certs.Lookup(c.Kind)
				if !c.Served && !leaf.CA && !leaf.Copy && leaf.Signer == row.Authority && leaf.OfServer() == at.server {
					kinds = append(kinds, c.Kind)
				}
			}
			if stages >= at.stage {
				IssuedBy(Next, slices.Compact(kinds)...)(n)
			}
		}
		if ca == certs.KindCA {
			Signing([]string{"ca.crt", "ca.crt", "ca-former.crt", "ca-next.crt", "ca-next.crt", "ca.crt"}[stages])(n)
		}
		switch {
		case stages > 4:
			bundle(Next, Next)
		case stages > 3:
			bundle(Next, Next, "")
		case stages > 1:
			bundle("", "", Next)
		}
	}
}
