package repair

import (
	"testing"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// TestTheirs: a control plane without etcd gets its own pair, never the key of etcd's CA.
func TestTheirs(t *testing.T) {
	const dir = "/etc/ssl/etcd/ssl/"
	all := []cluster.File{{Path: dir + "ca.pem"}, {Path: dir + "ca-key.pem"}, {Path: dir + "node-cp1.pem", Data: []byte("new")}, {Path: dir + "node-cp2.pem"}}
	got := theirs(all, []cluster.File{{Path: dir + "ca.pem"}, {Path: dir + "node-cp1.pem", Data: []byte("old")}})
	if len(got) != 2 || got[0].Path != dir+"ca.pem" || got[1].Path != dir+"node-cp1.pem" || string(got[1].Data) != "new" {
		t.Errorf("got %v", got)
	}
}
