package diagnosis

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// checkCertificate finds what is wrong with one certificate on disk by itself: its dates and its
// key.
func (d *Diagnosis) checkCertificate(s snapshot.Snapshot, n snapshot.Node, c certs.Certificate, t Thresholds) {
	row, known := certs.Lookup(c.Kind)
	if !known {
		switch status := c.StatusAt(n.Clock, t.RenewBefore); status {
		case certs.Valid:
		case certs.NotYetValid:
			d.add(OtherExpiring, n.Name, c.Path,
				fmt.Sprintf("%s is valid from %s", c.Path, c.NotBefore.Format(time.RFC3339)))
		case certs.Expired, certs.Expiring:
			d.add(OtherExpiring, n.Name, c.Path,
				fmt.Sprintf("%s expires at %s", c.Path, c.Ends().Format(time.RFC3339)))
		}
		return
	}
	status := c.StatusAt(n.Clock, n.Window(row, c, t.RenewBefore))
	if row.Own() {
		d.checkOwn(n, c, status)
		return
	}
	if n.Copies(row) {
		d.checkCopy(n, c, status)
		return
	}
	switch c.Key {
	case certs.KeyMismatch:
		d.add(KeyMismatch, n.Name, c.Label(),
			fmt.Sprintf("the private key of %s does not match the public key of the certificate (%s)", c.Path,
				short(c.PublicKey)))
	case certs.KeyUnreadable:
		d.add(CertificateUnreadable, n.Name, c.Label(), "the private key of "+c.Path+" cannot be read")
	case certs.KeyMatches, certs.KeyMissing:
	}
	ended := fmt.Sprintf("%s expired at %s", c.Path, c.Ends().Format(time.RFC3339))
	ends := fmt.Sprintf("%s expires at %s", c.Path, c.Ends().Format(time.RFC3339))
	switch {
	case status == certs.Valid:
	case status == certs.NotYetValid:
		reason := CertificateNotYetValid
		switch early := !row.CA && clocksAgree(s, t) && authorityHolds(s, n, row.Signer); {
		case early && row.Approved:
			reason = CertificateUnapproved
		case early:
			reason = CertificateBeginsLater
			d.Due[n.Name] = append(d.Due[n.Name], c.Kind)
		}
		d.add(reason, n.Name, c.Label(), fmt.Sprintf("%s is valid from %s, the node's clock is at %s",
			c.Path, c.NotBefore.Format(time.RFC3339), n.Clock.Format(time.RFC3339)))
	case row.Approved && status == certs.Expired:
		d.add(CertificateUnapproved, n.Name, c.Label(), ended)
	case row.Approved:
		d.add(CertificateUnapproved, n.Name, c.Label(), ends)
	case status == certs.Expired && row.CA:
		d.add(CAExpired, n.Name, c.Label(), ended)
	case status == certs.Expired:
		d.add(expired[row.Group], n.Name, c.Label(), ended)
		d.Due[n.Name] = append(d.Due[n.Name], c.Kind)
	case row.CA:
		d.add(CAExpiring, n.Name, c.Label(), ends)
	default:
		d.add(CertificateExpiring, n.Name, c.Label(), ends)
		d.Due[n.Name] = append(d.Due[n.Name], c.Kind)
	}
}

// clocksAgree reports whether every node's clock agrees with the control node's: then a certificate
// that is not valid yet was issued by a clock that was wrong, and is not any more.
func clocksAgree(s snapshot.Snapshot, t Thresholds) bool {
	return !slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool {
		return n.Failure == nil && !s.Unjoined(n) && skewed(n, s.Taken, t)
	})
}

// authorityHolds reports whether the CA that would issue a new certificate is known on the node, or
// else on a control plane, and valid; a self-signed certificate needs none.
func authorityHolds(s snapshot.Snapshot, n snapshot.Node, signer certs.Authority) bool {
	if signer == certs.SelfSigned {
		return true
	}
	known := false
	for _, at := range append([]snapshot.Node{n}, s.With(cluster.ControlPlane)...) {
		for _, c := range at.Certificates {
			if row, ok := certs.Lookup(c.Kind); ok && row.CA && row.Authority == signer && !c.Served &&
				!s.Unused(at, c) {
				if c.StatusAt(at.Clock, 0) == certs.Valid {
					return true
				}
				known = true
			}
		}
		if known {
			return false
		}
	}
	return false
}

// checkOwn: a file that a component uses outside of the places that are renewed is reported before
// and after it expires. It is never due, and explains no outage that a renewal would fix.
func (d *Diagnosis) checkOwn(n snapshot.Node, c certs.Certificate, status certs.Status) {
	row, _ := certs.Lookup(c.Kind)
	named := row.Path
	if row.Base == certs.Named {
		named = "a kubeconfig"
	}
	evidence := fmt.Sprintf("%s, which %s names, is valid from %s to %s", c.Path, named,
		c.NotBefore.Format(time.RFC3339), c.Ends().Format(time.RFC3339))
	switch status {
	case certs.Valid:
	case certs.Expiring:
		d.add(OwnExpiring, n.Name, c.Path, evidence)
	default:
		d.add(OwnInvalid, n.Name, c.Path, evidence)
	}
}

