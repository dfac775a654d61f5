package playbooks_test

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/internal/testfacts"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// node is a directory that stands for a node's file system, as far as the roles' scripts can be
// redirected to it.
type node struct {
	t                  *testing.T
	conf, etcd, backup string
	bin                string
	check              string
	// config is the configuration of Ansible.
	config string
	// dir is the working directory and env the additional environment of Ansible.
	dir string
	env []string
}

func newNode(t *testing.T) *node {
	t.Helper()
	root := t.TempDir()
	n := &node{t: t, conf: root + "/kubernetes", etcd: root + "/etcd", backup: root + "/backups/run", bin: root + "/bin", check: "False"}
	for _, dir := range []string{n.conf, n.etcd, n.bin, root + "/backups"} {
		n.ok(os.MkdirAll(dir, 0o700))
	}
	return n
}

func (n *node) ok(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) write(path string, data []byte, mode os.FileMode) {
	n.t.Helper()
	n.ok(os.MkdirAll(filepath.Dir(path), 0o700))
	if mode&0o100 != 0 {
		n.ok(testcommand.Write(path, string(data)))
	} else {
		n.ok(os.WriteFile(path, data, mode))
	}
	n.ok(os.Chmod(path, mode))
}

func (n *node) read(path string) []byte {
	n.t.Helper()
	data, err := os.ReadFile(path)
	n.ok(err)
	return data
}

// verified pretends that the backup role has run.
func (n *node) verified() { n.write(n.backup+"/COMPLETE", nil, 0o600) }

