// Package kubeconfig handles kubeconfigs outside the nodes: a copy of admin.conf in a user's
// home, or next to an inventory.
//
// It does no I/O. Parse reads one, File.Behind explains how it differs from the cluster's
// current administrator kubeconfigs, File.Origin finds its successor, and File.With replaces
// its client certificate and key with those of the successor, and File.WithCAs its CAs as well.
package kubeconfig

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// File is a kubeconfig and its current context. It holds a private key, which neither its
// exported fields nor its printed form contain.
type File struct {
	// Certificate is the client certificate of the current user.
	Certificate certs.Certificate
	// CA is the fingerprint of the CA that the file trusts for the current cluster; empty if
	// the file embeds none.
	CA string

	client               *x509.Certificate
	authorities          []*x509.Certificate
	data                 []byte
	certificate, key, ca place // ca is empty for a text that cannot be edited in place
}

// String names the user.
func (f File) String() string { return "kubeconfig of " + f.Certificate.Subject }

// GoString is String: %#v does not print the key either.
func (f File) GoString() string { return f.String() }

// place is the position of a value in a text.
type place struct{ from, to int }

// ErrNotEmbedded means that the current user does not authenticate with a certificate and key
// embedded in the file.
var ErrNotEmbedded = errors.New("the user of its current context has no certificate and key in the file itself")

// Parse reads a kubeconfig in YAML or JSON. The error describes what is wrong with it; it
// wraps ErrNotEmbedded for one that needs no renewal here. It quotes only names from the file.
func Parse(data []byte) (File, error) {
	f := File{data: data}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil || len(doc.Content) != 1 {
		return f, errors.New("it is not a kubeconfig: neither YAML nor JSON") // the error may quote a key
	}
	root := doc.Content[0]
	current := text(member(root, "current-context"))
	context := member(named(root, "contexts", current), "context")
	if context == nil {
		return f, errors.New("it is not a kubeconfig, or has no current context: kubectl config use-context sets one")
	}
	user, of := text(member(context, "user")), text(member(context, "cluster"))
	credential := member(named(root, "users", user), "user")
	certificate, key := member(credential, "client-certificate-data"), member(credential, "client-key-data")
	if text(certificate) == "" || text(key) == "" {
		return f, fmt.Errorf("%w: %q", ErrNotEmbedded, user)
	}
	var err error
	for _, value := range []struct {
		node *yaml.Node
		at   *place
	}{{certificate, &f.certificate}, {key, &f.key}} {
		if *value.at, err = locate(data, value.node); err != nil {
			return f, err
		}
	}
	chain, err := embedded(certificate)
	if err != nil {
		return f, fmt.Errorf("the client certificate of user %q: %w", user, err)
	}
	f.client, f.Certificate = chain[0], certs.Describe(chain[0])
	if ca := member(member(named(root, "clusters", of), "cluster"), "certificate-authority-data"); text(ca) != "" {
		if f.authorities, err = embedded(ca); err != nil {
			return f, fmt.Errorf("the CA of cluster %q: %w", of, err)
		}
		f.CA = certs.Describe(f.authorities[0]).Fingerprint
		if at, err := locate(data, ca); err == nil {
			f.ca = at
		}
	}
	return f, nil
}

// Behind describes how a kubeconfig differs from the cluster's current administrator
// kubeconfigs, or why it will soon be unusable. It is empty if all is well or the snapshot
// does not show it. For a user that has no kubeconfig on a control plane, only the expiry is
// checked.
func (f File) Behind(s snapshot.Snapshot, renewBefore time.Duration) string {
	end := f.Certificate.NotAfter.UTC().Format(time.DateOnly)
	ours := authorities(s)
	copies := originals(s, f.Certificate)
	switch status := f.Certificate.StatusAt(s.Taken, renewBefore); {
	case len(ours) > 0 && f.CA != "" && !f.trustsOne(ours):
		return "it trusts another CA than the cluster's"
	case status == certs.Expired:
		return "its client certificate expired on " + end
	case status == certs.Expiring:
		return "its client certificate expires on " + end
	case len(copies) > 0 && !slices.ContainsFunc(copies,
		func(o original) bool { return !f.Certificate.NotAfter.Before(o.NotAfter) }):
		return fmt.Sprintf("its client certificate differs from that of %s on %s, and expires earlier, on %s",
			path.Base(copies[0].Path), copies[0].node, end)
	default:
		return ""
	}
}

