package kubebuild

import (
	"context"
	_ "embed"
	"io"

	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
)

//go:embed _client/main.go
var clientSource string

// client is a pod's program in a module of its own for each version of client-go.
var client = tool{
	name: "client", module: "k8s.io/client-go", programs: []string{"client"},
	version: "k8s.io/client-go/pkg/version.gitVersion", main: clientSource,
}

// BuildClient builds a pod's program with a version of client-go (0.37.1, no v), or finds it in the cache,
// and returns its path.
func BuildClient(ctx context.Context, cacheDir, version string, log io.Writer, tell progress.Func) (string, error) {
	built, err := client.make(ctx, cacheDir, version, log, tell)
	if err != nil {
		return "", err
	}
	return built.Programs[0], nil
}
