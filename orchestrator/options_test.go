package orchestrator

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/infrapuzzle/kscertctl/internal/fakeansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// Every recorded setting has a function.
func TestEveryOptionHasAFunction(t *testing.T) {
	t.Parallel()
	got := resolve([]Option{
		WithInventory("a"), WithAnsible(ansible.Options{User: "admin"}), WithHooks(Hook{Name: "a"}), WithHooks(Hook{Name: "b"}),
		WithKubespray("kubespray"), WithTags("tag"), WithSkipTags("tag"), WithStepTimeout(time.Minute), WithPlaybook(plan.NoPlaybook), WithLimit("cp1"), WithSkipPhases("kubelets"), WithUntilPhase("cluster"), WithSerial("20%"), WithMaxUnavailable(2), WithStableFor(time.Second), WithThresholds(diagnosis.Thresholds{RenewBefore: time.Hour}),
		WithStateDir("state"), WithBackupRoot("/backups"), WithEtcdSnapshot(plan.SnapshotNever), WithGateTimeout(time.Minute), WithAcceptedSANLoss("name"), WithAcceptedSubjectChange("file"), WithAllowedNotInInventory("name"), WithAllowedUnreachable("name"), WithRefreshedKubeconfigs("path"), WithClusterSecrets(), WithRenewedCAs(time.Hour, plan.ClusterCA), WithRotatedCAs(diagnosis.StageMake, time.Hour, plan.ClusterCA), WithReplacedCAs(diagnosis.StageReplace, time.Hour, true, plan.ClusterCA), WithRestartedWorkloads(plan.RestartListed), WithSigned(plan.Signed{Node: "cp1"}), WithRollbackOnFailure(), WithStop(t.Context().Done()),
		WithApproval(func(context.Context, Proposal) (bool, error) { return true, nil }), WithObserver(func(Event) {}), WithOutput(io.Discard),
	})
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("no function sets %s", v.Type().Field(i).Name)
		}
	}
	if got.Ansible.User != "admin" || !slices.Equal(got.Ansible.Inventories, []string{"a"}) || len(got.Hooks) != 2 {
		t.Errorf("%+v", got)
	}
	if again := resolve([]Option{got}); again.KubesprayDir != "kubespray" || len(again.Hooks) != 2 {
		t.Errorf("the record as an option: %+v", again)
	}
}

func TestLaterOptionsWin(t *testing.T) {
	t.Parallel()
	record := Options{StateDir: "of the record", Hooks: []Hook{{Name: "of the record"}}}
	got := resolve([]Option{WithBackupRoot("/early"), record, WithStateDir("later"), WithHooks(Hook{Name: "more"})})
	if got.StateDir != "later" || got.BackupRoot != DefaultBackupRoot || len(got.Hooks) != 2 {
		t.Errorf("%+v", got)
	}
	if len(record.Hooks) != 1 || record.StateDir != "of the record" {
		t.Errorf("the caller's record was changed: %+v", record)
	}
	if zero := resolve([]Option{WithGateTimeout(0), WithBackupRoot("")}); zero.GateTimeout != 5*time.Minute || zero.BackupRoot != DefaultBackupRoot || zero.Playbook != plan.Auto || zero.EtcdSnapshot != plan.SnapshotAuto {
		t.Errorf("zero is not the default: %+v", zero)
	}
}

// Several clusters are worked on in one process, with runs in one directory: none sees anything of
// another.
func TestSeveralClustersAtOnce(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	var work sync.WaitGroup
	for name, left := range map[string]time.Duration{"due": 24 * time.Hour, "fresh": 300 * 24 * time.Hour, "due as well": 48 * time.Hour} {
		bin, ran := fakeansible.New(t, left, 0)
		work.Go(func() {
			runs := map[string]bool{}
			o, err := New(
				WithInventory("cp1,"), WithAnsible(ansible.Options{BinDir: bin}), WithStateDir(state), WithGateTimeout(time.Millisecond), WithApproval(yes),
				WithObserver(func(e Event) { runs[e.Run] = true }),
			)
			if err != nil {
				t.Error(err)
				return
			}
			r, err := o.Run(t.Context())
			due := strings.HasPrefix(name, "due")
			if want := map[bool]ExitCode{true: ExitStopped, false: ExitDone}[due]; Code(err) != want {
				t.Errorf("%s: %v, want exit code %d", name, err, want)
			}
			if len(runs) != 1 || !runs[r.RunID] {
				t.Errorf("%s: run %s was stated of %v", name, r.RunID, runs)
			}
			if changed := len(ranPlaybooks(ran)) > 0; changed != due {
				t.Errorf("%s: playbooks were run: %v", name, changed)
			}
		})
	}
	work.Wait()
	if all, err := Runs(state); err != nil || len(all) != 2 {
		t.Errorf("%d runs are recorded, want those that were approved: %v", len(all), err)
	}
}

// The events that a run writes match the published schema.
func TestEventsAreWhatTheSchemaSays(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("../docs/reference/schemas/event-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	bin, _ := fakeansible.New(t, 24*time.Hour, 0)
	r, _, _ := fakeRun(t, bin, func(o *Options) {
		o.Approve = yes
		o.Hooks = []Hook{{Name: "look", Before: func(context.Context, plan.Step) error { return nil }}}
	})
	data, err := os.ReadFile(filepath.Join(r.Dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[any]bool{}
	for line := range strings.Lines(string(data)) {
		event, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(event); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if e, ok := event.(map[string]any); ok {
			seen[e["kind"]] = true
		}
	}
	for _, kind := range []EventKind{EventBegin, EventInspected, EventDiagnosis, EventPlan, EventStepBegin, EventTask, EventGate, EventStepEnd, EventNotice, EventEnd} {
		if !seen[string(kind)] {
			t.Errorf("the run stated no event %q", kind)
		}
	}
}
