package orchestrator

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/internal/testcommand"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

// evil is a value that an attacker writes into a plan file.
const evil = "/evil/{{ lookup('pipe', 'id') }}"

// edited is a request with an attacker's value in every field.
func edited() run.Request {
	var r run.Request
	v := reflect.ValueOf(&r).Elem()
	for _, field := range v.Fields() {
		edit(field)
	}
	return r
}

func edit(f reflect.Value) {
	switch f.Kind() {
	case reflect.String:
		f.SetString(evil)
	case reflect.Int, reflect.Int64:
		f.SetInt(7)
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		edit(f.Index(0))
	case reflect.Struct:
		for _, field := range f.Fields() {
			edit(field)
		}
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
		edit(f.Elem())
	default:
		panic(f.Kind())
	}
}

// No field of a plan file's request becomes a setting of the caller, except those that
// describe how the plan was made. Fields that can run commands and are part of the plan have
// to be passed again. A new field has to be classified here.
func TestFollow(t *testing.T) {
	t.Parallel()
	follows := []string{"Playbook", "Thresholds", "MaxUnavailable", "Limit", "SkipPhases", "UntilPhase", "Serial", "EtcdSnapshot",
		"GateTimeout", "StableFor", "StepTimeout"}
	again := map[string]string{
		"Kubespray": "", "AcceptSANLoss": "--accept-san-loss", "AcceptSubjectChange": "--accept-subject-change", "AllowNotInInventory": "--allow-not-in-inventory", "AllowUnreachable": "--allow-unreachable", "Tags": "--tags", "SkipTags": "--skip-tags", "BackupRoot": "--backup-root",
	}
	for field := range reflect.TypeFor[run.Request]().Fields() {
		r := run.Request{BackupRoot: DefaultBackupRoot}
		edit(reflect.ValueOf(&r).Elem().FieldByIndex(field.Index))
		given := Options{Ansible: ansible.Options{Inventories: []string{"mine"}}}
		got := given
		err := got.Follow(r)
		var why *Error
		if flag, ok := again[field.Name]; ok && flag != "" {
			if !errors.As(err, &why) || why.Code != ExitUsage || !strings.HasSuffix(why.Summary, ": "+flag) {
				t.Errorf("%s: %v", field.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", field.Name, err)
		}
		if slices.Contains(follows, field.Name) { // the next test covers this field
			continue
		}
		if !reflect.DeepEqual(got, given) {
			t.Errorf("%s of a plan file is used: %+v", field.Name, got)
		}
	}
}

// All missing options are listed at once; with them, the plan is followed.
func TestFollowNeeds(t *testing.T) {
	t.Parallel()
	r := run.Request{
		BackupRoot: "/srv", AcceptSANLoss: []string{"DNS:a", "DNS:b"}, Tags: []string{"x"}, SkipTags: []string{"y"},
		Kubespray: &plan.Kubespray{Dir: "/kubespray"}, Limit: []string{"cp1"}, Serial: "2", GateTimeout: time.Minute, EtcdSnapshot: plan.SnapshotNever,
	}
	var none Options
	err := none.Follow(r)
	const all = ": -i, --kubespray-dir, --accept-san-loss, --tags, --skip-tags, --backup-root"
	if Code(err) != ExitUsage || !strings.HasSuffix(err.Error(), all) || !reflect.DeepEqual(none, Options{}) {
		t.Errorf("%v: %+v", err, none)
	}
	given := Options{
		Ansible: ansible.Options{Inventories: []string{"mine"}}, BackupRoot: "/srv",
		AcceptSANLoss: []string{"DNS:c", "DNS:b", "DNS:a"},
		Tags:          []string{"x"}, SkipTags: []string{"y"}, KubesprayDir: "/mine", Serial: "3",
	}
	want := given
	want.Limit, want.GateTimeout, want.EtcdSnapshot = r.Limit, r.GateTimeout, r.EtcdSnapshot
	if err := given.Follow(r); err != nil || !reflect.DeepEqual(given, want) {
		t.Errorf("%v\n%+v, want\n%+v", err, given, want)
	}
}

// planFile is an edited plan file of the fake cluster.
func planFile(t *testing.T, bin string, change func(*run.Proposal)) run.Proposal {
	t.Helper()
	p, err := fakeOrchestrator(t, bin, func(*Options) {}).Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	change(&p)
	data, err := json.Marshal(p) //nolint:musttag // a finding writes itself
	if err == nil {
		p, err = run.ParseProposal("plan.json", data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An edited plan file changes neither Ansible's command line nor the record that resume uses.
func TestApplyOfAnEditedFile(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 24*time.Hour, 0)
	hook := "#!/bin/sh\nprintf '%s\\n' \"$2\" >>\"${0%/*}/arguments\"\npwd >>\"${0%/*}/arguments\"\n"
	if err := testcommand.Write(filepath.Join(bin, "hook"), hook); err != nil {
		t.Fatal(err)
	}
	p := planFile(t, bin, func(p *run.Proposal) {
		was := p.Request
		p.Request = edited()
		r := &p.Request
		r.Schema, r.Playbook, r.Thresholds, r.Limit, r.SkipPhases, r.UntilPhase = was.Schema, was.Playbook, was.Thresholds, nil, nil, ""
		r.Kubespray, r.AcceptSANLoss, r.AcceptSubjectChange, r.AllowNotInInventory, r.AllowUnreachable, r.Tags, r.SkipTags, r.BackupRoot, r.Serial = nil, nil, nil, nil, nil, nil, nil, was.BackupRoot, ""
		r.RenewCAs, r.CAValidity, r.Signed, r.RotateCAs, r.RotateStage = nil, 0, nil, nil, "" // another plan
		r.MaxUnavailable, r.StepTimeout, r.EtcdSnapshot = 0, 0, ""
	})
	reached := ansible.Options{Inventories: []string{"cp1,"}, BinDir: bin, User: "me"}
	opts := Options{StateDir: t.TempDir(), Ansible: reached}
	if err := opts.Follow(p.Request); err != nil {
		t.Fatal(err)
	}
	o, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Apply(t.Context(), p)
	wanted := []string{"backup.yml", "renew-certs.yml"} // and a gate that cannot hold
	if Code(err) != ExitStopped || !slices.Equal(ranPlaybooks(ran), wanted) {
		t.Errorf("%v; ran %q", err, ranPlaybooks(ran))
	}
	for _, file := range []string{filepath.Join(r.Dir, run.RequestFile), filepath.Join(r.Dir, run.PlanFile),
		filepath.Join(bin, "arguments")} {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "evil") {
			t.Errorf("%s: %v: %s", filepath.Base(file), err, text)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(bin, "arguments")); !strings.Contains(string(text), "me") {
		t.Errorf("the caller's settings are ignored: %s", text)
	}
}

// A plan that does not follow from the caller's options is refused, and so is one whose
// cluster ID could be a path or an expression.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*run.Proposal)
		says   string
	}{
		"a part": {func(p *run.Proposal) {
			p.Request.SkipPhases = []plan.Phase{"cluster"}
			p.Plan, _ = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, p.Request.Policy())
		}, "does not follow"},
		"a checkout": {func(p *run.Proposal) {
			p.Request.Kubespray = &plan.Kubespray{Dir: evil, Release: "v1"}
			p.Plan, _ = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, p.Request.Policy())
		}, `the plan was made with "Kubespray v1", and this is "no Kubespray checkout"`},
		"a path": {func(p *run.Proposal) {
			for _, n := range p.Snapshot.Nodes {
				for i := range n.Certificates {
					if n.Certificates[i].PublicKey == p.Cluster {
						n.Certificates[i].PublicKey = "../../../evil"
					}
				}
			}
			p.Cluster = "../../../evil"
			p.Diagnosis = diagnosis.Diagnose(p.Snapshot, p.Request.Thresholds)
			p.Plan, _ = plan.Make(p.Snapshot.Cluster(), p.Snapshot, p.Diagnosis, p.Request.Policy())
		}, "does not identify its cluster by a SHA-256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin, ran := fakeansible.New(t, 24*time.Hour, 0)
			p := planFile(t, bin, row.change)
			_, err := fakeOrchestrator(t, bin, func(*Options) {}).Apply(t.Context(), p)
			if Code(err) != ExitNotBegun || !strings.Contains(err.Error(), row.says) || len(ranPlaybooks(ran)) > 0 {
				t.Errorf("%v, ran %q", err, ranPlaybooks(ran))
			}
		})
	}
}

