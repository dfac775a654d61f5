package plan_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

const mib = 1 << 20

// holds gives members a database of so many bytes.
func holds(nodes string, bytes int64) tc.Edit {
	return tc.On(nodes, func(n *snapshot.Node) { n.Etcd.DBSize = bytes })
}

// mounted gives nodes a file system with so many MiB free.
func mounted(nodes, at string, free int64) tc.Edit {
	return tc.On(nodes, func(n *snapshot.Node) {
		n.Disks[at] = snapshot.Disk{FreeKiB: free << 10, SizeKiB: 100 << 20, FreeInodes: 9}
	})
}

// Which backups hold a snapshot of etcd, what it costs, and why it is left out.
func TestEtcdSnapshots(t *testing.T) {
	t.Parallel()
	const (
		dir     = "/var/backups/kscertctl"
		saves   = "the backup saves a snapshot of etcd on "
		without = "no snapshot of etcd is saved ("
		long    = "2401 MiB would take about 121 s, longer than 120 s; --etcd-snapshot always saves it"
		tight   = "it needs 1256 MiB, of which 256 stay free, but " + dir + " has 1255 MiB"
		asks    = ", which is read again when the backup is taken"
	)
	due := tc.Everywhere(func(n *snapshot.Node) {
		if n.Is(cluster.ControlPlane) {
			tc.EndsIn(tc.Day, certs.KindAPIServer)(n)
		}
	})
	member := func(node string, bytes, seconds int64, leftOut string) plan.MemberSnapshot {
		return plan.MemberSnapshot{Node: node, Bytes: bytes, Seconds: seconds, LeftOut: leftOut}
	}
	for _, row := range []struct {
		name    string
		of      cluster.Cluster
		edits   []tc.Edit
		choice  plan.EtcdSnapshot
		limit   []string
		nowhere bool // the policy names no place for backups
		want    []plan.MemberSnapshot
		notes   []string // that are about snapshots
		unknown string
		refusal string
	}{
		{
			name: "three small ones", of: tc.HA(), edits: []tc.Edit{holds("cp1", 1), holds("cp2", 20*mib), holds("cp3", 20*mib+1)},
			want:  []plan.MemberSnapshot{member("cp1", 1, 1, ""), member("cp2", 20*mib, 1, ""), member("cp3", 20*mib+1, 2, "")},
			notes: []string{saves + "cp1 (1 MiB, about 1 s), cp2 (20 MiB, about 1 s), cp3 (21 MiB, about 2 s)"},
		},
		{
			name: "of nodes that are backed up alone", of: tc.HA(), limit: []string{"cp2"},
			want: []plan.MemberSnapshot{member("cp2", 24*mib, 2, "")}, notes: []string{saves + "cp2 (24 MiB, about 2 s)"},
		},
		{
			name: "within the bound and beyond", of: tc.HA(), edits: []tc.Edit{holds("cp1", 2400*mib), holds("cp2,cp3", 2401*mib)},
			want:  []plan.MemberSnapshot{member("cp1", 2400*mib, 120, ""), member("cp2", 2401*mib, 121, long), member("cp3", 2401*mib, 121, long)},
			notes: []string{saves + "cp1 (2400 MiB, about 120 s)", without + long + ") on cp2, cp3"},
		},
		{
			name: "beyond the bound, but asked for", of: tc.Single(), choice: plan.SnapshotAlways, edits: []tc.Edit{holds("cp1", 2401*mib)},
			want: []plan.MemberSnapshot{member("cp1", 2401*mib, 121, "")}, notes: []string{saves + "cp1 (2401 MiB, about 121 s)"},
		},
		{
			name: "no room", of: tc.Single(), edits: []tc.Edit{holds("cp1", 1000*mib), mounted("cp1", "/var", 1255)},
			want: []plan.MemberSnapshot{member("cp1", 1000*mib, 50, tight)}, notes: []string{without + tight + ") on cp1"},
		},
		{
			name: "room enough", of: tc.Single(), edits: []tc.Edit{holds("cp1", 1000*mib), mounted("cp1", "/var", 1256), mounted("cp1", "/", 100)},
			want: []plan.MemberSnapshot{member("cp1", 1000*mib, 50, "")}, notes: []string{saves + "cp1 (1000 MiB, about 50 s)"},
		},
		{
			name: "no room where no backups lie", of: tc.Single(), edits: []tc.Edit{mounted("cp1", "/var/back", 100), mounted("cp1", "/var/lib/etcd", 100)},
			want: []plan.MemberSnapshot{member("cp1", 24*mib, 2, "")}, notes: []string{saves + "cp1 (24 MiB, about 2 s)"},
		},
		{
			name: "no room at a place that is not named", of: tc.Single(), edits: []tc.Edit{mounted("cp1", "/", 100)}, nowhere: true,
			want: []plan.MemberSnapshot{member("cp1", 24*mib, 2, "")}, notes: []string{saves + "cp1 (24 MiB, about 2 s)"},
		},
		{
			name: "no room, but asked for", of: tc.HA(), choice: plan.SnapshotAlways,
			edits:   []tc.Edit{holds("cp1,cp3", 1000*mib), mounted("cp1,cp3", dir, 1255)},
			refusal: "no space for a snapshot of etcd on cp1: " + tight + "; cp3: " + tight + ". Free some there",
		},
		{
			name: "not wanted, be there no room", of: tc.HA(), choice: plan.SnapshotNever, edits: []tc.Edit{mounted("cp1", dir, 100), holds("cp2", 9000*mib)},
			want: []plan.MemberSnapshot{
				member("cp1", 24*mib, 2, "--etcd-snapshot never"), member("cp2", 9000*mib, 450, "--etcd-snapshot never"), member("cp3", 24*mib, 2, "--etcd-snapshot never"),
			},
			notes: []string{without + "--etcd-snapshot never) on cp1, cp2, cp3"},
		},
		{
			name: "it does not tell", of: tc.HA(), edits: []tc.Edit{holds("cp1,cp3", 0)}, choice: plan.SnapshotAlways,
			want:    []plan.MemberSnapshot{member("cp1", 0, 0, ""), member("cp2", 24*mib, 2, ""), member("cp3", 0, 0, "")},
			notes:   []string{saves + "cp2 (24 MiB, about 2 s)"},
			unknown: "the size of etcd's database on cp1, cp3" + asks,
		},
		{
			name: "numbers that nothing has, of a file that someone has edited", of: tc.HA(),
			edits:   []tc.Edit{holds("cp1", math.MaxInt64), holds("cp2", math.MinInt64), mounted("cp3", dir, math.MaxInt64>>10)},
			want:    []plan.MemberSnapshot{member("cp1", 1<<50, 1<<50/(20*mib)+1, ""), member("cp2", 0, 0, ""), member("cp3", 24*mib, 2, "")},
			unknown: "the size of etcd's database on cp2" + asks,
		},
		{
			name: "a node next to etcd", of: tc.ExternalEtcd(),
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := tc.Healthy(row.of, append([]tc.Edit{due}, row.edits...)...)
			policy := plan.Policy{EtcdSnapshot: row.choice, BackupRoot: dir, Limit: row.limit}
			if row.nowhere {
				policy.BackupRoot = ""
			}
			p, err := plan.Make(row.of, s, diagnosis.Diagnose(s, diagnosis.DefaultThresholds()), policy)
			var refused *plan.UnsupportedError
			if row.refusal != "" {
				if !errors.As(err, &refused) || !strings.HasPrefix(err.Error(), row.refusal) || len(p.Steps) > 0 {
					t.Errorf("%v, want %q; steps %v", err, row.refusal, p.Steps)
				}
				return
			}
			if err != nil || len(p.Steps) == 0 {
				t.Fatalf("%v: %v", err, p)
			}
			if strings.HasPrefix(row.name, "numbers") { // whatever is reported about them
				row.want[0].LeftOut = p.EtcdSnapshots[0].LeftOut
			} else if got := about(p.Notes, "snapshot of etcd"); !reflect.DeepEqual(got, row.notes) {
				t.Errorf("notes\n%q, want\n%q", got, row.notes)
			}
			if !reflect.DeepEqual(p.EtcdSnapshots, row.want) {
				t.Errorf("\n%+v, want\n%+v", p.EtcdSnapshots, row.want)
			}
			if got := strings.Join(about(p.Unknown, "database"), "\n"); got != row.unknown {
				t.Errorf("unknown: %q, want %q", got, row.unknown)
			}
		})
	}
}

// about are the lines that contain a word.
func about(lines []string, word string) (out []string) {
	for _, line := range lines {
		if strings.Contains(line, word) {
			out = append(out, line)
		}
	}
	return out
}
