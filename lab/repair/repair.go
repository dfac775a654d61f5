// Package repair is the bare repair: what a skilled operator types by hand to
// bring a cluster with expired certificates back, keeping its CAs. It has no
// backup worth the name, no gates and no way back; it is the baseline that
// kscertctl is measured against, and the proof that the witness can be content.
package repair

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

//go:embed scripts/*.sh
var scripts embed.FS

// Cluster repairs a cluster and returns how long it took: until every API
// server answers and every kubelet has a new certificate.
func Cluster(ctx context.Context, c *cluster.Cluster) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	start := time.Now()
	if err := repair(ctx, c); err != nil {
		return time.Since(start), fmt.Errorf("repairing cluster %s by hand: %w", c.Name(), err)
	}
	return time.Since(start), nil
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

// repairHostEtcd has the first member sign everybody's certificates, as Kubespray
// does, and gives each node those that it has.
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

// theirs are the files that are among those that a node has.
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

// Naive does to the first control plane what the procedure found on the web
// does, new CAs included.
func Naive(ctx context.Context, c *cluster.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	_, err := run(ctx, c, c.ControlPlanes()[0], "naive.sh", "")
	return err
}

// run puts a script on a node's disk, since its stdin is for what it is told.
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
