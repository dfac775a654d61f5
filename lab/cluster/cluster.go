// Package cluster creates, finds and removes disposable Kubernetes clusters in Kubespray's
// layout. The nodes are containers on this machine that run systemd; their Kubernetes is real
// and set up by kubeadm.
package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

// Etcd selects how etcd runs.
type Etcd string

const (
	// EtcdHost is Kubespray's default: a systemd service on the host with its own certificates
	// in /etc/ssl/etcd.
	EtcdHost Etcd = "host"
	// EtcdKubeadm is kubeadm's stacked etcd, a static pod.
	EtcdKubeadm Etcd = "kubeadm"
)

// Runtime selects the nodes' container runtime.
type Runtime string

const (
	// ContainerdDebian is the containerd of the nodes' Debian release.
	ContainerdDebian Runtime = "containerd"
	// Containerd24 is a containerd that is built from its module.
	Containerd24 Runtime = "containerd-2.4"
)

// containerdVersions are the versions of containerd to build, by runtime; Debian's is not built.
var containerdVersions = map[Runtime]string{ContainerdDebian: "", Containerd24: "2.4.2"}

// Runtimes returns the runtimes to choose from.
func Runtimes() []string {
	var names []string
	for r := range containerdVersions {
		names = append(names, string(r))
	}
	slices.Sort(names)
	return names
}

// Like names a deployment that the cluster should resemble.
type Like string

// LikeKubespray is what Kubespray leaves with an inventory made from its sample, after a
// second run of its playbook: see likeKubespray.
const LikeKubespray Like = "kubespray"

// Spec describes a cluster to create. The zero values of all fields except Name are the
// defaults.
type Spec struct {
	Name          string
	ControlPlanes int
	Workers       int
	Etcd          Etcd
	// EtcdNodes is the number of machines that run only etcd, as members of Kubespray's group
	// etcd and no other; 0 puts etcd on the control planes.
	EtcdNodes int
	// EtcdEvents adds Kubespray's second etcd cluster, for events, to the members of host etcd.
	EtcdEvents bool
	// AlsoWorkers adds the control planes to kube_node and removes their taints. Without
	// workers this is always the case.
	AlsoWorkers bool
	// LoadBalancer adds a machine with a TCP load balancer for the API servers. All clients in
	// the cluster use its DNS name.
	LoadBalancer bool
	// LocalProxy makes each worker use its own proxy to the API servers, a static pod on
	// localhost.
	LocalProxy bool
	// KubernetesNames are the names in the API, by inventory name, of nodes where they differ.
	KubernetesNames map[string]string
	// BinDir and ConfigDir are Kubespray's bin_dir and kube_config_dir.
	BinDir, ConfigDir string

	// Like, if set, makes the cluster resemble a deployment.
	Like Like
	// Hardened applies Kubespray's hardening page, and runs neighbours: kube-proxy, CoreDNS and
	// metrics-server. It implies LikeKubespray.
	Hardened bool

	KubernetesVersion string
	// EtcdVersion is by default the version of Kubernetes' own client.
	EtcdVersion string
	Runtime     Runtime
	// CertificateValidity, if not zero, is the lifetime of the certificates that kubeadm and
	// the controller manager issue, for certificates that expire by themselves.
	CertificateValidity time.Duration
}

// Kubespray's defaults of bin_dir and kube_config_dir.
const (
	DefaultBinDir    = "/usr/local/bin"
	DefaultConfigDir = "/etc/kubernetes"
)

