package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// EtcdSnapshot defines which backups hold a snapshot of etcd in addition to the files. Certificates
// do not touch etcd's data: it is an addition, and no step restores it.
type EtcdSnapshot string

// The values of --etcd-snapshot.
const (
	// SnapshotAuto saves one if etcd answers, there is enough space, and it takes no longer than
	// SnapshotBound.
	SnapshotAuto EtcdSnapshot = "auto"
	// SnapshotAlways takes no backup, and so changes nothing, without one.
	SnapshotAlways EtcdSnapshot = "always"
	// SnapshotNever saves none.
	SnapshotNever EtcdSnapshot = "never"
)

// EtcdSnapshots in the order they are documented in.
func EtcdSnapshots() []EtcdSnapshot {
	return []EtcdSnapshot{SnapshotAuto, SnapshotAlways, SnapshotNever}
}

// The numbers that a plan calculates with, and a node again with its own measurements (the roles
// backup and settings of the playbooks; a test compares). A database of etcd's default limit, 2
// GiB, is within the bound.
const (
	// SnapshotPace is the estimated number of bytes saved per second.
	SnapshotPace = 20 << 20
	// SnapshotBound is how long a snapshot may take.
	SnapshotBound = 120 * time.Second
	// SnapshotSpare is how many bytes stay free for others.
	SnapshotSpare = 256 << 20
)

// most limits numbers from nodes, so that none overflows: 1 PiB.
const most = 1 << 50

// MemberSnapshot is a plan's forecast for the snapshot of one member of etcd. The node decides when
// its backup is taken.
type MemberSnapshot struct {
	// Node is the member's.
	Node string `json:"node"`
	// Bytes is the size of its database; absent if it is unknown.
	Bytes int64 `json:"bytes,omitempty"`
	// Seconds is about how long the snapshot would take.
	Seconds int64 `json:"seconds,omitempty"`
	// LeftOut is why none is saved; absent if one is.
	LeftOut string `json:"leftOut,omitempty"`
}

// snapshots returns which backups of nodes will hold a snapshot of etcd. The error is an
// *UnsupportedError if there is no space for one that has to be saved.
func (p Policy) snapshots(s snapshot.Snapshot, nodes []string) (all []MemberSnapshot, err error) {
	var short []string
	for _, n := range s.Nodes {
		if n.Etcd == nil || !slices.Contains(nodes, n.Name) {
			continue
		}
		size := min(max(n.Etcd.DBSize, 0), most)
		m := MemberSnapshot{Node: n.Name, Bytes: size, Seconds: (size + SnapshotPace - 1) / SnapshotPace}
		free, known := room(n, p.BackupRoot)
		need := size + SnapshotSpare
		figures := fmt.Sprintf("it needs %d MiB, of which %d stay free, but %s has %d MiB",
			mebibytes(need), mebibytes(SnapshotSpare), p.BackupRoot, free>>20)
		switch always := p.EtcdSnapshot == SnapshotAlways; {
		case p.EtcdSnapshot == SnapshotNever:
			m.LeftOut = "--etcd-snapshot never"
		case size == 0: // the node asks again
		case known && free < need && always:
			short = append(short, n.Name+": "+figures)
		case known && free < need:
			m.LeftOut = figures
		case m.Seconds > int64(SnapshotBound.Seconds()) && !always:
			m.LeftOut = fmt.Sprintf("%d MiB would take about %d s, longer than %.0f s; --etcd-snapshot always saves it",
				mebibytes(size), m.Seconds, SnapshotBound.Seconds())
		}
		all = append(all, m)
	}
	if len(short) > 0 {
		return nil, &UnsupportedError{fmt.Sprintf(
			"no space for a snapshot of etcd on %s. Free some there, name another directory with "+
				"--backup-root, or allow skipping it with --etcd-snapshot auto",
			strings.Join(short, "; "))}
	}
	return all, nil
}

// room is how many bytes are free on the file system of a node's backups, as far as that is known.
func room(n snapshot.Node, dir string) (free int64, known bool) {
	at := ""
	for mount, disk := range n.Disks {
		below := dir != "" && strings.HasPrefix(dir+"/", strings.TrimSuffix(mount, "/")+"/")
		if below && disk.SizeKiB > 0 && len(mount) > len(at) {
			at, free = mount, min(max(disk.FreeKiB, 0), most>>10)<<10
		}
	}
	return free, at != ""
}

// mebibytes is the size in MiB, rounded up.
func mebibytes(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }

// reported describes the forecast for snapshots, and lists the members whose size is unknown.
func reported(all []MemberSnapshot) (notes, unknown []string) {
	var output grouped
	var silent []string
	for _, m := range all {
		switch {
		case m.LeftOut != "":
			output.add(fmt.Sprintf("no snapshot of etcd is saved (%s) on ", m.LeftOut), m.Node)
		case m.Bytes == 0:
			silent = append(silent, m.Node)
		default:
			output.add("the backup saves a snapshot of etcd on ",
				fmt.Sprintf("%s (%d MiB, about %d s)", m.Node, mebibytes(m.Bytes), m.Seconds))
		}
	}
	for what, who := range output.all {
		notes = append(notes, what+who)
	}
	if len(silent) > 0 {
		unknown = append(unknown,
			fmt.Sprintf("the size of etcd's database on %s, which is read again when the backup is taken",
				strings.Join(silent, ", ")))
	}
	return notes, unknown
}
