package cluster

import (
	"context"
	"fmt"
	"time"
)

// restartKubernetes ends everything that holds a certificate in memory. kubelet
// goes first, or it would bring containers back between; etcd is not waited
// for, since with an expired certificate it may never be ready.
const restartKubernetes = `systemctl stop kubelet
ids=$(crictl ps -q --label io.kubernetes.pod.namespace=kube-system)
[ -z "$ids" ] || crictl stop -t 2 $ids >/dev/null
[ ! -e /etc/etcd.env ] || ` + restartEtcd + `
systemctl start kubelet`

const restartEtcd = `systemctl restart --no-block etcd`

// Restart restarts kubelet, the static pods and etcd on the given nodes, all at
// once, as if the machines had been rebooted.
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

// Stop cuts a node's power: nothing on it has time to end in order.
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

// Start starts a node that was stopped, and returns when its sshd answers.
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
