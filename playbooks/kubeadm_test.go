package playbooks_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Each version of the configuration is read whole, in every style, by the collector and by the roles; one
// that is not known is refused, with the way to migrate it.
func TestKubeadmVersions(t *testing.T) {
	t.Parallel()
	const block = `certificatesDir: DIR
controlPlaneEndpoint: "lb.example.org:6443"
kubernetesVersion: v1.34.4
apiServer:
  extraArgs: ARGS
  certSANs:
  # the load balancer
  - lb.example.org

  - "10.0.0.1" # an address
etcd:
  external:
    endpoints:
      - https://10.0.0.1:2379
`
	const flow = `certificatesDir: 'DIR'
controlPlaneEndpoint: lb.example.org:6443
kubernetesVersion: v1.34.4
apiServer: {extraArgs: ARGS, certSANs: [lb.example.org, "10.0.0.1"]}
etcd: {external: {endpoints: ["https://10.0.0.1:2379"]}}
`
	const others = "apiVersion: kubeadm.k8s.io/VERSION\nkind: InitConfiguration\ncertificatesDir: /not/of/the/cluster\n---\n"
	for version, row := range map[string]struct {
		args, algorithm, want string
		refused               bool
	}{
		"v1beta2":  {args: "{v: '2'}"},
		"v1beta3":  {args: "{v: '2'}", algorithm: "featureGates:\n  PublicKeysECDSA: true\n", want: "ECDSA-P256"},
		"v1beta4":  {args: "[{name: v, value: '2'}]", algorithm: "encryptionAlgorithm: RSA-4096\n", want: "RSA-4096"},
		"v1":       {args: "[{name: v, value: '2', mergeMethod: append}]", algorithm: "encryptionAlgorithm: RSA-4096\n", want: "RSA-4096"},
		"v2":       {args: "[]", refused: true},
		"v1alpha3": {args: "{}", refused: true},
	} {
		for style, body := range map[string]string{"block": block, "flow": flow} {
			t.Run(version+" "+style, func(t *testing.T) {
				t.Parallel()
				n := newNode(t)
				n.ok(os.MkdirAll(n.conf+"/own", 0o700))
				// Sorted, as kubeadm prints it: the kind comes after other fields.
				text := others + row.algorithm + strings.ReplaceAll(body, "ARGS", row.args) +
					"kind: ClusterConfiguration\napiVersion: kubeadm.k8s.io/VERSION\n"
				n.write(n.conf+"/kubeadm-config.yaml", []byte(strings.NewReplacer("VERSION", version, "DIR", n.conf+"/own").Replace(text)), 0o600)
				got := n.look().Kubeadm
				want := &snapshot.KubeadmConfig{
					Path: n.conf + "/kubeadm-config.yaml", APIVersion: "kubeadm.k8s.io/" + version, KubernetesVersion: "v1.34.4",
					ControlPlaneEndpoint: "lb.example.org:6443", CertificatesDir: n.conf + "/own", EncryptionAlgorithm: row.want,
					CertSANs: []string{"lb.example.org", "10.0.0.1"}, EtcdEndpoints: []string{"https://10.0.0.1:2379"},
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("read as %+v, want %+v", got, want)
				}
				out, errs, err := n.run("pki_dir")
				if row.refused {
					if err == nil || !strings.Contains(errs, "is of kubeadm.k8s.io/"+version+", which is not read here") || !strings.Contains(errs, "kubeadm config migrate") {
						t.Errorf("%v: %s%s", err, out, errs)
					}
				} else if err != nil || strings.TrimSpace(out) != n.conf+"/own" {
					t.Errorf("%v: the roles use %q: %s", err, out, errs)
				}
			})
		}
	}
}

