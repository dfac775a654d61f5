package ansible

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/apenella/go-ansible/v2/pkg/execute"
	"github.com/apenella/go-ansible/v2/pkg/execute/result"
	"github.com/apenella/go-ansible/v2/pkg/inventory"
	"github.com/apenella/go-ansible/v2/pkg/playbook"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
	"github.com/infrapuzzle/kscertctl/internal/payload"
	"github.com/infrapuzzle/kscertctl/internal/printable"
)

// Options configure how Ansible reaches the nodes: the same for every playbook of a run. Fields
// correspond to flags of ansible-playbook.
type Options struct {
	// Inventories are the arguments of -i: files, directories, scripts or host lists ("a,b,"). New
	// makes relative paths absolute, here and below.
	Inventories []string
	// BinDir is the directory of the ansible commands (a virtual environment's
	// bin); empty to search PATH.
	BinDir string
	// User, PrivateKey, Forks as in -u, --private-key, -f; empty for Ansible's default.
	User, PrivateKey string
	Forks            int
	// Become is -b. The project's own playbooks become root by themselves.
	Become bool
	// BecomeMethod, BecomeUser, Connection as in --become-method, --become-user, -c;
	// empty for Ansible's default.
	BecomeMethod, BecomeUser, Connection string
	// Options of ssh, sftp and scp, as in the flags of that name.
	SSHCommonArgs, SSHExtraArgs, SFTPExtraArgs, SCPExtraArgs string
	// Timeout of a connection as in -T, seconds; 0 for Ansible's default.
	Timeout int
	// AskPass, AskBecomePass, AskVaultPass as in -k, -K, -J: New asks Ask for the password, and for
	// that of each vault identity with the source "prompt".
	AskPass, AskBecomePass, AskVaultPass bool
	// Ask returns the answer to a prompt; nil refuses with a *PasswordError.
	Ask func(prompt string) (string, error)
	// ConnectionPasswordFile and BecomePasswordFile are the arguments of the flags of that name:
	// files, or programs that print the password.
	ConnectionPasswordFile, BecomePasswordFile string
	// ExtraVars are the arguments of -e, as given.
	ExtraVars []string
	// VaultIDs and VaultPasswordFiles are the arguments of the flags of that name.
	VaultIDs, VaultPasswordFiles []string
	// Verbosity is the number of v in -v.
	Verbosity int
	// Args are further options of ansible-playbook (CheckArguments).
	Args []string
}

// Anchor makes the paths on the control node absolute: a relative one is below dir. Call it before
// changing the working directory.
func (o *Options) Anchor(dir string) {
	for _, path := range []*string{&o.BinDir, &o.PrivateKey, &o.ConnectionPasswordFile, &o.BecomePasswordFile} {
		*path = anchor.Path(dir, *path)
	}
	for _, list := range []struct {
		values *[]string
		find   anchor.Finder
	}{
		{&o.Inventories, anchor.Inventory},
		{&o.ExtraVars, anchor.AtFile},
		{&o.VaultIDs, anchor.VaultID},
		{&o.VaultPasswordFiles, anchor.Whole},
	} {
		*list.values = anchor.Each(dir, *list.values, list.find)
	}
	o.Args = anchored(o.Args, dir)
}

// MinimumVersion is the oldest ansible-core with the callback interface and modules that the
// playbooks use.
var MinimumVersion = [2]int{2, 11}

// passwordVersion is the first ansible-core with --become-password-file and
// --connection-password-file (their documentation).
var passwordVersion = [2]int{2, 12}

// Runner runs Ansible with one set of options.
type Runner struct {
	opts      Options
	passwords passwords
}

