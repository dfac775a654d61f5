package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
)

// The lab's own engine hands out addresses where a developer's engine does not.
const (
	bridgeAddress = "10.200.0.1/24"
	addressPool   = "base=10.202.0.0/16,size=24"
)

// maxSocketPath is how long the path of a unix socket may be on Linux.
const maxSocketPath = 107

// daemon is the dockerd the lab starts where no engine runs.
type daemon struct{ dir string }

func ownDaemon(cacheDir string) daemon { return daemon{filepath.Join(cacheDir, "docker")} }

func (d daemon) socket() string  { return filepath.Join(d.dir, "docker.sock") }
func (d daemon) pidFile() string { return filepath.Join(d.dir, "docker.pid") }
func (d daemon) logFile() string { return filepath.Join(d.dir, "dockerd.log") }
func (d daemon) engine() *Engine { return &Engine{Host: "unix://" + d.socket()} }

// Find returns an engine that answers: the one docker talks to by default, or
// the lab's own if it runs. Without one it returns nil and no error.
func Find(ctx context.Context, cacheDir string) *Engine {
	for _, e := range []*Engine{{}, ownDaemon(cacheDir).engine()} {
		if e.Answers(ctx) {
			return e
		}
	}
	return nil
}

// Ensure returns an engine that answers, and starts the lab's own dockerd if
// there is none. The daemon outlives this process: other clusters use it.
func Ensure(ctx context.Context, cacheDir string) (*Engine, error) {
	if e := Find(ctx, cacheDir); e != nil {
		return e, nil
	}
	d := ownDaemon(cacheDir)
	if n := len(d.socket()); n > maxSocketPath {
		return nil, fmt.Errorf("the socket path %s is %d characters long, more than the %d a socket may have: set "+
			"%s to a shorter directory",
			d.socket(), n, maxSocketPath, cache.EnvDir)
	}
	if err := os.MkdirAll(d.dir, 0o711); err != nil {
		return nil, err
	}
	unlock, err := cache.Lock(ctx, filepath.Join(d.dir, "start.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if e := d.engine(); e.Answers(ctx) {
		return e, nil // started by another process while we waited
	}
	return d.start(ctx)
}

func (d daemon) start(ctx context.Context) (*Engine, error) {
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := d.clearStalePID(); err != nil {
		return nil, err
	}
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	cmd := exec.Command("dockerd",
		"--host", "unix://"+d.socket(),
		"--data-root", filepath.Join(d.dir, "data"),
		"--exec-root", filepath.Join(d.dir, "exec"),
		"--pidfile", d.pidFile(),
		"--bip", bridgeAddress,
		"--default-address-pool", addressPool,
		"--storage-driver", "overlay2",
	)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting dockerd: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()

	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	e := d.engine()
	for !e.Answers(ctx) {
		select {
		case err := <-exited:
			return nil, fmt.Errorf("dockerd ended (%w); its log is %s", err, d.logFile())
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for dockerd to answer: %w; its log is %s", ctx.Err(), d.logFile())
		case <-time.After(200 * time.Millisecond):
		}
	}
	return e, nil
}

// closeOnExec keeps what this process was started with open from the daemon, which
// outlives it: a lock of flock(1)'s would never be let go.
func closeOnExec() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("listing open files: %w", err)
	}
	for _, f := range open {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// pid returns the process ID of the lab's dockerd, or 0 if it does not run. A
// PID file outlives a reboot, so the process must also be a dockerd of ours.
func (d daemon) pid() (int, error) {
	data, err := os.ReadFile(d.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", d.pidFile(), err)
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), d.pidFile()) {
		return 0, nil //nolint:nilerr // no such process: another's ID, or ended
	}
	return pid, nil
}

func (d daemon) clearStalePID() error {
	pid, err := d.pid()
	if err != nil || pid != 0 {
		return err
	}
	if err := os.Remove(d.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Stop stops the dockerd that Ensure started, by its PID file, and waits for it. It never
// stops an engine that the lab did not start. It reports whether there was one to stop.
func Stop(ctx context.Context, cacheDir string) (bool, error) {
	d := ownDaemon(cacheDir)
	pid, err := d.pid()
	if err != nil || pid == 0 {
		return false, err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return false, fmt.Errorf("stopping dockerd (pid %d): %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("waiting for dockerd (pid %d) to end: %w", pid, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
	return true, nil
}
