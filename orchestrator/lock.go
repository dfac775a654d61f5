package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// lockState is the lock playbook's result; see docs/reference/lock.md.
type lockState string

const (
	lockAcquired lockState = "acquired"
	lockHeld     lockState = "held"
	lockReleased lockState = "released"
	lockBeaten   lockState = "beaten"
	lockLost     lockState = "lost"
	lockBroken   lockState = "broken"
	lockAbsent   lockState = "absent"
)

// lockStates lists the states that the playbook prints.
func lockStates() []lockState {
	return []lockState{lockAcquired, lockHeld, lockReleased, lockBeaten, lockLost, lockBroken, lockAbsent}
}

// parseLock reads "@@LOCK STATE AGE JSON" and "@@END". An unreadable owner becomes empty: the
// lock counts as held.
func parseLock(payload string) (lockState, run.Holding, error) {
	var record string
	complete := false
	for line := range strings.Lines(payload) {
		line = strings.TrimRight(line, "\r\n")
		rest, ok := strings.CutPrefix(line, "@@LOCK ")
		switch {
		case !strings.HasPrefix(line, "@@"):
		case complete || ok && record != "":
			return "", run.Holding{}, fmt.Errorf("the answer about the lock has a second record: %.200q", payload)
		case ok:
			record = rest
		}
		complete = complete || line == "@@END"
	}
	f := strings.SplitN(record, " ", 3)
	if !complete || len(f) != 3 {
		return "", run.Holding{}, fmt.Errorf("the answer about the lock was cut off: %.200q", payload)
	}
	seconds, err := strconv.ParseInt(f[1], 10, 32) // 68 years fit into time.Duration
	if err != nil {
		return "", run.Holding{}, fmt.Errorf("the age of the lock is not a number of seconds: %.40q", f[1])
	}
	if !slices.Contains(lockStates(), lockState(f[0])) {
		return "", run.Holding{}, fmt.Errorf("not a state of a lock: %.40q", f[0])
	}
	owner, err := run.ParseOwner([]byte(f[2]))
	if err != nil {
		owner = run.Owner{}
	}
	return lockState(f[0]), run.Holding{Owner: owner, Age: time.Duration(seconds) * time.Second,
		Seen: run.Digest([]byte(f[2] + "\n"))}, nil
}

// lockAction runs the lock playbook on the first control plane.
func (s *session) lockAction(ctx context.Context, action, id string, vars map[string]any) (lockState, run.Holding,
	error) {
	node := s.lockNode()
	p := s.playbook(id, playbooks.Lock, []string{node})
	p.Vars["kscert_lock_action"] = action
	maps.Copy(p.Vars, vars)
	if action == "release" {
		_ = s.keeps(ctx, &p) // the run has finished
	}
	outcome, err := s.runner.Run(ctx, p, nil)
	if err != nil {
		return "", run.Holding{}, err
	}
	if action == "release" {
		_ = s.heard(nil, outcome) // the run has finished
	}
	if action == "heartbeat" { // one per minute, which no one reads
		_ = errors.Join(os.Remove(p.Events), os.Remove(p.Log))
	}
	answer, err := outcome.Payload(node)
	if err != nil {
		return "", run.Holding{}, fmt.Errorf("the answer about the lock of %s: %w", node, err)
	}
	return parseLock(answer)
}

// lockNode is the node with the cluster's lock.
func (s *session) lockNode() string {
	return cluster.Names(s.cluster.With(cluster.ControlPlane))[0]
}

// lockName is the part of a cluster's fingerprint that names its locks.
func lockName(id string) string { return id[:min(16, len(id))] }

// owner describes this process as a lock's owner.
func (s *session) owner() run.Owner {
	o := run.Owner{Schema: run.OwnerSchema, PID: os.Getpid(), Space: processSpace(), Run: s.dir.ID,
		Started: s.start.UTC().Truncate(time.Second), User: "uid " + strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		o.Host = host
	}
	return o
}

// processSpace is run.Owner.Space of this process. The number of a PID namespace is unique only while a
// machine runs, and the number of a boot is no one else's business.
func processSpace() string {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	boot, berr := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || berr != nil {
		return ""
	}
	sum := sha256.Sum256(append(boot, namespace...))
	return hex.EncodeToString(sum[:8])
}

// hold is a cluster's lock while a session holds it.
type hold struct {
	s      *session
	id     string
	driver *run.DriverLock
	stop   context.CancelFunc
	beats  chan struct{} // closed when no heartbeat is running any more
	// lost is closed when this run no longer holds the lock.
	lost chan struct{}
}

