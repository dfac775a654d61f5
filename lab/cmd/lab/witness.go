package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/repair"
	"github.com/infrapuzzle/kscertctl/lab/witness"
)

func plantCommand() *cobra.Command {
	return &cobra.Command{
		Use: "plant [NAME]", Short: "plant witnesses in a healthy cluster", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(args)
			if err != nil {
				return err
			}
			w, err := witness.Plant(cmd.Context(), c)
			if err != nil {
				return err
			}
			return w.Save()
		},
	}
}

func verifyCommand() *cobra.Command {
	var kept bool
	cmd := &cobra.Command{
		Use: "verify [NAME]", Short: "verify that a repair harmed no witness", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(args)
			if err != nil {
				return err
			}
			w, err := witness.Load(c)
			if err != nil {
				return err
			}
			w.KubeletsKept = kept
			if err := w.Verify(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "all is well")
			return nil
		},
	}
	cmd.Flags().BoolVar(&kept, "kubelets-kept", false, "kubelets' client certificates may be those of before")
	return cmd
}

func repairCommand() *cobra.Command {
	return &cobra.Command{
		Use: "repair [NAME]", Short: "repair a cluster by the bare shell scripts (the benchmark's baseline)",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := newEnv(os.Stderr)
			if err != nil {
				return err
			}
			c, err := cluster.Load(env, name(args))
			if err != nil {
				return err
			}
			took, err := repair.Cluster(cmd.Context(), c)
			if err != nil {
				return err
			}
			env.Log(fmt.Sprintf("repaired in %.1fs", took.Seconds()))
			return nil
		},
	}
}
