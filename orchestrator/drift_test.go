package orchestrator

import (
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A plan is made for files as they were: every changed file is named. What changes by itself is no
// drift.
func TestDrift(t *testing.T) {
	t.Parallel()
	kubeconfig := func(server string) tc.NodeEdit {
		return func(n *snapshot.Node) {
			n.Kubeconfigs = []snapshot.Kubeconfig{{Path: "/etc/kubernetes/admin.conf", Server: server}}
		}
	}
	manifest := func(sum string) tc.NodeEdit {
		return func(n *snapshot.Node) {
			n.Files = map[string]string{"/etc/kubernetes/manifests/kube-apiserver.yaml": sum}
		}
	}
	for _, row := range []struct {
		name        string
		before, now tc.Edit
		want        string
	}{
		{name: "nothing has changed"},
		{name: "time has passed", now: tc.Later(time.Hour)},
		{name: "another certificate is served", now: tc.On("cp1", func(n *snapshot.Node) { n.Endpoints = nil })},
		{name: "a certificate was renewed", now: tc.On("cp1", tc.Renewed(certs.KindAPIServer)), want: "cp1: /etc/kubernetes/ssl/apiserver.crt has changed"},
		{
			name: "two certificates on two nodes", now: tc.On("cp1,w1", tc.Renewed(certs.KindKubeletClient)),
			want: "cp1: /var/lib/kubelet/pki/kubelet-client-current.pem has changed\nw1: /var/lib/kubelet/pki/kubelet-client-current.pem has changed",
		},
		{
			name: "a certificate is gone",
			now:  tc.On("w1", func(n *snapshot.Node) { n.Certificates = n.Certificates[1:] }), want: "w1: /var/lib/kubelet/pki/kubelet-client-current.pem is gone",
		},
		{
			name: "a CA key has appeared", before: tc.On("cp1", func(n *snapshot.Node) { delete(n.Digests, "/etc/kubernetes/ssl/ca.key") }),
			want: "cp1: /etc/kubernetes/ssl/ca.key has appeared",
		},
		{
			name:   "a manifest was edited",
			before: tc.On("cp1", manifest("a")), now: tc.On("cp1", manifest("b")), want: "cp1: /etc/kubernetes/manifests/kube-apiserver.yaml has changed",
		},
		{
			name: "a kubeconfig points elsewhere", before: tc.On("cp1", kubeconfig("https://a:6443")), now: tc.On("cp1", kubeconfig("https://b:6443")),
			want: "cp1: /etc/kubernetes/admin.conf has changed",
		},
		{
			name: "a file is no certificate any more",
			now: tc.On("cp1", func(n *snapshot.Node) {
				n.Unreadable = []snapshot.Unreadable{{Path: "/etc/kubernetes/ssl/apiserver.crt", Reason: "empty"}}
			}),
			want: "cp1: /etc/kubernetes/ssl/apiserver.crt has changed",
		},
		{name: "a node that cannot be looked at is someone else's matter", now: tc.On("w1", tc.Unknown(snapshot.Unreachable, "no route"))},
		{name: "a node has left", now: func(s *snapshot.Snapshot) { s.Nodes = s.Nodes[:1] }, want: "w1: the node is no longer in the inventory"},
		{name: "a node has joined", before: func(s *snapshot.Snapshot) { s.Nodes = s.Nodes[:1] }, want: "w1: the node is new in the inventory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			before, now := tc.Healthy(tc.Single()), tc.Healthy(tc.Single())
			if row.before != nil {
				row.before(&before)
			}
			if row.now != nil {
				row.now(&now)
			}
			var got []string
			for _, d := range Drift(before, now) {
				got = append(got, d.String())
			}
			if strings.Join(got, "\n") != row.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), row.want)
			}
		})
	}
}
