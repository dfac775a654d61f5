// Package hyperkube contains the sources of a lab node's programs that are not Debian's: a
// multi-call binary around Kubernetes' and etcd's own commands, the pause process and the canary
// workload.
//
// The sources lie in _src, a directory the go command skips, because they are
// compiled in a module that is generated for one Kubernetes version (package
// kubebuild) and whose dependencies must not become the lab's own.
package hyperkube

import (
	"embed"
	"io/fs"
)

//go:embed _src/*/*.go
var files embed.FS

// Source returns the source tree: one directory a program.
func Source() (fs.FS, error) {
	return fs.Sub(files, "_src")
}