// Two clusters may have the same addresses: if the CA differs from the plan's, nothing is
// done, and no lock of the other cluster is taken.
func TestAnotherClusterAnswers(t *testing.T) {
	t.Parallel()
	bin, ran := fakeansible.New(t, 24*time.Hour, 0)
	p := planFile(t, bin, func(*run.Proposal) {})
	other := fakeansible.Node(t, fakeansible.NewCluster(t), 24*time.Hour)
	if err := os.WriteFile(filepath.Join(bin, "inspect.yml"), []byte(fakeansible.Says(t, other)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := fakeOrchestrator(t, bin, func(*Options) {}).Apply(t.Context(), p)
	if Code(err) != ExitNotBegun || !strings.Contains(err.Error(), "its CA differs") || len(ranPlaybooks(ran)) > 0 {
		t.Errorf("%v, ran %q", err, ranPlaybooks(ran))
	}
}

// Records do not contain ssh arguments and what follows --, so the caller has to pass them
// again.
func TestRecallOfArguments(t *testing.T) {
	t.Parallel()
	given := ansible.Options{SSHCommonArgs: "a", SSHExtraArgs: "b", SFTPExtraArgs: "c", SCPExtraArgs: "d",
		Args: []string{"-D"}, ExtraVars: []string{"e=f"}}
	r, err := (&Orchestrator{opts: Options{Ansible: given}}).request()
	if err != nil {
		t.Fatal(err)
	}
	var none Options
	var why *Error
	if err := none.Recall(r); !errors.As(err, &why) || why.Code != ExitUsage ||
		why.Next != "pass the same -e and --ssh-common-args and --ssh-extra-args and --sftp-extra-args and --scp-extra-args and options after -- again" {
		t.Errorf("%v", err)
	}
	again := Options{Ansible: given}
	if err := again.Recall(r); err != nil || !reflect.DeepEqual(again.Ansible, given) {
		t.Errorf("%v: %+v", err, again.Ansible)
	}
}
