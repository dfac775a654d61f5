package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/infrapuzzle/kscertctl/internal/config"
	"github.com/infrapuzzle/kscertctl/internal/fleet"
	"github.com/infrapuzzle/kscertctl/orchestrator"
)

func newFleet(s Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "Work on many clusters that one file names",
		Long: `fleet works on the clusters that a fleet file names: see
docs/how-to/fleets.md and the schema docs/reference/schemas/fleet-v1.json.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFleetCheck(s), newFleetPlan(s), newFleetRun(s), newFleetStatus(s), newFleetSubmit(s),
		newFleetWork(s))
	return cmd
}

// fleetFlags choose the clusters, and how many are worked on at the same time.
type fleetFlags struct {
	file, selector string
	parallel       int
}

func (f *fleetFlags) register(cmd *cobra.Command, parallel int) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVarP(&f.file, "file", "f", fleet.FileName, "fleet file")
	f.choosing(cmd, parallel)
}

// choosing registers the flags that choose clusters of the file.
func (f *fleetFlags) choosing(cmd *cobra.Command, parallel int) {
	cmd.Flags().StringVar(&f.selector, "selector", "",
		"only clusters with these labels, as in Kubernetes: env=prod, env!=test, env in (a, b), !env; several "+
			"with commas")
	cmd.Flags().IntVar(&f.parallel, "parallel-clusters", parallel, "how many clusters to work on at the same time")
}

// fleetKnown are the settings that a cluster of a fleet may have.
func fleetKnown(root *cobra.Command) config.Known {
	k := known(root)
	refused := map[string]string{"inventory": "a fleet file names them in \"inventories\" or \"each\""}
	for _, s := range settings() {
		if s.whole {
			refused[s.name] = "it is no setting of a cluster: use the flag, the environment or " + config.FileName
		}
	}
	maps.Copy(k.Refused, refused)
	k.Settings = slices.DeleteFunc(k.Settings, func(s config.Setting) bool { return refused[s.Name] != "" })
	return k
}

// chosen are the clusters of a fleet file that a command works on.
type chosen struct {
	fleet.File
	// path is that of the file, absolute.
	path string
	// all are the clusters of the file, clusters those that were chosen.
	all, clusters []fleet.Cluster
	// base has the settings from elsewhere for all clusters.
	base map[string]config.Value
	// ask asks for a password, once for all clusters.
	ask func(prompt string) (string, error)
}

// choose reads the fleet file and returns the clusters that flags and names choose. Anyone who may
// write the file can have commands run, as with kscertctl.yaml.
func (f *fleetFlags) choose(cmd *cobra.Command, s Streams, names []string) (c chosen, err error) {
	if f.parallel < 1 {
		return c, usage(cmd, fmt.Errorf("--parallel-clusters %d: must be 1 or more", f.parallel))
	}
	selector, err := fleet.ParseSelector(f.selector)
	if err != nil {
		return c, usage(cmd, fmt.Errorf("--selector: %w", err))
	}
	text, err := config.Read(cmd.Context(), f.file, "-f", os.Getenv)
	if err != nil {
		return c, fleetError(err)
	}
	if c.path, err = filepath.Abs(f.file); err != nil {
		return c, fmt.Errorf("finding the working directory: %w", err)
	}
	if c.File, err = fleet.Parse(f.file, text, fleetKnown(cmd.Root())); err != nil {
		return c, fleetError(err)
	}
	if c.all, err = c.Clusters(os.DirFS("/"), filepath.Dir(c.path)); err != nil {
		return c, fleetError(err)
	}
	if c.clusters, err = fleet.Choose(c.all, selector, names); err != nil {
		return c, usage(cmd, err)
	}
	from, err := readElsewhere(cmd)
	c.base, c.ask = from.values, oneAtATime(asker(s))
	return c, err
}

// oneAtATime serializes questions for passwords.
func oneAtATime(ask func(string) (string, error)) func(string) (string, error) {
	var mu sync.Mutex
	return func(prompt string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return ask(prompt)
	}
}

// fleetError is settingsError for a fleet file.
func fleetError(err error) error { return unusable(err, "correct the fleet file; nothing was done") }

// settle sets the flags of a command on one cluster: from the settings for all clusters, the fleet
// file, and the flags of the fleet command.
func (c chosen) settle(typed, one *cobra.Command, of fleet.Cluster) error {
	values := maps.Clone(c.base)
	maps.Copy(values, config.Merge(of.Settings))
	values["inventory"] = config.Value{Name: "inventory", Values: of.Inventories,
		Origin: config.Origin{Source: config.Flag}}
	for _, e := range settingsOf(one) {
		err := error(nil)
		if f := e.flagOf(typed); f != nil && f.Changed {
			err = e.set(valueOf(f))
		} else if v, ok := values[e.name]; ok {
			if err = e.set(v); err != nil {
				err = fmt.Errorf("%s: %w", v.Origin, err)
			}
		}
		if err != nil {
			return usage(typed, fmt.Errorf("cluster %s: %w", of.Name, err))
		}
	}
	return nil
}

// valueOf is the value of a flag that was given.
func valueOf(f *pflag.Flag) config.Value {
	v := config.Value{Name: f.Name, Values: []string{f.Value.String()}, Origin: config.Origin{Source: config.Flag}}
	if l, ok := f.Value.(list); ok {
		v.Values = l.GetSlice()
	}
	return v
}

// inParallel calls do for each of n, at most atOnce at the same time, and waits for all.
func inParallel(n, atOnce int, do func(i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// summed is the error of a fleet command: the worst exit code of its clusters, and the error of
// each; nil for none.
func summed(what string, names []string, errs []error, next string) error {
	e := &orchestrator.Error{Next: next}
	var bad []string
	var words []string
	for i, err := range errs {
		if err == nil {
			continue
		}
		e.Code = orchestrator.Worst(e.Code, orchestrator.Code(err))
		bad = append(bad, names[i])
		line, _, _ := strings.Cut(err.Error(), "\n")
		line = fmt.Sprintf("%s: exit code %d: %s", names[i], orchestrator.Code(err), line)
		if e, ok := errors.AsType[*orchestrator.Error](err); ok && e.Next != "" {
			line += "\n  next: " + strings.ReplaceAll(e.Next, "\n", "\n  ")
		}
		words = append(words, line)
	}
	if len(bad) == 0 {
		return nil
	}
	const shown = 10 // the document has all
	if more := len(words) - shown; more > 0 {
		words = append(words[:shown], fmt.Sprintf("and %d more", more))
	}
	e.Summary = fmt.Sprintf("%s: %d of %d clusters", what, len(bad), len(names))
	e.Evidence = strings.Join(words, "\n")
	return e
}
