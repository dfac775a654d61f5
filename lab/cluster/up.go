package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/host"
	"github.com/infrapuzzle/kscertctl/lab/image"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
	"github.com/infrapuzzle/kscertctl/lab/kubespray"
)

// UpOptions are options for creating a cluster.
type UpOptions struct {
	// Keep keeps what exists of a cluster that could not be created, for debugging.
	Keep bool
	// Verbose gets the output of slow commands (builds, installations).
	Verbose io.Writer
}

// Up creates a cluster and returns when all of its nodes are ready.
func Up(ctx context.Context, env Env, spec Spec, opts UpOptions) (*Cluster, error) {
	spec, err := spec.withDefaults()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(env.dir(spec.Name)); err == nil {
		return nil, fmt.Errorf("cluster %s exists already (state in %s): take it down first", spec.Name,
			env.dir(spec.Name))
	}
	b := &builder{c: &Cluster{env: env}, opts: opts}
	b.c.Spec = spec
	if err := b.run(ctx, append(b.preparation(), b.making()...)); err != nil {
		err = fmt.Errorf("making cluster %s: %w", spec.Name, err)
		if opts.Keep {
			return nil, err
		}
		// The caller's context may be done, but the removal must still work.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
		defer cancel()
		return nil, errors.Join(err, Down(clean, env, spec.Name))
	}
	return b.c, nil
}

// Prepare builds what every cluster with the versions and the runtime of spec needs, so that Up
// does not wait for it: packages, the container engine, the node image. It takes minutes the first
// time, and no time later.
func Prepare(ctx context.Context, env Env, spec Spec, opts UpOptions) error {
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	b := &builder{c: &Cluster{env: env}, opts: opts}
	b.c.Spec = spec
	if err := b.run(ctx, b.preparation()); err != nil {
		return fmt.Errorf("preparing for Kubernetes %s: %w", spec.KubernetesVersion, err)
	}
	return nil
}

// Build builds what a cluster with the versions and the runtime of spec needs, except for what
// requires a container engine.
func Build(ctx context.Context, env Env, spec Spec, opts UpOptions) error {
	spec, err := spec.withDefaults()
	if err != nil {
		return err
	}
	b := &builder{c: &Cluster{env: env}, opts: opts}
	b.c.Spec = spec
	return b.run(ctx, []phase{{"programs and root file system built", time.Hour, b.build}})
}

// phase is one step of creating a cluster, with its own deadline.
type phase struct {
	name    string
	timeout time.Duration
	do      func(context.Context) error
}

// builder runs the phases of Up.
type builder struct {
	c     *Cluster
	opts  UpOptions
	r     renderer
	board *progress.Board

	programs image.Programs
	rootfs   string
}

func (b *builder) preparation() []phase {
	return []phase{
		{"machine prepared, programs built", 55 * time.Minute, b.prepare},
		{"node image ready", 10 * time.Minute, b.buildImage},
	}
}

func (b *builder) making() []phase {
	return []phase{
		{"network made", time.Minute, b.makeNetwork},
		{"machines started", 2 * time.Minute, b.startMachines},
		{"machines ready, images loaded", 3 * time.Minute, b.prepareMachines},
		{"load balancer running", time.Minute, b.startBalancer},
		{"etcd running", 2 * time.Minute, b.startEtcd},
		{"first control plane made", 5 * time.Minute, b.initFirst},
		{"nodes joined", 10 * time.Minute, b.joinOthers},
		{"neighbours running", 5 * time.Minute, b.startNeighbours},
		{"nodes and control plane ready", 3 * time.Minute, b.waitReady},
		{"checkout and inventory written", time.Minute, b.writeCheckout},
	}
}

