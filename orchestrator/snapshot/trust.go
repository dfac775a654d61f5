package snapshot

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// Truster is what trusts CAs, apart from files and kubeconfigs of a node.
type Truster string

// What trusts CAs. The first five trust those of the cluster itself.
const (
	RootCAConfigMap      Truster = "kube-root-ca"            // of a namespace, for its pods
	ClusterInfo          Truster = "cluster-info"            // for nodes that join
	ServiceAccountToken  Truster = "service-account-token"   // a Secret
	ExtensionClientCA    Truster = "client-ca"               // for extension API servers
	Pod                  Truster = "pod"                     // a projected volume
	ExtensionFrontProxy  Truster = "requestheader-client-ca" // for extension API servers
	Webhook              Truster = "webhook"                 // of admission
	APIService           Truster = "api-service"             // an extension API server
	CustomResourceChange Truster = "conversion"              // between versions of a custom resource
	ClusterTrustBundle   Truster = "trust-bundle"
)

// place describes a kind of object, and the CA that it trusts; empty if that is a separate one.
type place struct {
	by    Truster
	words string
	ca    certs.Kind
}

var places = []place{
	{RootCAConfigMap, "ConfigMap kube-root-ca.crt of namespace", certs.KindCA},
	{ClusterInfo, "ConfigMap kube-public/cluster-info", certs.KindCA},
	{ServiceAccountToken, "ServiceAccount token", certs.KindCA},
	{ExtensionClientCA, "client-ca-file of ConfigMap kube-system/extension-apiserver-authentication", certs.KindCA},
	{Pod, "pod", certs.KindCA},
	{ExtensionFrontProxy, "requestheader-client-ca-file of ConfigMap kube-system/extension-apiserver-authentication",
		certs.KindFrontProxyCA},
	{Webhook, "caBundle of webhook", ""},
	{APIService, "caBundle of APIService", ""},
	{CustomResourceChange, "caBundle of CustomResourceDefinition", ""},
	{ClusterTrustBundle, "ClusterTrustBundle", ""},
}

func (b Truster) place() place {
	i := slices.IndexFunc(places, func(p place) bool { return p.by == b })
	if i < 0 {
		return place{}
	}
	return places[i]
}

// Of is the kind of the CA that it trusts; empty if that is a separate one, which nothing here has
// issued.
func (b Truster) Of() certs.Kind { return b.place().ca }

// Trust is what objects of one kind trust that hold the same CAs.
type Trust struct {
	By Truster `json:"by"`
	// In are the names of the objects: a namespace, "namespace/name", or a name; none if there is
	// only one.
	In []string `json:"in,omitempty"`
	// CAs in their order.
	CAs []certs.Certificate `json:"cas,omitempty"`
	// Unreadable is why there are none.
	Unreadable string `json:"unreadable,omitempty"`
	// Started is when the container of a pod that has run for the longest time was started.
	Started map[string]time.Time `json:"started,omitempty"`
}

// Place describes where it is.
func (t Trust) Place() string {
	return strings.TrimSpace(t.By.place().words + " " + cluster.Some(t.In, 5))
}

// RenewedByOthers is how long before its expiry a CA that is none of the cluster's own counts as
// not renewed: its maker renews it, a month before or later.
const RenewedByOthers = 7 * 24 * time.Hour

// Trusted is a CA that an object of the cluster trusts, and that is in no file of a node.
type Trusted struct {
	certs.Certificate
	// Node has reported it.
	Node Node
	// Own is false for the CA of another issuer.
	Own bool
}

// TrustedElsewhere are the CAs that objects trust and that are in no file of a node, each once for
// each node that reports it.
func (s Snapshot) TrustedElsewhere() []Trusted {
	if !slices.ContainsFunc(s.Nodes, func(n Node) bool { return len(n.Trust) > 0 }) {
		return nil // as in a gate's inspection
	}
	known := map[string]bool{}
	for _, n := range s.Nodes {
		for _, c := range slices.Concat(n.Certificates, s.Trusts(n)) {
			known[c.Fingerprint] = true
		}
	}
	var out []Trusted
	for _, n := range s.Nodes {
		seen := map[string]bool{}
		for _, t := range n.Trust {
			for _, ca := range t.CAs {
				if !known[ca.Fingerprint] && !seen[ca.Fingerprint] && !s.spare(ca, t.CAs) {
					out = append(out, Trusted{ca, n, t.By.Of() != ""})
				}
				seen[ca.Fingerprint] = true
			}
		}
	}
	return out
}

