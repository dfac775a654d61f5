package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func psCommand(c *client) *cobra.Command {
	var (
		sel              selection
		quiet, full, res bool
		output, tmpl     string
	)
	cmd := &cobra.Command{Use: "ps", Aliases: []string{"list"}, Short: "list containers",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unexpected arguments %q", args)
			}
			filter, err := sel.containerFilter()
			if err != nil {
				return err
			}
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{Filter: filter})
			if err != nil {
				return fmt.Errorf("listing containers: %w", err)
			}
			list, err := sel.containers(resp.Containers)
			if err != nil {
				return err
			}
			switch {
			case output != "" && output != "table":
				items := []containerJSON{}
				for _, x := range list {
					items = append(items, toContainerJSON(x))
				}
				return printAs(map[string]any{"containers": items}, output, tmpl)
			case quiet:
				for _, x := range list {
					fmt.Println(x.Id)
				}
				return nil
			}
			w := table()
			row(w, "CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE")
			for _, x := range list {
				row(w, shortID(x.Id, full), shortID(x.Image.GetImage(), full), age(x.CreatedAt),
					containerState(x.State),
					x.Metadata.GetName(), strconv.Itoa(int(x.Metadata.GetAttempt())), shortID(x.PodSandboxId, full),
					x.Labels[podNameLabel], x.Labels[podNamespaceLabel])
			}
			return w.Flush()
		}}
	f := cmd.Flags()
	sel.addFlags(f)
	f.BoolVarP(&sel.all, "all", "a", false, "show all containers")
	f.StringVarP(&sel.pod, "pod", "p", "", "filter by pod id")
	f.StringVar(&sel.image, "image", "", "filter by container image")
	f.BoolVarP(&quiet, "quiet", "q", false, "only display container IDs")
	f.BoolVar(&full, "no-trunc", false, "show output without truncating the ID")
	f.BoolVarP(&res, "resolve-image-path", "R", false, "accepted, without effect")
	f.StringVarP(&output, "output", "o", "", "json|table|go-template")
	f.StringVar(&tmpl, "template", "", "go template, with -o go-template")
	return cmd
}

func containerState(s cri.ContainerState) string {
	name := strings.ToLower(strings.TrimPrefix(s.String(), "CONTAINER_"))
	return strings.ToUpper(name[:1]) + name[1:]
}

func stopCommand(c *client) *cobra.Command {
	var grace int64
	cmd := &cobra.Command{Use: "stop", Short: "stop one or more running containers", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(id string) error {
				ctx, cancel := c.request(cmd, time.Duration(grace)*time.Second+time.Minute)
				defer cancel()
				if _, err := c.runtime.StopContainer(ctx,
					&cri.StopContainerRequest{ContainerId: id, Timeout: grace}); err != nil {
					return fmt.Errorf("stopping the container %q: %w", id, err)
				}
				fmt.Println(id)
				return nil
			})
		}}
	cmd.Flags().Int64VarP(&grace, "timeout", "t", 0,
		"seconds to wait to kill the container after a graceful stop is requested")
	return cmd
}

func rmCommand(c *client) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{Use: "rm", Short: "remove one or more containers",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				ctx, cancel := c.request(cmd, 0)
				defer cancel()
				resp, err := c.runtime.ListContainers(ctx, &cri.ListContainersRequest{})
				if err != nil {
					return err
				}
				args = nil
				for _, x := range resp.Containers {
					args = append(args, x.Id)
				}
			} else if len(args) == 0 {
				return errors.New("ID cannot be empty")
			}
			return each(args, func(id string) error {
				ctx, cancel := c.request(cmd, time.Minute)
				defer cancel()
				resp, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
				if err != nil {
					return err
				}
				if resp.Status.State == cri.ContainerState_CONTAINER_RUNNING {
					if !force {
						return fmt.Errorf("container %q is running, please stop it first", id)
					}
					if _, err := c.runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id}); err != nil {
						return err
					}
				}
				if _, err := c.runtime.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: id}); err != nil {
					return fmt.Errorf("removing container %q: %w", id, err)
				}
				fmt.Println(id)
				return nil
			})
		}}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove all containers")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "force removal, regardless of state")
	return cmd
}