// Origin is a kubeconfig of a control plane that is for the same user.
type Origin struct {
	// Node is the node's name in the inventory; Name is admin.conf or super-admin.conf.
	Node, Name string
	// Certificate is its client certificate.
	Certificate certs.Certificate
	// Current: the file already has the certificate of a control plane, or its own that
	// expires no earlier, of a CA that is not being replaced; and so it is with its CAs.
	Current bool
	// CAs: the file trusts CAs of this cluster alone, and others than that kubeconfig does.
	CAs bool
}

// Origin finds the kubeconfig to copy a new certificate and key from: of the control planes',
// the one that expires last. The error describes why there is none: another cluster's CA, or
// another user.
func (f File) Origin(s snapshot.Snapshot) (Origin, error) { return f.OriginSince(s, s) }

// OriginSince is Origin in a snapshot now, where a CA of an earlier one may have been dropped since.
func (f File) OriginSince(earlier, s snapshot.Snapshot) (Origin, error) {
	ours := append(authorities(s), authorities(earlier)...)
	switch {
	case len(ours) == 0:
		return Origin{}, errors.New("no control plane shows which CA the cluster has")
	case f.CA == "":
		return Origin{}, errors.New(
			"it embeds no CA (certificate-authority-data), so nothing proves that it belongs to this cluster")
	case !f.trustsOne(ours):
		return Origin{}, errors.New("it belongs to another cluster: it trusts another CA than the nodes")
	case !slices.ContainsFunc(f.authorities,
		func(ca *x509.Certificate) bool { return f.client.CheckSignatureFrom(ca) == nil }):
		return Origin{}, fmt.Errorf("the certificate of its user %s was not issued by the cluster's CA",
			f.Certificate.Subject)
	}
	found := originals(s, f.Certificate)
	if len(found) == 0 {
		return Origin{}, fmt.Errorf("its user is %s, which is in no admin.conf or super-admin.conf of a control plane",
			f.Certificate.Subject)
	}
	last := slices.MaxFunc(found,
		func(a, b original) int { return a.NotAfter.Compare(b.NotAfter) }) // the first of several
	out := Origin{Node: last.node, Name: path.Base(last.Path), Certificate: last.Certificate}
	// The CA that has signed it may be about to be dropped.
	same := slices.ContainsFunc(f.authorities, func(ca *x509.Certificate) bool {
		return f.client.CheckSignatureFrom(ca) == nil && slices.Contains(last.Signers, certs.Describe(ca).SignsAs())
	})
	out.CAs = f.trustsOnly(ours) && len(last.trusts) > 0 && !f.trusts(last.trusts)
	out.Current = !out.CAs && ((same || len(last.Signers) == 0) && !f.Certificate.NotAfter.Before(last.NotAfter) ||
		slices.ContainsFunc(found, func(o original) bool { return o.Fingerprint == f.Certificate.Fingerprint }))
	return out, nil
}

// With returns the text of the file with the client certificate and key of another one for the
// same user; every other byte stays.
func (f File) With(next File) ([]byte, error) {
	return f.with(next, edit{f.certificate, next.certificate}, edit{f.key, next.key})
}

// WithCAs is With, and with the CAs of the other one, too.
func (f File) WithCAs(next File) ([]byte, error) {
	if f.ca == (place{}) || next.ca == (place{}) {
		return nil, errors.New("its CA is not on one line, so it cannot be edited in place")
	}
	return f.with(next, edit{f.certificate, next.certificate}, edit{f.key, next.key}, edit{f.ca, next.ca})
}

// edit puts the text at a place of another file at one of this.
type edit struct{ at, by place }

func (f File) with(next File, edits ...edit) ([]byte, error) {
	if !next.Certificate.SameUser(f.Certificate) {
		return nil, fmt.Errorf("the new one is for %s, not for %s", next.Certificate.Subject, f.Certificate.Subject)
	}
	if err := next.paired(); err != nil {
		return nil, err
	}
	ca := f.CA
	if len(edits) > 2 {
		ca = next.CA
	}
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.at.from, b.at.from) })
	var out []byte
	done := 0
	for _, e := range edits {
		out = append(out, f.data[done:e.at.from]...)
		out = append(out, next.data[e.by.from:e.by.to]...)
		done = e.at.to
	}
	out = append(out, f.data[done:]...)
	again, err := Parse(out)
	if err != nil || again.Certificate.Fingerprint != next.Certificate.Fingerprint || again.CA != ca ||
		again.paired() != nil {
		return nil, errors.New("its text cannot be edited in place")
	}
	return out, nil
}

