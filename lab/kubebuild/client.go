package kubebuild

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/internal/progress"
)

//go:embed _client/main.go
var clientSource []byte

// clientGo is the module of the Go client.
const clientGo = "k8s.io/client-go"

// BuildClient builds a pod's program with a version of client-go (0.37.1, no v), or finds it in the cache,
// and returns its path.
func BuildClient(ctx context.Context, cacheDir, version string, log io.Writer, tell progress.Func) (string, error) {
	digest := cache.Digest([]byte(recipe), clientSource, []byte(version), []byte(runtime.Version()))
	dir := filepath.Join(cacheDir, "client", version+"-"+digest)
	err := cache.Make(ctx, dir, func(tmp string) error {
		m := &generated{programs: []string{"./client"}, flags: []string{"-ldflags", "-s -w"}, log: log, tell: tell}
		source, err := download(ctx, clientGo, version)
		if err != nil {
			return err
		}
		if m.dir, err = os.MkdirTemp("", "kscertctl-lab-build-"); err != nil {
			return err
		}
		defer os.RemoveAll(m.dir)
		if err := writeDependent(clientGo, version, source, m.dir); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(m.dir, "client", "main.go"), clientSource); err != nil {
			return err
		}
		return m.build(ctx, tmp)
	})
	if err != nil {
		return "", fmt.Errorf("building a client with client-go %s: %w", version, err)
	}
	return filepath.Join(dir, "client"), nil
}
