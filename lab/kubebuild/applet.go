package kubebuild

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// components are the Kubernetes commands that become applets. The lab does not run kube-proxy,
// so it is not built.
var components = []string{
	"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeadm", "kubectl", "kubelet",
}

// applet turns the source of a main package into an importable package: its function main
// becomes Main. This keeps what each Kubernetes version does in main (flags, feature
// registration, exit codes) without knowledge of it here.
func applet(source []byte, pkg string) ([]byte, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, pkg+".go", source, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	file.Name.Name = pkg
	found := false
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "main" {
			f.Name.Name, found = "Main", true
		}
	}
	if !found {
		return nil, fmt.Errorf("no main function")
	}
	var out bytes.Buffer
	if err := format.Node(&out, fset, file); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// writeApplets writes the applet packages of a Kubernetes source tree into dir.
func writeApplets(kubernetes, dir string) error {
	for _, name := range components {
		sources, err := filepath.Glob(filepath.Join(kubernetes, "cmd", name, "*.go"))
		if err != nil {
			return err
		}
		var mains int
		for _, path := range sources {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if !bytes.Contains(source, []byte("\nfunc main()")) {
				continue
			}
			code, err := applet(source, strings.ReplaceAll(name, "-", ""))
			if err != nil {
				return fmt.Errorf("making an applet of %s: %w", path, err)
			}
			if err := writeFile(filepath.Join(dir, "applet", name, filepath.Base(path)), code); err != nil {
				return err
			}
			mains++
		}
		if mains != 1 {
			return fmt.Errorf("kubernetes' cmd/%s has %d main functions, want 1", name, mains)
		}
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
