package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "disposable Kubernetes clusters in Kubespray's layout",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		upCommand(), buildCommand(), downCommand(), listCommand(), statusCommand(), shellCommand(),
		expireCommand(), breakCommand(), fixCommand(), plantCommand(), verifyCommand(), repairCommand(),
	)
	return root
}

// newEnv returns the environment of this checkout. Its logger prefixes lines with the time
// since the start.
func newEnv(w io.Writer) (cluster.Env, error) {
	var (
		mu    sync.Mutex
		start = time.Now()
		erase string
	)
	env, err := cluster.NewEnv(func(line string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "%s[%6.1fs] %s\n", erase, time.Since(start).Seconds(), line)
		erase = ""
	})
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return env, err
	}
	env.Status = func(line string) {
		mu.Lock()
		defer mu.Unlock()
		if line == "" {
			fmt.Fprint(w, erase)
			erase = ""
			return
		}
		line = fmt.Sprintf("[%6.1fs] %s", time.Since(start).Seconds(), line)
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 1 && len(line) >= width {
			// A wrapped line could not be erased.
			line = line[:width-1]
		}
		const eraseLine = "\r\x1b[K"
		fmt.Fprint(w, eraseLine+line)
		erase = eraseLine
	}
	return env, err
}

// name returns the cluster of a command: its argument, or "lab".
func name(args []string) string {
	if len(args) > 0 {
		return args[0]
	}
	return "lab"
}

func upCommand() *cobra.Command {
	var (
		spec    cluster.Spec
		etcd    string
		like    string
		runtime string
		opts    cluster.UpOptions
		verbose bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use: "up [NAME]", Short: "make a cluster and wait until it is ready", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			env, err := newEnv(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			spec.Name, spec.Etcd, spec.Like = name(args), cluster.Etcd(etcd), cluster.Like(like)
			spec.Runtime = cluster.Runtime(runtime)
			if verbose {
				opts.Verbose = cmd.ErrOrStderr()
			}
			c, err := cluster.Up(ctx, env, spec, opts)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), c.Inventory())
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&spec.ControlPlanes, "control-planes", 1, "number of control plane nodes (odd)")
	f.IntVar(&spec.Workers, "workers", 1, "number of workers")
	f.StringVar(&etcd, "etcd", string(cluster.EtcdHost),
		"who runs etcd: host (a systemd service) or kubeadm (a static pod)")
	f.StringVar(&like, "like", "",
		"kubespray: with the inventory, group_vars, owners and files that a deployment leaves")
	f.IntVar(&spec.EtcdNodes, "etcd-nodes", 0,
		"number of machines of their own for etcd (odd; default: etcd on the control planes)")
	f.BoolVar(&spec.EtcdEvents, "etcd-events", false,
		"run a second etcd cluster for events, as Kubespray does with etcd_events_cluster_setup")
	f.BoolVar(&spec.AlsoWorkers, "also-workers", false,
		"make the control planes workers, too (without workers they always are)")
	f.BoolVar(&spec.LoadBalancer, "load-balancer", false,
		"put a TCP load balancer with a name of its own before the API servers")
	f.BoolVar(&spec.LocalProxy, "local-proxy", false,
		"have workers reach the API servers through a proxy on their own machine")
	f.StringToStringVar(&spec.KubernetesNames, "kubernetes-name", nil,
		"give nodes another name in the API than in the inventory (cp1=alpha,w1=beta)")
	f.StringVar(&spec.BinDir, "bin-dir", cluster.DefaultBinDir, "Kubespray's bin_dir")
	f.StringVar(&spec.ConfigDir, "config-dir", cluster.DefaultConfigDir, "Kubespray's kube_config_dir")
	addVersions(cmd, &spec, &runtime)
	f.DurationVar(&spec.CertificateValidity, "certificate-validity", 0,
		"issue certificates this short-lived (default: kubeadm's year)")
	f.BoolVar(&opts.Keep, "keep", false, "leave a cluster that could not be made as it is")
	f.BoolVarP(&verbose, "verbose", "v", false, "show the output of builds and installations")
	f.DurationVar(&timeout, "timeout", time.Hour, "give up after")
	return cmd
}

// addVersions adds the flags for what is built.
func addVersions(cmd *cobra.Command, spec *cluster.Spec, runtime *string) {
	f := cmd.Flags()
	f.StringVar(&spec.KubernetesVersion, "kubernetes-version", kubebuild.DefaultVersion, "version to build and run")
	f.StringVar(&spec.EtcdVersion, "etcd-version", "", "version of etcd (default: that of Kubernetes' client)")
	f.StringVar(runtime, "runtime", string(cluster.ContainerdDebian),
		"container runtime: "+strings.Join(cluster.Runtimes(), " or "))
	f.BoolVar(&spec.Hardened, "hardened", false,
		"with the settings of Kubespray's hardening page, and with kube-proxy, CoreDNS and metrics-server")
}

