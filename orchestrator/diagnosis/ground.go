package diagnosis

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// leastFree is the space that a file system must have left: with less, etcd, the kubelet or a
// backup fail half-way. 64 MiB is one segment of etcd's log.
const leastFree = 64 << 10 // KiB

// checkGround checks the basics: the clock, the disks, the tools and the configuration.
func (d *Diagnosis) checkGround(n snapshot.Node, taken time.Time, t Thresholds) {
	if skew := n.Clock.Sub(taken); skewed(n, taken, t) {
		d.add(ClockSkew, n.Name, "", fmt.Sprintf("its clock is at %s, the control node's at %s: %s apart",
			n.Clock.Format(time.RFC3339), taken.UTC().Format(time.RFC3339), skew.Abs().Round(time.Second)))
	}
	for _, mount := range slices.Sorted(maps.Keys(n.Disks)) {
		switch disk := n.Disks[mount]; {
		case disk.SizeKiB > 0 && disk.FreeKiB < leastFree:
			d.add(DiskFull, n.Name, mount,
				fmt.Sprintf("%s has %d of %d MiB left", mount, disk.FreeKiB>>10, disk.SizeKiB>>10))
		case disk.FreeInodes == 0:
			d.add(DiskFull, n.Name, mount, mount+" has no free inode left")
		}
	}
	if !n.Is(cluster.ControlPlane) {
		return
	}
	for _, tool := range []string{"kubeadm", "kubectl", "openssl"} {
		if n.Facts[tool] == "" {
			d.add(ToolMissing, n.Name, tool, "neither in the node's PATH nor in bin_dir")
		}
	}
	if n.Facts["kubeadm-config"] == "" {
		d.add(KubeadmConfigMissing, n.Name, "kubeadm-config.yaml",
			n.Facts["config-dir"]+"/kubeadm-config.yaml does not exist")
	}
}

// kubeadmWords are what kubeadm prints in addition to an error: its warnings, and a hint of its
// own.
var kubeadmWords = regexp.MustCompile(`(?m)^(?:[WI]\d{4} .*|To see the stack trace of this error.*)$`)

// checkKubeadmConfigs: kubeadm accepts the configuration of each node on which it has to issue
// something. Otherwise nothing would be changed there, but the backup would have been made, and the
// nodes before this one renewed.
func (d *Diagnosis) checkKubeadmConfigs(s snapshot.Snapshot) {
	for _, n := range s.With(cluster.ControlPlane) {
		asked := n.Results["kubeadm-config"]
		says := lastLines(kubeadmWords.ReplaceAllString(asked.Output, ""), 1)
		// It may also have failed on a file that it inspected.
		if asked.Status != 1 || says == "" || d.on(n.Name, CertificateUnreadable) ||
			!slices.ContainsFunc(d.Due[n.Name], byKubeadm) {
			continue
		}
		d.add(KubeadmConfigRefused, n.Name, n.Facts["kubeadm-config"], says)
	}
}

// byKubeadm reports whether kubeadm issues certificates of a kind.
func byKubeadm(k certs.Kind) bool {
	row, _ := certs.Lookup(k)
	return slices.Contains([]certs.Authority{certs.KubernetesCA, certs.FrontProxyCA, certs.EtcdCA}, row.Signer)
}

// skewed reports whether a node's clock differs from the control node's.
func skewed(n snapshot.Node, taken time.Time, t Thresholds) bool {
	return n.Clock.Sub(taken).Abs() > t.ClockSkew
}

// runtimes are the units that a container runtime may run as.
var runtimes = []string{"containerd", "crio", "docker"}

// checkUnits: the container runtime and the kubelet run, and nothing else renews.
func (d *Diagnosis) checkUnits(n snapshot.Node) {
	if n.Is(cluster.ControlPlane) || n.Is(cluster.Worker) {
		var down []string
		up := false
		for _, name := range runtimes {
			if u, loaded := n.Units[name]; loaded {
				up = up || u.Steady()
				down = append(down, name)
			}
		}
		// Of several that are installed one is enough: docker uses containerd.
		if len(down) > 0 && !up {
			d.add(ContainerRuntimeDown, n.Name, down[0], unitEvidence(n.Units[down[0]], snapshot.Result{}))
		}
	}
	if u, ok := n.Units["kubelet"]; ok && !u.Steady() {
		d.add(KubeletDown, n.Name, "kubelet.service", unitEvidence(u, n.Results["kubelet-log"]))
	}
	if t := n.RenewalTimer; t != nil && t.State == snapshot.TimerOn {
		d.add(RenewalTimerOn, n.Name, "k8s-certs-renew.timer", t.String())
	}
}

