package diagnosis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// RotateCAs is the route of a plan that takes a stage of the rotation of CAs; no diagnosis has it.
const RotateCAs Route = "rotate-ca"

// Stage is a part of the rotation of a CA: of its replacement by one with a new key.
type Stage string

// The stages in their order. Between two of them a cluster can stay as it is for as long as both CAs
// are valid.
const (
	// StageMake: the next CA is next to the present one on each control plane, and unused.
	StageMake Stage = "make"
	// StageTrust: what trusts the present CA trusts both.
	StageTrust Stage = "trust"
	// StageProve is a step of StageTrust: certificates of the next CA are accepted everywhere.
	StageProve Stage = "prove"
	// StageClients: clients have certificates of the next CA, which signs what is requested.
	StageClients Stage = "clients"
	// StageServers: API servers, too; the next CA and its key are in the place of the former.
	StageServers Stage = "servers"
	// StageDrop: no one trusts the former CA.
	StageDrop Stage = "drop"
	// StageRestart is a step of StageDrop: workloads that may know the former CA alone are restarted.
	StageRestart Stage = "restart"
	// StageFinish is a step of StageDrop: the files of the rotation are removed.
	StageFinish Stage = "finish"
)

// The stages of the replacement of CAs at once, without a time in which both are trusted.
const (
	// StageReplace: the next CAs are in the place of the present ones, and nothing else is trusted. As the
	// stage of a policy, it makes them first.
	StageReplace Stage = "replace"
	// StageLiteral is the same with CAs, certificates and kubeconfigs of kubeadm, on a single control plane.
	StageLiteral Stage = "literal"
	// StageEnroll is a step of both: kubelets elsewhere get certificates of the new CA.
	StageEnroll Stage = "enroll"
	// StageRepair is a step of both: what the cluster's objects and pods trust.
	StageRepair Stage = "repair"
)

// AtOnce reports whether the stage of a policy replaces CAs at once.
func (s Stage) AtOnce() bool { return s == StageReplace || s == StageLiteral }

// Stages are those that a cluster can be in, in their order.
func Stages() []Stage { return []Stage{StageMake, StageTrust, StageClients, StageServers, StageDrop} }

// RotationSchema is the version of the JSON form of Rotations.
const RotationSchema = 1

// Rotations are the states of the CAs that can be rotated.
type Rotations struct {
	Schema int       `json:"schema"`
	Taken  time.Time `json:"taken"`
	// CAs has one for each CA.
	CAs []Rotation `json:"cas"`
	// Unknown are the nodes that could not be inspected.
	Unknown []string `json:"unknown,omitempty"`
}

// Rotation is how far the rotation of a CA is.
type Rotation struct {
	CA certs.Authority `json:"ca"`
	// Stage is the last one that all consumers have reached; absent if no rotation is under way.
	Stage Stage `json:"stage,omitempty"`
	// Present is the CA in its place, and the one that a rotation replaces. Next is the one that follows,
	// while a rotation is under way.
	Present CAName  `json:"present"`
	Next    *CAName `json:"next,omitempty"`
	// Consumers are what trusts the CA and what presents its certificates.
	Consumers []Consumer `json:"consumers"`
	// Missing is what the stage after Stage needs that has begun already.
	Missing []string `json:"missing,omitempty"`

	begun bool
}

