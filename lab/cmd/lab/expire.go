package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

func expireCommand() *cobra.Command {
	var (
		opts          expire.Options
		kinds         []string
		at, notBefore string
	)
	cmd := &cobra.Command{
		Use: "expire [NAME]", Short: "make certificates expire", Args: cobra.MaximumNArgs(1),
		Long: `Re-sign certificates with other dates: same key, names, usages and issuer.

Kinds: all, yearly (what a year does to a Kubespray cluster: all but host
etcd, whose certificates last a century), or any of apiserver,
apiserver-kubelet-client, apiserver-etcd-client, front-proxy-client, admin,
super-admin, controller-manager, scheduler, kubelet, kubelet-serving, etcd.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := newEnv(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			c, err := cluster.Load(env, name(args))
			if err != nil {
				return err
			}
			if opts.Kinds, err = expire.ParseKinds(kinds); err != nil {
				return err
			}
			if opts.NotAfter, err = expire.ParseTime(at, time.Now()); err != nil {
				return err
			}
			if notBefore != "" {
				if opts.NotBefore, err = expire.ParseTime(notBefore, time.Now()); err != nil {
					return err
				}
			}
			n, err := expire.Cluster(cmd.Context(), c, opts)
			if err != nil {
				return err
			}
			env.Log(fmt.Sprintf("%d files re-signed, valid until %s", n, opts.NotAfter.UTC().Format(time.RFC3339)))
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&kinds, "kind", []string{"all"}, "kinds of certificate")
	f.StringSliceVar(&opts.Nodes, "node", nil, "only on these nodes")
	f.StringVar(&at, "at", "-1h", "when they end: -1h, +5d, 2026-01-31, RFC 3339")
	f.StringVar(&notBefore, "not-before", "", "when they begin (default a year before the end)")
	f.BoolVar(&opts.Restart, "restart", false, "restart control plane, kubelet and etcd afterwards, as a reboot would")
	return cmd
}