func inspectCommand(c *client) *cobra.Command {
	return inspector("inspect", "display the status of one or more containers",
		func(cmd *cobra.Command, id string) (any, error) {
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id, Verbose: true})
			if err != nil {
				return nil, fmt.Errorf("getting the status of the container %q: %w", id, err)
			}
			return map[string]any{"status": toContainerStatusJSON(resp.Status), "info": verboseInfo(resp.Info)}, nil
		})
}

// inspector is the shape of inspect, inspectp and inspecti.
func inspector(use, short string, get func(*cobra.Command, string) (any, error)) *cobra.Command {
	var output, tmpl string
	var quiet bool
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(args, func(id string) error {
				v, err := get(cmd, id)
				if err != nil {
					return err
				}
				return printAs(v, output, tmpl)
			})
		}}
	cmd.Flags().StringVarP(&output, "output", "o", "json", "json|go-template")
	cmd.Flags().StringVar(&tmpl, "template", "", "go template, with -o go-template")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "accepted, without effect")
	return cmd
}

func logsCommand(c *client) *cobra.Command {
	var (
		tail                         int
		follow, timestamps, previous bool
	)
	cmd := &cobra.Command{Use: "logs", Short: "fetch the logs of a container", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: args[0]})
			if err != nil {
				return fmt.Errorf("getting the status of the container %q: %w", args[0], err)
			}
			path := resp.Status.LogPath
			if previous {
				dir := path[:strings.LastIndex(path, "/")+1]
				path = fmt.Sprintf("%s%d.log", dir, int(resp.Status.Metadata.GetAttempt())-1)
			}
			return printLog(path, tail, follow, timestamps)
		}}
	cmd.Flags().IntVar(&tail, "tail", -1, "number of lines to show from the end of the logs")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "follow log output")
	cmd.Flags().BoolVarP(&timestamps, "timestamps", "t", false, "show timestamps")
	cmd.Flags().BoolVarP(&previous, "previous", "p", false, "print the logs of the previous instance of the container")
	return cmd
}

// printLog prints a CRI log file ("time stream F|P text" a line): what the
// container wrote to stdout on stdout, and stderr on stderr.
func printLog(path string, tail int, follow, timestamps bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var lines []string
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			break
		}
		lines = append(lines, line)
	}
	if tail >= 0 && tail < len(lines) {
		lines = lines[len(lines)-tail:]
	}
	for _, line := range lines {
		printLogLine(line, timestamps)
	}
	if !follow {
		return nil
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	for {
		line, err := reader.ReadString('\n')
		switch {
		case err == nil:
			printLogLine(line, timestamps)
		case !errors.Is(err, io.EOF):
			return err
		default:
			select {
			case <-stop:
				return nil
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

func printLogLine(line string, timestamps bool) {
	parts := strings.SplitN(line, " ", 4)
	if len(parts) < 4 {
		return
	}
	out, text := io.Writer(os.Stdout), parts[3]
	if parts[1] == "stderr" {
		out = os.Stderr
	}
	if parts[2] == "P" {
		text = strings.TrimSuffix(text, "\n")
	}
	if timestamps {
		text = parts[0] + " " + text
	}
	fmt.Fprint(out, text)
}

func execCommand(c *client) *cobra.Command {
	var seconds int64
	var sync bool
	cmd := &cobra.Command{Use: "exec", Short: "run a command in a running container", Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := c.request(cmd, time.Duration(seconds)*time.Second+time.Hour)
			defer cancel()
			resp, err := c.runtime.ExecSync(ctx,
				&cri.ExecSyncRequest{ContainerId: args[0], Cmd: args[1:], Timeout: seconds})
			if err != nil {
				return fmt.Errorf("executing a command in the container %q: %w", args[0], err)
			}
			os.Stdout.Write(resp.Stdout)
			os.Stderr.Write(resp.Stderr)
			if resp.ExitCode != 0 {
				os.Exit(int(resp.ExitCode))
			}
			return nil
		}}
	cmd.Flags().BoolVarP(&sync, "sync", "s", false, "run the command synchronously (the lab's always does)")
	cmd.Flags().Int64Var(&seconds, "timeout", 0, "timeout of the command in seconds")
	return cmd
}

// each calls f for every id and goes on after a failure, as crictl does.
func each(ids []string, f func(string) error) error {
	var errs []error
	for _, id := range ids {
		if err := f(id); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
