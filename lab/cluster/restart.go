package cluster

import (
	"context"
	"fmt"
	"time"
)

// restartKubernetes stops everything that has a certificate in memory. It stops the kubelet
// first, which would restart containers in between. It does not wait for etcd, which may never
// become ready with an expired certificate.
const restartKubernetes = `systemctl stop kubelet
ids=$(crictl ps -q --label io.kubernetes.pod.namespace=kube-system)
[ -z "$ids" ] || crictl stop -t 2 $ids >/dev/null
` + restartEtcd + `
systemctl start kubelet`

const restartEtcd = `for e in etcd etcd-events; do [ ! -e /etc/$e.env ] || systemctl restart --no-block $e; done`

// Restart restarts the kubelet, the static pods and etcd on the given nodes in parallel, like
// a reboot.
func (c *Cluster) Restart(ctx context.Context, nodes ...Node) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := Each(ctx, nodes, func(ctx context.Context, n Node) error {
		script := restartKubernetes
		if n.Role == EtcdNode {
			script = restartEtcd
		}
		_, err := c.Shell(ctx, n.Name, script)
		return err
	})
	if err != nil {
		return fmt.Errorf("restarting cluster %s: %w", c.Name(), err)
	}
	return nil
}

// Stop is a power failure of a node: no process can shut down.
func (c *Cluster) Stop(ctx context.Context, node string) error {
	n, err := c.Node(node)
	if err != nil {
		return err
	}
	if _, err := c.engine.Docker(ctx, "kill", n.Container); err != nil {
		return fmt.Errorf("stopping node %s: %w", node, err)
	}
	return nil
}

// Start starts a stopped node, and returns when its sshd answers.
func (c *Cluster) Start(ctx context.Context, node string) error {
	n, err := c.Node(node)
	if err != nil {
		return err
	}
	if _, err := c.engine.Docker(ctx, "start", n.Container); err != nil {
		return fmt.Errorf("starting node %s: %w", node, err)
	}
	return waitSSH(ctx, n)
}
