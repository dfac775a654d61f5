package playbooks_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Many leftover pairs hardly slow an inspection down, whether or not a certificate belongs to them.
// More than a node should have are reported.
func TestManyLeftoverPairs(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "etcd-ca")
	pair := ca.Issue(t, testpki.Leaf{CommonName: "etcd-node"})
	for _, row := range []struct {
		pairs int
		want  error
	}{{400, nil}, {3000, snapshot.ErrTooMuch}} {
		t.Run(fmt.Sprint(row.pairs), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.etcd+"/ca.pem", ca.Certificate, 0o600)
			for i := range row.pairs {
				n.write(fmt.Sprintf("%s/node-w%d.pem", n.etcd, i), pair.Certificate, 0o600)
				n.write(fmt.Sprintf("%s/node-w%d-key.pem", n.etcd, i), pair.Key, 0o600)
				n.write(fmt.Sprintf("%s/ssl/old-%d.crt", n.conf, i), pair.Certificate, 0o600)
				n.write(fmt.Sprintf("%s/ssl/old-%d.key", n.conf, i), pair.Key, 0o600)
			}
			n.write(n.conf+"/ssl/front-proxy-client.crt", pair.Certificate, 0o600)
			n.write(n.conf+"/ssl/front-proxy-client.key", pair.Key, 0o600)
			start := time.Now()
			out, errs, err := n.sh(collector(t))
			if took := time.Since(start); err != nil || took > 110*time.Second { // an inspection has 120 s
				t.Errorf("after %s: %v %s", took, err, errs)
			}
			got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
			if !errors.Is(err, row.want) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			matching := map[certs.Kind]int{}
			for _, c := range got.Certificates {
				if c.Key == certs.KeyMatches {
					matching[c.Kind]++
				}
			}
			if matching[certs.KindFrontProxyClient] != 1 || matching[certs.KindEtcdNode] != row.pairs || len(got.Certificates) < 2*row.pairs {
				t.Errorf("%d certificates, with their keys %v", len(got.Certificates), matching)
			}
		})
	}
}
