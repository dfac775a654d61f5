package diagnosis_test

import (
	"slices"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// What lasts is what no step fixes: neither itself nor anything that may have caused it.
func TestLasting(t *testing.T) {
	t.Parallel()
	credentialStale := tc.Files(func(c *certs.Certificate) { c.File.Modified = tc.Now.Add(-time.Hour) }, controllerManager)
	for _, row := range []struct {
		name  string
		edits []tc.Edit
		want  []diagnosis.Reason
	}{
		{"a certificate that has expired", []tc.Edit{tc.On("cp1", tc.Expired(certs.KindAPIServer), tc.Unusable(1, tc.SaysExpired))}, nil},
		{"a certificate that begins in the future, and that a run replaces", []tc.Edit{tc.On("cp1", tc.Files(func(c *certs.Certificate) { c.NotBefore = tc.Now.Add(tc.Day) }, certs.KindAdmin))}, nil},
		{"a kubelet whose certificate has expired", []tc.Edit{tc.On("w1", tc.Expired(certs.KindKubeletClient), tc.CrashLoop())}, nil},
		{"a kubelet that another lasting fault stopped", []tc.Edit{tc.On("w1", runtimeDown, tc.CrashLoop())},
			[]diagnosis.Reason{diagnosis.ContainerRuntimeDown, diagnosis.KubeletDown}},
		{"a pod that is not Ready for no known reason", []tc.Edit{tc.View(podNotReady)}, []diagnosis.Reason{diagnosis.StaticPodNotReady}},
		{"a pod whose component serves the older certificate", []tc.Edit{tc.View(podNotReady), tc.On("cp1", tc.Renewed(certs.KindAPIServer))}, nil},
		{"a pod next to a component that holds the older kubeconfig", []tc.Edit{tc.View(podNotReady), tc.On("cp1", credentialStale)}, nil},
		{"an API server whose certificate for itself has expired", []tc.Edit{tc.On("cp1", tc.Loopback(tc.Now.Add(-tc.Day)), tc.EndsIn(tc.Day, certs.KindAdmin))}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			d := diagnosis.Diagnose(tc.Healthy(tc.Single(), row.edits...), diagnosis.DefaultThresholds())
			var got []diagnosis.Reason
			for _, f := range d.Lasting() {
				got = append(got, f.Reason)
			}
			if len(d.Findings) == 0 || !slices.Equal(got, row.want) {
				t.Errorf("lasting are %v, want %v\n%+v", got, row.want, d.Findings)
			}
		})
	}
}