var dirPattern = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)

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
	s.EtcdVersion = strings.TrimPrefix(s.EtcdVersion, "v")
	s.Runtime = cmp.Or(s.Runtime, ContainerdDebian)
	s.AlsoWorkers = s.AlsoWorkers || s.Workers == 0
	if s.Hardened {
		s.Like = cmp.Or(s.Like, LikeKubespray)
	}
	// Kubespray's default without a load balancer.
	s.LocalProxy = s.LocalProxy || s.Like == LikeKubespray && s.Workers > 0 && !s.LoadBalancer
	s.BinDir, s.ConfigDir = cmp.Or(s.BinDir, DefaultBinDir), cmp.Or(s.ConfigDir, DefaultConfigDir)
	switch {
	case !namePattern.MatchString(s.Name):
		return s, fmt.Errorf("cluster name %q: want up to 20 lower-case letters, digits and dashes", s.Name)
	case s.Etcd != EtcdHost && s.Etcd != EtcdKubeadm:
		return s, fmt.Errorf("etcd %q: want %s or %s", s.Etcd, EtcdHost, EtcdKubeadm)
	case s.ControlPlanes < 1 || s.ControlPlanes > 9 || s.ControlPlanes%2 == 0:
		return s, fmt.Errorf("%d control planes: etcd wants an odd number up to 9", s.ControlPlanes)
	case s.Workers < 0 || s.Workers > 20:
		return s, fmt.Errorf("%d workers: want 0 to 20", s.Workers)
	case s.EtcdNodes != 0 && (s.EtcdNodes < 0 || s.EtcdNodes > 9 || s.EtcdNodes%2 == 0):
		return s, fmt.Errorf("%d etcd nodes: etcd wants an odd number up to 9", s.EtcdNodes)
	case s.EtcdNodes != 0 && s.Etcd != EtcdHost:
		return s, fmt.Errorf("etcd %s runs on the control planes: etcd nodes want %s", s.Etcd, EtcdHost)
	case s.EtcdEvents && s.Etcd != EtcdHost:
		return s, fmt.Errorf("a second etcd for events wants the first one as %s", EtcdHost)
	case s.Like != "" && s.Like != LikeKubespray:
		return s, fmt.Errorf("like %q: want %s", s.Like, LikeKubespray)
	case s.LoadBalancer && s.LocalProxy:
		return s, errors.New("a load balancer and local proxies: want one of the two, as in Kubespray")
	}
	if _, ok := containerdVersions[s.Runtime]; !ok {
		return s, fmt.Errorf("runtime %q: want %s", s.Runtime, strings.Join(Runtimes(), " or "))
	}
	for _, dir := range []string{s.BinDir, s.ConfigDir} {
		if !dirPattern.MatchString(dir) {
			return s, fmt.Errorf("%q: want the absolute path of a directory, without spaces", dir)
		}
	}
	for name, other := range s.KubernetesNames {
		known := slices.ContainsFunc(s.machines(),
			func(m machine) bool { return m.name == name && m.role.hasKubelet() })
		if !known || !namePattern.MatchString(other) {
			return s, fmt.Errorf("%s as %q: want a control plane or worker, and up to 20 lower-case letters, digits "+
				"and dashes", name, other)
		}
	}
	return s, nil
}

// EtcdUnits are the units of etcd on a member, if it is the host's.
func (s Spec) EtcdUnits() []string {
	if s.EtcdEvents {
		return []string{"etcd", "etcd-events"}
	}
	return []string{"etcd"}
}

// Versions are the versions to build.
func (s Spec) Versions() kubebuild.Versions {
	return kubebuild.Versions{Kubernetes: s.KubernetesVersion, Etcd: s.EtcdVersion}
}

// Role is a machine's role in a cluster.
type Role string

// The roles of a machine. Etcd nodes and the load balancer are no Kubernetes nodes; the load
// balancer is not in the inventory either.
const (
	ControlPlane Role = "control-plane"
	Worker       Role = "worker"
	EtcdNode     Role = "etcd"
	Balancer     Role = "load-balancer"
)

// hasKubelet reports whether machines of the role are Kubernetes nodes.
func (r Role) hasKubelet() bool { return r == ControlPlane || r == Worker }

// Node is one machine of a cluster.
type Node struct {
	// Name is the inventory name and host name.
	Name string
	// KubernetesName is the name in the API; empty for a machine that is no Kubernetes node.
	KubernetesName string
	Role           Role
	IP             netip.Addr
	Container      string
	// PodCIDR is the address range of the node's pods.
	PodCIDR string
}

// Env is the lab's environment: directories and progress output.
type Env struct {
	// StateDir has one directory per cluster.
	StateDir string
	// CacheDir has what is slow to build.
	CacheDir string
	// Log is called for each line; nil discards them.
	Log func(line string)
	// Status, if set, shows the current activity on a terminal. The line replaces the previous
	// one; an empty line removes it. Without Status, Log gets such lines at long intervals.
	Status func(line string)
}

// stateDirName is the state's directory in the repository's root.
const stateDirName = ".lab"

// NewEnv returns the environment of the checkout that contains the current directory: state in
// <root>/.lab, cache in the user's cache directory.
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

// findRoot walks up to the directory that contains the lab's module.
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

// state is the content of cluster.json.
type state struct {
	Spec   Spec
	Engine string
	Image  string
	// EtcdVersion is the version that runs, also if Spec has none.
	EtcdVersion string
	Network     string
	Subnet      netip.Prefix
	Nodes       []Node
	Created     time.Time
	// Ready is false while the cluster is being created.
	Ready bool
}

// Cluster is an existing cluster.
type Cluster struct {
	state
	env    Env
	engine *engine.Engine
}

// stateFile is the name of a cluster's state file in its directory.
const stateFile = "cluster.json"

// ErrNotFound means that the cluster does not exist.
var ErrNotFound = errors.New("no such cluster")

// Load returns a cluster that Up created, in this or another process.
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

// KeyFile is the path of the SSH private key for the nodes.
func (c *Cluster) KeyFile() string { return filepath.Join(c.Dir(), "id_ed25519") }

// KubesprayDir is the path of the cluster's stand-in for a Kubespray checkout.
func (c *Cluster) KubesprayDir() string { return filepath.Join(c.Dir(), "kubespray") }

// Machines returns all machines: control planes, workers, etcd nodes, load balancer.
func (c *Cluster) Machines() []Node { return c.state.Nodes }