// TrustedSinceFact is when all of the cluster trusted the next CA of a rotation, in seconds since 1970: the
// file ca-trusted-since of a control plane.
const TrustedSinceFact = "ca-trusted-since"

// podsFollow is how long a kubelet may take to put a changed ConfigMap into the volumes of its pods: its
// sync period and that of its cache (Kubernetes documentation, "ConfigMaps", mounted ones).
const podsFollow = 2 * time.Minute

// ReadFormer are the pods of a node with a container that started before all of the cluster trusted the
// next CA of a rotation, so that it may have read the former one alone; all if that time is not known.
func (s Snapshot) ReadFormer(n Node) (pods []string) {
	var since time.Time
	for _, c := range s.Nodes {
		if seconds, err := strconv.ParseInt(c.Facts[TrustedSinceFact], 10, 64); err == nil {
			if at := time.Unix(seconds, 0); at.After(since) {
				since = at
			}
		}
	}
	for _, t := range n.Trust {
		for _, name := range t.In {
			if t.By == Pod && (since.IsZero() || t.Started[name].Before(since.Add(podsFollow))) {
				pods = append(pods, name)
			}
		}
	}
	slices.Sort(pods)
	return slices.Compact(pods)
}

// Limits for what is read of objects that users of the cluster can write: an object that exceeds
// them is called unreadable, and the node is not.
const (
	maxTrusted       = 1000 // CAs of one node
	maxTrustedBundle = 30   // of one object
)

// objectName is a name as the API server has them, followed by the start time of a pod.
var objectName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,600}(@[0-9]{1,12})?$`)

// readTrust: kind and names, with the certificates.
func readTrust(n *reading, f []string, text []byte) error {
	t := Trust{By: Truster(f[0])}
	if t.By.place().words == "" {
		return fmt.Errorf("not one that trusts CAs: %.40q", f[0])
	}
	for name := range strings.FieldsSeq(f[1]) {
		if name == "-" {
			continue
		}
		if !objectName.MatchString(name) {
			return fmt.Errorf("not a name of an object: %.100q", name)
		}
		name, start, _ := strings.Cut(name, "@")
		if seconds, err := strconv.ParseInt(start, 10, 64); err == nil && seconds > 0 {
			if t.Started == nil {
				t.Started = map[string]time.Time{}
			}
			t.Started[name] = time.Unix(seconds, 0).UTC()
		}
		t.In = append(t.In, name)
	}
	chain, unreadable := bundle(text, &n.trusting, maxTrusted)
	t.Unreadable = unreadable
	for i, x := range chain {
		ca := certs.Describe(x)
		ca.Kind, ca.Path = certs.KindTrusted, t.Place()
		if len(chain) > 1 {
			ca.Position = i + 1
		}
		t.CAs = append(t.CAs, ca)
	}
	n.Trust = append(n.Trust, t)
	return nil
}

// bundle reads certificates that users of the cluster write, or returns why there are none. It counts
// them in total: those of a bundle, and all of a kind, are limited.
func bundle(text []byte, total *int, most int) (chain []*x509.Certificate, unreadable string) {
	count := strings.Count(string(text), "-----BEGIN CERTIFICATE-----")
	if *total += count; count > maxTrustedBundle || *total > most {
		return nil, fmt.Sprintf("%d certificates are more than are read", count)
	}
	chain, err := certs.ParseChain(text)
	switch {
	case errors.Is(err, certs.ErrNoCertificate):
		return nil, "there is no certificate in it"
	case err != nil:
		return nil, err.Error()
	}
	return chain, ""
}
