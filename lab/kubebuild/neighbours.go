package kubebuild

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/infrapuzzle/kscertctl/lab/hyperkube"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
)

// Versions of the neighbours that do not belong to Kubernetes.
const (
	CoreDNSVersion       = "1.15.0"
	MetricsServerVersion = "0.8.0"
)

// Neighbours are programs that clusters have next to the control plane, as pods.
type Neighbours struct {
	KubeProxy, CoreDNS, MetricsServer *Tool
}

// All returns all of them.
func (n *Neighbours) All() []*Tool { return []*Tool{n.KubeProxy, n.CoreDNS, n.MetricsServer} }

// plugins are those that Kubespray's Corefile uses. The many others would need the SDKs of clouds.
var plugins = []string{
	"cache", "errors", "forward", "health", "kubernetes", "loadbalance", "loop", "metrics", "ready", "reload",
}

var (
	coredns = tool{
		name: "coredns", module: "github.com/coredns/coredns", programs: []string{"coredns"},
		version: "github.com/coredns/coredns/coremain.gitTag", main: corednsMain(),
	}
	// Like its own build, this leaves component-base's version alone: the API server library takes
	// that for a version of Kubernetes, which decides what is served.
	metricsServer = tool{
		name: "metrics-server", module: "sigs.k8s.io/metrics-server", programs: []string{"metrics-server"},
		version: "k8s.io/client-go/pkg/version.gitVersion",
	}
)

// corednsMain returns the source of CoreDNS with the chosen plugins.
func corednsMain() string {
	var imports strings.Builder
	for _, p := range plugins {
		fmt.Fprintf(&imports, "\t_ \"github.com/coredns/coredns/plugin/%s\"\n", p)
	}
	return "package main\n\nimport (\n\t\"github.com/coredns/coredns/coremain\"\n" + imports.String() +
		")\n\nfunc main() { coremain.Run() }\n"
}

// BuildNeighbours builds the neighbours in a cluster with that version of Kubernetes, or finds
// them in the cache: one after the other, since each keeps all processors busy.
func BuildNeighbours(
	ctx context.Context, cacheDir, kubernetes string, log io.Writer, tell progress.Func,
) (n *Neighbours, err error) {
	n = new(Neighbours)
	if n.KubeProxy, err = buildKubeProxy(ctx, cacheDir, kubernetes, log, tell); err != nil {
		return nil, err
	}
	if n.CoreDNS, err = coredns.make(ctx, cacheDir, CoreDNSVersion, log, tell); err != nil {
		return nil, err
	}
	n.MetricsServer, err = metricsServer.make(ctx, cacheDir, MetricsServerVersion, log, tell)
	return n, err
}

// buildKubeProxy builds kube-proxy in Kubernetes' generated module, but into a file of its own:
// most clusters of the lab have none, and need not wait for it.
func buildKubeProxy(
	ctx context.Context, cacheDir, kubernetes string, log io.Writer, tell progress.Func,
) (*Tool, error) {
	const name = "kube-proxy"
	source, err := hyperkube.Source()
	if err != nil {
		return nil, err
	}
	digest := cache.Digest([]byte(recipe), []byte(kubernetes), []byte(runtime.Version()))
	dir := filepath.Join(cacheDir, name, kubernetes+"-"+digest)
	err = cache.Make(ctx, dir, func(tmp string) error {
		m, err := newModule(ctx, source, Versions{Kubernetes: kubernetes}, log, tell)
		if err != nil {
			return err
		}
		defer os.RemoveAll(m.dir)
		m.programs = []string{"k8s.io/kubernetes/cmd/" + name}
		return m.build(ctx, tmp)
	})
	if err != nil {
		return nil, fmt.Errorf("building %s %s: %w", name, kubernetes, err)
	}
	return &Tool{Version: kubernetes, Programs: []string{filepath.Join(dir, name)}, Digest: digest}, nil
}
