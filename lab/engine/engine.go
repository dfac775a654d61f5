// Package engine is the container engine the lab's machines run in: Docker,
// through its command line, because that is what a developer can repeat by
// hand when something looks odd.
package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

// LabelKey marks every container, network and image of the lab; its value is
// the cluster's name.
const LabelKey = "kscertctl.lab"

// StateLabelKey marks a container with the state directory of its cluster, so
// that one checkout never takes another's cluster for its own.
const StateLabelKey = "kscertctl.lab.state"

// Engine is a Docker engine that answers.
type Engine struct {
	// Host is the value for docker -H; empty means the client's default.
	Host string
}

// Command returns a docker command line.
func (e *Engine) Command(args ...string) []string {
	if e.Host != "" {
		args = append([]string{"-H", e.Host}, args...)
	}
	return append([]string{"docker"}, args...)
}

// Docker runs docker and returns its stdout.
func (e *Engine) Docker(ctx context.Context, args ...string) ([]byte, error) {
	return e.DockerInput(ctx, nil, args...)
}

// DockerInput is Docker with something on stdin.
func (e *Engine) DockerInput(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	return sh.Run(ctx, sh.Command{Args: e.Command(args...), Stdin: stdin})
}

// Answers reports whether the engine responds.
func (e *Engine) Answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := e.Docker(ctx, "version", "--format", "{{.Server.Version}}")
	return err == nil
}

// Container is a container as docker ps shows it.
type Container struct {
	ID, Name, Cluster, StateDir string
}

// Containers lists the lab's containers, of one cluster or (name empty) of all.
func (e *Engine) Containers(ctx context.Context, cluster string) ([]Container, error) {
	filter := "label=" + LabelKey
	if cluster != "" {
		filter += "=" + cluster
	}
	format := fmt.Sprintf(`{{.ID}}|{{.Names}}|{{.Label "%s"}}|{{.Label "%s"}}`, LabelKey, StateLabelKey)
	out, err := e.Docker(ctx, "ps", "-a", "--no-trunc", "--filter", filter, "--format", format)
	if err != nil {
		return nil, err
	}
	var list []Container
	for line := range strings.FieldsSeq(string(out)) {
		f := strings.SplitN(line, "|", 4)
		if len(f) == 4 {
			list = append(list, Container{f[0], f[1], f[2], f[3]})
		}
	}
	return list, nil
}

// Networks lists the networks of a cluster.
func (e *Engine) Networks(ctx context.Context, cluster string) ([]string, error) {
	out, err := e.Docker(ctx, "network", "ls", "--filter", "label="+LabelKey+"="+cluster, "--format", "{{.Name}}")
	return strings.Fields(string(out)), err
}

// ClusterNetworks lists the names of all clusters that have a network.
func (e *Engine) ClusterNetworks(ctx context.Context) ([]string, error) {
	out, err := e.Docker(ctx, "network", "ls", "--filter", "label="+LabelKey, "--format", `{{.Label "`+LabelKey+`"}}`)
	return strings.Fields(string(out)), err
}

// Subnets returns the address ranges of all of the engine's networks.
func (e *Engine) Subnets(ctx context.Context) ([]netip.Prefix, error) {
	out, err := e.Docker(ctx, "network", "ls", "-q")
	if err != nil {
		return nil, err
	}
	ids := strings.Fields(string(out))
	if len(ids) == 0 {
		return nil, nil
	}
	out, err = e.Docker(ctx, append([]string{"network", "inspect"}, ids...)...)
	if err != nil {
		return nil, err
	}
	var networks []struct {
		IPAM struct{ Config []struct{ Subnet string } }
	}
	if err := json.Unmarshal(out, &networks); err != nil {
		return nil, fmt.Errorf("reading docker network inspect: %w", err)
	}
	var taken []netip.Prefix
	for _, n := range networks {
		for _, c := range n.IPAM.Config {
			if p, err := netip.ParsePrefix(c.Subnet); err == nil {
				taken = append(taken, p)
			}
		}
	}
	return taken, nil
}

// HasImage reports whether an image of that name exists.
func (e *Engine) HasImage(ctx context.Context, ref string) (bool, error) {
	out, err := e.Docker(ctx, "images", "-q", ref)
	return strings.TrimSpace(string(out)) != "", err
}
