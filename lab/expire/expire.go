// Package expire makes the certificates of a lab cluster expire, or come close
// to it: at once, and only in their dates.
package expire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// year is how long the certificates pretend to have been valid.
const year = 365 * 24 * time.Hour

// Options say what expires and when.
type Options struct {
	// Kinds to re-sign; none means all.
	Kinds []Kind
	// Nodes to do it on, by name; none means all.
	Nodes []string
	// Files of those kinds, by real path, which may be a pattern as of
	// path.Match; none means all.
	Files []string
	// NotAfter is the new end; zero means an hour ago.
	NotAfter time.Time
	// NotBefore is the new beginning; zero means a year before the end. One
	// in the future makes certificates that are not valid yet.
	NotBefore time.Time
	// Restart stops the control plane, kubelet and etcd and has them start
	// again with what they find: what a reboot shows.
	Restart bool
}

// Cluster re-signs certificates of a cluster and returns how many.
func Cluster(ctx context.Context, c *cluster.Cluster, opts Options) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if len(opts.Kinds) == 0 {
		opts.Kinds = All()
	}
	if opts.NotAfter.IsZero() {
		opts.NotAfter = time.Now().Add(-time.Hour)
	}
	if opts.NotBefore.IsZero() {
		opts.NotBefore = opts.NotAfter.Add(-year)
	}
	nodes, err := chooseNodes(c, opts.Nodes)
	if err != nil {
		return 0, err
	}
	cas, err := readCAs(ctx, c)
	if err != nil {
		return 0, err
	}
	conf := c.Spec.ConfigDir
	r := &Resigner{CAs: cas, NotBefore: opts.NotBefore, NotAfter: opts.NotAfter}
	// Reading and writing take a moment a node and go at once; signing is
	// serial, for the copies' sake.
	var mu sync.Mutex
	count := 0
	err = cluster.Each(ctx, nodes, func(ctx context.Context, n cluster.Node) error {
		files, err := readLeaves(ctx, c, n)
		if err != nil {
			return err
		}
		mu.Lock()
		changed, err := r.files(conf, only(files, opts.Files), opts.Kinds)
		count += len(changed)
		mu.Unlock()
		if err != nil || len(changed) == 0 {
			return err
		}
		return c.WriteFiles(ctx, n.Name, changed...)
	})
	if err != nil {
		return count, fmt.Errorf("re-signing the certificates of cluster %s: %w", c.Name(), err)
	}
	if opts.Restart {
		return count, c.Restart(ctx, nodes...)
	}
	if slices.Contains(opts.Kinds, APIServer) {
		return count, waitServed(ctx, nodes, opts.NotAfter)
	}
	return count, nil
}

