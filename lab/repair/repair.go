// Package repair is the manual repair of a cluster with expired certificates by a skilled
// operator, keeping its CAs. It has no proper backup, no gates and no rollback. It is the
// baseline for kscertctl, and shows that a repair can pass the lab's verification.
package repair

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

//go:embed scripts/*.sh
var scripts embed.FS

// Cluster repairs a cluster and returns how long it took: until every API server answers,
// every kubelet has a new certificate and renews its lease, and both components with leader
// election have a leader.
func Cluster(ctx context.Context, c *cluster.Cluster) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	start := time.Now()
	err := repair(ctx, c)
	if err == nil {
		err = cluster.Poll(ctx, 2*time.Minute, 200*time.Millisecond, "all leases to be renewed",
			func(ctx context.Context) error {
				return Leases(ctx, c, start)
			})
	}
	if err != nil {
		return time.Since(start), fmt.Errorf("repairing cluster %s by hand: %w", c.Name(), err)
	}
	return time.Since(start), nil
}

// Leases returns nil if every kubelet, and a kube-controller-manager and a kube-scheduler,
// have renewed their lease since then: they run and can authenticate.
func Leases(ctx context.Context, c *cluster.Cluster, since time.Time) error {
	out, err := c.Kubectl(ctx, "get", "leases", "-A", "-o", "json")
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name, Namespace string }
			Spec     struct{ RenewTime time.Time }
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return fmt.Errorf("reading the leases: %w", err)
	}
	renewed := map[string]time.Time{}
	for _, item := range list.Items {
		renewed[item.Metadata.Namespace+"/"+item.Metadata.Name] = item.Spec.RenewTime
	}
	needed := []string{"kube-system/kube-controller-manager", "kube-system/kube-scheduler"}
	for _, n := range c.KubernetesNodes() {
		needed = append(needed, "kube-node-lease/"+n.KubernetesName)
	}
	for _, name := range needed {
		if !renewed[name].After(since) {
			return fmt.Errorf("lease %s was last renewed at %s", name, renewed[name].Format(time.RFC3339))
		}
	}
	return nil
}

func repair(ctx context.Context, c *cluster.Cluster) error {
	err := cluster.Each(ctx, c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		_, err := run(ctx, c, n, "issue.sh", "")
		return err
	})
	if err != nil {
		return err
	}
	if c.Spec.Etcd == cluster.EtcdHost {
		if err := repairHostEtcd(ctx, c); err != nil {
			return err
		}
	}
	err = cluster.Each(ctx, c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		_, err := run(ctx, c, n, "restart.sh", "")
		return err
	})
	if err != nil {
		return err
	}
	return repairWorkers(ctx, c)
}

// repairHostEtcd signs all certificates on the first member, as Kubespray does, and gives each
// node its own.
func repairHostEtcd(ctx context.Context, c *cluster.Cluster) error {
	first := c.EtcdMembers()[0]
	out, err := run(ctx, c, first, "etcd.sh", "")
	if err != nil || !strings.Contains(string(out), "renewed") {
		return err
	}
	const etcdFiles = "/etc/ssl/etcd/ssl/*.pem"
	files, err := c.ReadFiles(ctx, first.Name, etcdFiles)
	if err != nil {
		return err
	}
	return cluster.Each(ctx, c.Nodes(), func(ctx context.Context, n cluster.Node) error {
		if n.Name != first.Name {
			has, err := c.ReadFiles(ctx, n.Name, etcdFiles)
			if err != nil {
				return err
			}
			if err := c.WriteFiles(ctx, n.Name, theirs(files, has)...); err != nil {
				return err
			}
		}
		_, err := c.Shell(ctx, n.Name, "[ ! -e /etc/etcd.env ] || systemctl restart --no-block etcd")
		return err
	})
}

// theirs filters the files that a node has.
func theirs(files, has []cluster.File) []cluster.File {
	return slices.DeleteFunc(slices.Clone(files), func(f cluster.File) bool {
		return !slices.ContainsFunc(has, func(h cluster.File) bool { return h.Path == f.Path })
	})
}

func repairWorkers(ctx context.Context, c *cluster.Cluster) error {
	if len(c.Workers()) == 0 {
		return nil
	}
	first := c.ControlPlanes()[0].Name
	kubeadm := []string{"kubeadm", "--kubeconfig", c.Spec.ConfigDir + "/admin.conf", "token"}
	token, err := c.Exec(ctx, first, append(kubeadm, "create", "--ttl", "15m")...)
	if err != nil {
		return err
	}
	err = cluster.Each(ctx, c.Workers(), func(ctx context.Context, n cluster.Node) error {
		_, err := run(ctx, c, n, "worker.sh", string(token))
		return err
	})
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, first, append(kubeadm, "delete", strings.TrimSpace(string(token)))...)
	return err
}

// Naive applies the usual advice from the web to the first control plane, including new CAs.
func Naive(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := run(ctx, c, c.ControlPlanes()[0], "naive.sh", "")
	return err
}

// run writes the script to a file on the node, since stdin has its input.
func run(ctx context.Context, c *cluster.Cluster, n cluster.Node, script, stdin string) ([]byte, error) {
	text, err := scripts.ReadFile("scripts/" + script)
	if err != nil {
		return nil, err
	}
	path := "/run/kscertctl-lab-" + script
	if err := c.WriteFiles(ctx, n.Name, cluster.File{Path: path, Data: text, Mode: 0o755}); err != nil {
		return nil, err
	}
	out, err := c.ExecInput(ctx, n.Name, bytes.NewBufferString(stdin), "env", "CONF="+c.Spec.ConfigDir, path)
	if err != nil {
		return out, fmt.Errorf("%s: %w", script, err)
	}
	return out, nil
}
