package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// defaultTimeout limits a command on a node if the caller's context has no deadline.
const defaultTimeout = 2 * time.Minute

// Exec runs a command on a node as root and returns its stdout. At the deadline, it also kills
// the command on the node: the engine would leave it running.
func (c *Cluster) Exec(ctx context.Context, node string, args ...string) ([]byte, error) {
	return c.ExecInput(ctx, node, nil, args...)
}

// ExecInput is Exec with stdin.
func (c *Cluster) ExecInput(ctx context.Context, node string, stdin io.Reader, args ...string) ([]byte, error) {
	n, err := c.Node(node)
	if err != nil {
		return nil, err
	}
	left := defaultTimeout
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	docker := []string{"exec", "-e", c.path()}
	if stdin != nil {
		docker = append(docker, "-i")
	}
	seconds := strconv.FormatFloat(max(left.Seconds(), 0.1), 'f', 1, 64)
	docker = append(docker, n.Container, "timeout", "-k", "2", seconds)
	out, err := c.engine.DockerInput(ctx, stdin, append(docker, args...)...)
	if err != nil {
		return out, fmt.Errorf("on node %s: %w", node, err)
	}
	return out, nil
}

// path contains the directories of Kubernetes' programs, for the lab only: other processes on
// the node do not have them in PATH.
func (c *Cluster) path() string {
	return "PATH=" + c.Spec.BinDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

// Shell runs a bash script on a node as root, with set -e.
func (c *Cluster) Shell(ctx context.Context, node, script string) ([]byte, error) {
	return c.Exec(ctx, node, "bash", "-euo", "pipefail", "-c", script)
}

// Kubectl runs kubectl with admin.conf on the first control plane.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) ([]byte, error) {
	return c.KubectlOn(ctx, c.state.Nodes[0].Name, nil, args...)
}

// KubectlOn runs kubectl against a control plane's own API server with its admin.conf, with
// stdin if it is not nil.
func (c *Cluster) KubectlOn(ctx context.Context, node string, stdin io.Reader, args ...string) ([]byte, error) {
	args = append([]string{
		"kubectl", "--kubeconfig", c.Spec.ConfigDir + "/admin.conf", "--server", localServer, "--cache-dir",
		"/run/kubectl", "--request-timeout", "10s",
	}, args...)
	return c.ExecInput(ctx, node, stdin, args...)
}

// ShellCommand returns the command line of an interactive shell on a node.
func (c *Cluster) ShellCommand(node string, tty bool, args ...string) ([]string, error) {
	n, err := c.Node(node)
	if err != nil {
		return nil, err
	}
	docker := []string{"exec", "-i"}
	if tty {
		docker = append(docker, "-t")
	}
	docker = append(docker, "-e", c.path(), "-e", "KUBECONFIG="+c.Spec.ConfigDir+"/admin.conf", n.Container)
	if len(args) == 0 {
		args = []string{"bash", "-l"}
	}
	return c.engine.Command(append(docker, args...)...), nil
}

// File is a file on a node.
type File struct {
	Path string
	Data []byte
	// Mode has the permission bits.
	Mode int64
	// Owner and Group are names; empty means root.
	Owner, Group string
}

// WriteFiles writes files to a node, with their parent directories. It overwrites an existing
// file in place: links to it stay valid.
func (c *Cluster) WriteFiles(ctx context.Context, node string, files ...File) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Size: int64(len(f.Data)),
			Uname: orRoot(f.Owner), Gname: orRoot(f.Group), ModTime: time.Now(),
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(f.Data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err := c.ExecInput(ctx, node, &buf, "tar", "-C", "/", "-xpf", "-", "--overwrite")
	if err != nil {
		return fmt.Errorf("writing files: %w", err)
	}
	return nil
}

// ReadFiles reads files from a node under their real paths, following links. It omits missing
// paths; a path may be a shell pattern.
func (c *Cluster) ReadFiles(ctx context.Context, node string, patterns ...string) ([]File, error) {
	script := `shopt -s nullglob
for f in $1; do [ -f "$f" ] && readlink -f -- "$f"; done | sort -u | tar -C / -P -cf - --no-recursion -T -`
	out, err := c.Exec(ctx, node, "bash", "-c", script, "read", strings.Join(patterns, " "))
	if err != nil {
		return nil, fmt.Errorf("reading files: %w", err)
	}
	var files []File
	r := tar.NewReader(bytes.NewReader(out))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading files of node %s: %w", node, err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("reading %s of node %s: %w", h.Name, node, err)
		}
		files = append(files, File{Path: h.Name, Data: data, Mode: h.Mode & 0o7777, Owner: h.Uname, Group: h.Gname})
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	return files, nil
}

func orRoot(name string) string {
	if name == "" {
		return "root"
	}
	return name
}

// Each calls f for all nodes in parallel and waits for all of them. The first failure cancels
// the others; the error has all nodes that failed by themselves.
func Each(ctx context.Context, nodes []Node, f func(context.Context, Node) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for _, n := range nodes {
		wg.Go(func() {
			err := f(ctx, n)
			if err == nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if len(errs) > 0 && errors.Is(err, context.Canceled) {
				return // canceled because of another node's failure
			}
			errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
			cancel()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Poll calls f until it returns nil or ctx is done; the error is then f's last one.
func Poll(ctx context.Context, timeout, interval time.Duration, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (%s): %w: %w", what, timeout, ctx.Err(), last)
		case <-time.After(interval):
		}
	}
}
