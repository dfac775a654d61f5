package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The structs below are the JSON crictl prints: protobuf's mapping, with
// 64-bit numbers as strings and enumerations by name. They are spelled out so
// that the output is the same whichever protobuf runtime cri-api was made with.

type containerJSON struct {
	ID           string            `json:"id"`
	PodSandboxID string            `json:"podSandboxId"`
	Metadata     metadataJSON      `json:"metadata"`
	Image        imageSpecJSON     `json:"image"`
	ImageRef     string            `json:"imageRef"`
	State        string            `json:"state"`
	CreatedAt    string            `json:"createdAt"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
}

type metadataJSON struct {
	Name    string `json:"name"`
	Attempt uint32 `json:"attempt"`
}

type imageSpecJSON struct {
	Image       string            `json:"image"`
	Annotations map[string]string `json:"annotations"`
}

type sandboxMetadataJSON struct {
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Namespace string `json:"namespace"`
	Attempt   uint32 `json:"attempt"`
}

type sandboxJSON struct {
	ID             string              `json:"id"`
	Metadata       sandboxMetadataJSON `json:"metadata"`
	State          string              `json:"state"`
	CreatedAt      string              `json:"createdAt"`
	Labels         map[string]string   `json:"labels"`
	Annotations    map[string]string   `json:"annotations"`
	RuntimeHandler string              `json:"runtimeHandler"`
}

type mountJSON struct {
	ContainerPath  string `json:"containerPath"`
	HostPath       string `json:"hostPath"`
	Propagation    string `json:"propagation"`
	Readonly       bool   `json:"readonly"`
	SelinuxRelabel bool   `json:"selinuxRelabel"`
}

type containerStatusJSON struct {
	ID          string            `json:"id"`
	Metadata    metadataJSON      `json:"metadata"`
	State       string            `json:"state"`
	CreatedAt   string            `json:"createdAt"`
	StartedAt   string            `json:"startedAt"`
	FinishedAt  string            `json:"finishedAt"`
	ExitCode    int32             `json:"exitCode"`
	Image       imageSpecJSON     `json:"image"`
	ImageRef    string            `json:"imageRef"`
	Reason      string            `json:"reason"`
	Message     string            `json:"message"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Mounts      []mountJSON       `json:"mounts"`
	LogPath     string            `json:"logPath"`
}

type sandboxStatusJSON struct {
	ID             string              `json:"id"`
	Metadata       sandboxMetadataJSON `json:"metadata"`
	State          string              `json:"state"`
	CreatedAt      string              `json:"createdAt"`
	Network        map[string]any      `json:"network"`
	Labels         map[string]string   `json:"labels"`
	Annotations    map[string]string   `json:"annotations"`
	RuntimeHandler string              `json:"runtimeHandler"`
}

func toContainerJSON(c *cri.Container) containerJSON {
	return containerJSON{
		ID: c.Id, PodSandboxID: c.PodSandboxId,
		Metadata: metadataJSON{c.Metadata.GetName(), c.Metadata.GetAttempt()},
		Image:    imageSpecJSON{c.Image.GetImage(), nonNil(c.Image.GetAnnotations())},
		ImageRef: c.ImageRef, State: c.State.String(), CreatedAt: strconv.FormatInt(c.CreatedAt, 10),
		Labels: nonNil(c.Labels), Annotations: nonNil(c.Annotations),
	}
}

func toSandboxJSON(p *cri.PodSandbox) sandboxJSON {
	return sandboxJSON{
		ID: p.Id, Metadata: toSandboxMetadata(p.Metadata),
		State: p.State.String(), CreatedAt: strconv.FormatInt(p.CreatedAt, 10),
		Labels: nonNil(p.Labels), Annotations: nonNil(p.Annotations), RuntimeHandler: p.RuntimeHandler,
	}
}

func toSandboxMetadata(m *cri.PodSandboxMetadata) sandboxMetadataJSON {
	return sandboxMetadataJSON{m.GetName(), m.GetUid(), m.GetNamespace(), m.GetAttempt()}
}

func toContainerStatusJSON(s *cri.ContainerStatus) containerStatusJSON {
	out := containerStatusJSON{
		ID: s.Id, Metadata: metadataJSON{s.Metadata.GetName(), s.Metadata.GetAttempt()}, State: s.State.String(),
		CreatedAt: nanoTime(s.CreatedAt), StartedAt: nanoTime(s.StartedAt), FinishedAt: nanoTime(s.FinishedAt),
		ExitCode: s.ExitCode, Image: imageSpecJSON{s.Image.GetImage(), nonNil(s.Image.GetAnnotations())},
		ImageRef: s.ImageRef, Reason: s.Reason, Message: s.Message,
		Labels: nonNil(s.Labels), Annotations: nonNil(s.Annotations), LogPath: s.LogPath,
	}
	for _, m := range s.Mounts {
		out.Mounts = append(out.Mounts,
			mountJSON{m.ContainerPath, m.HostPath, m.Propagation.String(), m.Readonly, m.SelinuxRelabel})
	}
	return out
}

func nonNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func nanoTime(ns int64) string { return time.Unix(0, ns).Format(time.RFC3339Nano) }

// verboseInfo opens the JSON documents a runtime packs into its info strings.
func verboseInfo(info map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range info {
		var nested any
		if json.Unmarshal([]byte(v), &nested) != nil {
			out[k] = v
			continue
		}
		if object, ok := nested.(map[string]any); ok && k == "info" {
			for nk, nv := range object {
				out[nk] = nv
			}
			continue
		}
		out[k] = nested
	}
	return out
}

// printAs writes v as JSON or through a Go template over that JSON.
func printAs(v any, format, tmpl string) error {
	switch format {
	case "json", "":
		enc := json.NewEncoder(os.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "go-template":
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		var generic any
		if err := json.Unmarshal(data, &generic); err != nil {
			return err
		}
		t, err := template.New("output").Funcs(template.FuncMap{"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		}}).Parse(tmpl)
		if err != nil {
			return err
		}
		if err := t.Execute(os.Stdout, generic); err != nil {
			return err
		}
		fmt.Println()
		return nil
	}
	return fmt.Errorf("unsupported output format %q", format)
}

func table() *tabwriter.Writer { return tabwriter.NewWriter(os.Stdout, 20, 1, 3, ' ', 0) }

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

func shortID(id string, full bool) string {
	id = strings.TrimPrefix(id, "sha256:")
	if !full && len(id) > 13 {
		return id[:13]
	}
	return id
}

// age returns a duration in words: "5 minutes ago".
func age(ns int64) string {
	d := time.Since(time.Unix(0, ns))
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if n := int(d / u.size); n == 1 {
			return "1 " + u.name + " ago"
		} else if n > 1 {
			return fmt.Sprintf("%d %ss ago", n, u.name)
		}
	}
	return "Less than a second ago"
}
