package kubebuild

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const kubernetesMod = `module k8s.io/kubernetes

go 1.24.0

godebug default=go1.24

require (
	github.com/spf13/cobra v1.8.1
	go.etcd.io/etcd/client/v3 v3.5.21
	go.etcd.io/etcd/server/v3 v3.5.13 // indirect
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.130.1
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/sample-controller => ./staging/src/k8s.io/sample-controller
)
`

func TestGenerateMod(t *testing.T) {
	out, err := generateMod([]byte(kubernetesMod), Versions{Kubernetes: "1.33.13"})
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", out, nil)
	if err != nil {
		t.Fatalf("the result is not a go.mod: %v\n%s", err, out)
	}
	if mod.Go.Version != "1.24.0" || len(mod.Godebug) != 1 || mod.Godebug[0].Value != "go1.24" {
		t.Errorf("the language settings are not Kubernetes' own:\n%s", out)
	}
	requires := map[string]string{}
	for _, r := range mod.Require {
		requires[r.Mod.Path] = r.Mod.Version
	}
	for path, want := range map[string]string{
		"k8s.io/kubernetes":          "v1.33.13",
		"k8s.io/api":                 "v0.33.13",
		"k8s.io/klog/v2":             "v2.130.1",
		"github.com/spf13/cobra":     "v1.8.1",
		"go.etcd.io/etcd/server/v3":  "v3.5.21", // the client's, not the indirect one
		"go.etcd.io/etcd/etcdctl/v3": "v3.5.21",
	} {
		if requires[path] != want {
			t.Errorf("requires %s %s, want %s", path, requires[path], want)
		}
	}
	replaces := map[string]string{}
	for _, r := range mod.Replace {
		replaces[r.Old.Path] = r.New.Path + " " + r.New.Version
	}
	if len(replaces) != 2 || replaces["k8s.io/sample-controller"] != "k8s.io/sample-controller v0.33.13" {
		t.Errorf("replaces %v, want both staging modules by their published versions", replaces)
	}
	again, err := generateMod([]byte(kubernetesMod), Versions{Kubernetes: "1.33.13"})
	if err != nil || string(again) != string(out) {
		t.Errorf("a second run gives another file (%v)", err)
	}
}

func TestEtcdVersion(t *testing.T) {
	out, err := generateMod([]byte(kubernetesMod), Versions{Kubernetes: "1.33.13", Etcd: "3.5.23"})
	if err != nil || !strings.Contains(string(out), "go.etcd.io/etcd/server/v3 v3.5.23\n") {
		t.Errorf("got %v and\n%s\nwant etcd 3.5.23", err, out)
	}
	for _, v := range []Versions{{}, {Kubernetes: "v1.33.13"}, {Kubernetes: "1.33.13", Etcd: "3.5"}} {
		if err := v.check(); err == nil {
			t.Errorf("%+v are accepted as versions", v)
		}
	}
}

func TestCrictlVersion(t *testing.T) {
	for kubernetes, want := range map[string]string{
		"1.33.13": "1.34.0", "1.34.4": "1.34.0", "1.35.4": "1.34.0", "1.36.3": "1.36.0", "1.38.0": "1.37.0",
	} {
		if got := crictlVersion(kubernetes); got != want {
			t.Errorf("crictl for Kubernetes %s is %s, want %s", kubernetes, got, want)
		}
	}
}

func TestDependentMod(t *testing.T) {
	in := "module example.org/tool\n\ngo 1.24.1\n\nrequire example.org/lib v1.2.3\n"
	out, err := dependentMod("example.org/tool", "2.0.1", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go 1.24.1\n", "example.org/tool v2.0.1\n", "example.org/lib v1.2.3\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	in += "\nreplace example.org/lib => ./lib\n"
	if out, err := dependentMod("example.org/tool", "2.0.1", []byte(in)); err == nil {
		t.Errorf("got no error but\n%s", out)
	}
}

func TestCoreDNSMain(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", corednsMain(), parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	// A Corefile with a directive that is not compiled in does not start.
	if len(file.Imports) != len(plugins)+1 || !strings.Contains(corednsMain(), `_ "github.com/coredns/coredns/plugin/kubernetes"`) {
		t.Errorf("the program is\n%s", corednsMain())
	}
}

func TestGenerateModRefuses(t *testing.T) {
	for name, test := range map[string]struct{ mod, version string }{
		"no go.mod":  {"}", "1.33.13"},
		"version":    {kubernetesMod, "2.0.0"},
		"no staging": {"module k8s.io/kubernetes\n\ngo 1.24\n", "1.33.13"},
		"no etcd":    {strings.Replace(kubernetesMod, "go.etcd.io/etcd/client/v3", "example.org/x", 1), "1.33.13"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := generateMod([]byte(test.mod), Versions{Kubernetes: test.version}); err == nil {
				t.Errorf("got no error but\n%s", out)
			}
		})
	}
}

func TestApplet(t *testing.T) {
	out, err := applet([]byte("// Comment.\npackage main\n\nimport \"os\"\n\nfunc main() {\n\tos.Exit(run())\n}\n\nfunc run() int { return 3 }\n"), "kubelet")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"package kubelet", "func Main() {", "func run() int"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if _, err := applet([]byte("package main\n"), "x"); err == nil {
		t.Error("a package without main becomes an applet")
	}
}

func TestLinkerFlags(t *testing.T) {
	flags := linkerFlags("1.33.13")
	for _, want := range []string{"k8s.io/component-base/version.gitVersion=v1.33.13", "k8s.io/client-go/pkg/version.gitMinor=33"} {
		if !strings.Contains(flags, want) {
			t.Errorf("%q is missing in %q", want, flags)
		}
	}
}