// kubeadm is asked whether it accepts the node's configuration. A mere warning is not reported; a
// rejection is, with kubeadm's message.
func TestCollectorAsksKubeadmForItsConfiguration(t *testing.T) {
	t.Parallel()
	const good = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.4\n"
	for _, row := range []struct {
		name, text string
		status     int
		says       string
	}{
		{"as kubeadm writes it", good, 0, "ok"},
		{"the version before", strings.Replace(good, "v1beta4", "v1beta3", 1), 0, "ok"},
		{"a version that is no more", strings.Replace(good, "v1beta4", "v1beta2", 1), 1, "uses an old API spec"},
		{"a feature gate that is no more", good + "featureGates: {PublicKeysECDSA: true, UnversionedKubeletConfigMap: true}\n", 1, "is not a valid feature name"},
		{"a Kubernetes of long ago", strings.Replace(good, "1.34.4", "1.29.0", 1), 1, "only supports deploying clusters with the control plane version"},
		{"no YAML", "not: yaml: at all\n", 1, "mapping values are not allowed"},
		{"an unknown field, which it passes over", good + "bogus: 1\n", 0, ""},
		{"a document of someone else's, which it passes over", good + "---\napiVersion: foo/v1\nkind: Bar\n", 0, ""},
		{"indented", "  " + strings.ReplaceAll(strings.TrimSpace(good), "\n", "\n  ") + "\n  ", 0, "ok"},
		{"with a byte order mark and carriage returns", "\ufeff" + strings.ReplaceAll(good, "\n", "\r\n"), 0, "ok"},
		{"JSON, which kubeadm takes", `{"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "kubernetesVersion": "v1.34.4"}` + "\n", 1, "kubeadm config migrate --old-config"},
		{"a folder in a block, which kubeadm takes", strings.Replace(good, "kubernetesVersion", "certificatesDir: >-\n  /etc\nkubernetesVersion", 1) + "---\napiVersion: foo/v1\nkind: Bar\n", 1, "says certificatesDir: and a path"},
		{"a folder that is missing", good + "certificatesDir: /etc/nowhere\n---\napiVersion: foo/v1\nkind: Bar\n", 1, "/etc/nowhere, the certificatesDir of "},
		{"an unknown field before a feature gate", good + "bogus: 1\nfeatureGates: {Nope: true}\n", 1, "Nope is not a valid feature name"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.kubernetes()
			n.ok(os.Mkdir(n.conf+"/odd", 0o700))
			n.ok(os.MkdirAll(filepath.Dir(n.conf)+"/etc/kubernetes/pki", 0o700)) // kubeadm's default
			n.write(n.conf+"/kubeadm-config.yaml", []byte(row.text+"certificatesDir: "+n.conf+"/odd\n"), 0o600)
			if strings.Contains(row.text, "---") || strings.HasPrefix(row.text, "{") {
				n.write(n.conf+"/kubeadm-config.yaml", []byte(row.text), 0o600)
			}
			got := n.look()
			r := got.Results["kubeadm-config"]
			if dir := got.Facts["pki"]; row.status == 0 && !strings.Contains(row.text, "---") && dir != n.conf+"/odd" {
				t.Errorf("the folder is %q", dir)
			}
			if r.Status != row.status || !strings.Contains(r.Output, row.says) {
				t.Errorf("status %d, want %d: %s", r.Status, row.status, r.Output)
			}
		})
	}
}

// What kubeadm quotes from a configuration that it rejects may be a secret.
func TestCollectorQuotesNoSecret(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"bootstrapTokens:\n- token: c4n4ry\n", "certificateKey: c4n4ry\n", "certificateKey: 'x\"c4n4ry\"c4n4ry'\n"} {
		n := newNode(t)
		n.kubernetes()
		n.write(n.conf+"/kubeadm-config.yaml", []byte("apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n"+field+
			"---\napiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.34.4\n"), 0o600)
		out, errs, err := n.sh(collector(t))
		if err != nil || !strings.Contains(out, "@@RESULT kubeadm-config 1\n|") || strings.Contains(out+errs, "c4n4ry") {
			t.Errorf("%s%v: %s%s", field, err, out, errs)
		}
	}
}

// kubeadm's configuration sets the algorithm of new keys.
func TestCollectorTellsOfNewKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "encryptionAlgorithm: 'ECDSA-P256'\n": "ECDSA-P256",
		"featureGates:\n  PublicKeysECDSA: true\n": "ECDSA-P256", "featureGates:\n  PublicKeysECDSA: false\n": "",
	} {
		n := newNode(t)
		n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\nkubernetesVersion: v1.34.4\n"+text), 0o600)
		if got := n.look(); got.Kubeadm == nil || got.Kubeadm.EncryptionAlgorithm != want {
			t.Errorf("%q: %+v, want %q", text, got.Kubeadm, want)
		}
	}
}

// An old kubeadm without "config validate", and with "alpha certs" instead of "certs", is asked,
// too.
func TestCollectorAsksAnOldKubeadm(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.bin+"/kubeadm", []byte(`#!/bin/sh
case $* in
version*) echo v1.18.0 ;;
'alpha certs check-expiration --config '*) echo 'W0301 12:00:00 x'; echo 'featureGates: Invalid value'; exit 1 ;;
*) echo "invalid subcommand $*"; exit 1 ;;
esac
`), 0o755)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\n"), 0o600)
	got := n.look()
	if r := got.Results["kubeadm-config"]; r.Status != 1 || !strings.HasSuffix(r.Output, "featureGates: Invalid value") {
		t.Errorf("%+v", r)
	}
}

