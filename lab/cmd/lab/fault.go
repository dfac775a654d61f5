package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/fault"
)

func breakCommand() *cobra.Command {
	cmd := faultCommand("break", "make a fault on a node, for real", fault.Fault.Make)
	var b strings.Builder
	for _, f := range fault.All() {
		fmt.Fprintf(&b, "  %-30s %s: %s\n", f.Name, f.Node, f.What)
	}
	cmd.Long = "Break a node and wait until it shows. One fault at a time: fix it before the next.\n\nThe faults:\n" +
		b.String()
	return cmd
}

func fixCommand() *cobra.Command {
	return faultCommand("fix", "undo what break did", fault.Fault.Fix)
}

func faultCommand(verb, short string, do func(fault.Fault, context.Context, *cluster.Cluster) error) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME FAULT", Short: short, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			i := slices.IndexFunc(fault.All(), func(f fault.Fault) bool { return f.Name == args[1] })
			if i < 0 {
				return fmt.Errorf("no fault %q: see lab break --help", args[1])
			}
			env, err := newEnv(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			c, err := cluster.Load(env, args[0])
			if err != nil {
				return err
			}
			return do(fault.All()[i], cmd.Context(), c)
		},
	}
}
