// Package cluster makes, finds and removes disposable Kubernetes clusters in
// Kubespray's layout. The nodes are systemd machines in containers on this
// machine; Kubernetes on them is real and made by kubeadm.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

// Etcd says who runs etcd.
type Etcd string

const (
	// EtcdHost is Kubespray's default: a systemd service on the host with
	// certificates of its own in /etc/ssl/etcd.
	EtcdHost Etcd = "host"
	// EtcdKubeadm is kubeadm's stacked etcd, a static pod.
	EtcdKubeadm Etcd = "kubeadm"
)

// Spec is the cluster that is wanted. The zero values of all but Name mean the
// defaults.
type Spec struct {
	Name              string
	ControlPlanes     int
	Workers           int
	Etcd              Etcd
	KubernetesVersion string
	// CertificateValidity, if not zero, is how long the certificates kubeadm
	// and the controller manager issue are valid: expiry the slow, natural way.
	CertificateValidity time.Duration
}

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)

func (s Spec) withDefaults() (Spec, error) {
	if s.Name == "" {
		s.Name = "lab"
	}
	if s.ControlPlanes == 0 {
		s.ControlPlanes = 1
	}
	if s.Etcd == "" {
		s.Etcd = EtcdHost
	}
	if s.KubernetesVersion == "" {
		s.KubernetesVersion = kubebuild.DefaultVersion
	}
	s.KubernetesVersion = strings.TrimPrefix(s.KubernetesVersion, "v")
	switch {
	case !namePattern.MatchString(s.Name):
		return s, fmt.Errorf("cluster name %q: want up to 20 lower-case letters, digits and dashes", s.Name)
	case s.Etcd != EtcdHost && s.Etcd != EtcdKubeadm:
		return s, fmt.Errorf("etcd %q: want %s or %s", s.Etcd, EtcdHost, EtcdKubeadm)
	case s.ControlPlanes < 1 || s.ControlPlanes > 9 || s.ControlPlanes%2 == 0:
		return s, fmt.Errorf("%d control planes: etcd wants an odd number up to 9", s.ControlPlanes)
	case s.Workers < 0 || s.Workers > 20:
		return s, fmt.Errorf("%d workers: want 0 to 20", s.Workers)
	}
	return s, nil
}

// Role is what a node is in Kubernetes.
type Role string

// The roles of a node.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
)

// Node is one machine of a cluster.
type Node struct {
	Name      string
	Role      Role
	IP        netip.Addr
	Container string
	// PodCIDR is the addresses of the node's own pods.
	PodCIDR string
}

// Env is where the lab keeps things and whom it tells about progress.
type Env struct {
	// StateDir holds one directory a cluster.
	StateDir string
	// CacheDir holds what is slow to make.
	CacheDir string
	// Log gets one call a line; nil means silence.
	Log func(line string)
}

// stateDirName is the directory in the repository's root that holds the state.
const stateDirName = ".lab"

// NewEnv returns the environment of the checkout that the current directory is
// in: state in <root>/.lab, cache in the user's cache directory.
func NewEnv(log func(string)) (Env, error) {
	root, err := findRoot()
	if err != nil {
		return Env{}, err
	}
	cacheDir, err := cache.Dir()
	if err != nil {
		return Env{}, err
	}
	return Env{StateDir: filepath.Join(root, stateDirName), CacheDir: cacheDir, Log: log}, nil
}

// findRoot walks up to the directory that holds the lab's module.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "lab", "cmd", "lab")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not in a checkout of kscertctl", dir)
		}
	}
}

func (e Env) logf(format string, args ...any) {
	if e.Log != nil {
		e.Log(fmt.Sprintf(format, args...))
	}
}

func (e Env) dir(name string) string { return filepath.Join(e.StateDir, name) }

// state is what cluster.json holds.
type state struct {
	Spec    Spec
	Engine  string
	Image   string
	Network string
	Subnet  netip.Prefix
	Nodes   []Node
	Created time.Time
	// Ready is false while the cluster is being made.
	Ready bool
}

// Cluster is a cluster that exists.
type Cluster struct {
	state
	env    Env
	engine *engine.Engine
}

// stateFile is the name of a cluster's description in its directory.
const stateFile = "cluster.json"

// ErrNotFound is returned for a cluster that does not exist.
var ErrNotFound = errors.New("no such cluster")

// Load returns a cluster that Up made, in this or another process.
func Load(env Env, name string) (*Cluster, error) {
	data, err := os.ReadFile(filepath.Join(env.dir(name), stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cluster %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	c := &Cluster{env: env}
	if err := json.Unmarshal(data, &c.state); err != nil {
		return nil, fmt.Errorf("reading the state of cluster %s: %w", name, err)
	}
	c.engine = &engine.Engine{Host: c.state.Engine}
	return c, nil
}

func (c *Cluster) save() error {
	data, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir(), 0o700); err != nil {
		return err
	}
	path := filepath.Join(c.Dir(), stateFile)
	if err := os.WriteFile(path+".tmp", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.Spec.Name }

// Dir is the cluster's state directory.
func (c *Cluster) Dir() string { return c.env.dir(c.Spec.Name) }

// Inventory is the path of the cluster's Ansible inventory.
func (c *Cluster) Inventory() string { return filepath.Join(c.Dir(), "inventory.ini") }

// KeyFile is the path of the private key that opens the nodes' ssh.
func (c *Cluster) KeyFile() string { return filepath.Join(c.Dir(), "id_ed25519") }

// KubesprayDir is the path of the cluster's stand-in for a Kubespray checkout.
func (c *Cluster) KubesprayDir() string { return filepath.Join(c.Dir(), "kubespray") }

// Nodes returns all nodes, control planes first.
func (c *Cluster) Nodes() []Node { return c.state.Nodes }

// ControlPlanes returns the control plane nodes.
func (c *Cluster) ControlPlanes() []Node { return c.withRole(ControlPlane) }

// Workers returns the nodes that are not control planes.
func (c *Cluster) Workers() []Node { return c.withRole(Worker) }

func (c *Cluster) withRole(role Role) []Node {
	var nodes []Node
	for _, n := range c.state.Nodes {
		if n.Role == role {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Node returns a node by its name.
func (c *Cluster) Node(name string) (Node, error) {
	for _, n := range c.state.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("cluster %s has no node %q", c.Spec.Name, name)
}

// endpoint is the address the cluster's control plane is reached at. A load
// balancer would stand here; without one it is the first control plane.
func (c *Cluster) endpoint() string { return fmt.Sprintf("%s:6443", c.state.Nodes[0].IP) }

// plan lays out the nodes of a cluster in its network.
func plan(spec Spec, subnet netip.Prefix) []Node {
	base := subnet.Masked().Addr().As4()
	at := func(host int) netip.Addr {
		a := base
		a[3] += byte(host)
		return netip.AddrFrom4(a)
	}
	var nodes []Node
	add := func(role Role, name string, host int) {
		nodes = append(nodes, Node{
			Name: name, Role: role, IP: at(host), Container: containerName(spec.Name, name),
			PodCIDR: fmt.Sprintf("10.233.%d.0/24", 64+len(nodes)),
		})
	}
	for i := 1; i <= spec.ControlPlanes; i++ {
		add(ControlPlane, fmt.Sprintf("cp%d", i), 10+i)
	}
	for i := 1; i <= spec.Workers; i++ {
		add(Worker, fmt.Sprintf("w%d", i), 100+i)
	}
	return nodes
}

func containerName(cluster, node string) string { return networkName(cluster) + "-" + node }

func networkName(cluster string) string { return "lab-" + cluster }
