package report_test

import (
	"bytes"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The page of rotations names what no stage changes, and the CA of etcd that the cluster has.
func TestRotations(t *testing.T) {
	t.Parallel()
	hook := tc.On("cp1", func(n *snapshot.Node) {
		n.Trust = append(n.Trust, snapshot.Trust{By: snapshot.Webhook, In: []string{"hook"}, CAs: []certs.Certificate{tc.CA(certs.KindCA, "")}})
	})
	s := tc.Healthy(tc.HA(), tc.Everywhere(tc.Signing("ca.crt"), tc.Rotating(certs.KindCA, 3), tc.Rotating(certs.KindEtcdHostCA, 2)), hook)
	var out bytes.Buffer
	if err := report.Rotations(&out, diagnosis.RotationsOf(s)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kubernetes-ca: the rotation has reached the stage clients\n", "  replace: cp1: caBundle of webhook hook still trusts the CA that is dropped\n",
		"front-proxy-ca: no rotation is under way\n", "etcd-host-ca: the rotation has reached the stage trust\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\netcd-ca:") {
		t.Error("a CA that the cluster does not have is shown")
	}
}
