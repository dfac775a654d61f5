// Package fault breaks nodes of a lab cluster for real, one thing at a time, and
// fixes them again: what is on the nodes after is what was there before.
package fault

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// Fault is one thing that is wrong with a node.
type Fault struct {
	// Name is unique: "port-blocked".
	Name string
	// What is done to the node, in words: "packets to port 6443 are dropped".
	What string
	// Node is the node it is made on, by name.
	Node string
	// Do is what a script cannot do, such as signing; nil where there is nothing.
	// It comes before Break.
	Do func(context.Context, *cluster.Cluster, string) error
	// Break is the bash script that makes the fault, as root.
	Break string
	// Shows is a bash command that succeeds once the fault has its effect;
	// empty where it is there at once.
	Shows string
	// Repair is the bash script that undoes what Break did in addition to changing files:
	// the files are back as they were when it runs.
	Repair string
}

// patience is how long a fault may take to show: a kubelet looks at its
// manifests every 20 s, and gives a probe 80 s.
const patience = 2 * time.Minute

// settled is how long a cluster must have been ready to be at rest.
const settled = 5 * time.Second

//go:embed scripts/common.sh
var commonScript string

//go:embed scripts/keep.sh
var keepScript string

//go:embed scripts/restore.sh
var restoreScript string

// Make keeps the node's files, breaks the node, and returns when the fault shows.
// f.Fix must be called after it even when it fails.
func (f Fault) Make(ctx context.Context, c *cluster.Cluster) error {
	if _, err := c.Shell(ctx, f.Node, keepScript); err != nil {
		return f.error("keeping the files", err)
	}
	if f.Do != nil {
		if err := f.Do(ctx, c, f.Node); err != nil {
			return f.error("doing", err)
		}
	}
	if f.Break != "" {
		if _, err := c.Shell(ctx, f.Node, commonScript+f.Break); err != nil {
			return f.error("breaking the node", err)
		}
	}
	if f.Shows == "" {
		return nil
	}
	err := cluster.Poll(ctx, patience, 500*time.Millisecond, "the fault to show", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, err := c.Shell(ctx, f.Node, commonScript+f.Shows)
		return err
	})
	if err != nil {
		return f.error("it does not show", err)
	}
	return nil
}

// Fix puts the node's files back, undoes the rest, and returns when the cluster
// is ready.
func (f Fault) Fix(ctx context.Context, c *cluster.Cluster) error {
	_, err := c.Shell(ctx, f.Node, restoreScript)
	if f.Repair != "" {
		_, fixed := c.Shell(ctx, f.Node, commonScript+f.Repair)
		err = errors.Join(err, fixed)
	}
	if err != nil {
		return f.error("fixing", err)
	}
	// A kubelet that was restarted reports of its pods that they are not ready, a
	// moment later: what was ready before it did so has to be so after.
	var since time.Time
	err = cluster.Poll(ctx, 3*time.Minute, 500*time.Millisecond, "the cluster to be ready",
		func(ctx context.Context) error {
			if err := errors.Join(c.CheckReady(ctx), checkAPI(ctx, c)); err != nil {
				since = time.Time{}
				return err
			}
			if since.IsZero() {
				since = time.Now()
			}
			if f.Repair != "" && time.Since(since) < settled {
				return errors.New("it has only just become ready")
			}
			return nil
		})
	if err != nil {
		return f.error("repaired without success", err)
	}
	return nil
}

// checkAPI asks every API server itself: what one reports of another is old.
func checkAPI(ctx context.Context, c *cluster.Cluster) error {
	return cluster.Each(ctx, c.ControlPlanes(), func(ctx context.Context, n cluster.Node) error {
		_, err := c.KubectlOn(ctx, n.Name, nil, "get", "--raw", "/readyz")
		return err
	})
}

func (f Fault) error(doing string, err error) error {
	return fmt.Errorf("fault %s on %s: %s: %w", f.Name, f.Node, doing, err)
}