func chooseNodes(c *cluster.Cluster, names []string) ([]cluster.Node, error) {
	if len(names) == 0 {
		return c.Nodes(), nil
	}
	var nodes []cluster.Node
	for _, name := range names {
		n, err := c.Node(name)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// caFiles are the certificates of the CAs that sign leaves, and their keys.
var caFiles = map[string]string{
	configDir + "/ssl/ca.crt":             configDir + "/ssl/ca.key",
	configDir + "/ssl/front-proxy-ca.crt": configDir + "/ssl/front-proxy-ca.key",
	configDir + "/ssl/etcd/ca.crt":        configDir + "/ssl/etcd/ca.key",
	"/etc/ssl/etcd/ssl/ca.pem":            "/etc/ssl/etcd/ssl/ca-key.pem",
}

// readCAs reads the CAs where their keys are: etcd's on its members, the others on
// control planes.
func readCAs(ctx context.Context, c *cluster.Cluster) ([]CA, error) {
	var patterns []string
	for cert, key := range caFiles {
		patterns = append(patterns, in(c.Spec.ConfigDir, cert), in(c.Spec.ConfigDir, key))
	}
	found := map[string][]byte{}
	for _, n := range []cluster.Node{c.ControlPlanes()[0], c.EtcdMembers()[0]} {
		files, err := c.ReadFiles(ctx, n.Name, patterns...)
		if err != nil {
			return nil, fmt.Errorf("reading the CAs of node %s: %w", n.Name, err)
		}
		for _, f := range files {
			found[f.Path] = f.Data
		}
	}
	var cas []CA
	for certPath, keyPath := range caFiles {
		certPath, keyPath = in(c.Spec.ConfigDir, certPath), in(c.Spec.ConfigDir, keyPath)
		cert, key := found[certPath], found[keyPath]
		if cert == nil || key == nil {
			continue
		}
		ca, err := ParseCA(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", certPath, err)
		}
		cas = append(cas, ca)
	}
	return cas, nil
}

func readLeaves(ctx context.Context, c *cluster.Cluster, n cluster.Node) ([]cluster.File, error) {
	var patterns []string
	for _, p := range places {
		pattern := in(c.Spec.ConfigDir, p.pattern)
		if before, ok := strings.CutSuffix(pattern, "-*.pem"); ok && strings.HasPrefix(pattern, "/var/lib/kubelet/") {
			pattern = before + "-current.pem"
		}
		patterns = append(patterns, pattern)
	}
	return c.ReadFiles(ctx, n.Name, patterns...)
}

// only returns the files that one of the patterns matches; all without patterns.
func only(files []cluster.File, patterns []string) []cluster.File {
	if len(patterns) == 0 {
		return files
	}
	return slices.DeleteFunc(files, func(f cluster.File) bool {
		return !slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, err := path.Match(pattern, f.Path)
			return err == nil && ok
		})
	})
}

// files returns the successors of those files that hold one of the kinds.
func (r *Resigner) files(conf string, files []cluster.File, kinds []Kind) ([]cluster.File, error) {
	var changed []cluster.File
	for _, f := range files {
		kind, form, ok := place(conf, f.Path)
		if !ok || !slices.Contains(kinds, kind) {
			continue
		}
		var data []byte
		var err error
		switch form {
		case kubeconfig:
			data, err = r.Kubeconfig(f.Data)
		case selfIssued:
			data, err = r.SelfIssued(f.Data)
		default:
			data, err = r.PEM(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if string(data) != string(f.Data) {
			f.Data = data
			changed = append(changed, f)
		}
	}
	return changed, nil
}

// waitServed waits until the API servers that run serve the new certificate:
// they take it up by themselves, but not at once.
func waitServed(ctx context.Context, nodes []cluster.Node, notAfter time.Time) error {
	return cluster.Each(ctx, nodes, func(ctx context.Context, n cluster.Node) error {
		if n.Role != cluster.ControlPlane {
			return nil
		}
		return cluster.Poll(ctx, 90*time.Second, 300*time.Millisecond, "the API server to serve its new certificate",
			func(ctx context.Context) error {
				served, err := servedUntil(ctx, net.JoinHostPort(n.IP.String(), "6443"))
				if _, ok := errors.AsType[*net.OpError](err); ok {
					return nil // it doesn't run: nothing to wait for
				}
				if err != nil {
					return err
				}
				if !served.Equal(notAfter.Truncate(time.Second)) {
					return fmt.Errorf("the one served ends %s", served.Format(time.RFC3339))
				}
				return nil
			})
	})
}

func servedUntil(ctx context.Context, address string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	tlsConn, ok := conn.(*tls.Conn)
	if !ok {
		return time.Time{}, fmt.Errorf("%s: not TLS", address)
	}
	return tlsConn.ConnectionState().PeerCertificates[0].NotAfter, nil
}

// ParseTime reads a date: RFC 3339, 2006-01-02, or a distance from now such as
// -1h, +5d or -400d.
func ParseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil {
			return now.Add(time.Duration(n * 24 * float64(time.Hour))), nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no date: want -1h, +5d, 2026-01-31 or RFC 3339", s)
	}
	return now.Add(d), nil
}
