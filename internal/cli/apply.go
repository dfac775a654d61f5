package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
)

func newApply(s Streams) *cobra.Command {
	var (
		flags  carryFlags
		back   bool
		digest string
	)
	cmd := &cobra.Command{
		Use:   "apply FILE -i INVENTORY",
		Short: "Carry out a plan that \"plan --out\" wrote",
		Long: `apply carries out a plan that was made and reviewed before, without asking again.
It locks the cluster, inspects every node again, and refuses with exit code 7 when
a node is no longer what the plan was made for, naming the file.

With --digest it refuses any file other than the reviewed one: pass the SHA-256
that "plan --out" printed.

The file defines what is done: on which nodes, with which choices, with which
times. It does not define how the nodes are reached, nor what runs on this machine:
inventory, connection, passwords, extra variables, checkout and programs are those
of this command and its settings. Names that a certificate may lose or that the
inventory may lack, tags and the directory of backups must be the same as for the
plan.`,
		Example: `  kscertctl plan -i inventory.ini --out renewal.json
  kscertctl apply renewal.json -i inventory.ini --digest SHA256`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, sum, err := readPlan(cmd, args[0], digest)
			if err != nil {
				return err
			}
			opts, err := flags.checked(cmd, s)
			if err != nil {
				return err
			}
			if err := opts.Follow(p.Request); err != nil {
				if e, ok := errors.AsType[*orchestrator.Error](err); ok {
					e.Next = "review what it commands, then run: " + report.ApplyCommand(args[0], digest, p.Request)
				}
				return err
			}
			uses(s.Err, args[0], sum, p, opts)
			opts.RollbackOnFailure = back
			return carry(cmd, s, opts, flags.results,
				func(ctx context.Context, o *orchestrator.Orchestrator) (orchestrator.Result, error) {
					return o.Apply(ctx, p)
				})
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&digest, "digest", "",
		"refuse the file unless this is its SHA-256, as printed by \"plan --out\"")
	acceptLosses(cmd, &flags.opts)
	allowNotInInventory(cmd, &flags.opts)
	allowUnreachable(cmd, &flags.opts)
	serial(cmd, &flags.opts, "as planned")
	tags(cmd, &flags.opts)
	backupRoot(cmd, &flags.opts)
	rollbackOnFailure(cmd, &back)
	return cmd
}

func rollbackOnFailure(cmd *cobra.Command, back *bool) {
	cmd.Flags().BoolVar(back, "rollback-on-failure", false,
		"roll back automatically when it stops after a change (exit code 9)")
}

// readPlan reads a plan file, which must have the digest if that is not empty. It returns the
// actual digest.
func readPlan(cmd *cobra.Command, file, digest string) (p run.Proposal, sum string, err error) {
	if want, err := hex.DecodeString(digest); err != nil || len(want) != 0 && len(want) != 32 {
		return p, "", usage(cmd, errors.New("--digest: must be a SHA-256, which is 64 hexadecimal digits"))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return p, "", proposalError(err)
	}
	sum = run.Digest(data)
	if digest != "" && !strings.EqualFold(digest, sum) {
		return p, sum, &orchestrator.Error{
			Code:    orchestrator.ExitNotBegun,
			Summary: fmt.Sprintf("%s is not the plan file with that digest: its SHA-256 is %s", file, sum),
			Next: "nothing was changed; get the file that was reviewed, or make a new plan: kscertctl plan -i " +
				"INVENTORY --out FILE",
		}
	}
	if p, err = run.ParseProposal(file, data); err != nil {
		return p, sum, proposalError(err)
	}
	return p, sum, nil
}

// proposalError explains a plan file that cannot be used.
func proposalError(err error) error {
	e := &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err,
		Next: "name a file written by: kscertctl plan --out FILE"}
	if _, ok := errors.AsType[*run.DamagedError](err); ok {
		e.Code, e.Next = orchestrator.ExitNotBegun,
			"nothing was changed; make a new plan: kscertctl plan -i INVENTORY --out FILE"
	}
	return e
}

// uses shows what is about to be carried out, and with which options, except values that may be
// secret. An output error is ignored.
func uses(w io.Writer, file, digest string, p run.Proposal, opts orchestrator.Options) {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, line := range [][2]string{
		{"plan:", fmt.Sprintf("%s, made %s", file, p.Made.Format(time.RFC3339))},
		{"SHA-256:", digest},
		{"inventory:", strings.Join(opts.Ansible.Inventories, ", ")},
		{"connection:", cmp.Or(strings.Join(connection(opts.Ansible), ", "), "as Ansible is configured")},
		{"checkout:", cmp.Or(opts.KubesprayDir, "none given")},
		{"names that may be lost:", cmp.Or(strings.Join(opts.AcceptSANLoss, ", "), "none")},
		{"subjects that may change:", cmp.Or(strings.Join(opts.AcceptSubjectChange, ", "), "none")},
	} {
		_, _ = fmt.Fprintf(tw, "%s\t%s\n", line[0], line[1])
	}
	_ = tw.Flush()
}

// connection returns the options that reach the nodes, without secrets.
func connection(a ansible.Options) (words []string) {
	timeout := ""
	if a.Timeout > 0 {
		timeout = fmt.Sprintf("%d s", a.Timeout)
	}
	given := func(n int) string {
		if n == 0 {
			return ""
		}
		return "given"
	}
	for _, f := range [][2]string{
		{"user", a.User},
		{"key", a.PrivateKey},
		{"plugin", a.Connection},
		{"timeout", timeout},
		{"become method", a.BecomeMethod},
		{"become user", a.BecomeUser},
		{"connection password file", a.ConnectionPasswordFile},
		{"become password file", a.BecomePasswordFile},
		{"vault password files", strings.Join(a.VaultPasswordFiles, " ")},
		{"vault identities", strings.Join(a.VaultIDs, " ")},
		{"Ansible in", a.BinDir},
		{"arguments of ssh", given(len(a.SSHCommonArgs + a.SSHExtraArgs + a.SFTPExtraArgs + a.SCPExtraArgs))},
		{"extra variables", given(len(a.ExtraVars))},
		{"options after --", given(len(a.Args))},
	} {
		if f[1] != "" {
			words = append(words, f[0]+" "+f[1])
		}
	}
	return words
}
