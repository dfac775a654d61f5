package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func podsCommand(c *client) *cobra.Command {
	var (
		sel          selection
		quiet, full  bool
		output, tmpl string
	)
	cmd := &cobra.Command{Use: "pods", Short: "list pods", RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unexpected arguments %q", args)
		}
		filter, err := sel.sandboxFilter()
		if err != nil {
			return err
		}
		ctx, cancel := c.request(cmd, 0)
		defer cancel()
		resp, err := c.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: filter})
		if err != nil {
			return fmt.Errorf("listing pod sandboxes: %w", err)
		}
		list, err := sel.sandboxes(resp.Items)
		if err != nil {
			return err
		}
		switch {
		case output != "" && output != "table":
			items := []sandboxJSON{}
			for _, p := range list {
				items = append(items, toSandboxJSON(p))
			}
			return printAs(map[string]any{"items": items}, output, tmpl)
		case quiet:
			for _, p := range list {
				fmt.Println(p.Id)
			}
			return nil
		}
		w := table()
		row(w, "POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME")
		for _, p := range list {
			handler := p.RuntimeHandler
			if handler == "" {
				handler = "(default)"
			}
			row(w, shortID(p.Id, full), age(p.CreatedAt), sandboxState(p.State), p.Metadata.GetName(),
				p.Metadata.GetNamespace(), strconv.Itoa(int(p.Metadata.GetAttempt())), handler)
		}
		return w.Flush()
	}}
	f := cmd.Flags()
	sel.addFlags(f)
	f.BoolVarP(&quiet, "quiet", "q", false, "show only pod IDs")
	f.BoolVar(&full, "no-trunc", false, "show output without truncating the ID")
	f.StringVarP(&output, "output", "o", "", "json|table|go-template")
	f.StringVar(&tmpl, "template", "", "go template, with -o go-template")
	return cmd
}

func sandboxState(s cri.PodSandboxState) string {
	if s == cri.PodSandboxState_SANDBOX_READY {
		return "Ready"
	}
	return "NotReady"
}

func stoppCommand(c *client) *cobra.Command {
	return &cobra.Command{Use: "stopp", Short: "stop one or more running pods", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(id string) error {
				ctx, cancel := c.request(cmd, time.Minute)
				defer cancel()
				if _, err := c.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
					return fmt.Errorf("stopping the pod sandbox %q: %w", id, err)
				}
				fmt.Printf("Stopped sandbox %s\n", id)
				return nil
			})
		}}
}

func rmpCommand(c *client) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{Use: "rmp", Short: "remove one or more pods",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				ctx, cancel := c.request(cmd, 0)
				defer cancel()
				resp, err := c.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
				if err != nil {
					return err
				}
				args = nil
				for _, p := range resp.Items {
					args = append(args, p.Id)
				}
			} else if len(args) == 0 {
				return errors.New("ID cannot be empty")
			}
			return each(args, func(id string) error {
				ctx, cancel := c.request(cmd, time.Minute)
				defer cancel()
				resp, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id})
				if err != nil {
					return fmt.Errorf("getting sandbox status of pod %q: %w", id, err)
				}
				if resp.Status.State == cri.PodSandboxState_SANDBOX_READY {
					if !force {
						return fmt.Errorf("pod sandbox %q is running, please stop it first", id)
					}
					if _, err := c.runtime.StopPodSandbox(ctx,
						&cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
						return fmt.Errorf("stopping the pod sandbox %q failed: %w", id, err)
					}
				}
				if _, err := c.runtime.RemovePodSandbox(ctx,
					&cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
					return fmt.Errorf("removing the pod sandbox %q: %w", id, err)
				}
				fmt.Printf("Removed sandbox %s\n", id)
				return nil
			})
		}}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove all pods")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "force removal of the pod sandbox, regardless of state")
	return cmd
}

func inspectpCommand(c *client) *cobra.Command {
	return inspector("inspectp", "display the status of one or more pods",
		func(cmd *cobra.Command, id string) (any, error) {
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
			if err != nil {
				return nil, fmt.Errorf("getting the pod sandbox status of %q: %w", id, err)
			}
			s := resp.Status
			status := sandboxStatusJSON{
				ID: s.Id, Metadata: toSandboxMetadata(s.Metadata), State: s.State.String(),
				CreatedAt: nanoTime(s.CreatedAt),
				Network:   map[string]any{"ip": s.Network.GetIp()},
				Labels:    nonNil(s.Labels), Annotations: nonNil(s.Annotations), RuntimeHandler: s.RuntimeHandler,
			}
			return map[string]any{"status": status, "info": verboseInfo(resp.Info)}, nil
		})
}