func buildCommand() *cobra.Command {
	var (
		spec    cluster.Spec
		runtime string
		fetch   bool
	)
	cmd := &cobra.Command{
		Use: "build", Short: "build what clusters are made of, without a container engine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := newEnv(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Hour)
			defer cancel()
			if fetch {
				return kubebuild.Fetch(ctx, spec.Versions(), nil)
			}
			spec.Runtime = cluster.Runtime(runtime)
			return cluster.Build(ctx, env, spec, cluster.UpOptions{})
		},
	}
	addVersions(cmd, &spec, &runtime)
	cmd.Flags().BoolVar(&fetch, "fetch", false, "only download the modules of Kubernetes")
	return cmd
}

func downCommand() *cobra.Command {
	var all, stopEngine bool
	cmd := &cobra.Command{
		Use: "down [NAME]", Short: "remove a cluster", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return errors.New("--all takes no name")
			}
			if stopEngine && !all {
				return errors.New("--engine needs --all: other clusters may run in it")
			}
			env, err := newEnv(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Minute)
			defer cancel()
			if !all {
				return cluster.Down(ctx, env, name(args))
			}
			names, err := cluster.DownAll(ctx, env)
			if err != nil {
				return err
			}
			env.Log(fmt.Sprintf("removed: %s", strings.Join(names, " ")))
			if !stopEngine {
				return nil
			}
			stopped, err := engine.Stop(ctx, env.CacheDir)
			if stopped {
				env.Log("engine stopped")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove every cluster on this machine")
	cmd.Flags().BoolVar(&stopEngine, "engine", false, "also stop the container engine, if the lab started it")
	return cmd
}

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the clusters", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			env, err := cluster.NewEnv(nil)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			list, err := cluster.List(ctx, env)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tVERSION\tETCD\tRUNTIME\tCONTROL PLANES\tWORKERS\tMACHINES\tCOMPLETE\tAGE")
			for _, s := range list {
				age := "-"
				if !s.Created.IsZero() {
					age = time.Since(s.Created).Round(time.Second).String()
				}
				fmt.Fprintf(w, "%s\t%s\t%s %s\t%s\t%d\t%d\t%d/%d\t%t\t%s\n", s.Name, s.Spec.KubernetesVersion,
					s.Spec.Etcd, s.EtcdVersion, s.Spec.Runtime, s.Spec.ControlPlanes, s.Spec.Workers, s.Running, s.Nodes, s.Ready, age)
			}
			return w.Flush()
		},
	}
}

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [NAME]", Short: "show a cluster's nodes and whether all is ready", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(args)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "MACHINE\tROLE\tNODE\tIP\tCONTAINER")
			for _, n := range c.Machines() {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.Name, n.Role, cmp.Or(n.KubernetesName, "-"), n.IP, n.Container)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "versions   Kubernetes %s, etcd %s (%s), %s\n", c.Spec.KubernetesVersion,
				c.EtcdVersion, c.Spec.Etcd, c.Spec.Runtime)
			fmt.Fprintf(cmd.OutOrStdout(), "inventory  %s\nkubespray  %s\n", c.Inventory(), c.KubesprayDir())
			if lb, ok := c.LoadBalancer(); ok {
				fmt.Fprintf(cmd.OutOrStdout(), "endpoint   %s (%s)\n", lb.Address(), lb.Name)
			}
			return c.CheckReady(ctx)
		},
	}
}

func shellCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "shell NAME NODE [COMMAND...]", Short: "open a root shell on a node, or run a command there",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := load(args[:1])
			if err != nil {
				return err
			}
			argv, err := c.ShellCommand(args[1], term.IsTerminal(int(os.Stdin.Fd())), args[2:]...)
			if err != nil {
				return err
			}
			sub := exec.CommandContext(cmd.Context(), argv[0], argv[1:]...)
			sub.Stdin, sub.Stdout, sub.Stderr = os.Stdin, os.Stdout, os.Stderr
			return sub.Run()
		},
	}
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func load(args []string) (*cluster.Cluster, error) {
	env, err := cluster.NewEnv(nil)
	if err != nil {
		return nil, err
	}
	return cluster.Load(env, name(args))
}