// kubeadm's configuration is YAML: quoted words and comments are read as kubeadm reads them.
func TestKubeadmConfigQuotes(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	due := time.Now().Add(24 * time.Hour)
	for _, row := range []struct{ kind, dir string }{
		{"kind: ClusterConfiguration", "certificatesDir: DIR"},
		{`kind: "ClusterConfiguration"`, `certificatesDir: "DIR"`},
		{"kind: 'ClusterConfiguration'", "certificatesDir: 'DIR'"},
		{`"kind": ClusterConfiguration  # as always`, `"certificatesDir":   'DIR' # not ours`},
		{"kind: ClusterConfiguration\r", "certificatesDir: DIR\r"},
		{"kind: ClusterConfiguration", "certificatesDir: DIR   # a comment"},
		{"  kind: ClusterConfiguration", "  certificatesDir: 'DIR'"},
		{"\ufeffkind: ClusterConfiguration\r", "certificatesDir: DIR\r"},
	} {
		t.Run(row.kind+" "+row.dir, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			indent := strings.Repeat(" ", len(row.kind)-len(strings.TrimLeft(row.kind, " ")))
			text := row.kind + "\n" + indent + "apiVersion: kubeadm.k8s.io/v1beta4\n" + indent + "kubernetesVersion: v1.34.4\n" + strings.Replace(row.dir, "DIR", n.conf+"/ssl", 1) + "\n"
			n.write(n.conf+"/kubeadm-config.yaml", []byte(text), 0o600)
			leaf := testpki.Leaf{CommonName: "kube-apiserver-kubelet-client", Organization: "kubeadm:cluster-admins",
				Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: due}
			old := ca.Issue(t, leaf)
			n.write(n.conf+"/ssl/apiserver-kubelet-client.crt", old.Certificate, 0o644)
			n.write(n.conf+"/ssl/apiserver-kubelet-client.key", old.Key, 0o600)
			out, errs, err := n.run(role(t, "control_plane_certificates/files/renew.sh"))
			if err != nil || !strings.Contains(out, "changed: apiserver-kubelet-client") {
				t.Errorf("%v: %s%s", err, out, errs)
			}
		})
	}
}

// A configuration of kubeadm that cannot be understood is reported, and no backup is taken that
// might be incomplete because of it.
func TestKubeadmConfigNotUnderstood(t *testing.T) {
	t.Parallel()
	const asJSON = "{\n  \"kind\": \"ClusterConfiguration\",\n  \"apiVersion\": \"kubeadm.k8s.io/v1beta4\",\n  \"certificatesDir\": \"DIR\"\n}\n"
	ca := testpki.Authority(t, "kubernetes")
	for _, row := range []struct{ name, script, text, want string }{
		{"a folder that is nowhere", "control_plane_certificates/files/renew.sh", "kind: ClusterConfiguration\ncertificatesDir: '/nowhere/at/all'\n",
			"/nowhere/at/all, the certificatesDir of "},
		{"a folder that is missing where the others are", "control_plane_certificates/files/renew.sh", "kind: ClusterConfiguration\ncertificatesDir: DIRs\n",
			"/ssls, the certificatesDir of "},
		{"a folder in a block", "control_plane_certificates/files/renew.sh", "kind: ClusterConfiguration\ncertificatesDir: >-\n  DIR\n", "says certificatesDir: and a path"},
		{"a folder on the next line", "control_plane_certificates/files/renew.sh", "kind: ClusterConfiguration\ncertificatesDir:\n  DIR\n", "says certificatesDir: and a path"},
		{"a folder with an anchor", "control_plane_certificates/files/renew.sh", "kind: ClusterConfiguration\ncertificatesDir: &dir DIR\n", "says certificatesDir: and a path"},
		{"a folder with a tag, before the backup", "backup/files/backup.sh", "kind: ClusterConfiguration\n\"certificatesDir\" : !!str DIR\n", "says certificatesDir: and a path"},
		{"the same before the backup", "backup/files/backup.sh", "kind: ClusterConfiguration\ncertificatesDir: '/nowhere/at/all'\n",
			"/nowhere/at/all, the certificatesDir of "},
		{"in one line", "control_plane_certificates/files/renew.sh", "{kind: ClusterConfiguration, apiVersion: kubeadm.k8s.io/v1beta4}\ncertificatesDir: DIR\n",
			"kubeadm config migrate --old-config "},
		{"JSON", "control_plane_certificates/files/renew.sh", asJSON, "kubeadm config migrate --old-config "},
		{"JSON before the backup", "backup/files/backup.sh", asJSON, "kubeadm config migrate --old-config "},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := issuer(t, ca)
			if strings.HasPrefix(row.script, "backup/") {
				n.ok(os.RemoveAll(n.backup))
			}
			due := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver", NotAfter: time.Now().Add(time.Hour)})
			n.write(n.conf+"/ssl/apiserver.crt", due.Certificate, 0o644)
			n.write(n.conf+"/ssl/apiserver.key", due.Key, 0o600)
			n.write(n.conf+"/kubeadm-config.yaml", []byte(strings.Replace(row.text, "DIR", n.conf+"/ssl", 1)), 0o600)
			before := "etcd_choose() { bytes= why=; }\n" + script(t, "settings/files/manifest.sh")
			_, errs, err := n.run(before + role(t, row.script))
			if err == nil || !strings.Contains(errs, row.want) {
				t.Errorf("%v: %q does not contain %q", err, errs, row.want)
			}
			if _, err := os.Stat(filepath.Join(n.backup, "MANIFEST")); err == nil {
				t.Error("there is a backup")
			}
		})
	}
}
