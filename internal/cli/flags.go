package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
)

// inspectFlags are what every command that looks at nodes takes. Those of
// ansible-playbook keep their names and meaning.
type inspectFlags struct {
	opts    orchestrator.Options
	warn    string
	output  string
	verbose int
}

func (f *inspectFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.SortFlags = false
	a := &f.opts.Ansible
	fl.StringArrayVarP(&a.Inventories, "inventory", "i", nil, "inventory file, folder, script or host list; may be repeated (required)")
	fl.StringVarP(&a.User, "user", "u", "", "connect as this user")
	fl.StringVar(&a.PrivateKey, "private-key", "", "SSH private key file")
	fl.StringArrayVarP(&a.ExtraVars, "extra-vars", "e", nil, "extra variables: key=value, JSON, or @FILE; may be repeated")
	fl.BoolVarP(&a.Become, "become", "b", false, "hand -b to Kubespray's playbooks (our own always become root)")
	fl.IntVarP(&a.Forks, "forks", "f", 0, "nodes to work on at the same time where that is safe (default: Ansible's)")
	fl.StringArrayVar(&a.VaultIDs, "vault-id", nil, "vault identity; may be repeated")
	fl.StringArrayVar(&a.VaultPasswordFiles, "vault-password-file", nil, "vault password file; may be repeated")
	fl.CountVarP(&f.verbose, "verbose", "v", "show Ansible's own output; -vv and more make Ansible verbose too")
	fl.StringVar(&a.BinDir, "ansible-bin", "", "folder of ansible-playbook, such as VENV/bin (default: search PATH)")
	fl.StringVar(&f.opts.KubesprayDir, "kubespray-dir", "", "Kubespray checkout to run in")
	fl.StringVar(&f.warn, "warn", "30d", "a certificate is due when it ends within this time, such as 30d, 12h")
	fl.StringVar(&f.opts.StateDir, "state-dir", "", "folder for run directories (default: $XDG_STATE_HOME/kscertctl)")
	fl.StringVarP(&f.output, "output", "o", "text", "text or json")
}

// options checks the flags and returns what they say.
func (f *inspectFlags) options(cmd *cobra.Command, s Streams) (orchestrator.Options, error) {
	opts := f.opts
	if f.output != "text" && f.output != "json" {
		return opts, usage(cmd, fmt.Errorf("-o %s: must be text or json", f.output))
	}
	before, err := parseDays(f.warn)
	if err != nil {
		return opts, usage(cmd, fmt.Errorf("--warn: %w", err))
	}
	opts.Thresholds = diagnosis.DefaultThresholds()
	opts.Thresholds.RenewBefore = before
	if f.verbose > 0 {
		opts.Output = s.Err
		opts.Ansible.Verbosity = f.verbose - 1
	}
	return opts, nil
}

// parseDays reads a duration of Go with days added, which Go leaves out because
// of daylight saving; certificates count days of 24 hours.
func parseDays(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16) // more would overflow a duration
		if err != nil {
			return 0, fmt.Errorf("%q is no number of days", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no time such as 30d or 12h", s)
	}
	return d, nil
}

// choice is a flag that takes one of plan.Choices.
type choice plan.Choice

func (c *choice) String() string { return string(*c) }
func (c *choice) Type() string   { return "name" }
func (c *choice) Set(s string) error {
	if !slices.Contains(plan.Choices(), plan.Choice(s)) {
		return fmt.Errorf("must be one of %s", choices())
	}
	*c = choice(s)
	return nil
}

func choices() string {
	var names []string
	for _, c := range plan.Choices() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}