// checkCopy: another program's copy of a file is still that file's certificate, and valid.
func (d *Diagnosis) checkCopy(n snapshot.Node, c certs.Certificate, status certs.Status) {
	if status != certs.Valid {
		d.add(CopyStale, n.Name, c.Label(),
			fmt.Sprintf("%s is %s: it expires at %s", c.Path, status, c.Ends().Format(time.RFC3339)))
		return
	}
	var original certs.Certificate
	for _, o := range n.Certificates {
		row, known := certs.Lookup(o.Kind)
		if !known || o.Served || row.Copy || !o.SameUser(c) {
			continue
		}
		if o.Fingerprint == c.Fingerprint {
			return
		}
		original = o
	}
	if original.Path != "" {
		d.add(CopyStale, n.Name, c.Label(),
			fmt.Sprintf("%s (%s) is no longer %s (%s)", c.Path, short(c.Fingerprint), original.Path,
				short(original.Fingerprint)))
	}
}

// short is the beginning of a fingerprint, enough to tell two apart.
func short(fingerprint string) string { return fingerprint[:min(len(fingerprint), 12)] }

// --- what must be there --------------------------------------------------------

// required are the kinds without which a control plane does not work, whatever the layout of etcd
// (Kubernetes documentation, "PKI certificates and requirements"). The others are optional, or a
// kubelet makes them by itself.
var required = []certs.Kind{
	certs.KindAPIServer, certs.KindAPIServerKubeletClient, certs.KindFrontProxyClient,
	certs.KindAdmin, certs.KindControllerManagerConf, certs.KindSchedulerConf,
}

// requiredOfEtcd are those that kubeadm's own etcd needs next to its CA.
var requiredOfEtcd = []certs.Kind{certs.KindEtcdServer, certs.KindEtcdPeer, certs.KindAPIServerEtcdClient}

// authorities are kubeadm's CAs: the name below the PKI directory, and the kind.
var authorities = []struct {
	name string
	kind certs.Kind
}{{"ca", certs.KindCA}, {"front-proxy-ca", certs.KindFrontProxyCA}}

// checkFiles: the files that the node's role needs exist.
func (d *Diagnosis) checkFiles(s snapshot.Snapshot, n snapshot.Node) {
	pki := n.Facts["pki-real"]
	used := func(kind certs.Kind) bool {
		c, ok := n.Certificate(kind)
		return ok && !s.Unused(n, c)
	}
	etcdServer, etcdCA := used(certs.KindEtcdServer), used(certs.KindEtcdCA)
	if n.Is(cluster.ControlPlane) {
		for _, a := range authorities {
			d.checkAuthorityFiles(n, path.Join(pki, a.name))
		}
		// Kubeadm's own etcd; with an external one its CA has no key here.
		if etcdServer {
			d.checkAuthorityFiles(n, path.Join(pki, "etcd/ca"))
		}
	}
	for _, c := range n.Certificates {
		if row, known := certs.Lookup(c.Kind); known && c.Key == certs.KeyMissing && !c.Served && !s.Unused(n, c) &&
			(slices.Contains(required, c.Kind) || row.Outage != certs.NoOutage) {
			d.add(FileMissing, n.Name, "the key of "+c.Label(), "the private key of "+c.Path+" does not exist")
		}
	}
	if _, ok := n.Certificate(certs.KindCA); !ok {
		return // the directory may be elsewhere: what was not found there proves nothing
	}
	var kinds []certs.Kind
	if n.Is(cluster.ControlPlane) {
		kinds = append(kinds, required...)
		if etcdCA && n.Is(cluster.Etcd) && (n.Kubeadm == nil || len(n.Kubeadm.EtcdEndpoints) == 0) {
			if !used(certs.KindEtcdHostCA) {
				kinds = append(kinds, requiredOfEtcd...)
			}
		}
	}
	for _, kind := range kinds {
		row, known := certs.Lookup(kind)
		if !known {
			continue
		}
		dir := n.Facts["pki"]
		if row.Base == certs.Config {
			dir = n.Facts["config-dir"]
		}
		file := path.Join(dir, row.Path)
		if uses, known := n.Uses(certs.Certificate{Kind: kind, Path: file}); !has(n, kind, file) && (uses || !known) {
			d.add(FileMissing, n.Name, file, file+" does not exist")
		}
	}
	if n.Is(cluster.ControlPlane) || n.Is(cluster.Worker) {
		d.checkKubeletFiles(n)
	}
	if member := path.Join(n.Facts["etcd-dir"], "member-"+n.Name+".pem"); n.Is(cluster.Etcd) && !has(n, "", member) {
		if c, others := n.Certificate(certs.KindEtcdMember); others && strings.HasPrefix(path.Base(c.Path), "member-") {
			d.add(FileMissing, n.Name, member, member+" does not exist, but that of another member does")
		}
	}
}

