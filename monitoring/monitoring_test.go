// Package monitoring_test compares the alert rules and the dashboard with kscertctl's metrics,
// and checks them with promtool if KSCERTCTL_PROMTOOL names one (as ./hack/task
// check:prometheus does).
package monitoring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"gopkg.in/yaml.v3"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// metrics maps each of kscertctl's metrics to its labels.
func metrics() map[string][]string {
	descs := make(chan *prometheus.Desc, 100)
	report.Collector{}.Describe(descs)
	close(descs)
	parts := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	out := map[string][]string{}
	for d := range descs {
		m := parts.FindStringSubmatch(d.String())
		out[m[1]] = strings.Split(m[2], ",")
	}
	return out
}

// expressions returns those of the rules and of the dashboard, by place.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, expr := range rules(t) {
		out["alert "+name] = expr
	}
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			out[fmt.Sprintf("panel %d %s", p.ID, target.RefID)] = target.Expr
		}
	}
	return out
}

func rules(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
				Expr  string `yaml:"expr"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(read(t, "kscertctl.rules.yml"), &file); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			out[r.Alert] = r.Expr
		}
	}
	return out
}

type panel struct {
	ID          int    `json:"id"`
	Title       string `json:"title"`
	Type        string `json:"type"`
	Description string `json:"description"`
	GridPos     struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	} `json:"gridPos"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

func panels(t *testing.T) []panel {
	t.Helper()
	var file struct {
		Panels []panel `json:"panels"`
	}
	dec := json.NewDecoder(bytes.NewReader(read(t, "dashboard.json")))
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	return file.Panels
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A rule or panel about a metric or label that kscertctl does not write would never show
// anything.
func TestOnlyWhatIsWritten(t *testing.T) {
	t.Parallel()
	known := metrics()
	metric := regexp.MustCompile(`\bkscertctl_[a-z0-9_]+`)
	selector := regexp.MustCompile(`(kscertctl_[a-z0-9_]+)\{([^}]*)\}`)
	used := map[string]bool{}
	all := expressions(t)
	if len(all) < 20 {
		t.Fatalf("only %d expressions were found: the search is broken", len(all))
	}
	for where, expr := range all {
		names := metric.FindAllString(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s uses no metric: %s", where, expr)
		}
		for _, name := range names {
			used[name] = true
			if known[name] == nil {
				t.Errorf("%s uses %s, which kscertctl does not write", where, name)
			}
		}
		for _, m := range selector.FindAllStringSubmatch(expr, -1) {
			for pair := range strings.SplitSeq(m[2], ",") {
				label := regexp.MustCompile(`^\s*([a-z_]+)`).FindString(pair)
				if !slices.Contains(known[m[1]], strings.TrimSpace(label)) {
					t.Errorf("%s uses label %s of %s, which has %v", where, label, m[1], known[m[1]])
				}
			}
		}
	}
	// Each metric about a problem is used by a rule or a panel.
	for _, name := range []string{"kscertctl_node_up", "kscertctl_certificate_unreadable", "kscertctl_certificate_key_match", "kscertctl_served_certificate_stale", "kscertctl_inspection_timestamp_seconds"} {
		if !used[name] {
			t.Errorf("no rule or panel uses %s", name)
		}
	}
}

// The rules' tests have each alert both firing and silent.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	var file struct {
		Tests []struct {
			Rules []struct {
				Alert  string `yaml:"alertname"`
				Alerts []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	if err := yaml.Unmarshal(read(t, "kscertctl.rules_test.yml"), &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, r := range test.Rules {
			if len(r.Alerts) > 0 {
				fires[r.Alert] = true
			} else {
				silent[r.Alert] = true
			}
		}
	}
	for alert := range rules(t) {
		if !fires[alert] || !silent[alert] {
			t.Errorf("%s: tested as firing %t, as silent %t", alert, fires[alert], silent[alert])
		}
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	taken := map[[2]int]int{}
	for _, p := range panels(t) {
		if seen[p.ID] || p.ID == 0 {
			t.Errorf("panel %q: another panel has the same id %d", p.Title, p.ID)
		}
		seen[p.ID] = true
		if p.Title == "" || p.Description == "" || p.Type == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d is incomplete: %+v", p.ID, p)
		}
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d is wider than the dashboard", p.ID)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok {
					t.Fatalf("panels %d and %d overlap", p.ID, other)
				}
				taken[at] = p.ID
			}
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %d panels", len(seen))
	}
}

// With promtool: the rules are valid and pass their tests, the dashboard's expressions are
// valid PromQL, and the metrics are valid.
func TestPromtool(t *testing.T) {
	t.Parallel()
	tool := os.Getenv("KSCERTCTL_PROMTOOL")
	if tool == "" {
		t.Skip("KSCERTCTL_PROMTOOL is not set; ./hack/task check:prometheus sets it")
	}
	promtool := func(t *testing.T, in []byte, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Stdin = bytes.NewReader(in)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	t.Run("check rules", func(t *testing.T) { t.Parallel(); promtool(t, nil, "check", "rules", "kscertctl.rules.yml") })
	t.Run("test rules", func(t *testing.T) { t.Parallel(); promtool(t, nil, "test", "rules", "kscertctl.rules_test.yml") })
	t.Run("expressions", func(t *testing.T) {
		t.Parallel()
		// As recording rules, since promtool parses those.
		type rule struct {
			Record string `yaml:"record"`
			Expr   string `yaml:"expr"`
		}
		var all []rule
		exprs := expressions(t)
		for i, where := range slices.Sorted(maps.Keys(exprs)) {
			all = append(all, rule{fmt.Sprintf("expression:%d", i), exprs[where]})
		}
		data, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": all}}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "expressions.yml")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		promtool(t, nil, "check", "rules", file)
	})
	t.Run("check metrics", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		if err := report.ExpiryPrometheus(&out, expiry.Of(tc.Expiring(), expiry.DefaultThresholds())); err != nil {
			t.Fatal(err)
		}
		promtool(t, out.Bytes(), "check", "metrics")
	})
}
