package orchestrator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func TestLostNames(t *testing.T) {
	t.Parallel()
	names := func(all ...string) tc.NodeEdit {
		return tc.Files(func(c *certs.Certificate) { c.SANs = all }, certs.KindAPIServer)
	}
	before := tc.Healthy(tc.Single(), tc.On("cp1", names("kubernetes", "old.example.com", "10.0.0.1")))
	for name, row := range map[string]struct {
		now  []string
		want string
	}{
		"all are kept": {[]string{"10.0.0.1", "old.example.com", "kubernetes"}, ""},
		"one is lost":  {[]string{"10.0.0.1", "kubernetes", "new"}, "cp1: /etc/kubernetes/ssl/apiserver.crt is no longer for old.example.com"},
		"several are":  {[]string{"kubernetes"}, "cp1: /etc/kubernetes/ssl/apiserver.crt is no longer for old.example.com, 10.0.0.1"},
		"one is new":   {[]string{"kubernetes", "old.example.com", "10.0.0.1", "new"}, ""},
		"all are lost": {nil, "cp1: /etc/kubernetes/ssl/apiserver.crt is no longer for kubernetes, old.example.com, 10.0.0.1"},
	} {
		got := lostNames(before, tc.Healthy(tc.Single(), tc.On("cp1", names(row.now...))))
		if strings.Join(got, "; ") != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// A network plugin's stale copy of a renewed certificate is reported with a fix.
func TestStaleCopiesAreTold(t *testing.T) {
	t.Parallel()
	d := diagnosis.Diagnosis{Findings: []diagnosis.Finding{
		{Reason: diagnosis.CertificateExpiring, Node: "cp1"},
		{Reason: diagnosis.CopyStale, Node: "cp1", Subject: "Cilium's etcd client", Evidence: "/etc/cilium/certs/cert.crt (0a1b) is no longer /etc/ssl/etcd/ssl/node-cp1.pem (2c3d)"},
	}}
	got := staleCopies(d)
	if len(got) != 1 || !strings.HasPrefix(got[0], "cp1: Cilium's etcd client is behind: /etc/cilium/certs/cert.crt") || !strings.HasSuffix(got[0], "cluster.yml --tags network") {
		t.Errorf("%q", got)
	}
}

// Kubespray's copies of admin.conf are checked, and an unreadable one is reported.
func TestKubeconfigsBesideTheInventory(t *testing.T) {
	t.Parallel()
	c, dir := newRefreshCluster(t), t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	soon := c.user(t, 5)
	write("a/hosts.ini", "cp1")
	write("a/artifacts/admin.conf", adminConf(c.CA, soon))
	write("b/artifacts/admin.conf", "token: x")
	write("c/hosts.ini", "cp1")
	write("elsewhere/admin.conf", adminConf(c.CA, c.Admin))
	opts := resolve([]Option{c.options(), WithInventory(filepath.Join(dir, "a/hosts.ini"), filepath.Join(dir, "b"), filepath.Join(dir, "c/hosts.ini"), "cp1,")})
	s := &session{Orchestrator: &Orchestrator{opts: opts}, cluster: cluster.Cluster{Artifacts: filepath.Join(dir, "elsewhere")}}
	o, err := New(c.options())
	if err != nil {
		t.Fatal(err)
	}
	snap, err := o.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := s.heldHere(snap)
	a, b := filepath.Join(dir, "a/artifacts/admin.conf"), filepath.Join(dir, "b/artifacts/admin.conf")
	want := []string{
		a + ": its client certificate expires on " + soon.X509.NotAfter.UTC().Format(time.DateOnly) + "; --refresh-kubeconfig " + a + " updates it",
		b + ": not known whether it can still be used: it is not a kubeconfig, or has no current context: kubectl config use-context sets one",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if places := artifacts([]string{"x/hosts.ini", "x/more.ini"}, "relative"); !slices.Equal(places, []string{"x/artifacts/admin.conf"}) {
		t.Errorf("places: %q", places)
	}
	if all, err := cluster.Parse([]byte(`{"kube_control_plane": {"hosts": ["cp1"]}, "_meta": {"hostvars": {"cp1": {"artifacts_dir": "/srv/artifacts"}}}}`)); err != nil || all.Artifacts != "/srv/artifacts" {
		t.Errorf("%v: %+v", err, all)
	}
}

// What a playbook leaves unchanged, and what a new certificate has lost, is reported
// immediately, and again at the end: of every task of a playbook, not of the last alone.
func TestWhatIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := newRefreshCluster(t)
	c.renews(t)
	c.write(t, "renew-certs.yml", fakeansible.Says(t,
		"refused: /etc/kubernetes/scheduler.conf stays as it is: kubectl cannot read it\n"+
			"noted: /etc/kubernetes/admin.conf loses C=DE of its subject\nchanged: /etc/kubernetes/admin.conf\n")+
		fakeansible.Says(t, "changed: approved csr-2, the serving certificate of node cp1\n"+
			"left: csr-1, under the name of node cp1: its signer is x\n"))
	opts := c.options()
	opts.GateTimeout = time.Minute
	var stated []string
	opts.Observe = func(e Event) {
		if e.Kind == EventNotice {
			stated = append(stated, e.Message)
		}
	}
	r, err := c.run(t, opts)
	want := []string{
		"cp1: /etc/kubernetes/scheduler.conf stays as it is: kubectl cannot read it",
		"cp1: /etc/kubernetes/admin.conf loses C=DE of its subject",
		"left unchanged: csr-1, under the name of node cp1: its signer is x",
	}
	if err != nil || !slices.Equal(r.Notes, want) || !slices.Equal(stated, want) {
		t.Errorf("%v: notes %q, events %q", err, r.Notes, stated)
	}
}

// What a backup lacks is reported when it is taken; the nodes get the option that decides it.
func TestBackupWithoutEtcd(t *testing.T) {
	t.Parallel()
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	says := fakeansible.Says(t, "@@BACKUP this made 1 1 1 abc 0\n|etcd: no snapshot: too large\n|etcd: and more\n@@END\n")
	for name, text := range map[string]string{"backup.yml": says, "hook": "#!/bin/sh\necho \"$*\" >>\"${0%/*}/stated\"\n"} {
		if err := testcommand.Write(filepath.Join(bin, name), text); err != nil {
			t.Fatal(err)
		}
	}
	var stated []string
	o := fakeOrchestrator(t, bin, func(o *Options) {
		o.EtcdSnapshot = plan.SnapshotNever
		o.Observe = func(e Event) {
			if e.Kind == EventNotice {
				stated = append(stated, e.Message)
			}
		}
	})
	s, err := o.begin(t.Context(), run.Entry{Kind: run.KindLook})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.play(t.Context(), plan.Step{ID: "backup", Action: plan.Backup, Nodes: []string{"cp1"}}, work{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"cp1: etcd: no snapshot: too large"}; !slices.Equal(stated, want) {
		t.Errorf("events %q, want %q", stated, want)
	}
	asked, err := os.ReadFile(filepath.Join(bin, "stated"))
	if err != nil || !strings.Contains(string(asked), `"kscert_etcd_snapshot":"never"`) {
		t.Errorf("%v: the playbook did not get the option:\n%s", err, asked)
	}
}
