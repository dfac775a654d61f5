package run

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

func proposal(t *testing.T) Proposal {
	t.Helper()
	s := tc.Healthy(tc.Single(), tc.On("cp1", tc.EndsIn(tc.Day, certs.KindAdmin)))
	d := diagnosis.Diagnose(s, diagnosis.DefaultThresholds())
	p, err := plan.Make(tc.Single(), s, d, plan.Policy{Choice: plan.Auto})
	if err != nil {
		t.Fatal(err)
	}
	return Proposal{
		Schema: ProposalSchema, Made: tc.Now.Add(time.Second), Cluster: ClusterID(s), Diagnosis: d, Plan: p, Snapshot: s,
		Request: Request{
			Schema: RequestSchema, Dir: "/home/op", Inventories: []string{"/home/op/inventory.ini"}, WithheldVars: 1,
			Playbook: plan.Auto, Thresholds: diagnosis.DefaultThresholds(), GateTimeout: time.Minute, BackupRoot: "/backups",
		},
	}
}

// same compares documents in their JSON form.
func same(t *testing.T, a, b Proposal) bool {
	t.Helper()
	text, err := json.Marshal(a) //nolint:musttag // a finding writes itself
	if err != nil {
		t.Fatal(err)
	}
	return says(text, b)
}

func TestProposalFile(t *testing.T) {
	t.Parallel()
	want := proposal(t)
	path := filepath.Join(t.TempDir(), "plan.json")
	digest, err := WriteProposal(path, want)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || Digest(data) != digest || len(digest) != 64 || Digest(append(data, '\n')) == digest {
		t.Errorf("%v: the digest is %s", err, digest)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	got, err := ReadProposal(path)
	if err != nil || !same(t, got, want) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := ReadProposal(path + ".gone"); err == nil || !strings.Contains(err.Error(), "reading the plan") {
		t.Errorf("%v", err)
	}
}

// A plan file that was edited, or that another program wrote, is not carried out, and the reason is
// reported.
func TestParseProposalRefuses(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, from, to, wrong string
	}{
		{"a newer schema", `{"schema":1,"made"`, `{"schema":9,"made"`, "it has schema 9, this version reads 1"},
		{"no schema", `{"schema":1,"made"`, `{"made"`, "it has no schema"},
		{"an unknown field", `{"schema":1,"made"`, `{"schema":1,"extra":1,"made"`, `unknown field "extra"`},
		{"a step less", `"id":"02-renew-certs-cp1","action":"renew-certs","nodes":["cp1"]`, `"id":"02-renew-certs-cp1","action":"renew-certs","nodes":[]`, "its plan does not follow from its diagnosis"},
		{"another action", `"action":"renew-certs"`, `"action":"pre-phase"`, "its plan does not follow from its diagnosis"},
		{"another verdict", `"route":"renew"`, `"route":"recover"`, "its diagnosis does not follow from its snapshot"},
		{"another threshold", `"RenewBefore":2592000000000000`, `"RenewBefore":0`, "its diagnosis does not follow from its snapshot"},
		{"another cluster", `"cluster":"key of`, `"cluster":"other`, "its snapshot is of another cluster than it names"},
		{"something behind", `{"schema":1,"made"`, `{}{"schema":1,"made"`, "it is not a JSON document"},
		{"nothing", "", "", "it is not a JSON document"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			data, err := json.Marshal(proposal(t)) //nolint:musttag // a finding writes itself
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			if row.from != "" {
				if !strings.Contains(string(data), row.from) {
					t.Fatalf("the document has no %s:\n%s", row.from, data)
				}
				text = strings.Replace(string(data), row.from, row.to, 1)
			}
			var damaged *DamagedError
			if _, err := ParseProposal("p.json", []byte(text)); !errors.As(err, &damaged) || !strings.Contains(err.Error(), "p.json is damaged: ") || !strings.Contains(err.Error(), row.wrong) {
				t.Errorf("%v, want %q", err, row.wrong)
			}
		})
	}
}

func FuzzParseProposal(f *testing.F) {
	f.Add([]byte(`{"schema":1,"cluster":"x","snapshot":{"nodes":[]}}`))
	f.Add([]byte(`{"schema":1}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProposal("p.json", data)
		if err == nil && (p.Cluster == "" || p.Schema != ProposalSchema) {
			t.Fatalf("%+v", p)
		}
	})
}

// The run directory restores what a resumed run needs; a missing or a damaged file is named.
func TestLoadProposal(t *testing.T) {
	t.Parallel()
	want := proposal(t)
	fresh := func(t *testing.T) (root string, d *Dir) {
		t.Helper()
		root = t.TempDir()
		d, err := Create(root, start)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		if err := d.SaveProposal(want); err != nil {
			t.Fatal(err)
		}
		return root, d
	}
	root, d := fresh(t)
	if got, err := LoadProposal(root, d.ID); err != nil || !same(t, got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for _, name := range []string{RequestFile, PlanFile, BeforeFile} {
		root, d := fresh(t)
		path := filepath.Join(d.Path, name)
		data, _ := os.ReadFile(path)
		if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *DamagedError
		if _, err := LoadProposal(root, d.ID); !errors.As(err, &damaged) || damaged.File != name {
			t.Errorf("half of %s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		if _, err := LoadProposal(root, d.ID); !errors.As(err, &missing) || missing.File != name || missing.Run != d.ID {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
