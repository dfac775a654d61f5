package orchestrator

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// Paths on the control node are made absolute, and nothing else.
func TestAnchor(t *testing.T) {
	t.Parallel()
	opts := Options{
		StateDir: "state", KubesprayDir: "../kubespray", BackupRoot: "on/the/nodes",
		Ansible: ansible.Options{
			Inventories: []string{"inventory.ini", "/etc/inventory", "cp1,w1,"}, BinDir: "venv/bin", PrivateKey: "~/.ssh/key", User: "admin",
			ExtraVars: []string{"a=b", "@vars.yml"}, VaultPasswordFiles: []string{"password"},
			VaultIDs: []string{"prod@secret", "prod@prompt", "prompt", "plain", "prod@/etc/secret"},
			Args:     []string{"-bM", "library:/lib", "--key-file=key", "-Mmodules", "-T", "9", "--private-key", "other", "--ssh-common-args=-F key"},
		},
	}
	opts.Anchor("/home/sre/cluster")
	want := Options{
		StateDir: "/home/sre/cluster/state", KubesprayDir: "/home/sre/kubespray", BackupRoot: "on/the/nodes",
		Ansible: ansible.Options{
			Inventories: []string{"/home/sre/cluster/inventory.ini", "/etc/inventory", "cp1,w1,"}, BinDir: "/home/sre/cluster/venv/bin", PrivateKey: "~/.ssh/key", User: "admin",
			ExtraVars: []string{"a=b", "@/home/sre/cluster/vars.yml"}, VaultPasswordFiles: []string{"/home/sre/cluster/password"},
			VaultIDs: []string{"prod@/home/sre/cluster/secret", "prod@prompt", "prompt", "/home/sre/cluster/plain", "prod@/etc/secret"},
			Args: []string{"-bM", "/home/sre/cluster/library:/lib", "--key-file=/home/sre/cluster/key", "-M/home/sre/cluster/modules",
				"-T", "9", "--private-key", "/home/sre/cluster/other", "--ssh-common-args=-F key"},
		},
	}
	if !reflect.DeepEqual(opts, want) {
		t.Errorf("\n%+v, want\n%+v", opts, want)
	}
	var none Options
	if none.Anchor("/home"); !reflect.DeepEqual(none, Options{}) {
		t.Errorf("of nothing: %+v", none)
	}
}

// The requested part of a plan is in the record, and cannot be chosen again; how its steps are
// taken can.
func TestRecallOfASelection(t *testing.T) {
	t.Parallel()
	given := Options{Limit: []string{"cp1"}, SkipPhases: []plan.Phase{"kubelets"}, UntilPhase: "renew-certs", Serial: "2", StableFor: time.Second, EtcdSnapshot: plan.SnapshotAlways}
	request, err := (&Orchestrator{opts: given}).request()
	if err != nil {
		t.Fatal(err)
	}
	again := Options{Limit: []string{"cp2"}, UntilPhase: "cluster", Serial: "50%"}
	if err := again.Recall(request); err != nil {
		t.Fatal(err)
	}
	want := given
	want.Serial = "50%"
	if !reflect.DeepEqual(again, want) {
		t.Errorf("\n%+v, want\n%+v", again, want)
	}
	now := Options{EtcdSnapshot: plan.SnapshotAuto}
	if err := now.Recall(request); err != nil || now.EtcdSnapshot != plan.SnapshotAuto {
		t.Errorf("what is given now does not count: %v %s", err, now.EtcdSnapshot)
	}
	if p := request.Policy(); !reflect.DeepEqual(p, plan.Policy{Limit: given.Limit, Skip: given.SkipPhases, Until: given.UntilPhase, EtcdSnapshot: given.EtcdSnapshot}) {
		t.Errorf("the policy is %+v", p)
	}
}