func (b *builder) run(ctx context.Context, phases []phase) error {
	b.board = progress.Start(b.c.env.Log, b.c.env.Status)
	defer b.board.Stop()
	for i, phase := range phases {
		started := time.Now()
		b.board.Step(fmt.Sprintf("step %d of %d", i+1, len(phases)), phase.name)
		phaseCtx, cancel := context.WithTimeout(ctx, phase.timeout)
		err := phase.do(phaseCtx)
		cancel()
		if err != nil {
			return err
		}
		b.c.env.logf("%s (%.1fs)", phase.name, time.Since(started).Seconds())
	}
	return nil
}

func (b *builder) prepare(ctx context.Context) error { return b.together(ctx, b.prepareHost) }

func (b *builder) build(ctx context.Context) error {
	return b.together(ctx, func(ctx context.Context, _ progress.Func) error {
		return host.EnsureTools(ctx, b.opts.Verbose)
	})
}

// together runs independent work in parallel: compiling uses all processors for minutes,
// downloads and installations hardly one.
func (b *builder) together(ctx context.Context, prepareHost func(context.Context, progress.Func) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		jobs  sync.WaitGroup
		once  sync.Once
		first error
	)
	job := func(name string, do func(tell progress.Func) error) {
		jobs.Go(func() {
			tell := b.board.Job(name)
			defer tell("")
			if err := do(tell); err != nil {
				// Later errors come from this cancellation.
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	job("Kubernetes", func(tell progress.Func) (err error) {
		b.programs.Kubernetes, err = kubebuild.Build(ctx, b.c.env.CacheDir, b.c.Spec.Versions(), b.opts.Verbose, tell)
		return err
	})
	job("crictl", func(tell progress.Func) (err error) {
		b.programs.Crictl, err = kubebuild.BuildCrictl(
			ctx, b.c.env.CacheDir, b.c.Spec.KubernetesVersion, b.opts.Verbose, tell)
		return err
	})
	if version := containerdVersions[b.c.Spec.Runtime]; version != "" {
		job("containerd", func(tell progress.Func) (err error) {
			b.programs.Containerd, err = kubebuild.BuildContainerd(ctx, b.c.env.CacheDir, version, b.opts.Verbose, tell)
			return err
		})
	}
	if b.c.Spec.Hardened {
		job("neighbours", func(tell progress.Func) (err error) {
			b.programs.Neighbours, err = kubebuild.BuildNeighbours(
				ctx, b.c.env.CacheDir, b.c.Spec.KubernetesVersion, b.opts.Verbose, tell)
			return err
		})
	}
	job("Debian", func(tell progress.Func) (err error) {
		if err := prepareHost(ctx, tell); err != nil {
			return err
		}
		b.rootfs, err = image.Rootfs(ctx, b.c.env.CacheDir, b.opts.Verbose, tell)
		return err
	})
	jobs.Wait()
	return first
}

func (b *builder) prepareHost(ctx context.Context, tell progress.Func) error {
	tell("packages of this machine")
	if err := os.MkdirAll(b.c.env.CacheDir, 0o755); err != nil {
		return err
	}
	unlock, err := cache.Lock(ctx, filepath.Join(b.c.env.CacheDir, "host.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := host.EnsureTools(ctx, b.opts.Verbose); err != nil {
		return err
	}
	if err := host.EnsureSysctls(); err != nil {
		return err
	}
	e := engine.Find(ctx, b.c.env.CacheDir)
	if e == nil {
		if err := host.EnsureEngineTools(ctx, b.opts.Verbose); err != nil {
			return err
		}
		if e, err = engine.Ensure(ctx, b.c.env.CacheDir); err != nil {
			return err
		}
	}
	b.c.engine, b.c.state.Engine = e, e.Host
	return nil
}

func (b *builder) buildImage(ctx context.Context) (err error) {
	b.c.state.EtcdVersion = b.programs.Kubernetes.Etcd
	b.c.state.Image, err = image.Node(ctx, b.c.engine, b.c.env.CacheDir, b.programs, b.rootfs,
		b.board.Job("node image"))
	return err
}

// makeNetwork reserves the cluster's name and a free address range. It writes the state before
// it creates anything, so that Down finds it.
func (b *builder) makeNetwork(ctx context.Context) error {
	c := b.c
	if err := c.removeLeftovers(ctx); err != nil {
		return err
	}
	hostNets, err := engine.HostSubnets()
	if err != nil {
		return err
	}
	taken, err := c.engine.Subnets(ctx)
	if err != nil {
		return err
	}
	taken = append(taken, hostNets...)
	c.Network, c.Created = networkName(c.Spec.Name), time.Now().UTC().Truncate(time.Second)
	for {
		if c.Subnet, err = engine.FreeSubnet(taken); err != nil {
			return err
		}
		c.state.Nodes = plan(c.Spec, c.Subnet)
		if err := c.save(); err != nil {
			return err
		}
		_, err = c.engine.Docker(ctx, "network", "create", "--subnet", c.Subnet.String(),
			"--label", engine.LabelKey+"="+c.Spec.Name, c.Network)
		if err == nil {
			break
		}
		// Another cluster may have taken the range since the check.
		if ctx.Err() != nil || !strings.Contains(err.Error(), "overlap") {
			return fmt.Errorf("creating network %s: %w", c.Network, err)
		}
		taken = append(taken, c.Subnet)
	}
	if b.r.secrets, err = newSecrets(); err != nil {
		return err
	}
	b.r.c = c
	_, err = sh.Run(ctx, sh.Command{Args: []string{"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C",
		"kscertctl lab " + c.Spec.Name, "-f", c.KeyFile()}})
	if err != nil {
		return fmt.Errorf("making the ssh key: %w", err)
	}
	return nil
}

// removeLeftovers removes the remains of an earlier cluster of this name and checkout, and
// refuses to remove another checkout's.
func (c *Cluster) removeLeftovers(ctx context.Context) error {
	containers, err := c.engine.Containers(ctx, c.Spec.Name)
	if err != nil {
		return err
	}
	for _, x := range containers {
		if x.StateDir != c.Dir() {
			return fmt.Errorf("a cluster %s exists already, its state is in %s", c.Spec.Name, x.StateDir)
		}
	}
	return removeResources(ctx, c.engine, c.Spec.Name)
}

func (b *builder) startMachines(ctx context.Context) error {
	return Each(ctx, b.c.Machines(), func(ctx context.Context, n Node) error {
		if _, err := b.c.engine.Docker(ctx, b.c.runArgs(n)...); err != nil {
			return fmt.Errorf("starting the machine: %w", err)
		}
		return nil
	})
}

// runArgs is the docker command line of a node. It adds what systemd and the kubelet need one
// by one: --privileged requires capabilities that this machine may not have.
func (c *Cluster) runArgs(n Node) []string {
	args := []string{
		"run", "--detach", "--name", n.Container, "--hostname", n.Name,
		"--label", engine.LabelKey + "=" + c.Spec.Name, "--label", engine.StateLabelKey + "=" + c.Dir(),
		"--network", c.Network, "--ip", n.IP.String(),
		"--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt",
		"systempaths=unconfined",
		"--cgroupns", "private", "--stop-signal", "SIGRTMIN+3",
		"--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec", "--volume", "/var",
	}
	for _, other := range c.Machines() {
		args = append(args, "--add-host", fmt.Sprintf("%s.cluster.local:%s", other.Name, other.IP), "--add-host",
			fmt.Sprintf("%s:%s", other.Name, other.IP))
	}
	if lb, ok := c.LoadBalancer(); ok {
		args = append(args, "--add-host", fmt.Sprintf("%s:%s", lb.Name, lb.Machine.IP))
	}
	return append(args, c.state.Image)
}

// layoutScripts remove from a machine what the image has but its role does not.
var layoutScripts = map[Role]string{
	ControlPlane: moveFolders,
	Worker:       moveFolders,
	EtcdNode: `rm -r /etc/kubernetes
rm /usr/local/bin/{kubeadm,kubelet,kubectl,crictl}
` + moveFolders,
	Balancer: `rm -r /etc/kubernetes /usr/local/bin/*`,
}

// moveFolders moves programs and configuration to the configured directories. kubeadm always
// writes kubeconfigs and manifests to /etc/kubernetes, so another kube_config_dir of Kubespray
// needs a link there.
const moveFolders = `[ "$bin" = ` + DefaultBinDir + ` ] || { mkdir -p "$bin"; mv ` + DefaultBinDir + `/* "$bin"; }
if [ "$conf" != ` + DefaultConfigDir + ` ] && [ -d ` + DefaultConfigDir + ` ]; then
  mkdir -p "${conf%/*}"
  mv ` + DefaultConfigDir + ` "$conf"
  ln -s "$conf" ` + DefaultConfigDir + `
  ln -sfn "$conf/ssl" "$conf/pki"
fi`

// The files set the permissions below.
const permissions = `chown kubespray:kubespray /home/kubespray/.ssh
chmod 700 /home/kubespray/.ssh
[ ! -d /etc/ssl/etcd/ssl ] || {
  # As Kubespray leaves them up to v2.29: files and directories.
  useradd --system --no-create-home --shell /usr/sbin/nologin etcd
  chown etcd /etc/ssl/etcd
  chown -R etcd /etc/ssl/etcd/ssl
  chmod -R 700 /etc/ssl/etcd/ssl
}
systemctl daemon-reload`

const loadImages = `chgrp -R kube-cert "$conf/ssl"
until ctr version >/dev/null 2>&1; do sleep 0.2; done
ctr -n k8s.io images import ` + image.ArchivePath + ` >/dev/null
systemctl --quiet enable kubelet`

func (b *builder) prepareMachines(ctx context.Context) error {
	key, err := os.ReadFile(b.c.KeyFile() + ".pub")
	if err != nil {
		return err
	}
	var etcdFiles []File
	if b.c.Spec.Etcd == EtcdHost {
		if etcdFiles, err = etcdPKI(b.c.EtcdMembers(), b.c.ControlPlanes(), time.Now()); err != nil {
			return err
		}
	}
	return Each(ctx, b.c.Machines(), func(ctx context.Context, n Node) error {
		// When sshd answers, systemd does, too.
		if err := waitSSH(ctx, n); err != nil {
			return err
		}
		if _, err := b.script(ctx, n, layoutScripts[n.Role]); err != nil {
			return fmt.Errorf("laying out the machine: %w", err)
		}
		files, err := b.r.nodeFiles(n, key)
		if err != nil {
			return err
		}
		if err := b.c.WriteFiles(ctx, n.Name, append(files, b.c.etcdFiles(n, etcdFiles)...)...); err != nil {
			return err
		}
		if _, err := b.script(ctx, n, permissions); err != nil {
			return fmt.Errorf("setting permissions: %w", err)
		}
		if n.Role.hasKubelet() {
			if _, err := b.script(ctx, n, loadImages); err != nil {
				return fmt.Errorf("loading the images: %w", err)
			}
			if b.c.Spec.Hardened {
				if _, err := b.c.Exec(ctx, n.Name, "systemctl", "--quiet", "enable", "--now", routesUnit); err != nil {
					return err
				}
			}
		}
		if n.Role == ControlPlane && b.c.Spec.EtcdNodes > 0 {
			if _, err := b.script(ctx, n,
				fmt.Sprintf(linkEtcdClient, strings.Join(names(b.c.ControlPlanes()), " "))); err != nil {
				return fmt.Errorf("linking the etcd certificates: %w", err)
			}
		}
		return nil
	})
}

// script runs a bash script on a node, with variables for what differs between clusters and
// nodes: directories, the API server in the node's kubeconfigs, the phases of kubeadm to skip.
func (b *builder) script(ctx context.Context, n Node, text string) ([]byte, error) {
	spec := b.c.Spec
	// CoreDNS is not kubeadm's in Kubespray either.
	skip := "addon/coredns"
	if !spec.Hardened {
		skip += ",addon/kube-proxy"
	}
	return b.c.Shell(ctx, n.Name,
		fmt.Sprintf("conf=%s\nbin=%s\nserver=%s\nskip=%s\n%s", spec.ConfigDir, spec.BinDir, b.c.server(n), skip, text))
}

// waitSSH waits for the banner of the node's sshd.
func waitSSH(ctx context.Context, n Node) error {
	return Poll(ctx, time.Minute, 200*time.Millisecond, "ssh on "+n.Name, func(ctx context.Context) error {
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(n.IP.String(), "22"))
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
			return err
		}
		banner := make([]byte, 4)
		if _, err := io.ReadFull(conn, banner); err != nil {
			return fmt.Errorf("reading the ssh banner: %w", err)
		}
		if string(banner) != "SSH-" {
			return fmt.Errorf("no ssh banner: %q", banner)
		}
		return nil
	})
}

func names(nodes []Node) []string {
	var list []string
	for _, n := range nodes {
		list = append(list, n.Name)
	}
	return list
}

func (b *builder) startBalancer(ctx context.Context) error {
	lb, ok := b.c.LoadBalancer()
	if !ok {
		return nil
	}
	_, err := b.c.Shell(ctx, lb.Machine.Name, "systemctl --quiet enable --now haproxy")
	return err
}

func (b *builder) startEtcd(ctx context.Context) error {
	if b.c.Spec.Etcd != EtcdHost {
		return nil
	}
	// A member is only ready when a majority runs, so all must start at the same time.
	return Each(ctx, b.c.EtcdMembers(), func(ctx context.Context, n Node) error {
		units := strings.Join(b.c.Spec.EtcdUnits(), " ")
		_, err := b.c.Shell(ctx, n.Name, "systemctl --quiet enable "+units+"; systemctl start "+units)
		return err
	})
}

// initScript initializes the first control plane. It makes the kubeconfigs first, because
// Kubespray's components use the load balancer or their own API server: changing them later
// would need a restart, and a wait for the controller manager's lease. admin.conf is changed
// last: kubeadm makes joining nodes use its server.
const initScript = `cd "$conf"
C=kubeadm-config.yaml
kubeadm init phase certs all --config $C
kubeadm init phase kubeconfig all --config $C
` + componentServers + `
kubeadm init --config $C --upload-certs --skip-phases=preflight,certs,kubeconfig,$skip
` + adminServer + `
` + rootKubeconfig

// Write only changed files: a component that started before its kubeconfig was written counts
// as having an old credential.
const (
	setServer        = `sed -i -E "s#^(    server:) https://.*#\1 $server#" `
	adminServer      = setServer + `admin.conf`
	componentServers = setServer + `controller-manager.conf kubelet.conf scheduler.conf`
	allServers       = componentServers + ` admin.conf`
)

const rootKubeconfig = `install -d -m 0700 /root/.kube
install -m 0600 admin.conf /root/.kube/config`

func (b *builder) initFirst(ctx context.Context) error {
	if _, err := b.script(ctx, b.c.ControlPlanes()[0], initScript); err != nil {
		return fmt.Errorf("kubeadm init: %w", err)
	}
	return b.withoutAnonymous(ctx)
}

// linkEtcdClient makes links to a control plane's own client certificate under the names of
// the others', for one without a member: kubeadm uses the first one's name on all control
// planes (Kubespray v2.28, roles/etcd). When the node joins, kubeadm writes that certificate
// through the link.
const linkEtcdClient = `cd ` + etcdDir + `
for other in %s; do
  [ -e "node-$other.pem" ] || ln -s "node-$(hostname).pem" "node-$other.pem"
  [ -e "node-$other-key.pem" ] || ln -s "node-$(hostname)-key.pem" "node-$other-key.pem"
done`

const joinControlPlaneScript = `cd "$conf"
kubeadm join --config kubeadm-controlplane.yaml --skip-phases=preflight
` + allServers + `
` + rootKubeconfig + `
systemctl restart kubelet
ids=$(crictl ps -q --name '^kube-(controller-manager|scheduler)$')
[ -z "$ids" ] || crictl stop $ids`

const joinWorkerScript = `cd "$conf"
kubeadm join --config kubeadm-client.conf --skip-phases=preflight
grep -q "^    server: $server$" kubelet.conf || { ` + setServer + `kubelet.conf; systemctl restart kubelet; }`

// joinOthers joins the control planes one after the other, since each adds an etcd member, and
// the workers in parallel with them.
func (b *builder) joinOthers(ctx context.Context) error {
	controlPlanes := b.c.ControlPlanes()
	return Each(ctx, append(b.c.Workers(), controlPlanes[0]), func(ctx context.Context, n Node) error {
		if n.Role == Worker {
			if _, err := b.script(ctx, n, joinWorkerScript); err != nil {
				return fmt.Errorf("kubeadm join: %w", err)
			}
			return nil
		}
		for _, cp := range controlPlanes[1:] {
			if _, err := b.script(ctx, cp, joinControlPlaneScript); err != nil {
				return fmt.Errorf("kubeadm join --control-plane on %s: %w", cp.Name, err)
			}
		}
		return nil
	})
}

// waitReady waits until every node is Ready and schedulable, and its control plane runs.
func (b *builder) waitReady(ctx context.Context) error {
	return Poll(ctx, 3*time.Minute, 500*time.Millisecond, "the cluster to be ready", b.c.CheckReady)
}

// CheckReady returns nil if the API server reports every node as Ready and every static pod as
// running and ready.
func (c *Cluster) CheckReady(ctx context.Context) error {
	out, err := c.Kubectl(ctx, "get", "nodes,pods", "-n", "kube-system", "-o", "json")
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct{ Taints []struct{ Key string } }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return fmt.Errorf("reading the nodes and pods: %w", err)
	}
	ready := map[string]bool{}
	for _, item := range list.Items {
		ok := false
		for _, cond := range item.Status.Conditions {
			ok = ok || cond.Type == "Ready" && cond.Status == "True"
		}
		for _, t := range item.Spec.Taints {
			ok = ok && !strings.HasPrefix(t.Key, "node.kubernetes.io/")
		}
		ready[item.Kind+"/"+item.Metadata.Name] = ok
	}
	var missing []string
	need := func(what string) {
		if !ready[what] {
			missing = append(missing, what)
		}
	}
	for _, n := range c.KubernetesNodes() {
		need("Node/" + n.KubernetesName)
		for _, pod := range c.StaticPods(n) {
			need("Pod/" + pod + "-" + n.KubernetesName)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not ready: %s", strings.Join(missing, ", "))
	}
	return nil
}

// StaticPods returns the names of a node's static pods, without the node's name.
func (c *Cluster) StaticPods(n Node) []string {
	switch {
	case n.Role == Worker && c.Spec.LocalProxy:
		return []string{"haproxy"}
	case n.Role != ControlPlane:
		return nil
	case c.Spec.Etcd == EtcdKubeadm:
		return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"}
	}
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

func (b *builder) writeCheckout(ctx context.Context) error {
	c := b.c
	if err := b.finish(ctx); err != nil {
		return err
	}
	if err := kubespray.Write(c.KubesprayDir()); err != nil {
		return fmt.Errorf("writing the stand-in checkout: %w", err)
	}
	files := maps.Clone(deploymentFiles[c.Spec.Like])
	if c.Spec.Hardened {
		files[hardeningVars] = hardeningTemplate
	}
	for path, template := range files {
		path = filepath.Join(c.Dir(), path)
		text, err := b.r.render(template, Node{})
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	c.state.Ready = true
	return c.save()
}
