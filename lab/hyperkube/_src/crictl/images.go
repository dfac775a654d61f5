package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type imageJSON struct {
	ID          string   `json:"id"`
	RepoTags    []string `json:"repoTags"`
	RepoDigests []string `json:"repoDigests"`
	Size        string   `json:"size"`
	Pinned      bool     `json:"pinned"`
}

func toImageJSON(i *cri.Image) imageJSON {
	out := imageJSON{ID: i.Id, RepoTags: i.RepoTags, RepoDigests: i.RepoDigests,
		Size: strconv.FormatUint(imageSize(i), 10), Pinned: i.Pinned}
	if out.RepoTags == nil {
		out.RepoTags = []string{}
	}
	if out.RepoDigests == nil {
		out.RepoDigests = []string{}
	}
	return out
}

// imageSize reads a field whose accessor has a name of its own with each of the
// two protobuf compilers that CRI's messages have been made with.
func imageSize(image any) uint64 {
	switch i := image.(type) {
	case interface{ GetSize() uint64 }:
		return i.GetSize()
	case interface{ GetSize_() uint64 }:
		return i.GetSize_()
	}
	return 0
}

func imagesCommand(c *client) *cobra.Command {
	var (
		quiet, full  bool
		output, tmpl string
	)
	cmd := &cobra.Command{Use: "images", Aliases: []string{"image", "img"}, Short: "list images",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter := &cri.ImageFilter{}
			if len(args) > 0 {
				filter.Image = &cri.ImageSpec{Image: args[0]}
			}
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.image.ListImages(ctx, &cri.ListImagesRequest{Filter: filter})
			if err != nil {
				return fmt.Errorf("listing images: %w", err)
			}
			switch {
			case output != "" && output != "table":
				items := []imageJSON{}
				for _, i := range resp.Images {
					items = append(items, toImageJSON(i))
				}
				return printAs(map[string]any{"images": items}, output, tmpl)
			case quiet:
				for _, i := range resp.Images {
					fmt.Println(i.Id)
				}
				return nil
			}
			w := table()
			row(w, "IMAGE", "TAG", "IMAGE ID", "SIZE")
			for _, i := range resp.Images {
				for _, tag := range i.RepoTags {
					at := strings.LastIndex(tag, ":")
					row(w, tag[:at], tag[at+1:], shortID(i.Id, full), fmt.Sprintf("%.3gMB", float64(imageSize(i))/1e6))
				}
			}
			return w.Flush()
		}}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only show image IDs")
	cmd.Flags().BoolVar(&full, "no-trunc", false, "show output without truncating the ID")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json|table|go-template")
	cmd.Flags().StringVar(&tmpl, "template", "", "go template, with -o go-template")
	return cmd
}

func inspectiCommand(c *client) *cobra.Command {
	return inspector("inspecti", "return the status of one or more images",
		func(cmd *cobra.Command, id string) (any, error) {
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.image.ImageStatus(ctx,
				&cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: id}, Verbose: true})
			if err != nil {
				return nil, fmt.Errorf("image status for %q: %w", id, err)
			}
			if resp.Image == nil {
				return nil, fmt.Errorf("no such image %q present", id)
			}
			return map[string]any{"status": toImageJSON(resp.Image), "info": verboseInfo(resp.Info)}, nil
		})
}

func pullCommand(c *client) *cobra.Command {
	return &cobra.Command{Use: "pull", Short: "pull an image from a registry", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := c.request(cmd, 5*time.Minute)
			defer cancel()
			resp, err := c.image.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: args[0]}})
			if err != nil {
				return fmt.Errorf("pulling image: %w", err)
			}
			fmt.Printf("Image is up to date for %s\n", resp.ImageRef)
			return nil
		}}
}

func infoCommand(c *client) *cobra.Command {
	var output, tmpl string
	var quiet bool
	cmd := &cobra.Command{Use: "info", Short: "display information of the container runtime",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			resp, err := c.runtime.Status(ctx, &cri.StatusRequest{Verbose: !quiet})
			if err != nil {
				return fmt.Errorf("getting status of runtime: %w", err)
			}
			conditions := []map[string]any{}
			for _, x := range resp.Status.Conditions {
				conditions = append(conditions,
					map[string]any{"type": x.Type, "status": x.Status, "reason": x.Reason, "message": x.Message})
			}
			out := verboseInfo(resp.Info)
			out["status"] = map[string]any{"conditions": conditions}
			return printAs(out, output, tmpl)
		}}
	cmd.Flags().StringVarP(&output, "output", "o", "json", "json|go-template")
	cmd.Flags().StringVar(&tmpl, "template", "", "go template, with -o go-template")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "do not show verbose information")
	return cmd
}

func versionCommand(c *client) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "display runtime version information",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := c.request(cmd, 0)
			defer cancel()
			v, err := c.runtime.Version(ctx, &cri.VersionRequest{})
			if err != nil {
				return fmt.Errorf("getting the runtime version: %w", err)
			}
			fmt.Printf("Version:  %s\nRuntimeName:  %s\nRuntimeVersion:  %s\nRuntimeApiVersion:  %s\n",
				v.Version, v.RuntimeName, v.RuntimeVersion, v.RuntimeApiVersion)
			return nil
		}}
}