// CAName identifies a CA.
type CAName struct {
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"notAfter"`

	signsAs string
}

// Consumer is what trusts a CA, or presents a certificate that it has signed.
type Consumer struct {
	// Node has, or has reported, it.
	Node string `json:"node"`
	// Place is a file, an object of the cluster, or an address.
	Place string `json:"place"`
	// Trusts are the CAs that it trusts: "present", "next", or the fingerprint of another.
	Trusts []string `json:"trusts,omitempty"`
	// Presents is the CA of the certificate that it presents, in the same way.
	Presents string `json:"presents,omitempty"`
	// Server: it is presented to clients.
	Server bool `json:"server,omitempty"`
	// Signs: it is the CA that signs what is requested.
	Signs bool `json:"signs,omitempty"`
	// Elsewhere: no stage changes it: something else keeps it up to date.
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// Names of the two CAs of a rotation.
const (
	PresentCA = "present"
	NextCA    = "next"
)

// rotating are the CAs that can be rotated, with the kinds of the present, the next and the former one,
// the nodes that have its files, and the settings that name files of verifiers.
var rotating = []struct {
	authority        certs.Authority
	ca, next, former certs.Kind
	on               cluster.Role
	settings         []string
}{
	{certs.KubernetesCA, certs.KindCA, certs.KindCANext, certs.KindCAFormer, cluster.ControlPlane,
		[]string{"kube-apiserver.client-ca-file", rootCA}},
	{certs.FrontProxyCA, certs.KindFrontProxyCA, certs.KindFrontProxyCANext, certs.KindFrontProxyCAFormer,
		cluster.ControlPlane, []string{"kube-apiserver.requestheader-client-ca-file"}},
	{certs.EtcdCA, certs.KindEtcdCA, certs.KindEtcdCANext, certs.KindEtcdCAFormer, cluster.ControlPlane, ofEtcd},
	{certs.EtcdHostCA, certs.KindEtcdHostCA, certs.KindEtcdHostCANext, certs.KindEtcdHostCAFormer, cluster.Etcd,
		ofEtcd},
}

// ofEtcd are the settings that name what trusts the CA of an etcd.
var ofEtcd = strings.Fields(etcdRow.Settings)

var etcdRow, _ = certs.Lookup(certs.KindEtcdHostCA)

// IsOfEtcd reports whether a CA is one of etcd: of its members and their clients.
func IsOfEtcd(ca certs.Authority) bool { return ca == certs.EtcdCA || ca == certs.EtcdHostCA }

// RotationsOf returns how far the rotations of CAs are. Objects of the cluster are among the consumers if
// the inspection has read them.
func RotationsOf(s snapshot.Snapshot) Rotations {
	out := Rotations{Schema: RotationSchema, Taken: s.Taken, CAs: []Rotation{}}
	for _, n := range s.Nodes {
		if n.Failure != nil {
			out.Unknown = append(out.Unknown, n.Name)
		}
	}
	for _, row := range rotating {
		// A cluster has either CA of etcd, as a rule.
		if r := RotationOf(s, row.authority); r.Present.Subject != "" || !IsOfEtcd(r.CA) {
			out.CAs = append(out.CAs, r)
		}
	}
	return out
}

// RotationOf is the same for one CA.
func RotationOf(s snapshot.Snapshot, ca certs.Authority) Rotation {
	r := Rotation{CA: ca, Consumers: []Consumer{}}
	for _, row := range rotating {
		if row.authority != ca {
			continue
		}
		for _, n := range s.With(row.on) {
			if next, ok := n.Certificate(row.next); ok && r.Next == nil {
				r.Next = named(next)
			}
			if former, ok := n.Certificate(row.former); ok && r.Present.Subject == "" {
				r.Present = *named(former)
			}
		}
		for _, n := range s.With(row.on) {
			if c, ok := n.Certificate(row.ca); ok && r.Present.Subject == "" && !unusedFile(s, n, c) {
				r.Present = *named(c)
			}
		}
	}
	r.Consumers = append(r.Consumers, r.consumers(s)...)
	if r.Next == nil {
		return r
	}
	for _, stage := range Stages() {
		if r.Missing = r.Lacks(s, stage); len(r.Missing) > 0 {
			if !r.begun { // it has not begun
				r.Missing = nil
			}
			return r
		}
		r.Stage = stage
	}
	return r
}

func named(c certs.Certificate) *CAName {
	return &CAName{Subject: c.Subject, Fingerprint: c.Fingerprint, NotAfter: c.NotAfter, signsAs: c.SignsAs()}
}

// is names one of the two CAs, or another one by its fingerprint.
func (r Rotation) is(signsAs, fingerprint string) string {
	switch {
	case r.Next != nil && signsAs == r.Next.signsAs:
		return NextCA
	case signsAs == r.Present.signsAs:
		return PresentCA
	case fingerprint == "":
		return "another"
	default:
		return short(fingerprint)
	}
}

// consumers are what trusts and presents on nodes, and what the cluster's objects trust.
func (r Rotation) consumers(s snapshot.Snapshot) []Consumer {
	var out []Consumer
	seen := map[string]bool{}
	trusting := func(elsewhere bool, all ...trust) {
		for _, t := range all {
			if seen[t.node+" "+t.place] {
				continue
			}
			seen[t.node+" "+t.place] = true
			c := Consumer{Node: t.node, Place: t.place, Elsewhere: elsewhere}
			for _, ca := range t.cas {
				c.Trusts = append(c.Trusts, r.is(ca.SignsAs(), ca.Fingerprint))
			}
			c.Trusts = slices.Compact(c.Trusts)
			out = append(out, c)
		}
	}
	for _, row := range rotating {
		if row.authority != r.CA {
			continue
		}
		for _, setting := range row.settings {
			component, _, _ := strings.Cut(setting, ".")
			all := trusts(s, cmp.Or(rolesOf[component], row.on), setting, row.ca)
			trusting(false, slices.DeleteFunc(all, func(t trust) bool { return IsOfEtcd(r.CA) && !r.has(t) })...)
		}
		if row.ca == certs.KindCA {
			trusting(false, trusts(s, "", "kubelet.clientCAFile", row.ca)...)
			trusting(false, kubeconfigTrusts(s, snapshot.Node.OfCluster)...)
		}
		trusting(false, trusts(s, "", "", row.ca)...)
		trusting(false, objectTrusts(s, row.ca)...)
		trusting(true, r.others(s)...)
	}
	for _, n := range s.Nodes {
		out = append(out, r.presenters(s, n)...)
	}
	return out
}

// others are what trusts one of the CAs and is kept up to date by something else: kubeconfigs of network
// plugins, and caBundles.
func (r Rotation) others(s snapshot.Snapshot) []trust {
	all := objectTrusts(s, "")
	if r.CA == certs.KubernetesCA {
		all = append(all, kubeconfigTrusts(s, ofNetworkPlugin)...)
	}
	return slices.DeleteFunc(all, func(t trust) bool { return !r.has(t) })
}

// has reports whether something trusts one of the CAs.
func (r Rotation) has(t trust) bool {
	return slices.ContainsFunc(t.cas, func(c certs.Certificate) bool {
		return slices.Contains([]string{PresentCA, NextCA}, r.is(c.SignsAs(), c.Fingerprint))
	})
}

// presenters are the leaves of a node that the CA has signed, and the CA with which
// kube-controller-manager signs.
func (r Rotation) presenters(s snapshot.Snapshot, n snapshot.Node) []Consumer {
	var out []Consumer
	for _, c := range n.Certificates {
		row, known := certs.Lookup(c.Kind)
		by := signersOf(n, c)
		if c.IsCA || len(by) == 0 || s.Unused(n, c) {
			continue
		}
		ours := slices.Contains([]string{PresentCA, NextCA}, r.is(by[0], ""))
		switch {
		case c.Served && !ours:
			continue
		case !c.Served && (!known || row.CA || row.Signer != r.CA && (!row.Own() || !ours)):
			continue
		}
		out = append(out, Consumer{
			Node: n.Name, Place: c.Path, Presents: r.is(by[0], ""),
			Server:    c.Served || row.OfServer(),
			Elsewhere: !c.Served && (n.Copies(row) || row.Approved),
		})
	}
	if file := n.Facts[signingCA]; r.CA == certs.KubernetesCA && n.Is(cluster.ControlPlane) && file != "" {
		c := Consumer{Node: n.Name, Place: file, Signs: true}
		for i, ca := range fileOf(n, file) {
			if c.Presents = r.is(ca.SignsAs(), ca.Fingerprint); i > 0 {
				c.Presents = "several"
			}
		}
		out = append(out, c)
	}
	return out
}

// Lacks is what keeps a stage from being reached; nothing if it is. It reads the consumers of that
// snapshot, so that a rotation of which no file is left can be checked to the end.
func (r *Rotation) Lacks(s snapshot.Snapshot, stage Stage) []string {
	var out []string
	r.begun = false
	for _, n := range r.Holders(s) {
		out = append(out, r.lacksFiles(n, stage)...)
	}
	for _, c := range r.consumers(s) {
		trusts := func(ca string) bool { return slices.Contains(c.Trusts, ca) }
		var what string
		var done bool
		switch {
		case stage == StageTrust && len(c.Trusts) > 0 && !c.Elsewhere:
			what, done = "does not trust the next CA", trusts(NextCA)
		case stage == StageTrust && c.Signs:
			what, done = "holds several certificates, and kube-controller-manager signs with one alone",
				c.Presents != "several"
		case stage == StageClients && c.Presents != "" && !c.Server && !c.Elsewhere:
			what, done = "is not of the next CA", c.Presents == NextCA
		case stage == StageServers && c.Presents != "" && c.Server && !c.Elsewhere:
			what, done = "is not of the next CA", c.Presents == NextCA
		case stage == StageDrop && len(c.Trusts) > 0,
			stage == StageReplace && len(c.Trusts) > 0 && !c.Elsewhere:
			what, done = "still trusts the former CA", !trusts(PresentCA)
		case stage == StageReplace && c.Presents != "" && !c.Elsewhere:
			what, done = "is not of the new CA", c.Presents == NextCA
		default:
			continue
		}
		switch {
		case !done:

			out = append(out, fmt.Sprintf("%s: %s %s", c.Node, c.Place, what))
		case stage != StageTrust || !c.Signs: // one that signs with one CA always has
			r.begun = true
		}
	}
	return out
}

// Holders are the nodes that must have the key of the CA: all control planes that have the CA, but of
// Kubespray's etcd those of its nodes that have the key.
func (r Rotation) Holders(s snapshot.Snapshot) []snapshot.Node {
	var out []snapshot.Node
	for _, row := range rotating {
		if row.authority != r.CA {
			continue
		}
		for _, n := range s.With(row.on) {
			ca, ok := n.Certificate(row.ca)
			unused := IsOfEtcd(r.CA) && (!ok || unusedFile(s, n, ca))
			keyed := slices.ContainsFunc(bundleOf(n, row.ca), func(c certs.Certificate) bool {
				return c.Key != "" && c.Key != certs.KeyMissing
			})
			if !unused && (keyed || r.CA != certs.EtcdHostCA) {
				out = append(out, n)
			}
		}
	}
	return out
}

// lacksFiles is what a holder lacks for a stage in the files of the CA itself.
func (r *Rotation) lacksFiles(n snapshot.Node, stage Stage) []string {
	for _, row := range rotating {
		switch {
		case row.authority != r.CA || n.Failure != nil:
		case stage == StageMake && r.finished(bundleOf(n, row.ca)):
			r.begun = true
		case stage == StageMake && !r.MadeOn(n):
			return []string{fmt.Sprintf("%s: it does not have the next %s with its key", n.Name, row.ca)}
		case stage == StageMake:
			r.begun = true
		case stage == StageServers && !slices.ContainsFunc(bundleOf(n, row.ca), func(c certs.Certificate) bool {
			return c.Key == certs.KeyMatches && c.SignsAs() == r.Next.signsAs
		}):
			return []string{fmt.Sprintf("%s: the key of %s is not that of the next CA", n.Name, row.ca)}
		}
	}
	return nil
}

// MadeOn reports whether a node has the next CA with its key.
func (r Rotation) MadeOn(n snapshot.Node) bool {
	for _, row := range rotating {
		next, _ := n.Certificate(row.next)
		if row.authority == r.CA && r.Next != nil {
			return next.Fingerprint == r.Next.Fingerprint && next.Key == certs.KeyMatches
		}
	}
	return false
}

// finished reports whether the file of the CA has the next one alone, with its key: there, the files of the
// rotation may have been removed already.
func (r Rotation) finished(file []certs.Certificate) bool {
	return len(file) == 1 && file[0].SignsAs() == r.Next.signsAs && file[0].Key == certs.KeyMatches
}

// Replaced is the rotation of a CA that was replaced at once, between two snapshots.
func Replaced(before, now snapshot.Snapshot, ca certs.Authority) Rotation {
	was, is := RotationOf(before, ca), RotationOf(now, ca)
	if is.Next == nil && is.Present.signsAs != was.Present.signsAs {
		was.Next = &is.Present
	} else {
		was.Next = is.Next
	}
	return was
}

// Holds names what on nodes and in the cluster still has the former CA, or a file of the rotation, after
// its last stage.
func (r Rotation) Holds(s snapshot.Snapshot) []string {
	return append(r.Lacks(s, StageDrop), r.left(s)...)
}

// Leaves is the same after a replacement at once, apart from what something else keeps up to date.
func (r Rotation) Leaves(s snapshot.Snapshot) []string {
	return append(r.Lacks(s, StageReplace), r.left(s)...)
}

// left are the certificates of the former CA, and the files of the rotation, on nodes.
func (r Rotation) left(s snapshot.Snapshot) []string {
	var out []string
	for _, n := range s.Nodes {
		for _, c := range n.Certificates {
			row, _ := certs.Lookup(c.Kind)
			if !c.Served && (c.SignsAs() == r.Present.signsAs || row.CA && row.Copy && row.Authority == r.CA) {
				out = append(out, n.Name+": "+c.Path+" is still there")
			}
		}
	}
	return out
}

// Outside names what no stage changes, and what the last one would cut off: what trusts the present CA, and
// what it has signed.
func (r Rotation) Outside() []string {
	var out []string
	for _, c := range r.Consumers {
		switch {
		case !c.Elsewhere:
		case c.Presents == PresentCA:
			out = append(out, fmt.Sprintf("%s: %s is of the CA that is dropped", c.Node, c.Place))
		case slices.Contains(c.Trusts, PresentCA):
			out = append(out, fmt.Sprintf("%s: %s still trusts the CA that is dropped", c.Node, c.Place))
		}
	}
	return out
}

// After is the stage that follows the present one; the last one follows itself, because its end removes
// the files by which a rotation is known.
func (r Rotation) After() Stage {
	all := Stages()
	return all[min(slices.Index(all, r.Stage)+1, len(all)-1)]
}
