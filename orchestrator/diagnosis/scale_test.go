package diagnosis_test

import (
	"fmt"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
)

// BenchmarkDiagnose measures 200 workers all of whose kubelets have expired.
func BenchmarkDiagnose(b *testing.B) {
	c := tc.HA()
	for i := range 200 {
		name := fmt.Sprintf("worker-%d", i)
		c.Nodes = append(c.Nodes, cluster.Node{Name: name, KubernetesName: name, Roles: []cluster.Role{cluster.Worker}})
	}
	s := tc.Healthy(c, tc.Everywhere(tc.Expired(certs.KindKubeletClient), tc.CrashLoop()), tc.On("cp1,cp2,cp3", tc.Refused()))
	for b.Loop() {
		diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	}
}
