package playbooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// kindsScript is the table of certs as the scripts of the roles have it.
func kindsScript(t *testing.T) string {
	t.Helper()
	authorities := map[certs.Authority]string{}
	var cas, leaves, kubeconfigs, hosts, files, keys, logins []string
	leaf := func(path string) string { return strings.TrimSuffix(strings.TrimSuffix(path, ".crt"), ".pem") }
	for _, row := range certs.Table() {
		if row.CA && row.Base == certs.PKI {
			if !row.Copy {
				authorities[row.Authority] = leaf(row.Path)
			}
			if row.Key != "" {
				cas = append(cas, leaf(row.Path))
			}
		}
	}
	for _, row := range certs.Table() {
		with, _ := certs.Lookup(row.With)
		switch {
		case row.Base == certs.Setting && row.Key == "":
			if row.Signer == certs.KubernetesCA {
				logins = append(logins, row.Path)
			} else {
				files = append(files, row.Path)
			}
		case row.Base == certs.Setting:
			files, keys = append(files, row.Path), append(keys, row.Key)
		case row.CA || row.Copy:
		case strings.Contains(row.Settings+row.Reader, " ") && row.Base != certs.EtcdPKI:
			t.Errorf("%s: the scripts know one setting and one other reader of a kind", row.Kind)
		case row.Base == certs.PKI:
			leaves = append(leaves, strings.Join([]string{leaf(row.Path), authorities[row.Signer], row.Settings, leaf(with.Path)}, "|"))
		case row.Base == certs.Config && row.Kind != certs.KindKubeletConf: // the kubelet's roles renew that
			kubeconfigs = append(kubeconfigs, strings.Join([]string{strings.TrimSuffix(row.Path, ".conf"), row.Settings, row.Reader}, "|"))
		case row.Base == certs.EtcdPKI:
			prefix, ok := strings.CutSuffix(row.Path, "-*.pem")
			if !ok {
				t.Errorf("%s: the scripts know files that are called after a host", row.Kind)
			}
			component, _, _ := strings.Cut(row.Settings, ".")
			hosts = append(hosts, prefix+"|"+component)
		}
	}
	var clusters []string
	for _, e := range certs.EtcdClusters() {
		clusters = append(clusters, fmt.Sprintf("%s|%d", e.Name, e.Port))
	}
	settings := slices.Concat(files, keys, logins)
	var verifiers, flags []string
	for _, v := range certs.Verifiers() {
		settings = append(settings, v.Setting)
		verifiers = append(verifiers, v.Setting+"|"+strings.Join(verified(t, v), ","))
	}
	for _, row := range certs.Table() {
		settings = append(settings, strings.Fields(row.Settings)...)
	}
	for _, setting := range settings {
		if component, flag, _ := strings.Cut(setting, "."); component != "kubelet" && !slices.Contains(flags, flag) {
			flags = append(flags, flag)
		}
	}
	var out strings.Builder
	out.WriteString(`# Kinds of certificates: TestKinds writes them from orchestrator/certs (UPDATE_DOCS=1 go test ./playbooks).
# cas and leaves: name, its CA, setting of the file in use, leaf it is used with; kubeconfigs: name, setting,
# another reader; etcd_leaves: name, reader; etcd_clusters: name, port for clients; settings that name
# certificates, keys and kubeconfigs elsewhere; verifiers: setting with the CAs, leaves that are verified by it
# (roles/external_ca/files/leaves.sh); file_flags: all flags of static pods and of etcd's unit among these
# settings.
# shellcheck shell=sh disable=SC2034
`)
	for _, list := range []struct {
		name   string
		values []string
	}{
		{"cas", cas}, {"leaves", leaves}, {"kubeconfigs", kubeconfigs}, {"etcd_leaves", hosts}, {"etcd_clusters", clusters},
		{"file_settings", files}, {"key_settings", keys}, {"login_settings", logins},
		{"verifiers", verifiers}, {"file_flags", []string{strings.Join(flags, " ")}},
	} {
		fmt.Fprintf(&out, "%s='%s'\n", list.name, strings.Join(list.values, "\n"))
	}
	return out.String()
}

