package ansible

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/apenella/go-ansible/v2/pkg/execute"
	gaexec "github.com/apenella/go-ansible/v2/pkg/execute/exec"
)

// grace is how long Ansible may take to exit after each signal: on an interrupt it stops its
// workers by itself, usually within half a second. Two such periods are waited for, and nothing is
// to be left after five seconds.
const grace = 2 * time.Second

// processes starts commands for go-ansible. When its context is done, the whole process tree is
// stopped: interrupt, terminate, kill.
type processes struct {
	ctx   context.Context //nolint:containedctx // go-ansible hands over a context of its own that must not kill
	owner *execute.DefaultExecute
	hold  []*os.File
}

func (p *processes) Command(name string, arg ...string) gaexec.Cmder {
	return p.CommandContext(p.ctx, name, arg...)
}

func (p *processes) CommandContext(_ context.Context, name string, arg ...string) gaexec.Cmder {
	cmd := exec.Command(name, arg...)
	cmd.ExtraFiles = p.hold
	return &process{Cmd: cmd, ctx: p.ctx, owner: p.owner, done: make(chan struct{}), ended: make(chan struct{})}
}

// process is deliberately not an *exec.Cmd: go-ansible connects those to the standard input of
// kscertctl, and Ansible then puts it into non-blocking mode.
type process struct {
	*exec.Cmd
	ctx   context.Context //nolint:containedctx // see processes
	owner *execute.DefaultExecute
	done  chan struct{}
	// ended is closed once nothing of the process tree has to be stopped any more.
	ended chan struct{}
}

func (p *process) Start() error {
	p.Dir = p.owner.CmdRunDir
	p.Env = append(os.Environ(), p.owner.EnvVars.Environ()...)
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.Cmd.Start(); err != nil {
		return err
	}
	go p.endWithContext()
	return nil
}

// Wait returns nil or an *exec.ExitError, the only type that go-ansible handles.
func (p *process) Wait() error {
	err := p.Cmd.Wait()
	close(p.done)
	<-p.ended
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return &exec.ExitError{ProcessState: p.ProcessState, Stderr: []byte(err.Error())}
	}
	return err
}

func (p *process) endWithContext() {
	defer close(p.ended)
	select {
	case <-p.done:
		return
	case <-p.ctx.Done():
	}
	var tree []int
	// What Ansible leaves behind: a background job of a shell ignores an interrupt, and its parents
	// are gone when Ansible is.
	defer func() {
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		for _, pid := range tree {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}
	if signal.Ignored(syscall.SIGINT) {
		signals = signals[1:] // in a background job, what we start ignores it too
	}
	for _, sig := range signals {
		// ansible-core 2.19 and later give each worker a session of its own, so the group alone
		// does not reach them.
		tree = append(tree, descendants(p.Process.Pid)...)
		_ = syscall.Kill(-p.Process.Pid, sig)
		if sig == syscall.SIGKILL {
			for _, pid := range tree {
				_ = syscall.Kill(pid, sig)
			}
		}
		select {
		case <-p.done:
			return
		case <-time.After(grace):
		}
	}
}

// descendants lists the processes below root; empty without /proc.
func descendants(root int) []int {
	children := map[int][]int{}
	for _, p := range processTable() {
		children[p.parent] = append(children[p.parent], p.pid)
	}
	var out []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		out = append(out, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return out
}

// endAbandoned stops the ssh clients that the Ansible which wrote these events has left behind: if
// a node hangs it gives the task up, but the client waits on. The connections that ssh keeps open
// (ControlPersist) lead sessions of their own.
func endAbandoned(events string) {
	for _, p := range processTable() {
		if p.name != "ssh" || p.session == p.pid {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
		if err == nil && strings.Contains("\x00"+string(env), "\x00KSCERT_EVENTS="+events+"\x00") {
			_ = syscall.Kill(p.pid, syscall.SIGTERM)
		}
	}
}

type processEntry struct {
	pid, parent, session int
	name                 string
}

// processTable reads what runs on this machine from /proc.
func processTable() []processEntry {
	var out []processEntry
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // exited meanwhile
		}
		head, rest, _ := strings.Cut(string(data), ") ") // proc(5): pid (comm) state ppid pgrp session
		_, name, _ := strings.Cut(head, "(")
		f := strings.Fields(rest)
		if len(f) < 4 {
			continue
		}
		parent, err := strconv.Atoi(f[1])
		session, serr := strconv.Atoi(f[3])
		if err == nil && serr == nil {
			out = append(out, processEntry{pid, parent, session, name})
		}
	}
	return out
}
