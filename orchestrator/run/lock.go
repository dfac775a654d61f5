package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// Owner is the holder of the lock of a cluster.
type Owner struct {
	Schema int    `json:"schema"`
	User   string `json:"user"`
	Host   string `json:"host"`
	PID    int    `json:"pid"`
	// Run is the run it is held for.
	Run     string    `json:"run"`
	Started time.Time `json:"started"`
}

// OwnerSchema is the version of the JSON form of an Owner.
const OwnerSchema = 1

func (o Owner) String() string {
	if o.Run == "" {
		return "an unknown owner"
	}
	return fmt.Sprintf("%s on %s (process %d, run %s)", o.User, o.Host, o.PID, o.Run)
}

// ParseOwner reads the content of a lock, which on a node others may have written: its texts are
// one line each, and its run is a word of a command. Content that cannot be read belongs to an
// unknown owner, whose lock still counts.
func ParseOwner(data []byte) (Owner, error) {
	var o Owner
	if err := json.Unmarshal(data, &o); err != nil {
		return Owner{}, fmt.Errorf("the lock names no owner: %w", err)
	}
	if o.Schema != OwnerSchema || o.Run == "" {
		return Owner{}, fmt.Errorf("the lock has schema %d, this version reads %d", o.Schema, OwnerSchema)
	}
	if shell.Quote(o.Run) != o.Run || strings.HasPrefix(o.Run, "-") {
		return Owner{}, fmt.Errorf("the lock has an invalid run ID: %q", o.Run)
	}
	o.User, o.Host = printable.Line(o.User), printable.Line(o.Host)
	return o, nil
}

// StaleAfter is how old the heartbeat of a lock may be: five times its interval, so that a slow
// network does not cost the lock.
const (
	Heartbeat  = time.Minute
	StaleAfter = 5 * Heartbeat
)

// Holding is a lock as it was found on the first control plane.
type Holding struct {
	Owner Owner
	// Age is the time since its last heartbeat, by the node's own clock.
	Age time.Duration
	// Seen is the SHA-256 of its line, which distinguishes it from a later lock of the same run.
	Seen string
}

// Verdict is what a lock means for another run.
type Verdict string

// The verdicts.
const (
	// Held: its owner is at work, or cannot be distinguished from one that is.
	Held Verdict = "held"
	// Stale: its owner has died, or has sent no heartbeat for StaleAfter.
	Stale Verdict = "stale"
)

// Assess reports whether the owner of a lock seems dead: if no heartbeat came for StaleAfter, or if
// it is a process of this machine that is gone.
func (h Holding) Assess(host string, alive func(pid int) bool) Verdict {
	switch {
	case h.Age > StaleAfter:
		return Stale
	case h.Owner.Run != "" && h.Owner.Host == host && !alive(h.Owner.PID):
		return Stale
	default:
		return Held
	}
}

// LockedError means that another run holds the lock of the cluster.
type LockedError struct {
	// Where the lock is: "this machine", or a node.
	Where string
	Holding
	Verdict Verdict
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("the cluster is locked on %s by %s", e.Where, e.Owner)
}

// DriverLock excludes a second run on this machine. The operating system releases it when the
// process, and every process that inherited the lock, has exited.
type DriverLock struct{ file *os.File }

// LockDriver takes the lock of a cluster below root for the owner. The error is a *LockedError if
// another process holds it.
func LockDriver(root, cluster string, me Owner) (*DriverLock, error) {
	dir := filepath.Join(root, "locks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of locks: %w", err)
	}
	path := filepath.Join(dir, cluster+".json")
	f, err := lockFile(path, 0)
	if errors.Is(err, errLocked) {
		data, err := os.ReadFile(path)
		owner, perr := ParseOwner(data)
		if err = errors.Join(err, perr); err != nil {
			owner = Owner{} // its owner is just about to write
		}
		return nil, &LockedError{Where: "this machine", Holding: Holding{Owner: owner}, Verdict: Held}
	}
	if err != nil {
		return nil, fmt.Errorf("locking the cluster on this machine: %w", err)
	}
	data, err := json.Marshal(me)
	if err == nil {
		err = os.WriteFile(path, append(data, '\n'), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the cluster on this machine: %w", err), f.Close())
	}
	return &DriverLock{file: f}, nil
}

// File holds the lock as Dir.Lock holds a run.
func (l *DriverLock) File() *os.File { return l.file }

// Unlock releases the lock.
func (l *DriverLock) Unlock() error { return l.file.Close() }