// staticPods are kubeadm's own (kubeadm, app/constants).
var staticPods = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// checkManifestFolder: other files in the directory of manifests. The kubelet reads every file
// whose name does not begin with a dot (Kubernetes, pkg/kubelet/config/file.go), so a copy with
// another extension is run next to the original, or in its place.
func (d *Diagnosis) checkManifestFolder(n snapshot.Node) {
	// By digest, and by the pod's name: the original is the file with the name of its pod, which
	// kubeadm uses, or else the shorter name.
	original := map[string]string{}
	copied := func(file string) int {
		base := path.Base(file)
		if name := strings.TrimSuffix(base, path.Ext(base)); name == path.Base(n.Pods[file]) ||
			slices.Contains(staticPods, name) {
			return 0
		}
		return 1
	}
	files := slices.SortedFunc(maps.Keys(n.Files), func(a, b string) int {
		return cmp.Or(copied(a)-copied(b), len(a)-len(b), strings.Compare(a, b))
	})
	for _, file := range files {
		if path.Dir(file) != path.Join(n.Facts["config-dir"], "manifests") {
			continue
		}
		digest, pod := n.Files[file], n.Pods[file]
		switch same := cmp.Or(original[digest], original[pod]); {
		case !slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(file)):
			d.add(ManifestCopy, n.Name, file, file+" is read as a manifest, under any name")
		case same != "":
			d.add(ManifestCopy, n.Name, file, file+" defines the same pod as "+same)
		default:
			original[digest] = file
			if pod != "" {
				original[pod] = file
			}
		}
	}
}

func (d *Diagnosis) checkAuthorityFiles(n snapshot.Node, file string) {
	name := strings.TrimPrefix(file, n.Facts["pki-real"]+"/")
	_, cert := n.Digests[file+".crt"]
	_, key := n.Digests[file+".key"]
	switch {
	case !cert:
		d.add(CAMissing, n.Name, name, file+".crt does not exist")
	case !key:
		d.add(CAKeyMissing, n.Name, name, file+".key does not exist")
	}
}

// checkKubeletFiles: kubelet.conf, and the certificate it refers to. A kubelet that is about to
// bootstrap has neither.
func (d *Diagnosis) checkKubeletFiles(n snapshot.Node) {
	conf := n.KubeletConf()
	bootstraps := slices.ContainsFunc(n.Kubeconfigs,
		func(k snapshot.Kubeconfig) bool { return path.Base(k.Path) == "bootstrap-kubelet.conf" })
	switch {
	case has(n, certs.KindKubeletConf, conf): // of a bootstrap that is over, the other file is left
	case bootstraps:
		return
	default:
		d.add(FileMissing, n.Name, conf, conf+" does not exist")
		return
	}
	file, broken := brokenPair(n)
	if !broken {
		return
	}
	if !has(n, certs.KindKubeletClient, file) { // else there is a finding why it cannot be read
		d.add(CertificateUnreadable, n.Name, file, conf+" refers to "+file+", which does not exist")
	}
	d.Due[n.Name] = append(d.Due[n.Name], certs.KindKubeletClient)
}

// brokenPair finds the kubelet's client file if no certificate is in it, or if it is gone and
// kubelet.conf refers to it: the kubelet does not start with it, and gets another.
func brokenPair(n snapshot.Node) (file string, broken bool) {
	if _, ok := n.Certificate(certs.KindKubeletClient); ok {
		return "", false
	}
	for _, u := range n.Unreadable {
		if path.Base(u.Path) == snapshot.KubeletPair {
			return u.Path, true
		}
	}
	conf := n.KubeletConf()
	i := slices.IndexFunc(n.Kubeconfigs, func(k snapshot.Kubeconfig) bool {
		return k.Path == conf && path.Base(k.ClientCertificateFile) == snapshot.KubeletPair
	})
	if i < 0 {
		return "", false
	}
	return n.Kubeconfigs[i].ClientCertificateFile, true
}

// has reports whether a file is on the node: its certificate, its kubeconfig, or the file without a
// certificate in it.
func has(n snapshot.Node, kind certs.Kind, file string) bool {
	if _, ok := n.Certificate(kind); ok {
		return true
	}
	return slices.ContainsFunc(n.Certificates, func(c certs.Certificate) bool { return c.Path == file }) ||
		slices.ContainsFunc(n.Kubeconfigs, func(k snapshot.Kubeconfig) bool { return k.Path == file }) ||
		slices.ContainsFunc(n.Unreadable, func(u snapshot.Unreadable) bool { return u.Path == file })
}
