package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrapuzzle/kscertctl/internal/fleetjob"
	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
)

// managementFlags say how kubectl reaches the management cluster: it knows every way of logging in.
type managementFlags struct {
	kubeconfig, context, namespace string
}

func (f *managementFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the management cluster")
	fl.StringVar(&f.context, "context", "", "context in the kubeconfig")
	fl.StringVar(&f.namespace, "namespace", "", "namespace in the management cluster")
}

// named reports whether a management cluster is named.
func (f *managementFlags) named() bool { return len(f.flags()) > 0 }

// flags are those of kubectl.
func (f *managementFlags) flags() (args []string) {
	for _, flag := range [][2]string{{"kubeconfig", f.kubeconfig}, {"context", f.context}, {"namespace", f.namespace}} {
		if flag[1] != "" {
			args = append(args, "--"+flag[0]+"="+flag[1])
		}
	}
	return args
}

// kubectl is a command of kubectl on the management cluster.
func (f *managementFlags) kubectl(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "kubectl", append(args, f.flags()...)...)
}

// kubectlTime is how long one request may take, with logging in.
const kubectlTime = time.Minute

// ask runs kubectl and returns its output.
func (f *managementFlags) ask(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	timed, cancel := context.WithTimeout(ctx, kubectlTime)
	defer cancel()
	cmd := f.kubectl(timed, args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &complaint
	cmd.WaitDelay = time.Second // a helper that logs in may outlive it
	err := cmd.Run()
	if err != nil && timed.Err() != nil {
		err = fmt.Errorf("it has not ended within %s", kubectlTime)
	}
	switch {
	case err == nil:
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return nil, &orchestrator.Error{Code: orchestrator.ExitInterrupted, Summary: "interrupted", Err: ctx.Err(),
			Next: "what was submitted goes on; see: kscertctl fleet status --kubeconfig FILE"}
	case errors.Is(err, exec.ErrNotFound):
		return nil, &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: "kubectl is not in PATH", Err: err,
			Next: "have kubectl in PATH: it asks the management cluster"}
	default:
		return nil, &orchestrator.Error{Code: orchestrator.ExitUnreachable, Err: err,
			Summary:  fmt.Sprintf("the management cluster: kubectl %s: %v", args[0], err),
			Evidence: strings.TrimSpace(complaint.String()),
			Next:     "nothing was changed by this command; see that it works: kubectl auth can-i create jobs"}
	}
}

// submitted is what the management cluster has of it.
type submitted struct {
	doc  report.FleetRun
	jobs []fleetjob.Job
	pods []fleetjob.Pod
}

// status asks for what was submitted last, or as name.
func (f *managementFlags) status(ctx context.Context, name string) (at submitted, err error) {
	out, err := f.ask(ctx, nil, "get", "jobs", "--selector="+fleetjob.Selector, "--output=json")
	if err != nil {
		return at, err
	}
	if at.jobs, err = fleetjob.Newest(out, name); errors.Is(err, fleetjob.ErrNone) {
		return at, &orchestrator.Error{Code: orchestrator.ExitUsage, Summary: err.Error(), Err: err,
			Next: "name its namespace with --namespace; all of them: kubectl get jobs --selector=" + fleetjob.Selector}
	}
	if err != nil {
		return at, unreadable(err)
	}
	if out, err = f.ask(ctx, nil, "get", "pods", "--selector="+fleetjob.PodsOf(at.jobs), "--output=json"); err != nil {
		return at, err
	}
	if at.pods, err = fleetjob.Pods(out); err == nil {
		at.doc, err = fleetjob.Status(at.jobs, at.pods)
	}
	if err != nil {
		return at, unreadable(err)
	}
	return at, nil
}

// unreadable is the error of an answer of the API server that cannot be read.
func unreadable(err error) error {
	return &orchestrator.Error{Code: orchestrator.ExitUnexpected, Summary: err.Error(), Err: err,
		Next: "see: kubectl get jobs --output=json --selector=" + fleetjob.Selector}
}