// lock takes the cluster's lock on this machine and on the first control plane that the plan has not
// left out. It replaces a lock of the run that the work replaces if its owner is dead: exactly the lock
// that was seen, since another machine may be replacing it, too. The error is an *Error.
func (s *session) lock(ctx context.Context, w work) (*hold, error) {
	me, id := s.owner(), w.Cluster
	s.leaveOutAsPlanned(w)
	driver, err := run.LockDriver(s.opts.StateDir, lockName(id), me)
	if err != nil {
		return nil, s.lockError(err)
	}
	s.held = append(s.held, driver.File())
	err = s.recordStep(run.StepLock, []string{s.lockNode()}, func() error {
		var replaces, seen string
		for {
			state, holding, err := s.lockAction(ctx, "acquire", run.StepLock, map[string]any{
				"kscert_lock_cluster": lockName(id), "kscert_lock_run": s.dir.ID, "kscert_lock_owner": me,
				"kscert_lock_replace": replaces, "kscert_lock_seen": seen,
			})
			if err != nil || state == lockAcquired {
				return err
			}
			held := &run.LockedError{Where: s.lockNode(), Holding: holding, Verdict: holding.Assess(me, alive)}
			// Of who held the lock of this machine, having that proves the death; of others, their silence does.
			here := !w.recalled && holding.Owner == driver.Before
			if seen != "" || w.replaces == "" || holding.Owner.Run != w.replaces ||
				!here && held.Verdict != run.Stale {
				return held
			}
			replaces, seen = w.replaces, holding.Seen
		}
	})
	if err != nil {
		return nil, errors.Join(s.lockError(err), driver.Unlock())
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	h := &hold{s: s, id: id, driver: driver, stop: stop, beats: make(chan struct{}), lost: make(chan struct{})}
	go h.beat(beating)
	return h, nil
}

// beat sends the lock's heartbeat until ctx ends or the lock is lost.
func (h *hold) beat(ctx context.Context) {
	defer close(h.beats)
	ticker := time.NewTicker(run.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		state, holding, err := h.s.lockAction(ctx, "heartbeat", "lock-heartbeat", h.vars())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // others wait five times as long before a lock is stale to them
			h.s.tell(Event{Kind: EventNotice, Message: "the lock could not be renewed: " + err.Error()})
		case state != lockBeaten:
			h.s.tell(Event{Kind: EventNotice,
				Message: "another run took the lock of the cluster: " + holding.Owner.String()})
			close(h.lost)
			return
		}
	}
}

func (h *hold) vars() map[string]any {
	return map[string]any{"kscert_lock_cluster": lockName(h.id), "kscert_lock_run": h.s.dir.ID,
		"kscert_lock_owner": h.s.owner()}
}

// releaseTime limits each cleanup at the end of a run; the shorter one applies when the user
// waits for the process to exit.
const (
	releaseTime       = 30 * time.Second
	releaseTimeAtOnce = 2 * time.Second
)

// ending returns a context for cleanup, which has to run even if ctx is done.
func ending(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := releaseTime
	if ctx.Err() != nil {
		timeout = releaseTimeAtOnce
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// release records with end that the work has stopped, and releases the lock: the next owner
// finds the whole record. That it cannot be released is only reported: others detect that this
// process is dead. The error is that of end.
func (h *hold) release(ctx context.Context, end func() error) (failed error) {
	h.stop()
	<-h.beats
	ctx, cancel := ending(ctx)
	defer cancel()
	err := h.s.recordStep(run.StepUnlock, []string{h.s.lockNode()}, func() error {
		failed = end()
		_, _, err := h.s.lockAction(ctx, "release", run.StepUnlock, h.vars())
		return err
	})
	if err = errors.Join(err, h.driver.Unlock()); err != nil {
		h.s.tell(Event{Kind: EventNotice, Message: "the lock of the cluster could not be released: " + err.Error()})
	}
	return failed
}

// abandon keeps the lock on the node: something may still be running there.
func (h *hold) abandon() {
	h.stop()
	<-h.beats
	_ = h.driver.Unlock() // the kernel unlocks it at exit, too
}

// alive reports whether a process exists on this machine.
func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// lockError explains why the lock could not be taken.
func (s *session) lockError(err error) *Error {
	var locked *run.LockedError
	if !errors.As(err, &locked) {
		e := preflightError(err)
		if failed, ok := errors.AsType[*ansible.RunError](err); ok {
			e.Summary = fmt.Sprintf("the cluster could not be locked on %s: %s", s.lockNode(), failed.Reason)
			e.Evidence = taskEvidence(failed)
			if len(failed.Unreachable) > 0 {
				e.Code = ExitUnreachable
			}
		}
		return e
	}
	e := &Error{Code: ExitLocked, Summary: locked.Error(), Err: err}
	if o := locked.Owner; o.Run != "" {
		e.Evidence = fmt.Sprintf("since %s", o.Started.Format(time.RFC3339))
		if locked.Where == s.lockNode() {
			e.Evidence += fmt.Sprintf(", last heartbeat %s ago", locked.Age)
		}
	}
	if locked.Verdict == run.Held {
		e.Next = "nothing was changed; wait until that run has finished. If you know that it is dead: " +
			s.command("unlock", "-i", "INVENTORY")
		return e
	}
	id := locked.Owner.Run
	e.Evidence += "; its owner appears to be dead"
	e.Next = fmt.Sprintf("nothing was changed. On %s, or elsewhere with -i INVENTORY, resume that run: %s\nor roll it "+
		"back: %s\nor break its lock: %s",
		locked.Owner.Host, s.command("resume", id), s.command("rollback", id), s.command("unlock", "-i", "INVENTORY"))
	if id == "" {
		e.Next = "nothing was changed. If no one works on the cluster: " + s.command("unlock", "-i", "INVENTORY")
	}
	return e
}