// New checks the inventories and arguments, asks for the passwords and returns a Runner.
//
// The error is an *InventoryError if an inventory cannot be read, an *ArgumentError or a
// *PasswordError.
func New(opts Options) (*Runner, error) {
	if err := CheckArguments(opts.Args); err != nil {
		return nil, err
	}
	if len(opts.Inventories) == 0 {
		return nil, &InventoryError{Detail: "no inventory was given"}
	}
	paths := make([]string, len(opts.Inventories))
	for i, inv := range opts.Inventories {
		if strings.Contains(inv, ",") { // a host list, not a path
			paths[i] = inv
			continue
		}
		abs, err := filepath.Abs(inv)
		if err != nil {
			return nil, &InventoryError{Path: inv, Detail: err.Error()}
		}
		info, err := os.Stat(abs)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, &InventoryError{Path: inv, Detail: "it does not exist"}
		case err != nil:
			return nil, &InventoryError{Path: inv, Detail: err.Error()}
		case info.Mode().IsRegular() && info.Size() == 0:
			return nil, &InventoryError{Path: inv, Detail: "the file is empty"}
		}
		paths[i] = abs
	}
	opts.Inventories = paths
	dir, err := os.Getwd()
	if err != nil {
		return nil, &InventoryError{Detail: err.Error()}
	}
	opts.Anchor(dir) // Ansible may run in another directory
	passwords, err := gather(opts)
	if err != nil {
		return nil, err
	}
	return &Runner{opts: opts, passwords: passwords}, nil
}

// InventoryError is why an inventory cannot be used.
type InventoryError struct {
	Path, Detail string
}

func (e *InventoryError) Error() string {
	if e.Path == "" {
		return "inventory: " + e.Detail
	}
	return fmt.Sprintf("inventory %s: %s", e.Path, e.Detail)
}

// NotInstalledError means that an Ansible command cannot be run.
type NotInstalledError struct {
	Command string
	Err     error
}

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("%s cannot be run: %v", e.Command, e.Err)
}
func (e *NotInstalledError) Unwrap() error { return e.Err }

// VersionError means that the installed Ansible is older than MinimumVersion, or than what a
// password needs.
type VersionError struct {
	Found  string
	Needed [2]int
}

func (e *VersionError) Error() string {
	text := fmt.Sprintf("ansible-core %s is too old: %d.%d or later is needed", e.Found, e.Needed[0], e.Needed[1])
	if e.Needed == passwordVersion {
		text += " to pass it a connection or become password"
	}
	return text
}

func (r *Runner) binary(name string) (string, error) {
	if r.opts.BinDir != "" {
		name = filepath.Join(r.opts.BinDir, name)
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", &NotInstalledError{Command: name, Err: err}
	}
	return filepath.Abs(found)
}

var versionLine = regexp.MustCompile(`^ansible(?:-playbook)? (?:\[core )?(\d+)\.(\d+)([^\]\s]*)`)