// Nodes returns the machines of the inventory, control planes first.
func (c *Cluster) Nodes() []Node { return c.with(ControlPlane, Worker, EtcdNode) }

// KubernetesNodes returns the machines that have a kubelet, control planes first.
func (c *Cluster) KubernetesNodes() []Node { return c.with(ControlPlane, Worker) }

// ControlPlanes returns the control plane nodes.
func (c *Cluster) ControlPlanes() []Node { return c.with(ControlPlane) }

// Workers returns the nodes that are not control planes.
func (c *Cluster) Workers() []Node { return c.with(Worker) }

// KubeNodes returns the nodes that may run pods: Kubespray's kube_node.
func (c *Cluster) KubeNodes() []Node {
	if c.Spec.AlsoWorkers {
		return c.KubernetesNodes()
	}
	return c.Workers()
}

// EtcdMembers returns the machines that run etcd: Kubespray's group etcd.
func (c *Cluster) EtcdMembers() []Node {
	if c.Spec.EtcdNodes > 0 {
		return c.with(EtcdNode)
	}
	return c.ControlPlanes()
}

func (c *Cluster) isEtcdMember(n Node) bool {
	return slices.ContainsFunc(c.EtcdMembers(), func(m Node) bool { return m.Name == n.Name })
}

func (c *Cluster) with(roles ...Role) []Node {
	var nodes []Node
	for _, n := range c.state.Nodes {
		if slices.Contains(roles, n.Role) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Node returns a machine by its name.
func (c *Cluster) Node(name string) (Node, error) {
	for _, n := range c.state.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("cluster %s has no node %q", c.Spec.Name, name)
}

const (
	apiPort      = 6443
	balancerPort = 8443
)

// LoadBalancer describes the load balancer of the API servers.
type LoadBalancer struct {
	Machine Node
	// Name is its DNS name in the cluster.
	Name string
}

// Address is its host and port, reachable from everywhere.
func (lb LoadBalancer) Address() string { return fmt.Sprintf("%s:%d", lb.Machine.IP, balancerPort) }

// LoadBalancer returns the load balancer, if the cluster has one.
func (c *Cluster) LoadBalancer() (LoadBalancer, bool) {
	if !c.Spec.LoadBalancer {
		return LoadBalancer{}, false
	}
	// A name that neither kubeadm nor Kubespray puts into a certificate by itself.
	return LoadBalancer{c.with(Balancer)[0], "api." + c.Spec.Name + ".test"}, true
}

// endpoint returns the host and port of kubeadm's controlPlaneEndpoint: the load balancer, or
// else the first control plane.
func (c *Cluster) endpoint() string {
	if lb, ok := c.LoadBalancer(); ok {
		return fmt.Sprintf("%s:%d", lb.Name, balancerPort)
	}
	return fmt.Sprintf("%s:%d", c.state.Nodes[0].IP, apiPort)
}

// server returns the URL in a node's kubeconfigs, Kubespray's kube_apiserver_endpoint.
func (c *Cluster) server(n Node) string {
	switch {
	case c.Spec.LoadBalancer:
		return "https://" + c.endpoint()
	case n.Role == ControlPlane:
		return localServer
	case c.Spec.LocalProxy:
		return fmt.Sprintf("https://localhost:%d", apiPort)
	}
	return "https://" + c.endpoint()
}

// localServer returns the URL of a control plane's own API server.
var localServer = fmt.Sprintf("https://127.0.0.1:%d", apiPort)

// machine is a machine without an address yet: host will be its last byte.
type machine struct {
	role Role
	name string
	host int
}

// machines lists the machines of a cluster, in the order of Cluster.Machines.
func (s Spec) machines() []machine {
	var list []machine
	for _, row := range []struct {
		role   Role
		prefix string
		count  int
		host   int
	}{{ControlPlane, "cp", s.ControlPlanes, 10}, {Worker, "w", s.Workers, 100}, {EtcdNode, "etcd", s.EtcdNodes, 30}} {
		for i := 1; i <= row.count; i++ {
			list = append(list, machine{row.role, fmt.Sprintf("%s%d", row.prefix, i), row.host + i})
		}
	}
	if s.LoadBalancer {
		list = append(list, machine{Balancer, "lb", 10})
	}
	return list
}

// plan gives the machines addresses in the cluster's network.
func plan(spec Spec, subnet netip.Prefix) []Node {
	base := subnet.Masked().Addr().As4()
	var nodes []Node
	for i, m := range spec.machines() {
		address := base
		address[3] += byte(m.host)
		n := Node{Name: m.name, Role: m.role, IP: netip.AddrFrom4(address), Container: containerName(spec.Name, m.name)}
		if m.role.hasKubelet() {
			n.KubernetesName, n.PodCIDR = cmp.Or(spec.KubernetesNames[m.name], m.name),
				fmt.Sprintf("10.233.%d.0/24", 64+i)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func containerName(cluster, node string) string { return networkName(cluster) + "-" + node }

func networkName(cluster string) string { return "lab-" + cluster }