// paired returns an error if the key does not belong to the certificate.
func (f File) paired() error {
	var pair [2][]byte
	for i, at := range []place{f.certificate, f.key} {
		var err error
		if pair[i], err = base64.StdEncoding.DecodeString(string(f.data[at.from:at.to])); err != nil {
			return errors.New("its certificate or key is not base64")
		}
	}
	if _, err := tls.X509KeyPair(pair[0], pair[1]); err != nil {
		return errors.New("its key does not match its certificate")
	}
	return nil
}

// original is an administrator's certificate on a control plane.
type original struct {
	certs.Certificate
	node   string
	trusts []certs.Certificate
}

// administrators are the kinds of kubeconfigs that users copy.
var administrators = []certs.Kind{certs.KindAdmin, certs.KindSuperAdmin}

// originals are the administrators' certificates for the same user, in the order of the
// control planes.
func originals(s snapshot.Snapshot, of certs.Certificate) (out []original) {
	for _, n := range s.With(cluster.ControlPlane) {
		for _, kind := range administrators {
			if c, ok := n.Certificate(kind); ok && c.SameUser(of) {
				o := original{Certificate: c, node: n.Name}
				for _, k := range n.Kubeconfigs {
					if k.Path == c.Path {
						o.trusts = k.CAs
					}
				}
				out = append(out, o)
			}
		}
	}
	return out
}

// authorities are the cluster's CAs, as its control planes hold them.
func authorities(s snapshot.Snapshot) (out []string) {
	for _, n := range s.With(cluster.ControlPlane) {
		for _, c := range n.Certificates {
			if c.Kind == certs.KindCA && !c.Served {
				out = append(out, c.SignsAs())
			}
		}
	}
	return out
}

// trustsOne reports whether a file trusts one of the CAs, be it by another certificate of it.
func (f File) trustsOne(of []string) bool {
	return slices.ContainsFunc(f.authorities,
		func(x *x509.Certificate) bool { return slices.Contains(of, certs.Describe(x).SignsAs()) })
}

// trustsOnly reports whether a file trusts no CA but these.
func (f File) trustsOnly(of []string) bool {
	return !slices.ContainsFunc(f.authorities,
		func(x *x509.Certificate) bool { return !slices.Contains(of, certs.Describe(x).SignsAs()) })
}

// trusts reports whether a file trusts the same certificates.
func (f File) trusts(cas []certs.Certificate) bool {
	return len(cas) == len(f.authorities) && !slices.ContainsFunc(f.authorities, func(x *x509.Certificate) bool {
		return !slices.ContainsFunc(cas,
			func(c certs.Certificate) bool { return c.Fingerprint == certs.Describe(x).Fingerprint })
	})
}

// --- YAML ----------------------------------------------------------------------

// member returns the value of a mapping, of several with one name the last, as kubectl does; nil
// if there is none. It does not follow aliases: changing an anchor's value could change another
// user's credentials, too.
func member(n *yaml.Node, name string) (value *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			value = n.Content[i+1]
		}
	}
	return value
}

// named returns the element of a list with a name.
func named(n *yaml.Node, list, name string) *yaml.Node {
	all := member(n, list)
	if all == nil || all.Kind != yaml.SequenceNode || name == "" {
		return nil
	}
	for _, element := range all.Content {
		if text(member(element, "name")) == name {
			return element
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// locate finds the text of a scalar on a single line.
func locate(data []byte, n *yaml.Node) (place, error) {
	refused := errors.New("its certificate or key is not on one line, so it cannot be edited in place")
	rest := bytes.TrimPrefix(data, []byte("\ufeff")) // no column of yaml.v3
	at := len(data) - len(rest)
	for range n.Line - 1 {
		_, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return place{}, refused
		}
		at += len(rest) - len(after)
		rest = after
	}
	// yaml.v3 counts columns in characters.
	first, _, _ := bytes.Cut(rest, []byte("\n"))
	line := []rune(string(first))
	if n.Column-1 > len(line) {
		return place{}, refused
	}
	at += len(string(line[:n.Column-1]))
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		at++
	}
	if !bytes.HasPrefix(data[min(at, len(data)):], []byte(n.Value)) {
		return place{}, refused
	}
	return place{at, at + len(n.Value)}, nil
}

// embedded reads the certificates of a value in base64.
func embedded(n *yaml.Node) ([]*x509.Certificate, error) {
	pem, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text(n)))
	if err != nil {
		return nil, errors.New("it is not base64")
	}
	return certs.ParseChain(pem)
}
