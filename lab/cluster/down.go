package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/engine"
)

// Down removes a cluster: containers, volumes, network, state. It also works for a partly
// created cluster, and for one that does not exist.
func Down(ctx context.Context, env Env, name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not a cluster name", name)
	}
	if e := engineOf(ctx, env, name); e != nil {
		if err := removeResources(ctx, e, name); err != nil {
			return fmt.Errorf("removing cluster %s: %w", name, err)
		}
	}
	if err := os.RemoveAll(env.dir(name)); err != nil {
		return fmt.Errorf("removing the state of cluster %s: %w", name, err)
	}
	return nil
}

// DownAll removes all clusters on this machine and returns their names.
func DownAll(ctx context.Context, env Env) ([]string, error) {
	names, err := clusterNames(ctx, env)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := Down(ctx, env, name); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// engineOf returns a cluster's engine: the one it was created with, or else the available one.
// It is nil if none answers; then no container runs either.
func engineOf(ctx context.Context, env Env, name string) *engine.Engine {
	if c, err := Load(env, name); err == nil && c.engine.Answers(ctx) {
		return c.engine
	}
	return engine.Find(ctx, env.CacheDir)
}

// removeResources removes a cluster's resources from the engine.
func removeResources(ctx context.Context, e *engine.Engine, name string) error {
	containers, err := e.Containers(ctx, name)
	if err != nil {
		return err
	}
	if len(containers) > 0 {
		args := []string{"rm", "--force", "--volumes"}
		for _, c := range containers {
			args = append(args, c.ID)
		}
		if _, err := e.Docker(ctx, args...); err != nil {
			return err
		}
	}
	networks, err := e.Networks(ctx, name)
	if err != nil {
		return err
	}
	for _, n := range networks {
		if _, err := e.Docker(ctx, "network", "rm", n); err != nil {
			return err
		}
	}
	return nil
}

// Summary is a cluster in a list.
type Summary struct {
	Name    string
	Spec    Spec
	Running int
	Nodes   int
	Ready   bool
	Created time.Time
	// EtcdVersion is empty until it is known.
	EtcdVersion string
}

// List returns the clusters on this machine, complete or not.
func List(ctx context.Context, env Env) ([]Summary, error) {
	names, err := clusterNames(ctx, env)
	if err != nil {
		return nil, err
	}
	var list []Summary
	for _, name := range names {
		s := Summary{Name: name}
		if c, err := Load(env, name); err == nil {
			s.Spec, s.Ready, s.Created, s.Nodes = c.Spec, c.Ready, c.Created, len(c.Machines())
			s.EtcdVersion = c.state.EtcdVersion
		} else if !errors.Is(err, ErrNotFound) {
			return nil, err
		}
		if e := engineOf(ctx, env, name); e != nil {
			containers, err := e.Containers(ctx, name)
			if err != nil {
				return nil, err
			}
			s.Running = len(containers)
		}
		list = append(list, s)
	}
	return list, nil
}

// clusterNames returns the clusters with a state directory or with resources in the engine.
func clusterNames(ctx context.Context, env Env) ([]string, error) {
	var names []string
	dirs, err := filepath.Glob(filepath.Join(env.StateDir, "*"))
	if err != nil {
		return nil, err
	}
	for _, d := range dirs {
		if info, err := os.Stat(d); err == nil && info.IsDir() && namePattern.MatchString(filepath.Base(d)) {
			names = append(names, filepath.Base(d))
		}
	}
	if e := engine.Find(ctx, env.CacheDir); e != nil {
		containers, err := e.Containers(ctx, "")
		if err != nil {
			return nil, err
		}
		for _, c := range containers {
			names = append(names, c.Cluster)
		}
		networks, err := e.ClusterNetworks(ctx)
		if err != nil {
			return nil, err
		}
		names = append(names, networks...)
	}
	sort.Strings(names)
	return slices.Compact(names), nil
}
