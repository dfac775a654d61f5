package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// blow is a fault injected while a run changes nodes.
type blow struct {
	name, what string
	// strikes selects the moments.
	strikes timing
	// sample are the moments for CI, as "state/moment".
	sample []string
	// prepare runs on the node before the run, clear undoes it at the end.
	prepare, clear func(context.Context, *struck) error
	hit            func(context.Context, *struck) error
	// fix undoes the fault after the run.
	fix func(context.Context, *struck) error
	// reboots: the node's workloads restart.
	reboots bool
	// lost: what the run has recorded here is gone; another machine continues with the inventory alone.
	lost bool
	// only is the state that it is tried in; empty for all.
	only string
}

// timing selects when a fault is injected.
type timing int

const (
	// boundary: after each line of the journal.
	boundary timing = iota
	// middle: in the middle of each step that touches nodes.
	middle
	// inControlPlane: in the middle of the control plane's step.
	inControlPlane
	// before: when the intent of each such step is in the journal.
	before
)

// struck is the target of a fault.
type struck struct {
	c      *cluster.Cluster
	driver *driver
	// node is the last node of the running step.
	node string
}

// onNode runs a script on the step's node.
func onNode(script string) func(context.Context, *struck) error {
	return func(ctx context.Context, s *struck) error {
		_, err := s.c.Shell(ctx, s.node, script)
		return err
	}
}

// signalled sends signals to kscertctl with a short pause between them.
func signalled(signals ...syscall.Signal) func(context.Context, *struck) error {
	return func(_ context.Context, s *struck) error {
		for i, sig := range signals {
			if i > 0 {
				time.Sleep(300 * time.Millisecond)
			}
			if err := s.driver.signal(sig); err != nil {
				return err
			}
		}
		return nil
	}
}

// smallDisk moves the directories that a run writes to onto a small file system.
const smallDisk = `mkdir -p /mnt/small /var/backups/kscertctl
mount -t tmpfs -o size=192m tmpfs /mnt/small
for d in /etc/kubernetes /var/lib/kubelet/pki /var/backups/kscertctl; do
  mkdir -p /mnt/small$d
  cp -a $d/. /mnt/small$d
  touch -r $d /mnt/small$d
  mount --bind /mnt/small$d $d
done`

const noSmallDisk = `for d in /etc/kubernetes /var/lib/kubelet/pki /var/backups/kscertctl /mnt/small; do umount -l $d; done`

// restarting calls do and restarts the components, since a running container keeps its mounts.
func restarting(do func(context.Context, *struck) error) func(context.Context, *struck) error {
	return func(ctx context.Context, s *struck) error {
		if err := do(ctx, s); err != nil {
			return err
		}
		n, err := s.c.Node(s.node)
		if err != nil {
			return err
		}
		return s.c.Restart(ctx, n)
	}
}