func unitEvidence(u snapshot.Unit, log snapshot.Result) string {
	s := fmt.Sprintf("systemd reports %s (%s), restarted %d times", u.Active, u.Sub, u.Restarts)
	if last := lastLines(log.Output, 2); last != "" {
		s += "\n" + last
	}
	return s
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.TrimSpace(strings.Join(lines[max(0, len(lines)-n):], "\n"))
}

// checkEtcd: which members of an etcd cluster run, and whether enough of them do; in the snapshot in
// which it is the main one.
func (d *Diagnosis) checkEtcd(s snapshot.Snapshot, e certs.EtcdCluster) {
	listed := Members(s)
	learners := Learners(s, listed)
	nodes := s.With(cluster.Etcd)
	members := max(len(nodes), len(listed)) - len(learners)
	var down, waiting, silent []snapshot.Node
	quorum := false
	for _, n := range nodes {
		if n.Failure != nil {
			continue
		}
		switch {
		case stopped(n):
			if !slices.Contains(learners, n.Name) {
				down = append(down, n)
			}
			d.add(EtcdMemberDown, n.Name, e.Name, etcdEvidence(n))
		case n.Etcd != nil && n.Etcd.Healthy:
			quorum = true // a linearizable read succeeded
		case n.Etcd != nil && answered(n):
			waiting = append(waiting, n)
			silent = append(silent, n)
		case n.Etcd != nil && presents(n, "etcd") == "": // else it does not trust the client
			silent = append(silent, n)
		}
	}
	for _, n := range s.With(cluster.ControlPlane) {
		quorum = quorum || e.Main() && n.View != nil // an API server that is ready has asked it
	}
	switch {
	case quorum:
		for _, n := range silent {
			d.add(EtcdMemberSilent, n.Name, e.Name, etcdEvidence(n))
		}
	case len(down) > (members-1)/2:
		d.add(EtcdNoQuorum, down[0].Name, e.Name,
			fmt.Sprintf("%d of %s are not running: %s", len(down), plural(members, "member"), names(down)))
	case len(waiting) > 0:
		d.add(EtcdNoQuorum, waiting[0].Name, e.Name, etcdEvidence(waiting[0]))
	}
}

// stopped reports whether it is certain that no etcd runs on an etcd node.
func stopped(n snapshot.Node) bool {
	if e, asked := n.Endpoint("etcd"); asked && e.Fingerprint != "" {
		return false
	}
	if _, runs := n.Process("etcd"); runs {
		return false
	}
	if u, isUnit := n.Units["etcd"]; isUnit {
		return u.Active != "active"
	}
	e, asked := n.Endpoint("etcd")
	return asked && len(n.Processes) > 0 && e.Error != ""
}

// answered reports whether etcd itself answered: a port that cannot be reached, or that does not
// trust the client, proves nothing about a quorum.
func answered(n snapshot.Node) bool {
	return n.Etcd.Version != "" || n.Etcd.MemberID != "" || len(n.Etcd.Members) > 0
}

// presents is the fingerprint of what a port of a node presents; empty for none.
func presents(n snapshot.Node, port string) string {
	e, _ := n.Endpoint(port)
	return e.Fingerprint
}

func etcdEvidence(n snapshot.Node) string {
	var parts []string
	if u, ok := n.Units["etcd"]; ok {
		parts = append(parts, unitEvidence(u, snapshot.Result{}))
	}
	if n.Etcd != nil && n.Etcd.Error != "" {
		parts = append(parts, n.Etcd.Error)
	}
	if e, _ := n.Endpoint("etcd"); e.Error != "" {
		parts = append(parts, e.Address+": "+lastLines(e.Error, 1))
	}
	if last := lastLines(n.Results["etcd-log"].Output, 2); last != "" {
		parts = append(parts, last)
	}
	return strings.Join(parts, "\n")
}

func names(nodes []snapshot.Node) string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return strings.Join(out, ", ")
}