// Version returns the version of ansible-core, such as "2.14.18". It returns a *NotInstalledError
// or a *VersionError if this Ansible cannot be used.
func (r *Runner) Version(ctx context.Context) (string, error) {
	bin, err := r.binary("ansible-playbook")
	if err != nil {
		return "", err
	}
	var out, errs bytes.Buffer
	code, err := r.execute(ctx, argv{bin, "--version"}, "", nil, nil, &out, &errs)
	if err != nil {
		return "", &NotInstalledError{Command: bin, Err: err}
	}
	m := versionLine.FindStringSubmatch(out.String())
	if code != 0 || m == nil {
		return "", &NotInstalledError{Command: bin,
			Err: fmt.Errorf("--version exited with %d: %s", code, firstLine(errs.String()+out.String()))}
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	version := m[1] + "." + m[2] + m[3]
	needed := MinimumVersion
	if o := r.opts; r.passwords.connection != nil || r.passwords.become != nil ||
		o.ConnectionPasswordFile+o.BecomePasswordFile != "" {
		needed = passwordVersion
	}
	if slices.Compare([]int{major, minor}, needed[:]) < 0 {
		return version, &VersionError{Found: version, Needed: needed}
	}
	return version, nil
}

// Inventory returns the JSON of "ansible-inventory --list".
func (r *Runner) Inventory(ctx context.Context) ([]byte, error) {
	bin, err := r.binary("ansible-inventory")
	if err != nil {
		return nil, err
	}
	cmd := inventory.NewAnsibleInventoryCmd(
		inventory.WithBinary(bin),
		inventory.WithPattern("all"),
		inventory.WithInventoryOptions(&inventory.AnsibleInventoryOptions{List: true}),
	)
	h, err := r.hand("", firstInherited)
	if err != nil {
		return nil, err
	}
	defer h.end()
	var out, errs bytes.Buffer
	code, err := r.execute(ctx, withArgs{cmd, append(r.inventoryArgs(), h.args...)}, "", nil, h.files, &out, &errs)
	if err != nil {
		return nil, err
	}
	if code != 0 {
		return nil, &InventoryError{Path: strings.Join(r.opts.Inventories, ", "),
			Detail: fmt.Sprintf("ansible-inventory exited with %d: %s", code, ansibleError(errs.String()))}
	}
	if strings.Contains(errs.String(), "Unable to parse") {
		return nil, &InventoryError{Path: strings.Join(r.opts.Inventories, ", "),
			Detail: "Ansible could not parse it: " + ansibleError(errs.String())}
	}
	return out.Bytes(), nil
}

// Playbook is one run of ansible-playbook.
type Playbook struct {
	// Path of the playbook file.
	Path string
	// Dir is the working directory; its ansible.cfg counts. Empty for the current one.
	Dir string
	// Vars are extra variables; they override the user's. No secrets: they are on the command line, or, if they
	// are long, in a file next to the log.
	Vars map[string]any
	// varsFile is that file.
	varsFile string
	// CommonArgs names the variable from which the playbook takes ssh's common arguments; empty for
	// none. The user's own value of it counts.
	CommonArgs string
	// Args are further arguments, after all others.
	Args []string
	// Hosts must all be in the final stats, without failure. Nil: any.
	Hosts []string
	// CallbackDir holds the event callback; Callbacks are the directories of others, nil for
	// Ansible's own search path.
	CallbackDir string
	Callbacks   []string
	// Isolated excludes callbacks and fact caches of the user's configuration: for the project's
	// own playbooks.
	Isolated bool
	// Looks means that the playbook changes nothing, so that many nodes at a time are no risk; Many
	// means that they are none although it does.
	Looks, Many bool
	// Together is how many nodes wait for each other in one task, so that fewer forks would never
	// finish; 0 for none.
	Together int
	// Groups are put into others before the first play, in this order: pairs of a group that the
	// inventory may lack, and of the other, which is made.
	Groups [][2]string
	// SSH is called instead of ssh unless the user's configuration names a program; empty for ssh
	// itself.
	SSH string
	// Variables requests an event "inventory" when the first play begins, with these variables of
	// each host. It saves a start of ansible-inventory. The run fails if an inventory cannot be
	// parsed; without Variables Ansible continues.
	Variables []string
	// OnStats, if set, is called once the final stats have arrived: with all of the outcome but the
	// exit code, and while Ansible is still exiting, which takes a while.
	OnStats func(Outcome)
	// Silence is how long Ansible may report nothing: then it is stopped, and the error is
	// ErrSilent. Zero is no limit.
	Silence time.Duration
	// Hold are files that Ansible inherits in addition to its own: locks of flock(2) on them are
	// held until it has exited, also if this process was killed.
	Hold []*os.File
	// Events and Log are files that the run appends to. Very long lines of Ansible's output are cut
	// off in Log; words in the arguments of ssh that may be passwords are masked in both.
	Events, Log string
	// Output gets a copy of Log, also without control characters; may be nil.
	Output io.Writer
}

// Outcome is the result of a playbook run.
type Outcome struct {
	// ExitCode of ansible-playbook; it alone does not prove success.
	ExitCode int
	// Stats are the final counts; nil if Ansible never got that far.
	Stats map[string]Stats
	// Failures are the results that failed or found a host unreachable.
	Failures []Event
	// Payloads are the outputs of payload tasks by host: of several the last.
	Payloads map[string]string
	// Answers are all of them, in their order.
	Answers map[string][]string
	// Oversize are the sizes, in bytes, of those that were longer than MaxPayload.
	Oversize map[string]int
	// Unread is, by host, why a payload could not be decoded: errors of internal/payload, with the
	// texts of ErrDamaged and ErrTooLong there.
	Unread map[string]error
	// Skipped are the lengths of events that were too long to be read.
	Skipped []int

	// play is the current play; reached are the hosts with a result in each play, and failed the
	// plays in which a host failed. Batches of a play share its name.
	play    string
	reached map[string]map[string]bool
	failed  []string
}

// RunError explains why a playbook run does not count as a success.
type RunError struct {
	Playbook string
	// Reason in words.
	Reason string
	// Failures as in Outcome.
	Failures []Event
	// Unreachable are the hosts that Ansible could not reach.
	Unreachable []string
	// Log is the file with Ansible's own output.
	Log string
}

func (e *RunError) Error() string {
	return fmt.Sprintf("playbook %s: %s", filepath.Base(e.Playbook), e.Reason)
}

// ErrSilent means that Ansible reported nothing for as long as Playbook.Silence, so that its own
// limits do not work: it hangs before its first task, for example, or in a strategy.
var ErrSilent = errors.New("it hangs: Ansible has reported nothing")

// bounded is a context that is done when Ansible has reported nothing for this long since heard was
// called last.
func bounded(ctx context.Context, silence time.Duration) (bound context.Context, heard func(),
	stop context.CancelFunc) {
	bound, cancel := context.WithCancelCause(ctx)
	if silence <= 0 {
		return bound, func() {}, func() { cancel(nil) }
	}
	timer := time.AfterFunc(silence, func() { cancel(fmt.Errorf("%w for %s", ErrSilent, silence)) })
	return bound, func() { timer.Reset(silence) }, func() { timer.Stop(); cancel(nil) }
}

// Run runs a playbook and passes its events to observe, one at a time and in order.
//
// A run has succeeded if the exit code is 0, the final stats arrived, and every expected host is in
// them without failure: Ansible also exits with 0 when no host matched. Anything else is a
// *RunError with the Outcome. When ctx is done, Ansible and everything it started is stopped, and
// the error wraps the context's.
func (r *Runner) Run(ctx context.Context, p Playbook, observe func(Event)) (Outcome, error) {
	bin, err := r.binary("ansible-playbook")
	if err != nil {
		return Outcome{}, err
	}
	log, err := os.OpenFile(p.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return Outcome{}, fmt.Errorf("opening the log: %w", err)
	}
	defer func() { _ = log.Close() }()
	events, err := os.OpenFile(p.Events, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return Outcome{}, fmt.Errorf("opening the event file: %w", err)
	}
	defer func() { _ = events.Close() }()

	if err := p.fileLongVars(); err != nil {
		return Outcome{}, fmt.Errorf("passing on variables: %w", err)
	}
	defer p.removeVars()
	h, err := r.hand(filepath.Dir(p.Log), firstInherited+len(p.Hold))
	if err != nil {
		return Outcome{}, err
	}
	defer h.end()
	outcome := Outcome{Payloads: map[string]string{}, Answers: map[string][]string{}, Oversize: map[string]int{},
		Unread: map[string]error{}}
	mask := r.opts.mask()
	ctx, heard, stop := bounded(ctx, p.Silence)
	defer stop()
	done, read := make(chan struct{}), make(chan error, 1)
	go func() {
		read <- decode(&follower{file: events, done: done}, func(e Event) {
			heard()
			mask.evidence(e.Evidence)
			outcome.add(e)
			if observe != nil {
				observe(e)
			}
			if e.Event == "stats" && p.OnStats != nil {
				p.OnStats(outcome)
			}
		}, func(length int) { outcome.Skipped = append(outcome.Skipped, length) })
	}()
	var to io.Writer = log
	if p.Output != nil {
		to = io.MultiWriter(log, p.Output)
	}
	records := &masker{mask: mask, w: &clipper{w: printable.NewWriter(to)}} // it has text of a node
	out := &lockedWriter{w: records}
	code, err := r.execute(ctx, r.command(bin, p, h), p.Dir, r.env(p), slices.Concat(p.Hold, h.files), out, out)
	close(done)
	readErr := errors.Join(<-read, mask.file(p.Events))
	_ = records.flush() // as for the whole log, an error is ignored
	if len(outcome.Failures) > 0 {
		endAbandoned(p.Events)
	}
	outcome.ExitCode = code
	switch {
	case ctx.Err() != nil:
		return outcome, fmt.Errorf("playbook %s was stopped: %w", filepath.Base(p.Path), context.Cause(ctx))
	case err != nil:
		return outcome, err
	case readErr != nil:
		return outcome, readErr
	}
	if reason := outcome.verdict(p.Hosts); reason != "" {
		return outcome, &RunError{Playbook: p.Path, Reason: reason, Failures: outcome.Failures,
			Unreachable: outcome.unreachable(), Log: p.Log}
	}
	return outcome, nil
}

// longestVars is how much of a command line variables may take: Linux has no argument of 128 KiB
// (MAX_ARG_STRLEN).
const longestVars = 100000

// fileLongVars writes variables that are too long for a command line to a file.
func (p *Playbook) fileLongVars() error {
	text, err := json.Marshal(p.Vars)
	if err != nil || len(text) <= longestVars {
		return err
	}
	path, err := filepath.Abs(p.Log + ".vars")
	if err != nil {
		return err
	}
	p.varsFile = path
	return os.WriteFile(path, text, 0o600)
}

func (p *Playbook) removeVars() {
	if p.varsFile != "" {
		_ = os.Remove(p.varsFile)
	}
}

// command is the command line for a playbook, with what passes the passwords on.
func (r *Runner) command(bin string, p Playbook, h handed) execute.Commander {
	opts := &playbook.AnsiblePlaybookOptions{
		ExtraVars: p.Vars, User: r.opts.User, PrivateKey: r.opts.PrivateKey, Become: r.opts.Become,
		BecomeMethod: r.opts.BecomeMethod, BecomeUser: r.opts.BecomeUser, Connection: r.opts.Connection,
		Timeout:       r.timeout(p),
		SSHCommonArgs: r.opts.SSHCommonArgs, SSHExtraArgs: r.opts.SSHExtraArgs, SFTPExtraArgs: r.opts.SFTPExtraArgs,
		SCPExtraArgs: r.opts.SCPExtraArgs,
	}
	if p.varsFile != "" {
		opts.ExtraVars, opts.ExtraVarsFile = nil, []string{"@" + p.varsFile}
	}
	if forks := r.forks(p); forks > 0 {
		opts.Forks = strconv.Itoa(forks)
	}
	args := slices.Concat(r.inventoryArgs(), h.args, r.commonArgs(p), repeat("--extra-vars", r.opts.ExtraVars),
		verbosity(r.opts.Verbosity))
	return appended{withArgs{playbook.NewAnsiblePlaybookCmd(
		playbook.WithBinary(bin), playbook.WithPlaybooks(p.Path), playbook.WithPlaybookOptions(opts)), args},
		slices.Concat(r.opts.Args, p.Args)}
}

func (o *Outcome) add(e Event) {
	switch e.Event {
	case "stats":
		o.Stats = e.Hosts
	case "play_start":
		o.play = e.Name
	case "result":
		if o.reached[o.play] == nil {
			if o.reached == nil {
				o.reached = map[string]map[string]bool{}
			}
			o.reached[o.play] = map[string]bool{}
		}
		o.reached[o.play][e.Host] = true
		if e.Coded != "" {
			var err error
			if e.Payload, err = payload.Decode(e.Coded, MaxPayload); err != nil {
				o.Unread[e.Host] = err
			}
			e.Coded = ""
		}
		if e.Payload != "" {
			o.Payloads[e.Host] = e.Payload
			o.Answers[e.Host] = append(o.Answers[e.Host], e.Payload)
		}
		if e.PayloadSize > 0 {
			o.Oversize[e.Host] = e.PayloadSize
		}
		if (e.Status == "unreachable" || e.Status == "failed") && !e.Ignored {
			e.Payload = ""
			o.Failures = append(o.Failures, e)
			o.failed = append(o.failed, o.play)
		}
	}
}

// Payload is what a host reported, nothing if it reported nothing, and an error if that could not
// be read.
func (o *Outcome) Payload(host string) (string, error) { return o.Payloads[host], o.Unread[host] }

func (o *Outcome) unreachable() []string {
	var out []string
	for host, s := range o.Stats {
		if s.Unreachable > 0 {
			out = append(out, host)
		}
	}
	slices.Sort(out)
	return out
}

// verdict returns why the run is no success, or nothing.
func (o *Outcome) verdict(expected []string) string {
	if o.Stats == nil {
		return fmt.Sprintf("Ansible exited with %d before its first task finished", o.ExitCode)
	}
	if len(o.Stats) == 0 && len(expected) == 0 {
		return fmt.Sprintf("Ansible exited with %d: no host matched", o.ExitCode)
	}
	hosts := slices.Sorted(maps.Keys(o.Stats))
	var unreachable, failed, missing []string
	for _, h := range hosts {
		switch s := o.Stats[h]; {
		case s.Unreachable > 0:
			unreachable = append(unreachable, h)
		case s.Failures > 0:
			failed = append(failed, h)
		}
	}
	for _, h := range expected {
		// A batch in which all fail is the last: later ones have results of an earlier play at
		// most.
		_, ok := o.Stats[h]
		if !ok || slices.ContainsFunc(o.failed,
			func(play string) bool { return !o.reached[play][h] && !slices.Contains(failed, h) }) {
			missing = append(missing, h)
		}
	}
	switch {
	case len(failed) > 0 && len(missing) > 0: // the batches after one in which all failed
		return "failed on " + strings.Join(failed, ", ") + ", and never ran on " + strings.Join(missing, ", ")
	case len(failed) > 0:
		return "failed on " + strings.Join(failed, ", ")
	case len(unreachable) > 0:
		return "could not reach " + strings.Join(unreachable, ", ")
	case len(missing) > 0:
		return "never ran on " + strings.Join(missing, ", ")
	case o.ExitCode != 0:
		return fmt.Sprintf("Ansible exited with %d", o.ExitCode)
	case len(o.Skipped) > 0:
		return fmt.Sprintf("an event of %d bytes was too long to read", o.Skipped[0])
	default:
		return ""
	}
}

// env is what a run adds to the environment. Kubespray's playbooks get the callback alone: the
// user's configuration stays complete.
func (r *Runner) env(p Playbook) map[string]string {
	env := map[string]string{
		"KSCERT_EVENTS": p.Events,
		// Naming the directory keeps Ansible's own search path: an empty list would mean the
		// working directory.
		"ANSIBLE_CALLBACK_PLUGINS":    strings.Join(append([]string{p.CallbackDir}, p.callbackPath()...), ":"),
		"ANSIBLE_RETRY_FILES_ENABLED": "False",
		"ANSIBLE_FORCE_COLOR":         "False", // escape sequences would be replaced
	}
	for _, s := range asked {
		env[s.env] = "False" // New has asked
	}
	if ssh := p.ssh(); ssh != "" {
		env["ANSIBLE_SSH_EXECUTABLE"], env["KSCERT_SSH_ATTEMPTS"] = ssh, r.attempts(p)
	}
	if dir := r.sockets(p); dir != "" {
		env["ANSIBLE_SSH_CONTROL_PATH_DIR"] = dir
	}
	pairs := make([]string, len(p.Groups))
	for i, pair := range p.Groups {
		pairs[i] = strings.Join(pair[:], ":")
	}
	env["KSCERT_GROUPS"] = strings.Join(pairs, ",")
	if len(p.Variables) > 0 {
		env["KSCERT_VARIABLES"] = strings.Join(p.Variables, ",")
		env["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "True"
	}
	if p.Isolated {
		env["ANSIBLE_CALLBACKS_ENABLED"] = "kscert_events" // only this one
		env["ANSIBLE_STDOUT_CALLBACK"] = "default"         // the clipper expects it
		env["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
		env["ANSIBLE_CACHE_PLUGIN"] = "memory"
		env["ANSIBLE_STRATEGY"] = "linear" // others, such as Mitogen's, hang in raw or skip events
		// A node's answer is not a variable of ours.
		env["ANSIBLE_INJECT_FACT_VARS"] = "False"
		env["ANSIBLE_DEPRECATION_WARNINGS"] = "False"
		env["ANSIBLE_LOCALHOST_WARNING"] = "False"
		// As in Kubespray's ansible.cfg: half the round trips.
		if os.Getenv("ANSIBLE_PIPELINING") == "" && os.Getenv("ANSIBLE_SSH_PIPELINING") == "" {
			env["ANSIBLE_PIPELINING"] = "True"
		}
	}
	return env
}

// callbackPath is Ansible's search path for callbacks in addition to ours.
func (p Playbook) callbackPath() []string {
	if p.Callbacks != nil {
		return p.Callbacks
	}
	if set := os.Getenv("ANSIBLE_CALLBACK_PLUGINS"); set != "" {
		return strings.Split(set, ":")
	}
	return []string{"~/.ansible/plugins/callback", "/usr/share/ansible/plugins/callback"}
}

func (r *Runner) inventoryArgs() []string { return repeat("--inventory", r.opts.Inventories) }

// firstInherited is the first descriptor of the files that a command inherits in addition to its
// standard ones (os/exec, Cmd.ExtraFiles).
const firstInherited = 3

func repeat(flag string, values []string) []string {
	var out []string
	for _, v := range values {
		out = append(out, flag+"="+v)
	}
	return out
}

func verbosity(n int) []string {
	if n <= 0 {
		return nil
	}
	return []string{"-" + strings.Repeat("v", min(n, 6))}
}

// pathSettings are the variables in which the environment names a file like a flag.
var pathSettings = []string{
	"ANSIBLE_CONFIG", "ANSIBLE_PRIVATE_KEY_FILE", "ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_BECOME_PASSWORD_FILE",
	"ANSIBLE_CONNECTION_PASSWORD_FILE",
}

// elsewhere is the environment of an Ansible that runs in another directory, with the paths in it
// that are relative to this one made absolute.
func elsewhere(env map[string]string) map[string]string {
	here, err := os.Getwd()
	if err != nil {
		return env // a relative path leads nowhere anyway
	}
	out := map[string]string{}
	for _, name := range pathSettings {
		if path := os.Getenv(name); path != "" && !filepath.IsAbs(path) {
			out[name] = anchor.Path(here, path)
		}
	}
	maps.Copy(out, env)
	return out
}

// setIgnored matches a setting of what Ansible excludes from a directory of inventories.
var setIgnored = regexp.MustCompile(`(?m)^\s*(?:inventory_)?ignore_patterns\s*[=:]`)

// ignoreEnv is Ansible's variable for the same.
const ignoreEnv = "ANSIBLE_INVENTORY_IGNORE_REGEX"

// artifactsIgnored is the environment in which Ansible excludes what Kubespray writes next to an
// inventory, unless the user sets what it excludes: as in the ansible.cfg of Kubespray, which
// counts in its checkout only. Artifacts are programs; Ansible would run them as inventories.
func artifactsIgnored(env map[string]string, dir string) map[string]string {
	if os.Getenv(ignoreEnv) != "" || configured(dir, setIgnored) {
		return env
	}
	out := map[string]string{ignoreEnv: "artifacts, credentials"}
	maps.Copy(out, env)
	return out
}

// execute runs a command through go-ansible and returns its exit code; the error is set only if it
// could not be run at all or ctx was done.
func (r *Runner) execute(ctx context.Context, cmd execute.Commander, dir string, env map[string]string,
	files []*os.File, out, errs io.Writer) (int, error) {
	if ctx.Err() != nil {
		return -1, context.Cause(ctx)
	}
	if dir != "" {
		env = elsewhere(env)
	}
	env = artifactsIgnored(env, dir)
	rec := &exitRecorder{}
	ex := execute.NewDefaultExecute(
		execute.WithCmd(cmd), execute.WithCmdRunDir(dir), execute.WithEnvVars(env),
		execute.WithErrorEnrich(rec), execute.WithOutput(plainOutput{}),
		execute.WithWrite(out), execute.WithWriteError(errs),
	)
	ex.Exec = &processes{ctx: ctx, owner: ex, hold: files}
	// go-ansible must not see the cancellation: it would kill the parent alone.
	err := ex.Execute(context.WithoutCancel(ctx))
	switch {
	case ctx.Err() != nil:
		return rec.code, context.Cause(ctx)
	case err != nil && !rec.seen:
		return -1, err
	}
	return rec.code, nil
}

// exitRecorder sees the exit error before go-ansible turns it into text.
type exitRecorder struct {
	seen bool
	code int
}

func (r *exitRecorder) Enrich(err error) error {
	r.seen = true
	r.code = -1
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.code = 128 + int(ws.Signal())
		}
	}
	return err
}

// plainOutput copies bytes: go-ansible's own outputs read line by line and lose or hang on long
// ones.
type plainOutput struct{}

func (plainOutput) Print(_ context.Context, r io.Reader, w io.Writer, _ ...result.OptionsFunc) error {
	_, err := io.Copy(w, r)
	return err
}

// argv is a command without changes.
type argv []string

func (a argv) Command() ([]string, error) { return a, nil }
func (a argv) String() string             { return strings.Join(a, " ") }

// withArgs puts arguments that go-ansible has no field for, such as a second inventory, right after
// the command's name.
type withArgs struct {
	execute.Commander
	args []string
}

func (c withArgs) Command() ([]string, error) {
	base, err := c.Commander.Command()
	if err != nil {
		return nil, err
	}
	return slices.Concat(base[:1], c.args, base[1:]), nil
}

// appended puts arguments at the end.
type appended struct {
	execute.Commander
	args []string
}

func (c appended) Command() ([]string, error) {
	base, err := c.Commander.Command()
	return append(base, c.args...), err
}

// lockedWriter serializes standard output and standard error. It never returns an error: go-ansible
// would not wait for the process.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(p)
	return len(p), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// ansibleError is the part of Ansible's standard error that explains the failure. Ansible wraps its
// lines.
func ansibleError(s string) string {
	var keep []string
	stated := false // the line above belongs to what is kept
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "ERROR!"), strings.HasPrefix(line, "[ERROR]"),
			strings.HasPrefix(line, "[WARNING]"):
			keep, stated = append(keep, line), true
		case stated && line != "" && !strings.HasPrefix(line, "["):
			keep[len(keep)-1] += " " + line
		default:
			stated = false
		}
	}
	if len(keep) == 0 {
		return firstLine(s)
	}
	return strings.Join(keep[:min(3, len(keep))], "; ")
}