// The options of a command are in its record, and the resuming command finds them: all but
// passwords, for which it knows that they have to be asked for.
func TestRecall(t *testing.T) {
	t.Parallel()
	given := ansible.Options{
		Inventories: []string{"/i"}, BecomeMethod: "su", BecomeUser: "toor", Connection: "paramiko", Timeout: 30,
		AskBecomePass: true, AskVaultPass: true, ConnectionPasswordFile: "/c",
	}
	request, err := (&Orchestrator{opts: Options{Ansible: given}}).request()
	if err != nil {
		t.Fatal(err)
	}
	var again Options
	if err := again.Recall(request); err != nil || !reflect.DeepEqual(again.Ansible, given) {
		t.Errorf("%v\n%+v, want\n%+v", err, again.Ansible, given)
	}
	// A file that is given now replaces a question, and the other way round.
	now := Options{Ansible: ansible.Options{BecomePasswordFile: "/b", AskPass: true, VaultPasswordFiles: []string{"/v"}}}
	if err := now.Recall(request); err != nil || now.Ansible.AskBecomePass || now.Ansible.AskVaultPass || now.Ansible.ConnectionPasswordFile != "" {
		t.Errorf("%v: %+v", err, now.Ansible)
	}
}

// Every option with a field of its name in a request is in the table, once, with the same type; and
// every field of a request is an option's, or is filled in another way.
func TestRecordedOptions(t *testing.T) {
	t.Parallel()
	other := []string{"Schema", "Dir", "Kubespray", "ExtraVars", "WithheldVars", "Withheld", "Recalled"}
	var o Options
	var request run.Request
	names := map[string]bool{}
	for _, row := range recorded() {
		if names[row.name] {
			t.Errorf("%s is there twice", row.name)
		}
		names[row.name] = true
		if in, of := row.in(&o), row.of(&request); !in.IsValid() || !of.IsValid() || in.Type() != of.Type() {
			t.Errorf("%s is no option and field of one type", row.name)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[run.Request]()) {
		if names[f.Name] == slices.Contains(other, f.Name) {
			t.Errorf("%s of a request is filled by the table: %t", f.Name, names[f.Name])
		}
	}
}

// fill gives a value, and everything in it, something that is not empty.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("set")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(time.Hour))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f)
		}
	default:
		panic(v.Kind())
	}
}

// What is recorded is recalled: each option alone, by a command that has none.
func TestRecordedMeansRecalled(t *testing.T) {
	t.Parallel()
	// What a run has planned is in the nodes of its steps.
	planned := []string{"MaxUnavailable"}
	for _, row := range recorded() {
		var given, again Options
		fill(row.in(&given))
		request, err := (&Orchestrator{opts: given}).request()
		if err != nil {
			t.Fatal(err)
		}
		given.Anchor(request.Dir)
		if err := again.Recall(request); err != nil {
			t.Fatal(err)
		}
		if same := reflect.DeepEqual(again, given); same == slices.Contains(planned, row.name) {
			t.Errorf("%s is recalled: %t, as %v", row.name, same, row.in(&again))
		}
	}
}

// Each field of a policy comes from an option of the record, except the checkout.
func TestPolicyIsOfTheRecord(t *testing.T) {
	t.Parallel()
	var all Options
	for _, row := range recorded() {
		fill(row.in(&all))
	}
	policy := reflect.ValueOf(all.Policy())
	for _, f := range reflect.VisibleFields(policy.Type()) {
		if policy.FieldByIndex(f.Index).IsZero() != (f.Name == "Kubespray") {
			t.Errorf("%s of a policy comes from no option", f.Name)
		}
	}
}

// What decides what a plan may do is compared; what reaches nodes is not, and times pass.
func TestUnlike(t *testing.T) {
	t.Parallel()
	var o Options
	o.Thresholds.RenewBefore, o.SkipPhases = time.Hour, []plan.Phase{}
	for _, row := range []struct {
		request run.Request
		want    []string
	}{
		{run.Request{}, nil},
		{run.Request{Inventories: []string{"/x"}, BackupRoot: "/y"}, nil},
		{run.Request{Limit: []string{"w1"}, RenewCAs: []plan.CA{plan.ClusterCA}}, []string{"Limit", "RenewCAs"}},
		{run.Request{Playbook: plan.UpgradeCluster}, []string{"Playbook"}},
	} {
		if got := o.Unlike(row.request); !slices.Equal(got, row.want) {
			t.Errorf("%+v: %q, want %q", row.request, got, row.want)
		}
	}
}
