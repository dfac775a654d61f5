package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

func newCARotate(s Streams) *cobra.Command {
	var (
		flags                caFlags
		cas, until, strategy words
		validity             string
		patch                bool
		stages, rotates      = names(diagnosis.Stages()), names(plan.CAs())
	)
	cmd := &cobra.Command{
		Use:   "rotate -i INVENTORY",
		Short: "Replace CAs by ones with new keys, stage by stage, and cut no one off",
		Long: `rotate replaces CAs of a healthy cluster by ones with a new key and another name, in stages:

  make     the next CA is made next to the present one; its key reaches only nodes that
           have the present key, encrypted to each
  trust    files, kubeconfigs, ConfigMaps and pods trust both
  clients  clients get certificates of the next CA
  servers  API servers, too; the next CA takes the place of the former
  drop     no one trusts the former CA any more

Without --until it takes the next stage, as found on the nodes, and stops there: for
minutes or for months, on this machine or another. It never drops the former CA without
"--until drop". Each stage is a run with a plan, a backup and gates, that can be resumed, and
before "servers" be rolled back. For etcd's CA, members and API servers restart at "trust"
and at "drop", one node at a time.

Where the CA's key is lost or known to others, or no API server can be used, there is no
time for stages. These strategies replace the CAs at once, in one run, and repair what that
cuts off:

  offline  new CAs on one control plane, encrypted to the others; what they sign is issued
           again on each, and kubelets are enrolled again
  literal  the procedure of kubeadm's users, on a single control plane: all certificates
           and kubeconfigs made by kubeadm init phase

Service account keys and the CA of etcd stay. Pods that started with the former CA restart
(--restart-workloads, by default those of kube-system) or are listed. Such a run can be
rolled back, even after its end.`,
		Example: `  kscertctl ca rotate -i inventory.ini
  kscertctl ca rotate -i inventory.ini --ca etcd
  kscertctl ca rotate -i inventory.ini --until drop --stable-for 10m
  kscertctl ca rotate -i inventory.ini --strategy offline --restart-workloads all`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := flags.authorities(cmd, s, validity)
			if err != nil {
				return err
			}
			opts.RotateCAs = chosenCAs(cas, plan.RotatedCAs())
			if len(until.values) > 1 {
				return usage(cmd, errors.New("--until names one stage"))
			}
			if how, ok := strategies[strings.Join(strategy.values, ",")]; ok {
				if len(until.values) > 0 {
					return usage(cmd, errors.New("--until is for stages, and this strategy has none"))
				}
				opts.RotateStage, opts.PatchCABundles = how, patch
				if !cmd.Flags().Changed("restart-workloads") {
					opts.RestartWorkloads = plan.RestartSystem
				}
				return flags.run(cmd, s, opts)
			}
			switch {
			case len(strategy.values) > 1:
				return usage(cmd, errors.New("--strategy names one"))
			case patch || opts.RestartWorkloads == plan.RestartSystem:
				return usage(cmd,
					errors.New("--restart-workloads system and --patch-ca-bundles need --strategy offline or literal"))
			}
			snap, err := flags.snapshot(cmd, s)
			if err != nil {
				return err
			}
			return flags.rotate(cmd, s, opts, plan.NextStage(snap, opts.RotateCAs), strings.Join(until.values, ""))
		},
	}
	flags.register(cmd)
	cas.only, until.only = rotates, stages
	strategy.only = []string{"staged", "offline", "literal"}
	cmd.Flags().Var(&cas, "ca",
		"rotate this CA: "+strings.Join(rotates, ", ")+"; separated by commas, may be repeated (default: "+
			strings.Join(names(plan.RotatedCAs()), ",")+")")
	cmd.Flags().Var(&until, "until",
		"last stage: "+strings.Join(stages, ", ")+" (default: the next one, except drop)")
	restarts := plan.Restarts()
	flags.opts.RestartWorkloads = plan.RestartNone
	cmd.Flags().Var(oneOf[plan.Restart]{&flags.opts.RestartWorkloads, restarts}, "restart-workloads",
		"before drop, or after a CA is replaced at once, have controllers restart workloads that may know the "+
			"former CA alone (listed, or in kube-system: system), or all, one after another: "+
			strings.Join(names(restarts), ", "))
	cmd.Flags().StringVar(&validity, "validity", "",
		"lifetime of the new CAs, such as 10y (default: kubeadm's setting, or as before)")
	cmd.Flags().Var(&strategy, "strategy", strings.Join(strategy.only, ", ")+" (default: staged)")
	cmd.Flags().BoolVar(&patch, "patch-ca-bundles", false,
		"put the new CA into caBundles that have the one replaced at once")
	allowUnreachable(cmd, &flags.opts)
	flags.registerRun(cmd, "workers change")
	return cmd
}

// strategies are those that replace CAs at once, by name.
var strategies = map[string]diagnosis.Stage{"offline": diagnosis.StageReplace, "literal": diagnosis.StageLiteral}

// rotate takes the stages from one to another, each in a run; the first alone if that is empty.
func (f *caFlags) rotate(cmd *cobra.Command, s Streams, opts orchestrator.Options, from diagnosis.Stage,
	until string) error {
	all := diagnosis.Stages()
	first, last := slices.Index(all, from), slices.Index(all, diagnosis.Stage(until))
	switch {
	case until == "" && from == diagnosis.StageDrop:
		_, err := fmt.Fprintln(s.Out, "Only the last stage is left: kscertctl ca rotate -i INVENTORY --until drop")
		return err
	case until == "":
		last = first
	case last < first:
		_, err := fmt.Fprintf(s.Out, "The stage %q is behind: the next one is %q.\n", until, from)
		return err
	}
	for _, stage := range all[first : last+1] {
		opts.RotateStage = stage
		if err := f.run(cmd, s, opts); err != nil {
			return err
		}
	}
	return nil
}

func newCAStatus(s Streams) *cobra.Command {
	var (
		flags  inspectFlags
		output textOutput
	)
	cmd := &cobra.Command{
		Use:   "status -i INVENTORY",
		Short: "Show which CA each part of a cluster trusts and presents; changes nothing",
		Long: `status shows the stage of a rotation of CAs, and for each file, kubeconfig, port and object
of the cluster which CA it trusts, or which has signed what it presents: the present one or
the next.`,
		Example: `  kscertctl ca status -i inventory.ini
  kscertctl ca status -i inventory.ini -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := output.check(cmd); err != nil {
				return err
			}
			snap, err := flags.snapshot(cmd, s)
			if err != nil {
				return err
			}
			all := diagnosis.RotationsOf(snap)
			if output.output == "json" {
				err = report.JSON(s.Out, all)
			} else {
				err = report.Rotations(s.Out, all)
			}
			if err == nil && slices.ContainsFunc(snap.Nodes, func(n snapshot.Node) bool { return n.Failure != nil }) {
				return &orchestrator.Error{Code: orchestrator.ExitUnreachable,
					Summary: "not every node could be inspected: what is not known is not shown",
					Next:    "see why: kscertctl diagnose -i INVENTORY"}
			}
			return err
		},
	}
	flags.register(cmd)
	output.register(cmd)
	flags.registerSnapshot(cmd)
	return cmd
}
