package main

import (
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Labels kubelet puts on every container and sandbox.
const (
	podNameLabel      = "io.kubernetes.pod.name"
	podNamespaceLabel = "io.kubernetes.pod.namespace"
)

// selection is the filter flags that ps and pods share.
type selection struct {
	id, pod, image, name, namespace, state string
	labels                                 []string
	all, latest                            bool
	last                                   int
}

func (s *selection) addFlags(f *pflag.FlagSet) {
	f.StringVar(&s.id, "id", "", "filter by id")
	f.StringVar(&s.name, "name", "", "filter by name regular expression pattern")
	f.StringVar(&s.namespace, "namespace", "", "filter by pod namespace regular expression pattern")
	f.StringVarP(&s.state, "state", "s", "", "filter by state")
	f.StringArrayVar(&s.labels, "label", nil, "filter by key=value label")
	f.BoolVarP(&s.latest, "latest", "l", false, "show the most recently created")
	f.IntVarP(&s.last, "last", "n", 0, "show the last n created")
}

func (s *selection) labelSelector() (map[string]string, error) {
	selector := map[string]string{}
	for _, l := range s.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return nil, fmt.Errorf("incorrectly formatted label: %s", l)
		}
		selector[key] = value
	}
	return selector, nil
}

// matches applies the filters the runtime does not: name and namespace are
// unanchored regular expressions.
func (s *selection) matches(name, namespace string) (bool, error) {
	for _, m := range []struct{ pattern, value string }{{s.name, name}, {s.namespace, namespace}} {
		if m.pattern == "" {
			continue
		}
		re, err := regexp.Compile(m.pattern)
		if err != nil {
			return false, err
		}
		if !re.MatchString(m.value) {
			return false, nil
		}
	}
	return true, nil
}

func (s *selection) limit(n int) int {
	switch {
	case s.latest && n > 1:
		return 1
	case s.last > 0 && s.last < n:
		return s.last
	}
	return n
}

func (s *selection) containerFilter() (*cri.ContainerFilter, error) {
	labels, err := s.labelSelector()
	if err != nil {
		return nil, err
	}
	filter := &cri.ContainerFilter{Id: s.id, PodSandboxId: s.pod, LabelSelector: labels}
	switch strings.ToLower(s.state) {
	case "":
		if !s.all && !s.latest && s.last == 0 {
			filter.State = &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
		}
	case "created", "running", "exited", "unknown":
		state := cri.ContainerState(cri.ContainerState_value["CONTAINER_"+strings.ToUpper(s.state)])
		filter.State = &cri.ContainerStateValue{State: state}
	default:
		return nil, fmt.Errorf("--state should be one of created, running, exited or unknown")
	}
	return filter, nil
}

func (s *selection) sandboxFilter() (*cri.PodSandboxFilter, error) {
	labels, err := s.labelSelector()
	if err != nil {
		return nil, err
	}
	filter := &cri.PodSandboxFilter{Id: s.id, LabelSelector: labels}
	switch strings.ToLower(s.state) {
	case "":
	case "ready":
		filter.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}
	case "notready":
		filter.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_NOTREADY}
	default:
		return nil, fmt.Errorf("--state should be ready or notready")
	}
	return filter, nil
}

func (s *selection) containers(list []*cri.Container) ([]*cri.Container, error) {
	sort.SliceStable(list, func(i, j int) bool { return list[i].CreatedAt > list[j].CreatedAt })
	var out []*cri.Container
	for _, c := range list {
		ok, err := s.matches(c.Metadata.GetName(), c.Labels[podNamespaceLabel])
		if err != nil {
			return nil, err
		}
		if s.image != "" && !strings.HasPrefix(c.ImageRef, s.image) && c.Image.GetImage() != s.image {
			ok = false
		}
		if ok {
			out = append(out, c)
		}
	}
	return out[:s.limit(len(out))], nil
}

func (s *selection) sandboxes(list []*cri.PodSandbox) ([]*cri.PodSandbox, error) {
	sort.SliceStable(list, func(i, j int) bool { return list[i].CreatedAt > list[j].CreatedAt })
	var out []*cri.PodSandbox
	for _, p := range list {
		ok, err := s.matches(p.Metadata.GetName(), p.Metadata.GetNamespace())
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, p)
		}
	}
	return out[:s.limit(len(out))], nil
}