// blows lists all faults.
func blows() []blow {
	return []blow{
		{
			name: "driver killed", what: "SIGKILL to kscertctl alone; the Ansible that it has started goes on",
			strikes: boundary, hit: signalled(syscall.SIGKILL), sample: []string{"recover/intent 02-pre-phase-cp1"},
		},
		{
			name: "machine gone", what: "SIGKILL to kscertctl and all that it has started, at once",
			strikes: middle, sample: []string{"recover/in 02-pre-phase-cp1"},
			hit: func(_ context.Context, s *struck) error { return s.driver.killTree() },
		},
		{
			name: "machine lost", what: "the same at a line of the journal, and its record is removed",
			strikes: boundary, lost: true, only: "recover", sample: []string{"recover/outcome 01-backup"},
			hit: func(_ context.Context, s *struck) error { return s.driver.killTree() },
		},
		{name: "interrupted", what: "Ctrl-C once", strikes: inControlPlane, hit: signalled(syscall.SIGINT)},
		{name: "interrupted twice", what: "Ctrl-C twice", strikes: inControlPlane, hit: signalled(syscall.SIGINT, syscall.SIGINT)},
		{name: "terminated", what: "SIGTERM once, as a pipeline does", strikes: inControlPlane, hit: signalled(syscall.SIGTERM)},
		{
			name: "SSH cut", what: "sshd and its connections end", strikes: middle,
			hit: onNode("systemctl kill --signal=KILL ssh; systemctl stop ssh"),
			fix: onNode("systemctl reset-failed ssh || true; systemctl start ssh"),
		},
		{
			name: "node stopped", what: "the node loses its power, and is started again", strikes: middle, reboots: true,
			hit: func(ctx context.Context, s *struck) error { return s.c.Stop(ctx, s.node) },
			fix: func(ctx context.Context, s *struck) error { return s.c.Start(ctx, s.node) },
		},
		{
			name: "disk full", what: "no byte is left for certificates and backups", strikes: before,
			prepare: restarting(onNode(smallDisk)), clear: restarting(onNode(noSmallDisk)),
			hit: onNode("dd if=/dev/zero of=/mnt/small/filler bs=4k 2>/dev/null || true"),
			fix: onNode("rm /mnt/small/filler"),
		},
		{
			name: "kubeadm fails", what: "every call of kubeadm on the first control plane fails", strikes: before,
			hit: onFirst(`mv /usr/local/bin/kubeadm /usr/local/bin/kubeadm.true; printf '#!/bin/sh\necho no kubeadm today >&2\nexit 1\n' >/usr/local/bin/kubeadm; chmod 755 /usr/local/bin/kubeadm`),
			fix: onFirst("mv /usr/local/bin/kubeadm.true /usr/local/bin/kubeadm"),
		},
		{
			name: "no sudo", what: "the SSH user may not become root any more", strikes: before,
			hit: onNode("mv /etc/sudoers.d/kubespray /root/sudoers"), fix: onNode("mv /root/sudoers /etc/sudoers.d/kubespray"),
		},
		{
			name: "runtime stopped", what: "containerd does not run", strikes: before,
			hit: onNode("systemctl stop containerd"), fix: onNode("systemctl start containerd; systemctl restart kubelet"),
			sample: []string{"renew/intent 02-renew-certs-cp1"},
		},
	}
}

func onFirst(script string) func(context.Context, *struck) error {
	return func(ctx context.Context, s *struck) error {
		_, err := s.c.Shell(ctx, s.c.ControlPlanes()[0].Name, script)
		return err
	}
}

// moment is when a fault is injected.
type moment struct {
	name string
	// line is the number of journal lines by then; 0 within a step.
	line int
	// task is the number of started tasks of the step by then.
	task int
	// step and node are the running ones.
	step, node string
}

// moments returns the moments of a fault from the record of an undisturbed run.
func (b blow) moments(journal []journalLine, tasks map[string]int) []moment {
	var out []moment
	for i, l := range journal {
		m := moment{name: l.Event, line: i + 1, step: l.Step}
		if l.Step != "" {
			m.name += " " + l.Step
		}
		if len(l.Nodes) > 0 {
			m.node = l.Nodes[len(l.Nodes)-1]
		}
		touches := l.Event == "intent" && tasks[l.Step] > 0 && l.Step != "lock" && l.Step != "unlock"
		switch {
		case b.strikes == boundary:
			out = append(out, m)
		case b.strikes == before && touches:
			out = append(out, m)
		case b.strikes == inControlPlane && !strings.HasSuffix(l.Step, "-cp1"):
		case b.strikes != before && touches:
			m.name, m.line, m.task = "in "+l.Step, 0, tasks[l.Step]/2+1
			out = append(out, m)
		}
	}
	return out
}

// ending is a trial's result.
type ending struct {
	blow, moment string
	// ran is the exit code of the disturbed run; resumed and back are the results of resume
	// and rollback.
	ran, resumed, back string
}

func (e ending) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", e.blow, e.moment, e.ran, e.resumed, e.back)
}
