// Package container builds the project's container image. No registry takes part: the base is made
// of Debian's packages, as the lab's nodes are, and the engine is the lab's.
package container

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/infrapuzzle/kscertctl/lab/engine"
	"github.com/infrapuzzle/kscertctl/lab/host"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/sh"
)

const base = "kscertctl-lab/debian:bookworm"

// Build builds the image of the project in root like a user who has the program in a directory, except
// for the base; dir is for temporary files. Without an engine it is an error, so that no test passes
// silently.
func Build(ctx context.Context, root, image, dir string, log io.Writer) (*engine.Engine, error) {
	e, err := start(ctx, dir, log)
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, "context")
	if _, err := sh.Run(ctx, sh.Command{
		Args: []string{"go", "build", "-trimpath", "-o", filepath.Join(dir, "kscertctl"), "./cmd/kscertctl"},
		Dir:  root, Env: []string{"CGO_ENABLED=0"},
	}); err != nil {
		return nil, err
	}
	// apt-get uses the machine's network: the lab's engine may have none.
	_, err = e.Docker(ctx, "build", "--network", "host", "--build-arg", "BASE="+base, "--label", engine.LabelKey+"=image",
		"--file", filepath.Join(root, "Containerfile"), "--tag", image, dir)
	return e, err
}

// start returns an engine that has the base.
func start(ctx context.Context, dir string, log io.Writer) (*engine.Engine, error) {
	state, err := cache.Dir()
	if err == nil {
		err = host.EnsureTools(ctx, log)
	}
	if err != nil {
		return nil, err
	}
	e := engine.Find(ctx, state)
	if e == nil {
		if err := host.EnsureEngineTools(ctx, log); err != nil {
			return nil, err
		}
		if e, err = engine.Ensure(ctx, state); err != nil {
			return nil, fmt.Errorf("NOT TESTED: the image can only be built where a container engine runs or can be started: %w", err)
		}
	}
	if have, err := e.HasImage(ctx, base); err != nil || have {
		return e, err
	}
	rootfs := filepath.Join(dir, "rootfs.tar")
	if _, err := sh.Run(ctx, sh.Command{Args: []string{"mmdebstrap", "--variant=minbase", "bookworm", rootfs}}); err != nil {
		return nil, err
	}
	_, err = e.Docker(ctx, "import", "--change", "LABEL "+engine.LabelKey+"=image", rootfs, base)
	return e, err
}
