package diagnosis_test

import (
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// published has the first control plane report what objects of the cluster trust.
func published(by snapshot.Truster, variants ...string) tc.Edit {
	return tc.On("cp1", func(n *snapshot.Node) {
		t := snapshot.Trust{By: by, In: []string{"default"}}
		for _, v := range variants {
			c := tc.CA(certs.KindCA, v)
			c.Kind, c.Path = certs.KindTrusted, t.Place()
			t.CAs = append(t.CAs, c)
		}
		n.Trust = append(n.Trust, t)
	})
}

// A rotation has reached a stage once everyone has, and the cluster is healthy at each of them.
func TestRotationOf(t *testing.T) {
	t.Parallel()
	stages := append([]diagnosis.Stage{""}, diagnosis.Stages()...)
	for i, want := range stages {
		for _, ca := range []certs.Kind{certs.KindCA, certs.KindFrontProxyCA, certs.KindEtcdHostCA} {
			s := tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(ca, i)))
			row, _ := certs.Lookup(ca)
			r := diagnosis.RotationOf(s, row.Authority)
			if r.Stage != want || len(r.Missing) > 0 || len(r.Consumers) == 0 || (r.Next != nil) != (i > 0) {
				t.Errorf("%s after %d stages: %q, missing %q, next %v, %d consumers", ca, i, r.Stage, r.Missing, r.Next, len(r.Consumers))
			}
			if d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds()); d.Route != diagnosis.None {
				t.Errorf("%s at %q: route %s: %s", ca, want, d.Route, d.Verdict)
			}
			if next := stages[min(i+1, 5)]; r.After() != next {
				t.Errorf("after %q comes %q, want %q", want, r.After(), next)
			}
			if held := r.Holds(s); i > 0 && len(held) == 0 {
				t.Errorf("%s at %q: nothing holds a file of the rotation", ca, want)
			}
		}
	}
}

// What one consumer lacks keeps the rotation at the stage before, and is named.
func TestRotationLacks(t *testing.T) {
	t.Parallel()
	at := func(stages int) tc.Edit {
		return tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, stages))
	}
	for name, row := range map[string]struct {
		edits   []tc.Edit
		stage   diagnosis.Stage
		missing string
	}{
		"a control plane without the next key": {[]tc.Edit{at(1), tc.On("cp2", tc.Files(func(c *certs.Certificate) { c.Key = certs.KeyMissing }, certs.KindCANext))}, "", "cp2: it does not have the next ca with its key"},
		"a control plane with another next CA": {[]tc.Edit{at(1), tc.On("cp2", tc.Files(func(c *certs.Certificate) { c.Fingerprint = "another" }, certs.KindCANext))}, "", "cp2: it does not have"},
		"a kubeconfig with the former CA":      {[]tc.Edit{at(2), tc.On("w1", tc.Trusting("kubelet.conf", ""))}, "make", "w1: /etc/kubernetes/kubelet.conf does not trust the next CA"},
		"a namespace with the former CA":       {[]tc.Edit{at(2), published(snapshot.RootCAConfigMap, "")}, "make", "namespace default does not trust the next CA"},
		"a file to sign with of two":           {[]tc.Edit{at(2), tc.Everywhere(tc.Signing("ca.crt"))}, "make", "signs with one alone"},
		"a kubelet's former certificate":       {[]tc.Edit{at(3), tc.On("w1", tc.IssuedBy("", certs.KindKubeletClient))}, "trust", "w1: /var/lib/kubelet/pki/kubelet-client-current.pem is not of the next CA"},
		"a signer that is the former CA":       {[]tc.Edit{at(3), tc.On("cp3", tc.Signing("ca-former.crt"))}, "trust", "cp3: " + tc.PKI + "/ca-former.crt is not of the next CA"},
		"an API server's former certificate":   {[]tc.Edit{at(4), tc.On("cp3", tc.IssuedBy("", certs.KindAPIServer))}, "clients", "apiserver.crt is not of the next CA"},
		"a former key":                         {[]tc.Edit{at(4), tc.On("cp3", tc.Bundle(certs.KindCA, "", "", tc.Next))}, "clients", "cp3: the key of ca is not that of the next CA"},
		"a kubeconfig that trusts both":        {[]tc.Edit{at(5), tc.On("w1", tc.Trusting("kubelet.conf", tc.Next, ""))}, "servers", "w1: /etc/kubernetes/kubelet.conf still trusts the former CA"},
		"a webhook that trusts both":           {[]tc.Edit{at(5), published(snapshot.Webhook, "", tc.Next)}, "servers", "caBundle of webhook default still trusts the former CA"},
		"a webhook of another CA":              {[]tc.Edit{at(5), published(snapshot.Webhook, "another")}, "drop", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := diagnosis.RotationOf(tc.Healthy(tc.HA(), row.edits...), certs.KubernetesCA)
			if r.Stage != row.stage || row.missing != "" && !slices.ContainsFunc(r.Missing, func(m string) bool { return strings.Contains(m, row.missing) }) {
				t.Errorf("stage %q, missing %q, want %q and %q", r.Stage, r.Missing, row.stage, row.missing)
			}
		})
	}
	s := tc.Healthy(tc.HA(), at(5), tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route")))
	if all := diagnosis.RotationsOf(s); !slices.Equal(all.Unknown, []string{"w1"}) || len(all.CAs) != 3 {
		t.Errorf("%+v", all)
	}
	was := diagnosis.RotationOf(s, certs.KubernetesCA)
	done := tc.Healthy(tc.HA(), tc.Everywhere(tc.Bundle(certs.KindCA, tc.Next, tc.Next), tc.Trusting("", tc.Next)))
	if held := was.Holds(done); len(held) > 0 {
		t.Errorf("after the last stage these hold the former CA: %q", held)
	}
}
