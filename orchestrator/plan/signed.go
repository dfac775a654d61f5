package plan

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Signed is a certificate for a node that a CA outside of the cluster has signed.
type Signed struct {
	Node string `json:"node"`
	// File is where it was read, for messages.
	File string `json:"file"`
	// Certificate is PEM: the certificate, and after it the CAs that lead to one that is trusted.
	Certificate string `json:"certificate"`
}

// Limits of what a node gets in one command, which Linux bounds at 128 KiB (MAX_ARG_STRLEN), as for each of
// its variables: a certificate with its CAs, in PEM, and all of a node, as signedFor has them, next to a
// script of up to 45 KB.
const (
	MaxSigned     = 48000 // 64,000 in base64: roles/settings, vars/main.yml
	maxSignedNode = 75000
)

// requestAgain is what to do about a certificate that cannot be used.
const requestAgain = "have it signed as it was requested, request it again " +
	"(kscertctl ca csr -i INVENTORY --dir DIR), or remove the file"

// Replaceable are the certificates of a node, in its files, that a CA of the cluster signs and a step
// can replace, without those that no component uses.
func Replaceable(s snapshot.Snapshot, n snapshot.Node) []certs.Certificate {
	var out []certs.Certificate
	for _, row := range certs.Table() {
		if row.CA || row.Approved || row.Signer == certs.SelfSigned || n.Copies(row) {
			continue
		}
		if _, has := n.Certificate(certs.KindKubeletClient); has && row.Kind == certs.KindKubeletConf {
			continue // the kubelet's pair is in the other file
		}
		for _, c := range n.Certificates {
			if c.Kind == row.Kind && !c.Served && !s.Unused(n, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

// placed finds the kinds of certificates of each node that the signed ones replace; those that are in
// place already are left out. The error is a *SelectionError for a node that does not exist, and an
// *UnsupportedError for a certificate that must not be placed.
func (p Policy) placed(s snapshot.Snapshot) (map[string][]certs.Kind, error) {
	out := map[string][]certs.Kind{}
	files := map[string]string{} // of a node and a key
	sizes := map[string]int{}
	for _, given := range p.Signed {
		n, ok := s.Node(given.Node)
		switch {
		case !ok:
			return nil, &SelectionError{fmt.Sprintf("%s: the inventory has no host %s", given.File, given.Node),
				"name the directory after the host, as kscertctl ca csr has; see: ansible-inventory -i INVENTORY " +
					"--graph"}
		case n.Failure != nil:
			return nil, &UnsupportedError{fmt.Sprintf("nothing is known of %s (%s), for which %s is: see why with "+
				"kscertctl diagnose -i INVENTORY, or remove the file for now", given.Node, n.Failure.Message,
				given.File)}
		}
		chain, err := certs.ParseSigned([]byte(given.Certificate))
		if err == nil && len(given.Certificate) > MaxSigned {
			err = fmt.Errorf("it has %d bytes with its CAs, more than %d", len(given.Certificate), MaxSigned)
		}
		if err != nil {
			return nil, &UnsupportedError{fmt.Sprintf("%s cannot be used: %v; %s", given.File, err, requestAgain)}
		}
		is := certs.Describe(chain[0])
		if other, twice := files[given.Node+" "+is.PublicKey]; twice {
			return nil, &UnsupportedError{fmt.Sprintf("%s and %s are for the same key: leave only one of them there",
				other, given.File)}
		}
		files[given.Node+" "+is.PublicKey] = given.File
		found := false
		for _, c := range Replaceable(s, n) {
			if c.PublicKey != is.PublicKey {
				continue
			}
			found = true
			if c.Fingerprint == is.Fingerprint {
				continue
			}
			_, err := Entitled(s, n, c)
			if err == nil {
				err = certs.CheckSigned(c, chain, n.Clock)
			}
			if err != nil {
				return nil, &UnsupportedError{fmt.Sprintf("%s cannot replace %s of %s: %v; %s", given.File, c.Path,
					n.Name, err, requestAgain)}
			}
			if !slices.Contains(out[n.Name], c.Kind) {
				out[n.Name] = append(out[n.Name], c.Kind)
			}
		}
		if !found {
			return nil, &UnsupportedError{fmt.Sprintf("%s is for a key that no certificate in use on %s has; %s",
				given.File, n.Name, requestAgain)}
		}
		if !inPlace(s, given.Node, chain[0]) {
			if sizes[given.Node] += len(coded(given, chain)); sizes[given.Node] > maxSignedNode {
				return nil, &UnsupportedError{fmt.Sprintf("what is signed for %s is more than fits into one command: "+
					"install it in parts: move some of its files elsewhere first, and put them back for the next "+
					"command", given.Node)}
			}
		}
	}
	return out, nil
}

// inPlace reports whether a node has a certificate already, wherever it belongs.
func inPlace(s snapshot.Snapshot, node string, x *x509.Certificate) bool {
	n, _ := s.Node(node)
	is, found := certs.Describe(x), false
	for _, c := range Replaceable(s, n) {
		if c.PublicKey == is.PublicKey {
			if found = true; c.Fingerprint != is.Fingerprint {
				return false
			}
		}
	}
	return found
}

// Effective is the diagnosis that a plan of this policy is made from: if it places signed
// certificates, these are due instead of others, and that keys of CAs are elsewhere prevents nothing.
// The error is that of Make for a certificate that cannot be placed.
func (p Policy) Effective(s snapshot.Snapshot, d diagnosis.Diagnosis) (diagnosis.Diagnosis, error) {
	if p.RotateStage.AtOnce() {
		return d.Replacing(s, authoritiesNamed(rotations(s, p.RotateCAs))), nil
	}
	if len(p.Signed) == 0 {
		return d, nil
	}
	due, err := p.placed(s)
	if err != nil {
		return d, err
	}
	stale := map[string][]string{}
	for _, n := range s.Nodes {
		gets := slices.ContainsFunc(p.Signed, func(given Signed) bool { return given.Node == n.Name })
		// What needs no CA is renewed with the others on its node, and host etcd everywhere.
		for _, kind := range d.Due[n.Name] {
			row, _ := certs.Lookup(kind)
			if (gets || row.Signer == certs.EtcdHostCA) && SignedInside(s, n, kind) &&
				!slices.Contains(due[n.Name], kind) {
				due[n.Name] = append(due[n.Name], kind)
			}
		}
		if components := d.Stale[n.Name]; len(components) > 0 && (gets || len(due[n.Name]) > 0) {
			stale[n.Name] = components
		}
	}
	return d.Placing(s, due, stale), nil
}

// unsigned are the kinds of each node that are due, and that a plan leaves out.
func unsigned(all, d diagnosis.Diagnosis) map[string][]certs.Kind {
	out := map[string][]certs.Kind{}
	for node, kinds := range all.Due {
		for _, kind := range kinds {
			if !slices.Contains(d.Due[node], kind) {
				out[node] = append(out[node], kind)
			}
		}
	}
	return out
}

// signTheseToo is what helps where certificates are missing among those that were signed.
const signTheseToo = "have these signed, too, and put them next to the others; the requests: " +
	"kscertctl ca csr -i INVENTORY --dir DIR"

// installable returns why signed certificates cannot be placed; nil if they can. An API server that
// cannot be used comes back only with all that it needs.
func (p Policy) installable(s snapshot.Snapshot, all, d diagnosis.Diagnosis) error {
	switch {
	case len(p.Signed) == 0:
		return nil
	case p.selects():
		return &UnsupportedError{"what is placed are the certificates in the directory: omit --limit, --skip-phases " +
			"and --until-phase, and remove the others' files"}
	case d.Route == diagnosis.NewCA:
		return &UnsupportedError{"a CA has expired, and nothing that it signs is trusted: renew it first, where its " +
			"key is; see: kscertctl explain ca-expired"}
	}
	lacks := unsigned(all, d)
	// needs are the expired certificates of a node that the plan leaves out, and that cause an outage.
	needs := func(n snapshot.Node) (out []string) {
		for _, c := range Replaceable(s, n) {
			row, _ := certs.Lookup(c.Kind)
			if row.Outage != certs.NoOutage && slices.Contains(lacks[n.Name], c.Kind) &&
				c.StatusAt(n.Clock, 0) != certs.Valid {
				out = append(out, c.Path)
			}
		}
		return out
	}
	out := false
	for _, n := range s.With(cluster.ControlPlane) {
		if d.ControlPlanes[n.Name] == diagnosis.APIUsable {
			continue
		}
		out = true
		if files := needs(n); len(files) > 0 {
			return &UnsupportedError{fmt.Sprintf("the API server of %s cannot be used, and would not come back "+
				"without %s: %s", n.Name, strings.Join(files, ", "), signTheseToo)}
		}
	}
	var members int
	var down []string
	for _, n := range s.With(cluster.Etcd) {
		members++
		if files := needs(n); len(files) > 0 {
			down = append(down, n.Name+": "+strings.Join(files, ", "))
		}
	}
	q := Quorum{Members: max(members, QuorumOf(s).Members)}
	if out && len(down) > 0 && q.Members-len(down) < q.Needed() {
		return &UnsupportedError{fmt.Sprintf("no API server comes back without etcd, which has %d members and would "+
			"have no quorum without %s: %s", q.Members, strings.Join(down, "; "), signTheseToo)}
	}
	return nil
}

// installation turns the steps of a renewal into those that place signed certificates: first, each
// node checks its own, and the proof is that of the nodes on which nothing else is due. It returns
// warnings about the others.
func (p Policy) installation(c cluster.Cluster, all, d diagnosis.Diagnosis, steps []Step) (first []Step,
	kept []Step, warnings []string) {
	if len(p.Signed) == 0 {
		return nil, steps, nil
	}
	var nodes []string
	for _, name := range cluster.Names(c.Nodes) {
		if slices.ContainsFunc(p.Signed, func(g Signed) bool { return g.Node == name }) && len(d.Due[name]) > 0 {
			nodes = append(nodes, name)
		}
	}
	if len(nodes) > 0 {
		first = []Step{{Action: CACheck, Nodes: nodes, AtOnce: several(nodes),
			Why: "each must belong to the key there, and be valid under the CA by which others trust it"}}
	}
	left := unsigned(all, d)
	var by grouped
	for _, name := range cluster.Names(c.Nodes) {
		if len(left[name]) > 0 {
			by.add(due(diagnosis.Diagnosis{Due: map[string][]certs.Kind{name: left[name]}}, name), name)
		}
	}
	for text, names := range by.all {
		warnings = append(warnings, fmt.Sprintf("not in this plan: %s (%s)", names, text))
	}
	for _, step := range steps {
		if step.Gate == ClusterGate {
			step.Nodes = slices.DeleteFunc(slices.Clone(step.Nodes),
				func(name string) bool { return len(left[name]) > 0 })
			if len(left) > 0 {
				step.Why = "of these nodes only: " + step.Why
			}
			if len(step.Nodes) == 0 {
				warnings = append(warnings,
					"the result is not proved: check the cluster afterwards with kscertctl diagnose")
				continue
			}
		}
		kept = append(kept, step)
	}
	return first, kept, warnings
}

// signedFor are the signed certificates of nodes in the form of the playbooks, without those that are in
// place in a snapshot. A node without any is listed, too: there, nothing is issued either.
func signedFor(all []Signed, nodes []string, s snapshot.Snapshot) map[string][]string {
	out := map[string][]string{}
	for _, name := range nodes {
		out[name] = []string{}
	}
	for _, given := range all {
		if !slices.Contains(nodes, given.Node) {
			continue
		}
		chain, err := certs.ParseSigned([]byte(given.Certificate))
		if err != nil || inPlace(s, given.Node, chain[0]) {
			continue // placed refuses it, or there is nothing to do
		}
		out[given.Node] = append(out[given.Node], coded(given, chain))
	}
	return out
}

// coded is a signed certificate in the form of the playbooks: the public key, and the PEM text, in base64.
func coded(given Signed, chain []*x509.Certificate) string {
	b64 := base64.StdEncoding.EncodeToString
	return b64(chain[0].RawSubjectPublicKeyInfo) + "|" + b64([]byte(given.Certificate))
}
