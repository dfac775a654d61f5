package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// fakeNode is what the collector tells of a control plane whose admin.conf ends
// after the given time.
func fakeNode(t *testing.T, left time.Duration) string {
	t.Helper()
	ca := testpki.Authority(t, "kubernetes")
	front := testpki.Authority(t, "front-proxy-ca")
	var out strings.Builder
	fmt.Fprintf(&out, `@@KSCERT 2 %d
@@FACT pki /pki
@@FACT pki-real /pki
@@FACT config-dir /etc/kubernetes
@@FACT kubeadm-config /etc/kubernetes/kubeadm-config.yaml
@@FACT kubeadm /bin/kubeadm
@@FACT kubectl /bin/kubectl
@@FACT openssl /bin/openssl
@@UNIT kubelet active running 0 99
@@DIGEST 1 /pki/ca.crt
@@DIGEST 1 /pki/ca.key
@@DIGEST 1 /pki/front-proxy-ca.crt
@@DIGEST 1 /pki/front-proxy-ca.key
@@FACT manifest present
@@RESULT readyz 0
@@RESULT nodes 0
|cp1	True	v1.34.4	containerd://1.7.27
`, time.Now().Unix())
	for _, row := range certs.Table() {
		var pair testpki.Pair
		switch {
		case strings.Contains(row.Path, "*"), row.Signer == certs.EtcdCA, row.Kind == certs.KindEtcdCA, row.Base != certs.PKI && row.Base != certs.Config:
			continue
		case row.Kind == certs.KindCA:
			pair = ca
		case row.Kind == certs.KindFrontProxyCA:
			pair = front
		case row.Signer == certs.FrontProxyCA:
			pair = front.Issue(t, testpki.Leaf{CommonName: row.Name})
		case row.Kind == certs.KindAdmin:
			pair = ca.Issue(t, testpki.Leaf{CommonName: row.Name, NotAfter: time.Now().Add(left)})
		default:
			pair = ca.Issue(t, testpki.Leaf{CommonName: row.Name})
		}
		b64 := base64.StdEncoding.EncodeToString
		public := sha256.Sum256(pair.X509.RawSubjectPublicKeyInfo)
		if row.Base == certs.PKI {
			fmt.Fprintf(&out, "@@FILE 644 root root 1 1 /pki/%s\n|%s\n", row.Path, strings.ReplaceAll(strings.TrimSpace(string(pair.Certificate)), "\n", "\n|"))
			fmt.Fprintf(&out, "@@KEY %x /pki/%s\n", public, row.KeyFile(row.Path))
		} else {
			fmt.Fprintf(&out, "@@KUBECONFIG 600 root root 1 1 /etc/kubernetes/%s\n|certificate-authority-data: %s\n|client-certificate-data: %s\n", row.Path, b64(ca.Certificate), b64(pair.Certificate))
			fmt.Fprintf(&out, "@@KEY %x /etc/kubernetes/%s\n", public, row.Path)
		}
	}
	return out.String() + "@@END\n"
}

// fakeAnsible is a folder with commands that tell of one control plane whose
// admin.conf ends after the given time; playbooks other than the inspection are
// written to the file "ran" and end with the given code.
func fakeAnsible(t *testing.T, left time.Duration, code int) (bin, ran string) {
	t.Helper()
	bin = t.TempDir()
	ran = filepath.Join(bin, "ran")
	payload := fakeNode(t, left)
	says := func(payload string) string {
		var out strings.Builder
		for _, e := range []ansible.Event{
			{V: 1, Event: "result", Status: "ok", Host: "cp1", Task: &ansible.Task{Name: "Tell"}, Payload: payload},
			{V: 1, Event: "stats", Hosts: map[string]ansible.Stats{"cp1": {OK: 1}}},
		} {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(append(line, '\n'))
		}
		return out.String()
	}
	for name, text := range map[string]string{
		"inspect.yml":       says(payload),
		"lock.yml":          says("@@LOCK acquired 0 -\n@@END\n"),
		"backup.yml":        says("@@BACKUP this made 1 1 1 abc -\n@@END\n"),
		"backups.yml":       says("@@BACKUP that verified 1 1 1 abc -\n@@END\n"),
		"events":            says(""),
		"ansible-config":    "#!/bin/sh\necho \"DEFAULT_CALLBACK_PLUGIN_PATH(default) = ['/callbacks']\"\n",
		"ansible-inventory": "#!/bin/sh\ncat \"${0%/*}/inventory\"\n",
		"inventory":         `{"kube_control_plane": {"hosts": ["cp1"]}}`,
		"ansible-playbook": fmt.Sprintf(`#!/bin/sh
case $* in
--version) echo 'ansible-playbook [core 2.14.18]'; exit ;;
*--list-tasks*) printf '  play #1 (all): Play\tTAGS: []\n    tasks:\n      Task\tTAGS: []\n'; exit ;;
esac
for a; do case $a in *.yml) playbook=$(basename "$a") ;; esac; done
case $playbook in
inspect.yml | lock.yml) code=0 ;;
*) code=%[3]d; echo "$playbook" >>'%[2]s' ;;
esac
[ ! -x '%[1]s/hook' ] || '%[1]s/hook' "$playbook" "$*" || exit
says='%[1]s/'$playbook
[ -f "$says" ] || says='%[1]s/events'
cat "$says" >>"$KSCERT_EVENTS"
exit $code
`, bin, ran, code),
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return bin, ran
}

func fakeRun(t *testing.T, bin string, edit func(*Options)) (Result, []EventKind, error) {
	t.Helper()
	var kinds []EventKind
	opts := Options{
		Ansible:  ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin},
		StateDir: t.TempDir(), GateTimeout: time.Millisecond,
		Observe: func(e Event) { kinds = append(kinds, e.Kind) },
	}
	edit(&opts)
	o, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Run(t.Context())
	return r, kinds, err
}