// verified are the names of the leaves that a verifier verifies, as roles/external_ca knows them. All
// kubeconfigs have one name, and so have all files of kubelets.
func verified(t *testing.T, v certs.Verifier) (names []string) {
	t.Helper()
	kubeconfigs := map[bool]bool{}
	for _, row := range certs.Table() {
		if row.CA || row.Copy || row.Approved || row.Signer == certs.SelfSigned {
			continue
		}
		name := row.Path
		switch row.Base {
		case certs.PKI:
			name = strings.TrimSuffix(row.Path, ".crt")
		case certs.Kubelet:
			name = "kubelet"
		case certs.EtcdPKI:
			name = "etcd-host-" + strings.TrimSuffix(row.Path, "-*.pem")
		case certs.Config, certs.Home:
			name, kubeconfigs[v.Verifies(row)] = "kubeconfig", true
		default:
			t.Errorf("%s: roles/external_ca has no name for it", row.Kind)
		}
		if v.Verifies(row) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(kubeconfigs) != 1 {
		t.Errorf("%s verifies some kubeconfigs and others not", v.Setting)
	}
	return names
}

// kindsPlugin is the table of certs as the plugin that reads facts has it.
func kindsPlugin() string {
	var out strings.Builder
	out.WriteString(`"""Kinds of certificates: TestKinds writes them from orchestrator/certs (UPDATE_DOCS=1 go test ./playbooks)."""
from __future__ import absolute_import, division, print_function

__metaclass__ = type

KINDS = (
`)
	for _, row := range certs.Table() {
		fmt.Fprintf(&out, "    {'kind': '%s', 'base': '%s', 'path': '%s', 'key': '%s', 'signer': '%s', 'authority': '%s', 'copy': %s},\n",
			row.Kind, row.Base, row.Path, row.Key, row.Signer, row.Authority, map[bool]string{true: "True", false: "False"}[row.Copy])
	}
	out.WriteString(")\n")
	return out.String()
}

// The scripts and plugins have the kinds of the table, and no list of their own: a new kind is a row.
func TestKinds(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		playbooks.Collection + "/roles/settings/files/kinds.sh": kindsScript(t),
		playbooks.Collection + "/plugins/plugin_utils/kinds.py": kindsPlugin(),
	} {
		if os.Getenv("UPDATE_DOCS") != "" {
			if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s differs from the table in orchestrator/certs; write it with UPDATE_DOCS=1", path)
		}
	}
}

// Each kind that is renewed on a control plane is renewed by a role once it has expired: no row of
// the table is only inspected.
func TestEveryKindIsRenewed(t *testing.T) {
	t.Parallel()
	for _, row := range certs.Table() {
		renewed := !row.CA && !row.Copy && slices.Contains([]certs.Base{certs.PKI, certs.Config, certs.Home, certs.EtcdPKI}, row.Base)
		if !renewed || row.Kind == certs.KindKubeletConf { // TestKubeletConfEmbedsExpired
			continue
		}
		t.Run(string(row.Kind), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.verified()
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
			authorities := map[certs.Authority]testpki.Pair{}
			dirs := map[certs.Base]string{certs.PKI: n.conf + "/ssl", certs.Config: n.conf, certs.EtcdPKI: n.etcd, certs.Home: filepath.Dir(n.conf) + "/root/.kube"}
			for _, ca := range certs.Table() {
				if ca.CA && !ca.Copy {
					authorities[ca.Authority] = testpki.Authority(t, string(ca.Authority))
					n.write(dirs[ca.Base]+"/"+ca.Path, authorities[ca.Authority].Certificate, 0o644)
					n.write(dirs[ca.Base]+"/"+ca.Key, authorities[ca.Authority].Key, 0o600)
				}
			}
			expired := authorities[row.Signer].Issue(t, testpki.Leaf{CommonName: "expired", NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().Add(-time.Hour)})
			rel := strings.ReplaceAll(row.Path, "*", "cp1")
			file := filepath.Join(dirs[row.Base], rel)
			script := renewal(t)
			switch row.Base {
			case certs.Config, certs.Home:
				n.write(file, kubeconfig(authorities[row.Signer], expired, ""), 0o600)
			case certs.EtcdPKI:
				script = etcdRenewal(t)
				fallthrough
			default:
				n.write(file, expired.Certificate, 0o644)
				n.write(filepath.Join(dirs[row.Base], row.KeyFile(rel)), expired.Key, 0o600)
			}
			out, errs, err := n.run("KSCERT_CHECK=True\n" + script)
			if err != nil || !strings.Contains(out, "would renew "+file+", which") {
				t.Errorf("%v\n%s%s", err, out, errs)
			}
		})
	}
}
