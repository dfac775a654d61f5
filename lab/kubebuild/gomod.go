package kubebuild

import (
	"fmt"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// modulePath is the path of the generated module.
const modulePath = "kscertctl.lab"

// etcdServer is the module of etcd, and its version that of etcd.
const etcdServer = "go.etcd.io/etcd/server/v3"

// generateMod writes a go.mod that builds Kubernetes outside its own tree, from Kubernetes'
// go.mod of that version.
//
// Kubernetes replaces its staging modules by directories, which a dependent module does not
// see. Each is published as the matching v0 version, so each gets a replacement by that. All
// requirements are repeated, so that the versions are those of the Kubernetes release and
// nothing has to be resolved. The etcd server and etcdctl get the client's version by default; a
// newer etcd raises the client, too, and what it requires.
func generateMod(kubernetesMod []byte, v Versions) ([]byte, error) {
	version := v.Kubernetes
	in, err := modfile.Parse("kubernetes/go.mod", kubernetesMod, nil)
	if err != nil {
		return nil, fmt.Errorf("reading the go.mod of Kubernetes %s: %w", version, err)
	}
	minor, ok := strings.CutPrefix(version, "1.")
	if !ok {
		return nil, fmt.Errorf("kubernetes version %q is not 1.x.y", version)
	}
	staging := map[string]string{}
	for _, r := range in.Replace {
		if strings.HasPrefix(r.New.Path, "./staging/") {
			staging[r.Old.Path] = "v0." + minor
		}
	}
	if len(staging) == 0 {
		return nil, fmt.Errorf("the go.mod of Kubernetes %s replaces no staging module", version)
	}

	out := new(modfile.File)
	if err := out.AddModuleStmt(modulePath); err != nil {
		return nil, err
	}
	if in.Go != nil {
		if err := out.AddGoStmt(in.Go.Version); err != nil {
			return nil, err
		}
	}
	for _, g := range in.Godebug {
		if err := out.AddGodebug(g.Key, g.Value); err != nil {
			return nil, err
		}
	}
	etcd := ""
	require := map[string]string{"k8s.io/kubernetes": "v" + version}
	for _, r := range in.Require {
		if v, ok := staging[r.Mod.Path]; ok {
			require[r.Mod.Path] = v
			continue
		}
		require[r.Mod.Path] = r.Mod.Version
		if r.Mod.Path == "go.etcd.io/etcd/client/v3" {
			etcd = r.Mod.Version
		}
	}
	if etcd == "" {
		return nil, fmt.Errorf("the go.mod of Kubernetes %s requires no etcd client", version)
	}
	if v.Etcd != "" {
		etcd = "v" + v.Etcd
	}
	require[etcdServer] = etcd
	require["go.etcd.io/etcd/etcdctl/v3"] = etcd

	var mods []module.Version
	for path, v := range require {
		mods = append(mods, module.Version{Path: path, Version: v})
	}
	module.Sort(mods)
	var requires []*modfile.Require
	for _, m := range mods {
		requires = append(requires, &modfile.Require{Mod: m})
	}
	out.SetRequire(requires)
	var replaced []module.Version
	for path, v := range staging {
		replaced = append(replaced, module.Version{Path: path, Version: v})
	}
	module.Sort(replaced)
	for _, m := range replaced {
		if err := out.AddReplace(m.Path, "", m.Path, m.Version); err != nil {
			return nil, err
		}
	}
	out.Cleanup()
	return out.Format()
}