func ranPlaybooks(ran string) []string {
	data, _ := os.ReadFile(ran)
	return strings.Fields(string(data))
}

// A second run on a healthy cluster changes nothing, and nobody is asked.
func TestRunOnAHealthyCluster(t *testing.T) {
	t.Parallel()
	bin, ran := fakeAnsible(t, 300*24*time.Hour, 0)
	r, kinds, err := fakeRun(t, bin, func(o *Options) {
		o.Approve = func(context.Context, Proposal) (bool, error) { t.Error("asked for nothing"); return true, nil }
	})
	if err != nil || r.Before.Route != diagnosis.None || len(r.Plan.Steps) > 0 || r.Backups != "" || r.RunID == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if got := ranPlaybooks(ran); len(got) > 0 {
		t.Errorf("playbooks were run: %v", got)
	}
	if want := []EventKind{EventBegin, EventInspected, EventDiagnosis, EventPlan, EventEnd}; !slices.Equal(kinds, want) {
		t.Errorf("events are %v, want %v", kinds, want)
	}
	for _, name := range []string{"plan.json", "journal.jsonl", "events.jsonl", "snapshots/01.json", "steps/inspect-01.log", "playbooks/inspect.yml"} {
		if _, err := os.Stat(filepath.Join(r.Dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// Nothing is changed unless somebody says yes.
func TestRunNeedsApproval(t *testing.T) {
	t.Parallel()
	for name, approve := range map[string]func(context.Context, Proposal) (bool, error){
		"nobody to ask": nil,
		"no":            func(context.Context, Proposal) (bool, error) { return false, nil },
		"no terminal":   func(context.Context, Proposal) (bool, error) { return true, errors.New("no terminal") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin, ran := fakeAnsible(t, 24*time.Hour, 0)
			r, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = approve })
			if Code(err) != ExitNotApproved || len(r.Plan.Steps) == 0 || r.Backups != "" {
				t.Errorf("%+v, %v", r, err)
			}
			if got := ranPlaybooks(ran); len(got) > 0 {
				t.Errorf("playbooks were run: %v", got)
			}
		})
	}
}

func yes(context.Context, Proposal) (bool, error) { return true, nil }

// A gate that does not hold after a change stops the run with 8, and the journal
// tells how far it came.
func TestRunStopsAtAGate(t *testing.T) {
	t.Parallel()
	bin, ran := fakeAnsible(t, 24*time.Hour, 0)
	r, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = yes })
	if Code(err) != ExitStopped || r.Backups != DefaultBackupRoot+"/"+r.RunID {
		t.Errorf("%+v, %v", r, err)
	}
	if got := ranPlaybooks(ran); !slices.Equal(got, []string{"backup.yml", "renew-certs.yml"}) {
		t.Errorf("playbooks were run: %v", got)
	}
	data, _ := os.ReadFile(filepath.Join(r.Dir, "journal.jsonl"))
	var got []string
	for line := range strings.Lines(string(data)) {
		var e run.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(string(e.Event)+" "+e.Step+" "+string(e.Outcome)))
	}
	steps := r.Plan.Steps
	want := []string{"begin", "request", "intent lock", "outcome lock done"}
	for i, s := range steps[:slices.IndexFunc(steps, func(s plan.Step) bool { return s.Gate != "" })+1] {
		outcome := "done"
		if s.Gate != "" && i > 0 && strings.Contains(err.Error(), s.ID) {
			outcome = "failed"
		}
		want = append(want, "intent "+s.ID, "outcome "+s.ID+" "+outcome)
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("journal:\n  %s\nwant it to begin with\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
		}
	}
	if end := got[len(got)-3:]; !slices.Equal(end, []string{"intent unlock", "outcome unlock done", "end  failed"}) {
		t.Errorf("the journal ends with %q", end)
	}
}

// A backup that fails has changed nothing yet: 7, and no other playbook is run.
func TestRunStopsWithoutABackup(t *testing.T) {
	t.Parallel()
	bin, ran := fakeAnsible(t, 24*time.Hour, 2)
	_, _, err := fakeRun(t, bin, func(o *Options) { o.Approve = yes })
	if Code(err) != ExitNotBegun {
		t.Errorf("code %d: %v", Code(err), err)
	}
	if got := ranPlaybooks(ran); !slices.Equal(got, []string{"backup.yml"}) {
		t.Errorf("playbooks were run: %v", got)
	}
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	good := ansible.Options{Inventories: []string{"cp1,"}}
	for name, row := range map[string]struct {
		in   Options
		code ExitCode
	}{
		"no inventory":              {Options{}, ExitUsage},
		"upgrade without checkout":  {Options{Ansible: good, Playbook: plan.UpgradeCluster}, ExitUsage},
		"a checkout that is no one": {Options{Ansible: good, KubesprayDir: t.TempDir()}, ExitUsage},
	} {
		if _, err := New(row.in); Code(err) != row.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Options{Ansible: good}); err != nil {
		t.Error(err)
	}
}