func role(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(playbooks.Collection, "roles", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// lib is what the roles put before every script.
func lib(t *testing.T) string {
	t.Helper()
	return script(t, "settings/files/kinds.sh", "settings/files/kubeconfig.sh", "settings/files/places.sh", "settings/files/lib.sh")
}

// collector is the script that inspects a node.
func collector(t *testing.T) string {
	t.Helper()
	return script(t, "settings/files/kinds.sh", "settings/files/kubeconfig.sh", "settings/files/places.sh", "inspect/files/collect.sh")
}

// look is the collector's report of the node, as the program reads it.
func (n *node) look() snapshot.Node {
	n.t.Helper()
	out, errs, err := n.sh(collector(n.t))
	if err != nil {
		n.t.Fatalf("%v\n%s", err, errs)
	}
	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	testfacts.Compare(n.t, []byte(out), got, nil)
	return got
}

// run runs a script as the roles do, with their library before it.
func (n *node) run(script string) (stdout, stderr string, err error) {
	n.t.Helper()
	return n.sh(lib(n.t) + script)
}

func (n *node) sh(script string) (stdout, stderr string, err error) {
	n.t.Helper()
	cmd := n.command(script)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// command is a script with the environment that the roles set.
func (n *node) command(script string) *exec.Cmd {
	n.t.Helper()
	shell := strings.Fields(cmp.Or(os.Getenv("KSCERTCTL_TRY_SH"), "/bin/sh"))
	cmd := exec.Command(shell[0], append(shell[1:], "-c", script)...)
	cmd.Stdin = strings.NewReader("")
	cmd.Env = append(os.Environ(),
		"PATH="+n.bin+":"+os.Getenv("PATH"), // keeps this machine's kubectl out
		"KSCERT_CONFIG_DIR="+n.conf, "KSCERT_BIN_DIR="+n.bin, "KSCERT_ETCD_DIR="+n.etcd, "KSCERT_ROLES=control-plane etcd",
		"KSCERT_BACKUP_ROOT="+filepath.Dir(n.backup), "KSCERT_BACKUP_DIR="+n.backup,
		"KSCERT_ROOT="+filepath.Dir(n.conf), "KSCERT_RUN=run",
		"KSCERT_ETCD_SNAPSHOT=auto", "KSCERT_ETCD_SNAPSHOT_SECONDS=120",
		"KSCERT_RENEW_BEFORE=2592000", "KSCERT_WAIT_SECONDS=5", "KSCERT_CHECK="+n.check)
	return cmd
}

// --- the library -------------------------------------------------------------------

func TestCheckSuccessor(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes")
	old := testpki.Leaf{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes", "api.example.com"}, IPs: []string{"10.0.0.1"}}
	more, fewer, subject, ended, early, wild := old, old, old, old, old, old
	wild.DNSNames = []string{"*.example.com"}
	fewer.IPs = nil
	more.DNSNames = append(slices.Clone(old.DNSNames), "new.example.com")
	fewer.DNSNames = []string{"kubernetes"}
	subject.CommonName = "someone"
	early.NotBefore, early.NotAfter = time.Now().Add(time.Hour), time.Now().AddDate(1, 0, 0)
	ended.NotBefore, ended.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	for _, row := range []struct {
		name          string
		next          testpki.Pair
		accepted      string
		refusal, says string
	}{
		{"the same names", ca.Issue(t, old), "", "", ""},
		{"a name more", ca.Issue(t, more), "", "", ""},
		{"lost names", ca.Issue(t, fewer), "", "would lose these SANs: DNS:api.example.com IPAddress:10.0.0.1. It stays unchanged." +
			" If they are not needed, accept the loss with: --accept-san-loss DNS:api.example.com --accept-san-loss IPAddress:10.0.0.1 ", ""},
		{"lost names, which may be", ca.Issue(t, fewer), "10.0.0.1 DNS:API.example.com", "", "changed: OLD loses DNS:api.example.com IPAddress:10.0.0.1, as was accepted\n"},
		{"lost names, one of which may be", ca.Issue(t, fewer), "api.example.com", "would lose these SANs: IPAddress:10.0.0.1. ", ""},
		{"lost names, where parts of them are named", ca.Issue(t, fewer), "example.com api DNS 10.0.0.0 . .*", "would lose these SANs: DNS:api.example.com IPAddress:10.0.0.1. ", ""},
		{"what is named is not lost", ca.Issue(t, old), "api.example.com", "", ""},
		{"another subject", ca.Issue(t, subject), "api.example.com", "would have another subject: subject=CN=someone instead of CN=kube-apiserver. It stays as it is. Where this subject is right: --accept-subject-change OLD (by hand", ""},
		{"another subject, which may be", ca.Issue(t, subject), "subject", "", "noted: OLD has another subject: subject=CN=someone instead of CN=kube-apiserver, as was accepted\n"},
		{"another authority of the same name", other.Issue(t, old), "", "/ca.crt: error ", ""},
		{"expired already", ca.Issue(t, ended), "", "/ca.crt: error 10 at 0 depth", ""},
		{"not begun yet, by a clock that is ahead", ca.Issue(t, early), "", "/ca.crt: error 9 at 0 depth", ""},
		{"no certificate", testpki.Pair{Certificate: []byte("none\n")}, "", "/ca.crt: ", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/old.crt", ca.Issue(t, old).Certificate, 0o600)
			n.write(n.conf+"/new.crt", row.next.Certificate, 0o600)
			n.write(n.conf+"/ca.crt", ca.Certificate, 0o600)
			accepted := "KSCERT_ACCEPT_SAN_LOSS='" + row.accepted + "'\n"
			if row.accepted == "subject" {
				accepted = "KSCERT_ACCEPT_SUBJECT_CHANGE=\"/x $conf/old.crt /y\"\n"
			}
			row.refusal = strings.ReplaceAll(row.refusal, "OLD", n.conf+"/old.crt")
			out, errs, err := n.run(accepted + `stage=$conf; check_successor "$conf/old.crt" "$conf/new.crt" "$conf/ca.crt"`)
			if (err != nil) != (row.refusal != "") || !strings.Contains(errs, row.refusal) {
				t.Errorf("%v: %q, want %q", err, errs, row.refusal)
			}
			if want := strings.ReplaceAll(row.says, "OLD", n.conf+"/old.crt"); out != want {
				t.Errorf("it says %q, want %q", out, want)
			}
		})
	}
	// A name with a wildcard stands for itself, not for files that it matches.
	n := newNode(t)
	n.write(n.conf+"/old.crt", ca.Issue(t, wild).Certificate, 0o600)
	n.write(n.conf+"/new.crt", ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver", DNSNames: []string{"a"}, IPs: old.IPs}).Certificate, 0o600)
	n.write(n.conf+"/ca.crt", ca.Certificate, 0o600)
	n.write(n.conf+"/x.example.com", nil, 0o600)
	if out, errs, err := n.run("cd \"$conf\"\nKSCERT_ACCEPT_SAN_LOSS='*.example.com'\n" + `stage=$conf; check_successor old.crt new.crt ca.crt`); err != nil || out != "changed: old.crt loses DNS:*.example.com, as was accepted\n" {
		t.Errorf("%v: %q %q", err, out, errs)
	}
}

// A kubelet starts with a complete serving pair, or makes one if it finds neither file. With one of
// them it does not start.
func TestRenewServingPair(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	fresh, other := ca.Issue(t, testpki.Leaf{CommonName: "w1"}), ca.Issue(t, testpki.Leaf{CommonName: "w1"})
	due := ca.Issue(t, testpki.Leaf{CommonName: "w1", NotAfter: time.Now().AddDate(0, 0, 5)})
	for _, row := range []struct {
		name             string
		certificate, key []byte
		check            string
		kept             bool
	}{
		{name: "whole and fresh", certificate: fresh.Certificate, key: fresh.Key, kept: true},
		{name: "due", certificate: due.Certificate, key: due.Key},
		{name: "due, in check mode", certificate: due.Certificate, key: due.Key, check: "True", kept: true},
		{name: "the key was cut off by a full disk", certificate: fresh.Certificate, key: []byte{}},
		{name: "the certificate was cut off", certificate: fresh.Certificate[:100], key: fresh.Key},
		{name: "the key of another certificate", certificate: fresh.Certificate, key: other.Key},
		{name: "no key", certificate: fresh.Certificate},
		{name: "no certificate", key: fresh.Key},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			if row.check != "" {
				n.check = row.check
			}
			dir := filepath.Dir(n.conf) + "/var/lib/kubelet/pki"
			n.ok(os.MkdirAll(dir, 0o700))
			for name, data := range map[string][]byte{"kubelet.crt": row.certificate, "kubelet.key": row.key} {
				if data != nil {
					n.write(dir+"/"+name, data, 0o600)
				}
			}
			out, errs, err := n.run("renew_serving_pair")
			left, _ := filepath.Glob(dir + "/*")
			if err != nil || (len(left) == 2) != row.kept || (!row.kept && len(left) > 0) || strings.Contains(out, "changed: ") == (row.kept && row.check == "") {
				t.Errorf("%v: left %v; answered %q %q", err, left, out, errs)
			}
		})
	}
}

func TestPair(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a, b := testpki.Authority(t, "a"), testpki.Authority(t, "b")
	n.write(n.conf+"/a.crt", a.Certificate, 0o600)
	n.write(n.conf+"/a.key", a.Key, 0o600)
	n.write(n.conf+"/b.key", b.Key, 0o600)
	if _, errs, err := n.run(`pair "$conf/a.crt" "$conf/a.key"`); err != nil {
		t.Errorf("a pair is reported apart: %v %s", err, errs)
	}
	if _, _, err := n.run(`pair "$conf/a.crt" "$conf/b.key"`); err == nil {
		t.Error("a certificate and another's key are a pair")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := testpki.Authority(t, "a").Issue(t, testpki.Leaf{CommonName: "x", DNSNames: []string{"b", "a"}, IPs: []string{"10.0.0.1"}})
	n.write(n.conf+"/x.crt", p.Certificate, 0o600)
	n.write(n.conf+"/ca.crt", testpki.Authority(t, "a").Certificate, 0o600)
	if out, errs, err := n.run(`names "$conf/x.crt"`); err != nil || out != "subject=CN=x\nDNS:b\nDNS:a\nIPAddress:10.0.0.1\n" {
		t.Errorf("%q %s %v", out, errs, err)
	}
	if out, errs, err := n.run(`names "$conf/ca.crt"`); err != nil || out != "subject=CN=a\n" {
		t.Errorf("of a certificate without names: %q %s %v", out, errs, err)
	}
}

// place keeps mode and owner of the file that it replaces and leaves nothing next to it.
func TestPlace(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.conf+"/new", []byte("new"), 0o600)
	n.write(n.conf+"/old", []byte("old"), 0o640)
	if _, errs, err := n.run(`place "$conf/new" "$conf/old"`); err != nil {
		t.Fatal(err, errs)
	}
	info, err := os.Stat(n.conf + "/old")
	n.ok(err)
	if string(n.read(n.conf+"/old")) != "new" || info.Mode().Perm() != 0o640 {
		t.Errorf("%q %v", n.read(n.conf+"/old"), info.Mode())
	}
	if left, _ := filepath.Glob(n.conf + "/*.kscertctl"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// fixed are ways in which a file, or all of a directory, cannot be replaced. Each is the beginning
// of a script, which the rest follows, with its own mount namespace.
var fixed = map[string]string{
	"":          "exec sh -c \"$2\"",
	"immutable": "chattr +i \"$1\" && sh -c \"$2\"; code=$?; chattr -i \"$1\"; exit $code",
	"mounted":   "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec sh -c \"$2\"",
}

// fix runs a script while a file or directory cannot be replaced in one of these ways. If this
// machine does not support the way, that is logged, and mv fails instead.
func (n *node) fix(way, path, script string) (stdout, stderr string, err error) {
	n.t.Helper()
	in := []string{"unshare", "-m"}
	if os.Getuid() != 0 {
		in = append(in, "-r")
	}
	probe := n.root() + "/probe"
	n.write(probe, nil, 0o600)
	if out, err := exec.CommandContext(n.t.Context(), in[0], append(in[1:], "sh", "-c", fixed[way], "sh", probe, "true")...).CombinedOutput(); err != nil {
		answered := fmt.Sprintf("what is %s needs another file system or user: %v: %s", way, err, out)
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			n.t.Skip("NOT TRIED: " + answered)
		}
		n.t.Log("NOT TRIED FOR REAL, mv and rm fail instead: " + answered)
		for _, name := range []string{"mv", "rm"} {
			n.write(n.bin+"/"+name, []byte("#!/bin/sh\nfor f; do [ \"$f\" != "+path+" ] || { echo '"+name+": Operation not permitted' >&2; exit 1; }; done\nexec /bin/"+name+" \"$@\"\n"), 0o700)
		}
		way = ""
	}
	cmd := n.command("")
	cmd.Path, err = exec.LookPath(in[0])
	n.ok(err)
	cmd.Args = append(in, "sh", "-c", fixed[way], "sh", path, lib(n.t)+script)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// The certificate and its key are both replaced or neither, whichever fails. The report names the
// file, the reason, and what was replaced before.
func TestPlacePair(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ way, file, says string }{
		{"", "", ""},
		{"immutable", "apiserver.crt", "SSL/apiserver.crt cannot be written; it is as it was, and so is its key SSL/apiserver.key (WHY). "},
		{"immutable", "apiserver.key", "SSL/apiserver.key cannot be written; it is as it was, and so is its certificate SSL/apiserver.crt (WHY). "},
		{"mounted", "apiserver.crt", "SSL/apiserver.crt cannot be written; it is as it was, and so is its key SSL/apiserver.key (WHY). "},
		{"mounted", "apiserver.key", "SSL/apiserver.key cannot be written; it is as it was, and so is its certificate SSL/apiserver.crt (WHY). "},
		{"immutable", "elsewhere", "SSL/elsewhere/apiserver.crt cannot be written; it is as it was, and so is its key SSL/apiserver.key (WHY). "},
		{"immutable", "", "SSL/apiserver.key cannot be written; it is as it was, and so is its certificate SSL/apiserver.crt (WHY). "},
		{"mounted", "", "SSL/apiserver.key cannot be written; it is as it was, and so is its certificate SSL/apiserver.crt (WHY). "},
	} {
		t.Run(row.way+" "+row.file, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			ssl := n.conf + "/ssl"
			for _, suffix := range []string{"crt", "key"} {
				n.write(n.conf+"/stage/apiserver."+suffix, []byte("new "+suffix), 0o600)
				n.write(ssl+"/apiserver."+suffix, []byte("old "+suffix), 0o640)
			}
			n.write(n.conf+"/before", []byte("old"), 0o600)
			if row.file == "elsewhere" { // the certificate alone, by a link
				n.ok(os.Mkdir(ssl+"/elsewhere", 0o700))
				n.ok(os.Rename(ssl+"/apiserver.crt", ssl+"/elsewhere/apiserver.crt"))
				n.ok(os.Symlink("elsewhere/apiserver.crt", ssl+"/apiserver.crt"))
			}
			path := strings.TrimSuffix(ssl+"/"+row.file, "/")
			_, errs, err := n.fix(row.way, path, `place "$conf/stage/apiserver.crt" "$conf/before"; place_pair "$conf/stage/apiserver" "$conf/ssl/apiserver.crt" "$conf/ssl/apiserver.key"`)
			want := "new "
			if row.way != "" {
				want = "old "
			}
			says := regexp.QuoteMeta(strings.ReplaceAll(row.says, "SSL", ssl)) + "Replaced before it: " + n.conf + "/before\n"
			says = "^kscertctl: " + strings.Replace(says, "WHY", "[a-z]+: .*(?:Operation not permitted|Device or resource busy|Read-only file system|Permission denied)(?: \\(os error [0-9]+\\))?", 1) + "$"
			if (err != nil) != (row.way != "") || row.way != "" && !regexp.MustCompile(says).MatchString(errs) {
				t.Errorf("%v: %s, want %s", err, errs, says)
			}
			for _, suffix := range []string{"crt", "key"} {
				if text := string(n.read(ssl + "/apiserver." + suffix)); text != want+suffix {
					t.Errorf("%s is %q", suffix, text)
				}
			}
			if left, _ := filepath.Glob(ssl + "/.kscertctl*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Of a kubelet's serving pair both files are removed or neither: with only one it does not start.
func TestServingPairThatStays(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	old := ca.Issue(t, testpki.Leaf{CommonName: "w1", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
	for _, row := range []struct{ way, suffix, with string }{{"", "", ""}, {"immutable", "crt", "key"}, {"immutable", "key", "certificate"}, {"mounted", "crt", "key"}, {"mounted", "key", "certificate"}} {
		n := newNode(t)
		pair := n.root() + "/var/lib/kubelet/pki/kubelet"
		n.write(pair+".crt", old.Certificate, 0o600)
		n.write(pair+".key", old.Key, 0o600)
		before := n.files()
		out, errs, err := n.fix(row.way, pair+"."+row.suffix, "sweep; renew_serving_pair")
		if row.way == "" {
			if left, _ := filepath.Glob(n.root() + "/var/lib/kubelet/pki/*"); err != nil || len(left) > 0 || out != "changed: "+pair+".crt\n" {
				t.Errorf("%v: %s%s, %v is left", err, out, errs, left)
			}
			continue
		}
		says := pair + "." + row.suffix + " cannot be written; it is as it was, and so is its " + row.with + " " + pair + "."
		if err == nil || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%s %s: %v: %s%s, want %s", row.way, row.suffix, err, out, errs, says)
		}
		after := n.files()
		if left, _ := filepath.Glob(filepath.Dir(pair) + "/*"); len(left) != 2 || after[pair+".crt"] != before[pair+".crt"] || after[pair+".key"] != before[pair+".key"] {
			t.Errorf("%s %s: they are not what they were: %v", row.way, row.suffix, left)
		}
	}
}

// The target of a link is replaced if backups cover it, and otherwise nothing.
func TestPlaceFollowsLinks(t *testing.T) {
	t.Parallel()
	for _, covered := range []bool{true, false} {
		n := newNode(t)
		target, want, refusal := n.conf+"/elsewhere", "new", ""
		if !covered {
			target, want, refusal = n.root()+"/elsewhere", "old", n.conf+"/link stays as it is: it leads to "+n.root()+"/elsewhere, of which there is no backup"
		}
		n.write(n.conf+"/new", []byte("new"), 0o600)
		n.write(target, []byte("old"), 0o640)
		n.ok(os.Symlink(target, n.conf+"/link"))
		_, errs, err := n.run(`place "$conf/new" "$conf/link"`)
		link, lerr := os.Readlink(n.conf + "/link")
		if lerr != nil || link != target || string(n.read(target)) != want || (err != nil) == covered || !strings.Contains(errs, refusal) {
			t.Errorf("it leads to %q, which holds %q: %v %v %s", link, n.read(target), lerr, err, errs)
		}
	}
}

// If it cannot be determined who may write, nothing is placed, not even in the root.
func TestPlaceWhereNothingCanBeTold(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"find", "stat"} {
		n := newNode(t)
		n.write(n.conf+"/new", []byte("new"), 0o600)
		n.write(n.conf+"/old", []byte("old"), 0o640)
		n.write(n.bin+"/"+tool, []byte("#!/bin/sh\nexit 1\n"), 0o700)
		if _, errs, err := n.run(`place "$conf/new" "$conf/old"`); err == nil || string(n.read(n.conf+"/old")) != "old" || !strings.Contains(errs, "nothing is placed there") {
			t.Errorf("%s fails: %v %s", tool, err, errs)
		}
	}
}

// Where users other than root can put a link, root creates nothing: a successor is made above, and
// what is meant for a directory is not written through a link in its place.
func TestOutOfReachOfOthers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root makes files for others")
	}
	n := newNode(t)
	n.ok(os.Chmod(n.root(), 0o755))
	victim, theirs := n.root()+"/victim", n.etcd+"/ssl"
	n.write(victim, []byte("of root"), 0o600)
	n.write(theirs+"/member.pem", []byte("old"), 0o640)
	n.ok(os.Chown(n.etcd, 4711, 4711))
	n.ok(os.Chown(theirs, 4711, 4711))
	n.ok(os.Symlink(victim, theirs+"/.kscertctl.member.pem"))
	n.write(n.conf+"/new", []byte("new"), 0o600)
	out, errs, err := n.run(`successor_path "$KSCERT_ETCD_DIR/ssl/member.pem"; place "$conf/new" "$KSCERT_ETCD_DIR/ssl/member.pem"`)
	if err != nil || out != n.root()+"/.kscertctl.member.pem\n" {
		t.Errorf("the successor is made as %q: %v %s", out, err, errs)
	}
	if string(n.read(victim)) != "of root" || string(n.read(theirs+"/member.pem")) != "new" {
		t.Errorf("the victim holds %q, the file %q", n.read(victim), n.read(theirs+"/member.pem"))
	}
	n.ok(os.Symlink(n.conf, theirs+"/directory"))
	n.ok(os.Chmod(n.conf, 0o700))
	n.ok(os.Mkdir(n.root()+"/like", 0o755))
	_, errs, err = n.sh(lib(t) + script(t, manifestLib) + `like "` + n.root() + `/like" "` + theirs + `/directory"`)
	info, serr := os.Stat(n.conf)
	n.ok(serr)
	if err == nil || info.Mode().Perm() != 0o700 || !strings.Contains(errs, "is no directory any more") {
		t.Errorf("what a link leads to has mode %v: %v %s", info.Mode(), err, errs)
	}
}

// --- etcd's certificates ------------------------------------------------------------

// etcdNode has a member certificate that expires after the given time.
func etcdNode(t *testing.T, left time.Duration) (n *node, ca, member testpki.Pair) {
	t.Helper()
	n = newNode(t)
	ca = testpki.Authority(t, "etcd-ca")
	member = ca.Issue(t, testpki.Leaf{
		CommonName: "etcd-member-cp1", DNSNames: []string{"localhost", "cp1"}, IPs: []string{"10.0.0.1", "127.0.0.1", "fd00::1"},
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(left),
	})
	n.write(n.etcd+"/ca.pem", ca.Certificate, 0o644)
	n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
	n.write(n.etcd+"/member-cp1.pem", member.Certificate, 0o640)
	n.write(n.etcd+"/member-cp1-key.pem", member.Key, 0o640)
	n.verified()
	return n, ca, member
}

func etcdRenewal(t *testing.T) string {
	t.Helper()
	return "KSCERT_ETCD=renew KSCERT_ISSUED=\n" + role(t, "etcd_certificates/files/issue.sh") + role(t, "etcd_certificates/files/renew.sh")
}

func TestEtcdRenewal(t *testing.T) {
	t.Parallel()
	script := etcdRenewal(t)
	for name, left := range map[string]time.Duration{"expired": -time.Hour, "expiring": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, ca, member := etcdNode(t, left)
			if os.Geteuid() == 0 { // to check that the owner is kept
				n.ok(os.Chown(n.etcd+"/member-cp1.pem", 4711, 4712))
			}
			before, err := os.Stat(n.etcd + "/member-cp1.pem")
			n.ok(err)
			out, errs, err := n.run(script)
			if err != nil || out != "changed: "+n.etcd+"/member-cp1.pem\n" {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			got, err := certs.ParsePEM(n.read(n.etcd + "/member-cp1.pem"))
			n.ok(err)
			old, err := certs.ParsePEM(member.Certificate)
			n.ok(err)
			if got.Fingerprint == old.Fingerprint || got.NotAfter.Before(time.Now().AddDate(0, 11, 0)) || got.NotAfter.After(ca.X509.NotAfter) {
				t.Errorf("it ends at %s", got.NotAfter)
			}
			if got.Subject != old.Subject || !slices.Equal(sorted(got.SANs), sorted(old.SANs)) || got.SerialNumber == old.SerialNumber {
				t.Errorf("got %+v, was %+v", got, old)
			}
			x := parsed(t, n.read(n.etcd+"/member-cp1.pem"))
			if !slices.Equal(x.ExtKeyUsage, member.X509.ExtKeyUsage) || x.IsCA || x.CheckSignatureFrom(ca.X509) != nil {
				t.Errorf("usages %v, authority %t", x.ExtKeyUsage, x.IsCA)
			}
			if !bytes.Equal(x.RawSubjectPublicKeyInfo, member.X509.RawSubjectPublicKeyInfo) {
				t.Error("it has another key")
			}
			after, err := os.Stat(n.etcd + "/member-cp1.pem")
			n.ok(err)
			if after.Mode() != before.Mode() || owner(after) != owner(before) {
				t.Errorf("mode and owner were %v %s, are %v %s", before.Mode(), owner(before), after.Mode(), owner(after))
			}
			if !bytes.Equal(n.read(n.etcd+"/ca.pem"), ca.Certificate) || !bytes.Equal(n.read(n.etcd+"/ca-key.pem"), ca.Key) || !bytes.Equal(n.read(n.etcd+"/member-cp1-key.pem"), member.Key) {
				t.Error("a file that must never change has changed")
			}
			if left, _ := filepath.Glob(n.etcd + "/.kscertctl*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if out, errs, err := n.run(script); err != nil || out != "" {
				t.Errorf("a second run does something: %v: %s%s", err, out, errs)
			}
		})
	}
}

func TestEtcdRenewalLeavesAlone(t *testing.T) {
	t.Parallel()
	script := etcdRenewal(t)
	for _, row := range []struct {
		name    string
		left    time.Duration
		edit    func(*node)
		refusal string // empty: it succeeds
		says    string
	}{
		{"what is not due", 31 * 24 * time.Hour, func(*node) {}, "", ""},
		{"a node without etcd", -time.Hour, func(n *node) { n.ok(os.Remove(n.etcd + "/ca.pem")) }, "", ""},
		{"all, in check mode", -time.Hour, func(n *node) { n.check = "True" }, "", "changed: would renew"},
		{"all, without the authority's key", -time.Hour, func(n *node) { n.ok(os.Remove(n.etcd + "/ca-key.pem")) }, "no node has signed a new one", ""},
		{"what leads elsewhere", -time.Hour, func(n *node) {
			elsewhere := filepath.Dir(n.conf) + "/elsewhere.pem"
			n.ok(os.Rename(n.etcd+"/member-cp1.pem", elsewhere))
			n.ok(os.Symlink(elsewhere, n.etcd+"/member-cp1.pem"))
		}, "leads to", ""},
		{"all, with the key of another authority", -time.Hour, func(n *node) {
			n.write(n.etcd+"/ca-key.pem", testpki.Authority(n.t, "x").Key, 0o600)
		}, "ca-key.pem does not belong to", ""},
		{"all, with an expired authority", -time.Hour, func(n *node) {
			ca := testpki.AuthorityUntil(n.t, "etcd-ca", time.Now().Add(-time.Minute))
			n.write(n.etcd+"/ca.pem", ca.Certificate, 0o644)
			n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
		}, "ca.pem has expired", ""},
		{"all, without a backup", -time.Hour, func(n *node) { n.ok(os.RemoveAll(n.backup)) }, "there is no verified backup", ""},
		{"a certificate without its key", -time.Hour, func(n *node) { n.ok(os.Remove(n.etcd + "/member-cp1-key.pem")) }, "member-cp1-key.pem does not exist", ""},
		{"a certificate with another's key", -time.Hour, func(n *node) {
			n.write(n.etcd+"/member-cp1-key.pem", testpki.Authority(n.t, "x").Key, 0o600)
		}, "member-cp1-key.pem does not belong to", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n, _, member := etcdNode(t, row.left)
			row.edit(n)
			out, errs, err := n.run(script)
			if (err != nil) != (row.refusal != "") || !strings.Contains(errs, row.refusal) {
				t.Errorf("%v: %q, want %q", err, errs, row.refusal)
			}
			if !strings.HasPrefix(out, row.says) || (row.says == "" && out != "") {
				t.Errorf("it says %q, want %q", out, row.says)
			}
			if !bytes.Equal(n.read(n.etcd+"/member-cp1.pem"), member.Certificate) {
				t.Error("the certificate was changed")
			}
		})
	}
}

// A SAN with characters that a shell interprets is quoted in the refusal that shows the flag.
func TestLostSANsAreQuoted(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	_, errs, err := n.run(`stage=$(mktemp -d)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$stage/k" -out "$stage/old.pem" -subj /CN=x -addext 'subjectAltName=URI:x:y&z' >/dev/null 2>&1
cat >"$stage/new.pem" <<END
` + string(ca.Issue(t, testpki.Leaf{CommonName: "x"}).Certificate) + `END
cat >"$stage/ca.pem" <<END
` + string(ca.Certificate) + `END
check_successor "$stage/old.pem" "$stage/new.pem" "$stage/ca.pem"
`)
	if err == nil || !strings.Contains(errs, "--accept-san-loss 'URI:x:y&z'") {
		t.Errorf("%v: %s", err, errs)
	}
}

// A role's script and the library run in one shell: a function that both define would replace the
// library's.
func TestFunctionsAreDefinedOnce(t *testing.T) {
	t.Parallel()
	define := regexp.MustCompile(`(?m)^([a-z_]+)\(\)`)
	shared := map[string]string{}
	check := func(path string, keep bool) {
		here := map[string]string{}
		for _, m := range define.FindAllStringSubmatch(role(t, path), -1) {
			if where := shared[m[1]] + here[m[1]]; where != "" {
				t.Errorf("%s: %s() is defined in %s, too", path, m[1], where)
			}
			here[m[1]] = path
		}
		if keep {
			maps.Copy(shared, here)
		}
	}
	for _, name := range []string{"kubeconfig", "places", "lib", "components", "manifest"} {
		check("settings/files/"+name+".sh", true)
	}
	files, err := filepath.Glob(playbooks.Collection + "/roles/*/files/*.sh")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d scripts: %v", len(files), err)
	}
	for _, file := range files {
		path, _ := filepath.Rel(playbooks.Collection+"/roles", file)
		// The scripts of lock and record and the collector run alone, the latter after kinds.sh, kubeconfig.sh
		// and places.sh.
		if dir, _, _ := strings.Cut(path, "/"); dir != "settings" && dir != "lock" && dir != "record" && dir != "inspect" {
			check(path, false)
		}
	}
}
