package diagnosis_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// registered makes the API know a node of that name and role.
func registered(name string, role cluster.Role, addresses ...string) tc.Edit {
	return tc.View(func(v *snapshot.View) {
		v.Nodes[name] = "True"
		v.Addresses = map[string][]string{name: addresses}
		if role == cluster.ControlPlane {
			v.ControlPlanes = append(v.ControlPlanes, name)
		}
	})
}

// joined makes every member of etcd that lists members list one more.
func joined(m snapshot.EtcdMember) tc.Edit {
	return tc.Everywhere(func(n *snapshot.Node) {
		if n.Etcd != nil && n.Etcd.Members != nil {
			n.Etcd.Members = append(n.Etcd.Members, m)
		}
	})
}

// servers sets the etcd addresses of the API server on cp1; cp1 listens at the first.
func servers(urls string) tc.Edit {
	return tc.On("cp1", func(n *snapshot.Node) {
		n.Facts["kube-apiserver.etcd-servers"] = urls
		n.Facts["etcd.listen-client-urls"] = "https://10.0.0.5:2379,https://127.0.0.1:2379"
	})
}

// What the API or etcd know and the inventory does not is named, with its source; what only has
// another name there is not.
func TestStrangers(t *testing.T) {
	t.Parallel()
	single := tc.Single()
	address := func(name, is string) tc.Edit { return tc.On(name, func(n *snapshot.Node) { n.Address = is }) }
	renamed := func(name, is string) tc.Edit {
		return func(s *snapshot.Snapshot) {
			tc.View(func(v *snapshot.View) { delete(v.Nodes, name) })(s)
			tc.On(name, tc.Files(func(c *certs.Certificate) { c.Subject = "CN=system:node:" + is + ",O=system:nodes" }, certs.KindKubeletClient))(s)
		}
	}
	third := snapshot.EtcdMember{ID: "c3", Name: "etcd3", PeerURLs: []string{"https://10.0.0.3:2380"}}
	for _, row := range []struct {
		name  string
		of    cluster.Cluster
		edits []tc.Edit
		want  string
	}{
		{"none", single, nil, ""},
		{"a control plane", single, []tc.Edit{registered("cp9", cluster.ControlPlane, "10.0.0.9", "cp9")},
			"control-plane cp9 on cp1: the API server on cp1 lists the node cp9 (control-plane, 10.0.0.9, cp9)"},
		{"a worker", single, []tc.Edit{registered("w9", cluster.Worker)}, "worker w9 on cp1: the API server on cp1 lists the node w9 (worker)"},
		{"the same name in other letters", single, []tc.Edit{registered("CP1.", cluster.ControlPlane)}, ""},
		{"the inventory's address", single, []tc.Edit{registered("ip-9", cluster.ControlPlane, "::ffff:10.0.0.9"), address("cp1", "10.0.0.9")}, ""},
		{"the host name", single, []tc.Edit{registered("host9", cluster.Worker), tc.On("w1", func(n *snapshot.Node) { n.Facts["hostname"] = "host9" })}, ""},
		{"--hostname-override", single, []tc.Edit{renamed("cp1", "other"), registered("other", cluster.ControlPlane)}, ""},
		{"a worker's word for a control plane", single, []tc.Edit{renamed("w1", "cp9"), registered("cp9", cluster.ControlPlane)},
			"control-plane cp9 on cp1: the API server on cp1 lists the node cp9 (control-plane)"},
		{"no API server tells", single, []tc.Edit{registered("cp9", cluster.ControlPlane), tc.On("cp1", tc.Refused())}, ""},

		{"a member", single, []tc.Edit{joined(third)}, `etcd etcd3 on cp1: etcd on cp1 lists the member "etcd3", ID c3, peer URL https://10.0.0.3:2380`},
		{"a member that has not started", single, []tc.Edit{joined(snapshot.EtcdMember{ID: "c3", PeerURLs: third.PeerURLs, Learner: true})},
			`etcd c3 on cp1: etcd on cp1 lists the learner "", ID c3, peer URL https://10.0.0.3:2380`},
		{"a member whose name is no word", single, []tc.Edit{joined(snapshot.EtcdMember{ID: "c3", Name: "a\nb"})},
			`etcd c3 on cp1: etcd on cp1 lists the member "a\nb", ID c3, peer URL `},
		{"a second member of the same name", single, []tc.Edit{joined(snapshot.EtcdMember{ID: "c3", Name: "cp1"})},
			`etcd cp1 on cp1: etcd on cp1 lists the member "cp1", ID c3, peer URL `},
		{"a member that does not answer, by the inventory's address", tc.HA(), []tc.Edit{
			tc.Everywhere(func(n *snapshot.Node) {
				if n.Etcd != nil {
					n.Etcd.Members[2] = third
				}
			}), tc.On("cp3", tc.NoQuorum), address("cp3", "10.0.0.3"),
		}, ""},
		{"a member that does not answer, by where it listens", tc.HA(), []tc.Edit{
			tc.Everywhere(func(n *snapshot.Node) {
				if n.Etcd != nil {
					n.Etcd.Members[2] = third
				}
			}), tc.On("cp3", tc.NoQuorum, func(n *snapshot.Node) { n.Facts["etcd.listen-peer-urls"] = "https://10.0.0.3:2380" }),
		}, ""},
		{"a member that is called otherwise and listens elsewhere, by its own ID", tc.HA(), []tc.Edit{
			tc.Everywhere(func(n *snapshot.Node) {
				if n.Etcd != nil {
					n.Etcd.Members[2].Name, n.Etcd.Members[2].PeerURLs = "infra3", []string{"https://192.0.2.3:2380"}
				}
			}),
		}, ""},
		{"a worker's word for where a member listens", single, []tc.Edit{
			joined(third), tc.On("w1", func(n *snapshot.Node) { n.Facts["etcd.listen-peer-urls"] = "https://10.0.0.3:2380" }),
		}, `etcd etcd3 on cp1: etcd on cp1 lists the member "etcd3", ID c3, peer URL https://10.0.0.3:2380`},
		{"what only a member without a quorum lists", tc.HA(), []tc.Edit{tc.On("cp3", func(n *snapshot.Node) {
			n.Etcd.Healthy = false
			n.Etcd.Members = append(slices.Clone(n.Etcd.Members), third)
		})}, ""},

		{"an address of etcd that no one has, while no member tells", single, []tc.Edit{tc.On("cp1", tc.Refused(), tc.NoQuorum), servers("https://10.0.0.5:2379,https://10.0.0.6:2379")},
			"etcd 10.0.0.6 on cp1: the API server on cp1 is set to ask etcd at 10.0.0.6; no etcd member listed its members"},
		{"a name of etcd, while no member tells", single, []tc.Edit{tc.On("cp1", tc.NoQuorum), servers("https://etcd.example.com:2379,https://127.0.0.1:2379")}, ""},
		{"an address of etcd, while members tell", single, []tc.Edit{servers("https://10.0.0.5:2379,https://10.0.0.6:2379")}, ""},
		{"an address of etcd, while an etcd node cannot be asked", tc.HA(), []tc.Edit{
			tc.On("cp1,cp2", tc.NoQuorum), tc.On("cp3", tc.Unknown(snapshot.Unreachable, "gone")), servers("https://10.0.0.6:2379"),
		}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, row.edits...)
			var got, found []string
			for _, st := range diagnosis.Strangers(s) {
				got = append(got, fmt.Sprintf("%s %s on %s: %s", st.Role, st.Name, st.By, st.Evidence))
			}
			if strings.Join(got, "\n") != row.want {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), row.want)
			}
			for _, f := range diagnosis.Diagnose(s, diagnosis.DefaultThresholds()).Findings {
				if f.Reason == diagnosis.NotInInventory {
					found = append(found, f.Evidence)
				}
			}
			if (len(found) > 0) != (row.want != "") || len(found) > 0 && !strings.HasSuffix(row.want, found[0]) {
				t.Errorf("found %q", found)
			}
		})
	}
}
