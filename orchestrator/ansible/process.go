package ansible

import (
	"context"
	"errors"
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

// grace is how long Ansible may take to end after each signal: it stops its
// workers by itself on an interrupt, usually within half a second.
const grace = 4 * time.Second

// processes starts commands for go-ansible. When its context ends, the whole
// process tree is ended: interrupt, terminate, kill.
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

// process is deliberately no *exec.Cmd: go-ansible ties the driver's own
// standard input to those, and Ansible then puts it into non-blocking mode.
type process struct {
	*exec.Cmd
	ctx   context.Context //nolint:containedctx // see processes
	owner *execute.DefaultExecute
	done  chan struct{}
	// ended is closed once nothing of the process tree is to be ended any more.
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

// Wait returns nil or an *exec.ExitError, the only type go-ansible copes with.
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
	// What Ansible leaves behind: a job in the background of a shell ignores an
	// interrupt, and its parents are gone when Ansible is.
	defer func() {
		_ = syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
		for _, pid := range tree {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}
	if signal.Ignored(syscall.SIGINT) {
		signals = signals[1:] // a job in the background: what we start ignores it too
	}
	for _, sig := range signals {
		// ansible-core 2.19 and later give each worker a session of its own, so
		// the group alone does not reach them.
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

// descendants lists the processes below root, from /proc; empty where there is
// no /proc.
func descendants(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		_, rest, ok := strings.Cut(string(data), ") ") // proc(5): pid (comm) state ppid
		f := strings.Fields(rest)
		if !ok || len(f) < 2 {
			continue
		}
		pid, err1 := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, err2 := strconv.Atoi(f[1])
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var out []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		out = append(out, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return out
}
