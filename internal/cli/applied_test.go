package cli_test

import (
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ran is the result of a command on the fake cluster.
type ran struct {
	code      int
	out, err  string
	directory string
}

// command runs kscertctl once more in the directory of a fake cluster.
func (p tried) command(t *testing.T, args ...string) ran {
	t.Helper()
	again := p.again(t, args...)
	out, _ := io.ReadAll(again.out)
	answered, _ := io.ReadAll(again.err)
	return ran{again.code(t), string(out), string(answered), p.dir}
}

// want fails the test unless the command exited with the code and printed the texts.
func (r ran) want(t *testing.T, code int, texts ...string) ran {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d:\n%s%s", r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("%q is not in\n%s%s", text, r.out, r.err)
		}
	}
	return r
}

// renews makes renew-certs renew.
const renews = "[ $1 != renew-certs.yml ] || cp renewed inspect.yml"

// A plan file is bound by the digest that plan prints; without the file, apply shows what is done,
// and how.
func TestApplyOfAFile(t *testing.T) {
	t.Parallel()
	p := fake(t, renews)
	mine := []string{"-i", "cp1,", "--ansible-bin", p.dir}
	with := func(args ...string) []string { return append(args, mine...) }
	planned := p.command(t, with("plan", "--out", "plan.json")...).want(t, 0,
		"Carry it out:  kscertctl apply plan.json --digest ", " -i cp1,")
	digest := regexp.MustCompile(`(?m)^SHA-256: +([0-9a-f]{64})$`).FindStringSubmatch(planned.out)
	if digest == nil {
		t.Fatalf("it prints no digest:\n%s", planned.out)
	}
	var document struct {
		Digest string `json:"digest"`
	}
	asJSON := p.command(t, with("plan", "--out", "plan2.json", "-o", "json")...).out
	if err := json.Unmarshal([]byte(asJSON), &document); err != nil || len(document.Digest) != 64 {
		t.Errorf("%v: the digest is %q", err, document.Digest)
	}

	// Without the inventory in the file, the command is printed, and the operator adds it.
	p.command(t, "apply", "plan.json").want(t, 64, "pass the same as for the plan: -i",
		"review what it commands, then run: kscertctl apply plan.json -i cp1,")
	p.command(t, with("apply", "plan.json", "--digest", "abc")...).want(t, 64, "--digest: must be a SHA-256")
	p.command(t, with("apply", "plan.json", "--digest", strings.Repeat("0", 64))...).want(t, 7,
		"is not the plan file with that digest: its SHA-256 is "+digest[1])

	// Edited in a part that is derived from nothing else.
	text, err := os.ReadFile(filepath.Join(p.dir, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(text), `"inventories": [`,
		`"privateKey": "/evil", "acceptSANLoss": ["{{evil}}"], "inventories": [`, 1)
	p.keep(t, "edited.json", edited)
	p.command(t, with("apply", "edited.json", "--digest", digest[1])...).want(t, 7, "its SHA-256 is ")
	p.command(t, with("apply", "edited.json")...).want(t, 64, "pass the same as for the plan: --accept-san-loss",
		"--accept-san-loss '?'")
	// Settings from elsewhere count, as for every command.
	p.keep(t, "kscertctl.yaml", "inventory: nowhere.ini\n")
	p.command(t, "apply", "plan.json", "--ansible-bin", p.dir).want(t, 64, "nowhere.ini: it does not exist")
	if err := os.Remove(filepath.Join(p.dir, "kscertctl.yaml")); err != nil {
		t.Fatal(err)
	}

	applied := p.command(t, with("apply", "plan.json", "--digest", strings.ToUpper(digest[1]),
		"--ssh-extra-args=-o SetEnv=A=canary", "-u", "me")...).
		want(t, 0, "plan:", "SHA-256:", digest[1], "connection:", "user me", "arguments of ssh given",
			"names that may be lost:", "none")
	if strings.Contains(applied.out+applied.err, "canary") {
		t.Errorf("arguments of ssh are shown:\n%s", applied.err)
	}
}

// A value that may be a password is neither left on the disk nor shown.
func TestArgumentsAreInNoRecord(t *testing.T) {
	t.Parallel()
	// Like a verbose Ansible, it prints its arguments.
	p := fake(t, renews+"\nprintf '%s\\n' \"$2\"\n[ $1 != backup.yml ] || [ ! -e stop ] || exit 2")
	secret := []string{
		"-i", "cp1,", "--ansible-bin", p.dir, "--ssh-common-args=-o ProxyCommand='sshpass -p canary-1 ssh x'",
		"--ssh-extra-args=-o SetEnv=A=canary-2",
		"--sftp-extra-args=-o SetEnv=A=canary-3", "--scp-extra-args=-o SetEnv=A=canary-4", "-e", "password=canary-5",
	}
	behind := []string{"--", "--ssh-extra-args=-o SetEnv=A=canary-6"}
	with := func(args ...string) []string { return append(append(args, secret...), behind...) }
	shown := p.command(t, with("plan", "--out", "plan.json", "--save-snapshot", "snapshot.json", "-vvvv")...).want(t, 0)
	p.keep(t, "stop", "")
	stopped := p.command(t, with("run", "--yes", "--report-dir", "reports", "-vvvv")...).want(t, 7)
	for _, r := range []ran{shown, stopped} {
		if strings.Contains(r.out+r.err, "canary") {
			t.Errorf("it is shown:\n%s%s", r.out, r.err)
		}
	}
	if err := os.Remove(filepath.Join(p.dir, "stop")); err != nil {
		t.Fatal(err)
	}
	p.command(t, "resume").want(t, 64,
		"pass the same -e and --ssh-common-args and --ssh-extra-args and --sftp-extra-args and --scp-extra-args and options after -- again")
	p.command(t, with("resume")...).want(t, 0)
	p.command(t, with("rollback", "--yes")...)
	files := 0
	err := filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "/playbooks/") {
			return err
		}
		files++
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "canary") {
			t.Errorf("%s: %v: it is there", path, err)
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("%v; only %d files were read", err, files)
	}
}

// A record that others may have written is not executed.
func TestUntrustedRecord(t *testing.T) {
	t.Parallel()
	p := fake(t, "[ $1 != backup.yml ] || exit 2")
	p.command(t, "run", "--yes", "-i", "cp1,", "--ansible-bin", p.dir).want(t, 7)
	records, _ := filepath.Glob(filepath.Join(p.dir, "state/kscertctl/runs/*"))
	if len(records) != 1 {
		t.Fatalf("%q", records)
	}
	if err := os.Chmod(records[0], 0o770); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"resume", "rollback"} {
		p.command(t, command).want(t, 7,
			"the record of the run cannot be trusted: "+records[0]+" is writable by others (mode 0770)",
			"chmod go-w "+records[0])
	}
	p.command(t, "status").want(t, 0)
}
