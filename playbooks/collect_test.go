package playbooks_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// A private key never leaves its node: here a key is in every place where one may be.
func TestCollectorPrintsNoKey(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	root := filepath.Dir(n.conf)
	pki, kubelet, other := n.conf+"/ssl", root+"/var/lib/kubelet/pki", root+"/elsewhere"
	authorities := map[certs.Authority]testpki.Pair{}
	for _, a := range []certs.Authority{certs.KubernetesCA, certs.FrontProxyCA, certs.EtcdCA, certs.EtcdHostCA} {
		authorities[a] = testpki.Authority(t, string(a))
	}
	ca := authorities[certs.KubernetesCA]
	var secrets []testpki.Pair
	issue := func(by testpki.Pair, name string) testpki.Pair {
		p := by.Issue(t, testpki.Leaf{CommonName: name, IPs: []string{"10.0.0.1"}})
		secrets = append(secrets, p)
		return p
	}

	// Every kind of certificate in its place, with its key, and what must be reported of it.
	type verdict struct {
		signedBy certs.Authority
		key      certs.KeyState
	}
	want := map[certs.Kind]verdict{}
	folders := map[certs.Base]string{
		certs.PKI: pki, certs.Config: n.conf, certs.Kubelet: kubelet, certs.EtcdPKI: n.etcd,
		certs.Home: root + "/root/.kube", certs.Calico: root + "/etc/calico/certs", certs.Cilium: root + "/etc/cilium/certs",
	}
	for _, row := range certs.Table() {
		dir, ok := folders[row.Base]
		if !ok {
			continue // only settings name it: below
		}
		rel := strings.ReplaceAll(row.Path, "*", "cp1")
		key := row.KeyFile(rel)
		p, ok := authorities[row.Authority]
		switch {
		case ok:
			secrets = append(secrets, p)
		case row.Signer == certs.SelfSigned:
			p = testpki.Authority(t, "itself")
			secrets = append(secrets, p)
		default:
			p = issue(authorities[row.Signer], string(row.Kind))
		}
		want[row.Kind] = verdict{row.Signer, certs.KeyMatches}
		switch {
		case row.Base == certs.Config || row.Base == certs.Home:
			text := kubeconfig(ca, p, "token: c4n4ry.t0ken")
			if row.Kind == certs.KindKubeletConf { // no one is there
				text = bytes.Replace(text, []byte("10.0.0.1:6443"), []byte("127.0.0.2:1"), 1)
			}
			n.write(dir+"/"+rel, text, 0o600)
		case key == rel: // both in one file, in either order
			n.write(dir+"/"+rel, slices.Concat(p.Key, p.Certificate, p.Key), 0o600)
		case key == "":
			n.write(dir+"/"+rel, p.Certificate, 0o644)
			want[row.Kind] = verdict{row.Signer, certs.KeyMissing}
		default:
			n.write(dir+"/"+rel, p.Certificate, 0o644)
			n.write(dir+"/"+key, p.Key, 0o600)
		}
	}

	// Broken and unusual files.
	both := issue(ca, "both")
	n.write(pki+"/apiserver.crt", slices.Concat(both.Key, both.Certificate, both.Key), 0o600)
	n.write(pki+"/apiserver.key", issue(ca, "another").Key, 0o600)
	want[certs.KindAPIServer] = verdict{certs.KubernetesCA, certs.KeyMismatch}
	n.write(n.etcd+"/admin-cp1-key.pem", []byte("-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n"), 0o600)
	want[certs.KindEtcdAdmin] = verdict{certs.EtcdHostCA, certs.KeyUnreadable}
	n.ok(os.Remove(pki + "/apiserver-kubelet-client.key"))
	want["apiserver-kubelet-client"] = verdict{certs.KubernetesCA, certs.KeyMissing}
	n.write(pki+"/etcd/server.crt", issue(ca, "of another authority").Certificate, 0o644)
	want[certs.KindEtcdServer] = verdict{certs.KubernetesCA, certs.KeyMismatch}
	n.write(pki+"/etcd/peer.crt", testpki.Authority(t, string(certs.EtcdCA)).Issue(t, testpki.Leaf{CommonName: "of a namesake"}).Certificate, 0o644)
	want["etcd-peer"] = verdict{"", certs.KeyMismatch}
	unreadable := map[string]string{}
	const none = "no PEM certificate block"
	n.write(pki+"/front-proxy-client.crt", issue(ca, "misplaced").Key, 0o600)
	unreadable[pki+"/front-proxy-client.crt"] = none
	delete(want, "front-proxy-client")
	odd := issue(ca, "odd")
	for name, text := range map[string][]byte{
		"joined.crt":   slices.Concat(bytes.TrimSpace(odd.Certificate), odd.Key), // no line break between them
		"cut.crt":      slices.Concat(odd.Certificate[:len(odd.Certificate)/2], []byte("\n"), odd.Key),
		"one-line.crt": []byte(strings.ReplaceAll(string(odd.Certificate)+string(odd.Key), "\n", " ")),
	} {
		n.write(pki+"/"+name, text, 0o600)
		unreadable[pki+"/"+name] = none
	}
	n.ok(os.Symlink(kubelet+"/gone", kubelet+"/link.crt"))
	unreadable[kubelet+"/link.crt"] = "a link to nothing"
	n.ok(os.Mkdir(n.conf+"/folder.conf", 0o700)) // as a runtime makes where a file to mount is missing
	unreadable[n.conf+"/folder.conf"] = "not a file"

	// Files that only settings name.
	pair := func(k certs.Kind, crt, key string) {
		p := issue(ca, string(k))
		n.write(other+"/"+crt, p.Certificate, 0o644)
		n.write(other+"/"+key, p.Key, 0o600)
		want[k] = verdict{certs.KubernetesCA, certs.KeyMatches}
	}
	pair("etcd-other-client", "client.pem", "client.key")
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --etcd-certfile="+other+"/client.pem\n    - --etcd-keyfile="+other+"/client.key\n    - --secure-port=1\n    - --service-account-issuer=c4n4ry\n"), 0o600)
	pair("kubelet-serving-file", "serving.crt", "serving.key")
	n.write(other+"/kubelet.yaml", []byte("tlsCertFile: \""+other+"/serving.crt\"\ntlsPrivateKeyFile: "+other+"/serving.key\nport: 1\nstaticPodURLHeader: c4n4ry\n"), 0o600)
	n.write(n.conf+"/kubelet.env", []byte("KUBELET_ARGS=\"--config="+other+"/kubelet.yaml --node-ip=::1\"\nSECRET=c4n4ry\n"), 0o600)
	n.write(other+"/vip.conf", kubeconfig(ca, issue(ca, "vip"), "token: c4n4ry.t0ken"), 0o600)
	n.write(n.conf+"/manifests/kube-apiserver.yaml.bak", []byte("c4n4ry"), 0o600)
	n.write(n.conf+"/manifests/.kube-apiserver.yaml.swp", []byte("c4n4ry"), 0o600)
	n.write(n.conf+"/manifests/kube-vip.yml", []byte("  - hostPath:\n      path: "+other+"/vip.conf\n"), 0o600)
	want["kube-vip-kubeconfig"] = verdict{certs.KubernetesCA, certs.KeyMatches}
	n.write(root+"/etc/etcd.env", []byte("ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:1,https://127.0.0.1:1\nETCD_LISTEN_PEER_URLS=https://[::1]:1\nETCD_INITIAL_CLUSTER_TOKEN=c4n4ry\nETCD_ROOT_PASSWORD=c4n4ry\n"), 0o600)

	// Secrets that belong to no certificate.
	n.write(pki+"/sa.key", issue(ca, "sa").Key, 0o600)
	n.write(pki+"/sa.pub", []byte("public"), 0o600)
	n.write(pki+"/secrets_encryption.yaml", []byte("secret: c4n4ry.encryption\n"), 0o600)
	n.write(n.conf+"/kubeadm-config.yaml", []byte(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
- token: "c4n4ry.t0ken"
certificateKey: c4n4ry.certkey
---
kind: ClusterConfiguration
kubernetesVersion: v1.34.4
controlPlaneEndpoint: "10.0.0.1:6443"
certificatesDir: `+pki+`
etcd:
  external:
    endpoints:
    - https://10.0.0.1:2379
    keyFile: /c4n4ry
apiServer:
  extraArgs:
  - name: c4n4ry
  certSANs:
  - "kubernetes"
  - 10.0.0.1
controllerManager:
  extraArgs:
  - c4n4ry
`), 0o600)

	out, errs, err := n.sh(collector(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	if watched := strings.Count(out, " "+n.conf+"/manifests/kube-apiserver.yaml.bak\n"); watched != 1 || strings.Contains(out, ".swp") {
		t.Errorf("of what the kubelet takes for manifests is reported\n%s", out)
	}
	canaries := []string{"PRIVATE KEY", "c4n4ry"}
	for _, p := range secrets {
		canaries = append(canaries, base64.StdEncoding.EncodeToString(p.Key))
		for line := range strings.Lines(string(p.Key)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && len(line) > 8 {
				canaries = append(canaries, line)
			}
		}
	}
	for _, c := range canaries {
		if strings.Contains(out+errs, c) {
			t.Errorf("%q of a secret is printed", c)
		}
	}

	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for k, j := range want {
		if c, ok := got.Certificate(k); !ok {
			t.Errorf("the certificate of kind %s was not brought", k)
		} else if c.SignedBy != j.signedBy || c.Key != j.key || c.File == nil {
			t.Errorf("%s is signed by %q and its key %q, want %q and %q", c.Path, c.SignedBy, c.Key, j.signedBy, j.key)
		}
	}
	for _, file := range []string{pki + "/ca.key", pki + "/sa.key", pki + "/secrets_encryption.yaml", n.etcd + "/ca-key.pem"} {
		if len(got.Digests[file]) != 64 {
			t.Errorf("digest of %s is %q", file, got.Digests[file])
		}
	}
	reasons := map[string]string{}
	for _, u := range got.Unreadable {
		reasons[u.Path] = u.Reason
	}
	if !maps.Equal(reasons, unreadable) {
		t.Errorf("unreadable: %v, want %v", reasons, unreadable)
	}
	if got.Facts["manifest"] != "present" || got.Facts["kubeadm-config"] == "" || got.Facts["pki-real"] != pki || time.Since(got.Clock).Abs() > time.Minute {
		t.Errorf("facts: %v, clock %s", got.Facts, got.Clock)
	}
	if k := got.Kubeadm; k == nil || k.CertificatesDir != pki || !slices.Equal(k.CertSANs, []string{"kubernetes", "10.0.0.1"}) || !slices.Equal(k.EtcdEndpoints, []string{"https://10.0.0.1:2379"}) {
		t.Errorf("kubeadm's configuration: %+v", k)
	}
	if k := got.Kubeconfigs[0]; k.Server != "https://10.0.0.1:6443" || k.CAFingerprint == "" || k.CANotAfter.IsZero() {
		t.Errorf("kubeconfig: %+v", k)
	}
	for name, address := range map[string]string{"kube-apiserver": "127.0.0.1:1", "etcd": "127.0.0.1:1", "etcd-peer": "[::1]:1", "kubelet": "[::1]:1"} {
		if e, _ := got.Endpoint(name); e.Address != address {
			t.Errorf("%s was asked at %q, want %q", name, e.Address, address)
		}
	}
	if len(got.Probes) != 2 || got.Probes[1].Endpoint != "127.0.0.2:1" {
		t.Errorf("probes: %+v", got.Probes)
	}
	if p := got.Probes[0]; p.Failed != snapshot.StageTCP || !strings.Contains(strings.ToLower(p.Error), "refused") {
		t.Errorf("probe: %+v", p)
	}
}

// The encryption configuration counts by its meaning: the same in another form, different with
// another key, name or order.
func TestCollectorReadsEncryption(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("certificatesDir: "+n.conf+"/ssl\n"), 0o600)
	digest := func(text string) string {
		n.write(n.conf+"/ssl/secrets_encryption.yaml", []byte(text), 0o600)
		got := n.look()
		return got.Digests[n.conf+"/ssl/secrets_encryption.yaml"]
	}
	const written = `kind: EncryptionConfig
apiVersion: v1
resources:
  - resources:
    - secrets
    providers:
    - secretbox:
        keys:
        - name: key1
          secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
    - identity: {}
`
	was := digest(written)
	for form, text := range map[string]string{
		"later group": strings.Replace(written, "kind: EncryptionConfig\napiVersion: v1", "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration", 1),
		"comments":    "# Ansible managed\n" + strings.Replace(written, "key1", "key1 # first", 1),
		"quoted":      strings.Replace(written, "key1", `"key1"`, 1),
		"sorted": "apiVersion: v1\nkind: EncryptionConfig\nresources:\n-   providers:\n    -   secretbox:\n            keys:\n            -   secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" +
			"                name: key1\n    -   identity: {}\n    resources:\n    - secrets\n",
		"resources first": "---\nresources:\n- providers:\n  - {\"secretbox\": {keys: [{secret: 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', name: key1}]}} # made\n" +
			"  - identity:\n      {}\n  resources: [secrets]\nkind: EncryptionConfig\n",
		"carriage returns": strings.ReplaceAll(written, "\n", "\r\n"),
		"JSON of lines": "{\n  \"resources\": [\n    {\n      \"providers\": [\n        {\"secretbox\": {\"keys\": [\n {\"secret\": \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", \"name\": \"key1\"}]}},\n" +
			"        {\"identity\": {}}\n      ],\n      \"resources\": [\"secrets\"]\n    }\n  ]\n}\n",
		"JSON": `{"kind":"EncryptionConfig","apiVersion":"v1","resources":[{"resources":["secrets"],"providers":[{"secretbox":{"keys":[{"name":"key1","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}},{"identity":{}}]}]}`,
	} {
		if got := digest(text); got != was {
			t.Errorf("%s: another digest, %s, was %s", form, got, was)
		}
	}
	for form, text := range map[string]string{
		"another secret":   strings.Replace(written, "AAA=", "AAB=", 1),
		"another name":     strings.Replace(written, "key1", "key2", 1),
		"another provider": strings.Replace(written, "secretbox", "aescbc", 1),
		"another list":     strings.Replace(written, "    - secrets\n", "    - secrets\n    - configmaps\n", 1),
		"another depth":    strings.Replace(written, "    - identity: {}", "  - identity: {}", 1),
		"an anchor":        strings.Replace(written, "key1", "&a key1", 1),
		"another order":    strings.Replace(strings.Replace(written, "    - identity: {}\n", "", 1), "    - secretbox", "    - identity: {}\n    - secretbox", 1),
		"an empty list":    strings.Replace(written, "identity: {}", "identity: []", 1),
		"a list of one":    strings.Replace(written, "identity: {}", "identity: [{}]", 1),
		"nothing":          strings.Replace(written, "identity: {}", "identity:", 1),
		"cut off":          written[:len(written)/2],
		"empty words":      "# nothing\n",
	} {
		if got := digest(text); got == was || got == "" {
			t.Errorf("%s: the same digest, or none: %s", form, got)
		}
	}
}

// A certificate and its key are one file with two names if pki is a link.
func TestCollectorFollowsLinks(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ca := testpki.Authority(t, "kubernetes")
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
	n.ok(os.Symlink("ssl", n.conf+"/pki"))
	n.write(n.conf+"/kubeadm-config.yaml", []byte("certificatesDir: "+n.conf+"/pki\n"), 0o600)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --client-ca-file="+n.conf+"/ssl/ca.crt\n    - --secure-port=1\n"), 0o600)
	got := n.look()
	files := 0
	for _, c := range got.Certificates {
		if !c.Served {
			files++
		}
	}
	if c, _ := got.Certificate(certs.KindCA); files != 1 || c.Path != n.conf+"/pki/ca.crt" || c.Key != certs.KeyMatches {
		t.Errorf("%d files, %+v", files, c)
	}
	if got.Facts["pki-real"] != n.conf+"/ssl" || got.Digests[n.conf+"/ssl/ca.key"] == "" {
		t.Errorf("facts: %v, digests: %v", got.Facts, got.Digests)
	}
}

// Ports that accept and stay silent, and a client that waits forever.
func TestCollectorEndsInTime(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	n.ok(err)
	t.Cleanup(func() { _ = silent.Close() })
	address := silent.Addr().String()
	_, port, err := net.SplitHostPort(address)
	n.ok(err)
	n.write(n.bin+"/kubectl", []byte("#!/bin/sh\nexec sleep 60\n"), 0o755)
	n.write(n.bin+"/kubeadm", []byte("#!/bin/sh\nexec sleep 60\n"), 0o755)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --advertise-address=127.0.0.1\n    - --secure-port="+port+"\n"), 0o600)
	n.write(filepath.Dir(n.conf)+"/etc/etcd.env", []byte("ETCD_LISTEN_CLIENT_URLS=https://"+address+"\n"), 0o600)
	n.write(n.conf+"/kubelet.conf", []byte("    server: https://localhost.localdomain.invalid:"+port+"\n"), 0o600)
	start := time.Now()
	out, errs, err := n.sh(collector(t))
	if took := time.Since(start); err != nil || took > 15*time.Second {
		t.Errorf("after %s: %v\n%s", took, err, errs)
	}
	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r := got.Results["readyz"]; r.Status != 124 {
		t.Errorf("readyz: %+v", r)
	}
	if e := got.Etcd; e == nil || e.Healthy || e.Error == "" {
		t.Errorf("etcd: %+v", e)
	}
	var failed []snapshot.Stage
	for _, p := range got.Probes {
		failed = append(failed, p.Failed)
	}
	if !slices.Equal(failed, []snapshot.Stage{snapshot.StageTLS, snapshot.StageResolve}) {
		t.Errorf("probes: %+v", got.Probes)
	}
}

// A member with a separate HTTP port is asked there, with TLS or without. One whose gateway is
// switched off is healthy, and the reason for the missing details is reported.
func TestEtcdAskedElsewhere(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/version": `{"etcdserver":"3.6.5"}`, "/health": `{"health":"true"}`,
		"/v3/cluster/member/list": `{"header":{"member_id":"1"},"members":[{"ID":"1","name":"etcd1","peerURLs":["https://10.0.0.1:2380"]}]}`,
		"/v3/maintenance/status":  `{"dbSize":"20480"}`,
	}
	serve := func(gateway bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if text := answers[r.URL.Path]; text != "" && (gateway || !strings.HasPrefix(r.URL.Path, "/v3/")) {
				_, _ = w.Write([]byte(text))
				return
			}
			http.NotFound(w, r)
		})
	}
	plain, secured, off := httptest.NewServer(serve(true)), httptest.NewTLSServer(serve(true)), httptest.NewTLSServer(serve(false))
	grpc := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	for _, s := range []*httptest.Server{plain, secured, off, grpc} {
		t.Cleanup(s.Close)
	}
	for _, row := range []struct {
		name, settings string
		members        int
		says           string
	}{
		{"as usual", "ETCD_LISTEN_CLIENT_URLS=" + secured.URL, 1, ""},
		{"with TLS on another port", "ETCD_LISTEN_CLIENT_URLS=" + grpc.URL + "\nETCD_LISTEN_CLIENT_HTTP_URLS=" + secured.URL, 1, ""},
		{"without TLS on another port", "ETCD_LISTEN_CLIENT_URLS=" + grpc.URL + "\nETCD_LISTEN_CLIENT_HTTP_URLS=" + plain.URL, 1, ""},
		{"without a gateway", "ETCD_LISTEN_CLIENT_URLS=" + off.URL + "\nETCD_ENABLE_GRPC_GATEWAY=false", 0, "gateway is switched off"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			pair := testpki.Authority(t, "etcd-ca").Issue(t, testpki.Leaf{CommonName: "etcd"})
			n.write(n.etcd+"/member-cp1.pem", pair.Certificate, 0o600)
			n.write(n.etcd+"/member-cp1-key.pem", pair.Key, 0o600)
			n.write(filepath.Dir(n.conf)+"/etc/etcd.env", []byte(row.settings+"\nETCD_CERT_FILE="+n.etcd+"/member-cp1.pem\nETCD_KEY_FILE="+n.etcd+"/member-cp1-key.pem\n"), 0o600)
			out, errs, err := n.sh(collector(t))
			n.ok(err)
			got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
			n.ok(err)
			e := got.Etcd
			if e == nil || !e.Healthy || e.Version != "3.6.5" || len(e.Members) != row.members || !strings.Contains(e.Error, row.says) || (e.Error == "") != (row.says == "") {
				t.Errorf("%+v\n%s", e, errs)
			}
		})
	}
}

// The member of each etcd cluster is asked, by the settings of its own unit.
func TestEachEtcdIsAsked(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	pair := testpki.Authority(t, "etcd-ca").Issue(t, testpki.Leaf{CommonName: "etcd"})
	n.write(n.etcd+"/member-cp1.pem", pair.Certificate, 0o600)
	n.write(n.etcd+"/member-cp1-key.pem", pair.Key, 0o600)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --etcd-servers-overrides=/events#https://10.0.0.1:2381;https://10.0.0.2:2381\n"), 0o600)
	for i, e := range certs.EtcdClusters() {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v3/cluster/member/list" {
				_, _ = fmt.Fprintf(w, `{"header":{"member_id":"%d"},"members":[{"ID":"%[1]d","name":"%s","peerURLs":["https://10.0.0.1:2380"]}]}`, i+1, e.Name)
				return
			}
			_, _ = w.Write([]byte(`{"health":"true"}`))
		}))
		t.Cleanup(s.Close)
		n.write(n.root()+e.EnvFile(), []byte("ETCD_NAME="+e.Name+"\nETCD_LISTEN_CLIENT_URLS="+s.URL+
			"\nETCD_CERT_FILE="+n.etcd+"/member-cp1.pem\nETCD_KEY_FILE="+n.etcd+"/member-cp1-key.pem\n"), 0o600)
	}
	got := n.look()
	of := snapshot.Snapshot{Nodes: []snapshot.Node{got}}
	if len(of.EtcdClusters()) != len(certs.EtcdClusters()) {
		t.Errorf("clusters: %v", of.EtcdClusters())
	}
	for _, e := range certs.EtcdClusters() {
		m := got.OfEtcd(e)
		if m.Etcd == nil || !m.Etcd.Healthy || len(m.Etcd.Members) != 1 || m.Etcd.Members[0].Name != e.Name || m.Facts["etcd.name"] != e.Name {
			t.Errorf("%s: %+v %v", e.Name, m.Etcd, m.Facts)
		}
		if p, _ := m.Endpoint("etcd"); p.Fingerprint == "" {
			t.Errorf("%s serves nothing: %+v", e.Name, m.Endpoints)
		}
		if got.Files[n.root()+e.EnvFile()] == "" {
			t.Errorf("%s: its environment file is not watched: %v", e.Name, got.Files)
		}
	}
	if want := "https://10.0.0.1:2381,https://10.0.0.2:2381"; got.OfEtcd(certs.EtcdClusters()[1]).Facts["kube-apiserver.etcd-servers"] != want {
		t.Errorf("the API server asks for events at %v, want %s", got.Facts, want)
	}
}

// However much is on a node, at most 4 MiB come back, without the end record.
func TestCollectorIsCutOff(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	line := strings.Repeat("A", 64) + "\n"
	n.write(n.conf+"/ssl/ca.crt", []byte("-----BEGIN CERTIFICATE-----\n"+strings.Repeat(line, 100_000)+"-----END CERTIFICATE-----\n"), 0o644)
	out, _, err := n.sh(collector(t))
	if err != nil || len(out) != 4<<20 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if _, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out)); !errors.Is(err, snapshot.ErrTruncated) {
		t.Errorf("%v", err)
	}
}

// wantNodes fills in the template for nodes as kubectl does: from JSON, in which a key may be
// missing.
func wantNodes(t *testing.T, text string) {
	t.Helper()
	var list any
	if err := json.Unmarshal([]byte(`{"items": [
		{"kind": "Node", "metadata": {"name": "cp1", "labels": {"a": "b", "node-role.kubernetes.io/control-plane": ""}}, "status": {
			"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
			"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "cp1"}],
			"nodeInfo": {"kubeletVersion": "v1", "containerRuntimeVersion": "containerd://2"}}},
		{"kind": "Node", "metadata": {"name": "cp2", "labels": {"node-role.kubernetes.io/master": ""}}, "status": {"nodeInfo": {"kubeletVersion": "", "containerRuntimeVersion": ""}}},
		{"kind": "Node", "metadata": {"name": "w1"}, "spec": {"unschedulable": true}, "status": {"nodeInfo": {"kubeletVersion": "", "containerRuntimeVersion": ""}}},
		{"kind": "Lease", "metadata": {"name": "w1"}, "spec": {"renewTime": "2026-03-01T12:00:00.000000Z"}}
	]}`), &list); err != nil {
		t.Fatal(err)
	}
	nodes, err := template.New("nodes").Parse(text)
	var out strings.Builder
	if err == nil {
		err = nodes.Execute(&out, list)
	}
	want := "cp1\tTrue\tv1\tcontainerd://2\tcontrol-plane \t10.0.0.1 cp1 \t\ncp2\t\t\t\tcontrol-plane \t\t\nw1\t\t\t\t\t\tcordoned\nw1\t2026-03-01T12:00:00.000000Z\n"
	if err != nil || out.String() != want {
		t.Errorf("%v: %q, want %q", err, out.String(), want)
	}
}

// An API server that answers is asked for the whole cluster.
func TestCollectorAsksTheAPIServer(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.bin+"/kubectl", []byte(`#!/bin/sh
case $* in
*readyz*) echo 'readyz check passed' ;;
*'kube-node-lease get nodes,leases'*) asked=$*; printf '%s' "${asked##*go-template=}" >"$0.nodes"; printf 'cp1\tTrue\tv1\tcontainerd://2\tcontrol-plane \t10.0.0.1 \nw1\tFalse\t\t\t\t\tcordoned\ncp1\t2026-03-01T12:00:00.000000Z\n' ;;
*'get leases kube-controller-manager'*) printf 'kube-scheduler\t2026-03-01T12:00:00.000000Z\n' ;;
*'get pods'*) printf 'kube-apiserver\tcp1\tTrue\n' ;;
*) echo "unexpected: $*"; exit 1 ;;
esac
`), 0o755)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --advertise-address=127.0.0.1\n    - --secure-port=1\n"), 0o600)
	out, errs, err := n.sh(collector(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
	if err != nil || got.View == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.View.Nodes["w1"] != "False" || len(got.View.NodeLeases) != 1 || len(got.View.ComponentLeases) != 1 || len(got.View.StaticPods) != 1 {
		t.Errorf("view: %+v", got.View)
	}
	if !slices.Equal(got.View.Unschedulable, []string{"w1"}) || !slices.Equal(got.View.ControlPlanes, []string{"cp1"}) || !slices.Equal(got.View.Addresses["cp1"], []string{"10.0.0.1"}) {
		t.Errorf("view: %+v", got.View)
	}
	asked, err := os.ReadFile(n.bin + "/kubectl.nodes")
	if err != nil {
		t.Fatal(err)
	}
	wantNodes(t, string(asked))
	if e, _ := got.Endpoint("kube-apiserver"); e.Address != "127.0.0.1:1" || !strings.Contains(strings.ToLower(e.Error), "refused") {
		t.Errorf("endpoint: %+v", e)
	}
	if got.Facts["manifest"] != "present" {
		t.Errorf("facts: %v", got.Facts)
	}
}

// Trust of the cluster's objects is read from one API server. Each CA comes back once, without
// anything next to it: users of the cluster write these objects.
func TestCollectorAsksWhoIsTrusted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ca, other, canary := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "other"), testpki.Authority(t, "canary")
	quoted := func(text []byte) string { return strconv.Quote(string(text)) }
	encoded := base64.StdEncoding.EncodeToString
	for name, lines := range map[string]string{
		"configmaps -A": "kube-root-ca\ta\t" + quoted(ca.Certificate) + "\nkube-root-ca\tb\t" + quoted(slices.Concat(ca.Certificate, canary.Key)) + "\nkube-root-ca\tc\t" + quoted(ca.Certificate) + "\nkube-root-ca\td\t\n" +
			"kube-root-ca\te\t" + quoted(slices.Concat(ca.Certificate[:200], []byte("\n"), canary.Key)) + "\n", // a key after one that was cut off
		"configmap cluster":   "clusters:\n- cluster:\n    certificate-authority-data: " + encoded(ca.Certificate) + "\n",
		"configmap extension": "client-ca\t-\t" + quoted(ca.Certificate) + "\nrequestheader-client-ca\t-\t" + quoted(other.Certificate) + "\n",
		"secrets -A":          "service-account-token\ta/old\t" + encoded(ca.Certificate) + "\n",
		"validatingwebhook":   "webhook\tcheck/one.example.org\t" + encoded(slices.Concat(canary.Key, other.Certificate)) + "\napi-service\tv1.metrics.example.org\t" + encoded(bytes.Repeat(other.Certificate, 60)) + "\n",
	} {
		n.write(n.bin+"/"+strings.Fields(name)[0]+strings.Fields(name + " -")[1], []byte(lines), 0o600)
	}
	n.write(n.bin+"/kubectl", []byte(`#!/bin/sh
case $* in
*readyz*) echo 'readyz check passed' ;;
*'get configmaps -A'*) cat "${0%/*}/configmaps-A" ;;
*'get configmap cluster-info'*) cat "${0%/*}/configmapcluster" ;;
*'get configmap extension'*) cat "${0%/*}/configmapextension" ;;
*'get secrets -A'*) cat "${0%/*}/secrets-A" ;;
*'get validatingwebhook'*) cat "${0%/*}/validatingwebhook-" ;;
*clustertrustbundles*) echo "error: the server doesn't have a resource type \"clustertrustbundles\"" >&2; exit 1 ;;
esac
`), 0o755)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --advertise-address=127.0.0.1\n    - --secure-port=1\n"), 0o600)
	root := filepath.Dir(n.conf)
	volume := root + "/var/lib/kubelet/pods/1-2/volumes/kubernetes.io~projected/"
	n.write(volume+"kube-api-access-x/ca.crt", ca.Certificate, 0o644)
	n.write(volume+"mine/ca.crt", other.Certificate, 0o644)
	n.write(root+"/var/lib/kubelet/pods/1-2/containers/main/0", nil, 0o644)
	n.ok(os.Chtimes(root+"/var/lib/kubelet/pods/1-2/containers/main/0", time.Unix(1e9, 0), time.Unix(1e9, 0)))
	n.ok(os.MkdirAll(root+"/var/log/pods/default_web_1-2", 0o755))
	n.write(n.conf+"/ssl/ca-trusted-since", []byte("1772366400\n"), 0o600)
	for _, trust := range []string{"no", "pods", "cluster"} {
		out, errs, err := n.sh("KSCERT_TRUST=" + trust + "\n" + collector(t))
		if err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		if key := bytes.Split(canary.Key, []byte("\n"))[1]; strings.Contains(out, string(key)) {
			t.Errorf("a key has left the node")
		}
		got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var answered []string
		for _, of := range got.Trust {
			line := fmt.Sprintf("%s: %d%s ", of.Place(), len(of.CAs), of.Unreadable)
			for name, at := range of.Started {
				line += fmt.Sprint(name, " ", at.Unix())
			}
			answered = append(answered, line)
		}
		slices.Sort(answered)
		pod := "pod default/web: 1 default/web 1000000000"
		want := map[string][]string{"pods": {pod}, "cluster": {
			"ConfigMap kube-public/cluster-info: 1 ", "ConfigMap kube-root-ca.crt of namespace a, c: 1 ", "ConfigMap kube-root-ca.crt of namespace b: 1 ",
			"ConfigMap kube-root-ca.crt of namespace d: 0there is no certificate in it ",
			"ConfigMap kube-root-ca.crt of namespace e: 0there is no certificate in it ", "ServiceAccount token a/old: 1 ",
			"caBundle of APIService v1.metrics.example.org: 060 certificates are more than are read ", "caBundle of webhook check/one.example.org: 1 ",
			"client-ca-file of ConfigMap kube-system/extension-apiserver-authentication: 1 ", pod,
			"requestheader-client-ca-file of ConfigMap kube-system/extension-apiserver-authentication: 1 ",
		}}[trust]
		if !slices.Equal(answered, want) {
			t.Errorf("%s: %q, want %q", trust, answered, want)
		}
		if r, failed := got.Results["trust"]; failed {
			t.Errorf("%s: %+v", trust, r)
		}
		if since := got.Facts[snapshot.TrustedSinceFact]; since != "1772366400" {
			t.Errorf("trusted since %q", since)
		}
	}
}

// Certificates in Secrets are read on demand, each once, and nothing next to them leaves the node.
// What is not reported is known to be unknown.
func TestCollectorReadsSecrets(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	leaf, other := ca.Issue(t, testpki.Leaf{CommonName: "web"}), ca.Issue(t, testpki.Leaf{CommonName: "other"})
	quoted := func(text ...[]byte) string { return strconv.Quote(string(slices.Concat(text...))) }
	for _, row := range []struct {
		name, readyz, failing string
		secrets               bool
		want                  []string
		status                int // -1 for none
		message               string
	}{
		{"not asked for", "true", "", false, nil, -1, ""},
		{"all", "true", "", true, []string{
			"Secret a/web, c/copy: CN=web +1 ", "Secret b/junk: there is no certificate in it",
			"Secret calico-apiserver/calico-apiserver-certs: CN=other +0 ",
		}, 0, ""},
		{"an API server that cannot be used", "false", "", true, nil, 1, "cannot be asked"},
		{"a list that fails", "true", "typha-certs", true, []string{
			"Secret a/web, c/copy: CN=web +1 ", "Secret b/junk: there is no certificate in it",
			"Secret calico-apiserver/calico-apiserver-certs: CN=other +0 ",
		}, 1, "metadata.name=typha-certs has failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.bin+"/tls", []byte("a/web\t"+quoted(leaf.Certificate, leaf.Key, ca.Certificate)+"\nb/junk\t"+quoted([]byte("junk"), leaf.Key)+
				"\nb/pending\t\nc/copy\t"+quoted(leaf.Certificate, leaf.Key, ca.Certificate)+"\n"), 0o600)
			n.write(n.bin+"/calico", []byte("calico-apiserver/calico-apiserver-certs\t"+quoted(other.Certificate, other.Key)+"\n"), 0o600)
			n.write(n.bin+"/kubectl", []byte(`#!/bin/sh
case $* in
*readyz*) `+row.readyz+` ;;
*secrets*"${FAILING:-none}"*) exit 1 ;;
*'get secrets -A --chunk-size=500 --field-selector type=kubernetes.io/tls'*) cat "${0%/*}/tls" ;;
*'get secrets -A --chunk-size=500 --field-selector metadata.name=calico-apiserver-certs'*) cat "${0%/*}/calico" ;;
esac
`), 0o755)
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(ofPod+"    - --advertise-address=127.0.0.1\n    - --secure-port=1\n"), 0o600)
			out, errs, err := n.sh("export FAILING=" + row.failing + "\nKSCERT_SECRETS=" + map[bool]string{true: "yes", false: "no"}[row.secrets] + "\n" + collector(t))
			if err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			for _, key := range [][]byte{leaf.Key, other.Key} {
				if strings.Contains(out, string(bytes.Split(key, []byte("\n"))[1])) {
					t.Errorf("a key has left the node")
				}
			}
			got, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var held []string
			for _, s := range got.Secrets {
				if s.Certificate == nil {
					held = append(held, s.Place()+": "+s.Unreadable)
				} else {
					held = append(held, fmt.Sprintf("%s: %s +%d %s", s.Place(), s.Certificate.Subject, s.Certificate.Chain, s.Unreadable))
				}
			}
			slices.Sort(held)
			if !slices.Equal(held, row.want) {
				t.Errorf("%q, want %q", held, row.want)
			}
			r, asked := got.Results[snapshot.ResultSecrets]
			if asked != (row.status >= 0) || asked && r.Status != row.status || !strings.Contains(r.Output, row.message) {
				t.Errorf("%t, %+v", asked, r)
			}
		})
	}
}

// The collector checks whether kubelets let the API server in, as the user of its certificate,
// unless the certificate's groups already answer that.
func TestCollectorAsksForTheKubeletClient(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ user, group, asked string }{
		{"kube-apiserver-kubelet-client", "system:masters", ""},
		{"kube-apiserver-kubelet-client", "kubeadm:cluster-admins", ""},
		{"kube-apiserver-kubelet-client", "", "--as=kube-apiserver-kubelet-client auth can-i get nodes --subresource=proxy"},
		{"a, b = c", "my group", "--as-group=my group --as=a, b = c auth can-i get nodes --subresource=proxy"},
		{"", "my group", ""}, // the API server would have to ask for a name
	} {
		t.Run(row.user+" "+row.group, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			leaf := testpki.Leaf{CommonName: row.user, Organization: row.group}
			n.write(n.conf+"/ssl/apiserver-kubelet-client.crt", testpki.Authority(t, "ca").Issue(t, leaf).Certificate, 0o644)
			n.write(n.bin+"/kubectl", []byte("#!/bin/sh\ncase $* in *can-i*) echo \"${*#*8s }\"; echo no; exit 1 ;; esac\n"), 0o755)
			got := n.look()
			asked, _ := strings.CutSuffix(got.Results["kubelet-access"].Output, "\nno")
			if asked != row.asked {
				t.Errorf("asked %q, want %q", asked, row.asked)
			}
		})
	}
}

func kubeconfig(ca, p testpki.Pair, more string) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return []byte(`apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: ` + b64(ca.Certificate) + `
    server: https://10.0.0.1:6443
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: someone
  name: someone
current-context: someone
users:
- name: someone
  user:
    client-certificate-data: ` + b64(p.Certificate) + `
    client-key-data: ` + b64(p.Key) + `
    ` + more + "\n")
}

// What a process of another user or of a pod prints is no record, and a name with a line break
// cannot forge one.
func TestCollectorIsNotForged(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("processes of other users are started as root")
	}
	n := newNode(t)
	start := func(attr *syscall.SysProcAttr, env string, command ...string) int {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env, cmd.SysProcAttr = []string{"PATH=" + os.Getenv("PATH"), env}, attr
		n.ok(cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	other := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	pod := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	strangers := []int{start(other, "KSCERT_RUN=stranger", "sleep", "60")}
	try := exec.Command("true")
	try.SysProcAttr = pod
	if try.Run() == nil { // not in every sandbox
		strangers = append(strangers, start(pod, "KSCERT_RUN=stranger", "sleep", "60"))
	}
	forger := start(nil, "KSCERT_RUN=a\n@@FACT forged yes\n@@END", "sleep", "60")
	raw := start(nil, "X=y", "/bin/sh", "-c", "export KSCERT_RUN='raw-run'\nsleep 60; :")
	n.ok(os.MkdirAll(n.conf+"/ssl", 0o700))
	n.ok(os.WriteFile(n.conf+"/ssl/x\n@@FACT forged yes\ny.crt", nil, 0o600))
	out, errs, err := n.sh(collector(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	for _, pid := range strangers {
		if strings.Contains(out, fmt.Sprintf("@@WORK %d ", pid)) {
			t.Errorf("the stranger %d is reported as work", pid)
		}
	}
	for _, want := range []string{fmt.Sprintf("@@WORK %d ", forger), fmt.Sprintf("@@WORK %d ", raw), "a task of run raw-run\n", "x?@@FACT forged yes?y.crt\n|a line break"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not reported", want)
		}
	}
	if strings.Contains(out, "\n@@FACT forged") || strings.Count(out, "\n@@END") != 1 {
		t.Errorf("records are forged:\n%s", out)
	}
}

// The pod that each of the kubelet's manifests defines is known by its name, however it is written.
func TestCollectorNamesPods(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	want := map[string]string{}
	for _, m := range []struct{ file, text, pod string }{
		{"etcd.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    name: other\n  labels:\n    namespace: x\n  name: etcd\n  namespace: kube-system\nspec:\n  containers:\n  - name: etcd\n", "kube-system/etcd"},
		{"etcd-2025.yaml", "metadata:\n    namespace: 'kube-system'\n    name: \"etcd\" # a remark\nspec: {}\n", "kube-system/etcd"},
		{"own.yaml.bak", "metadata:\r\n  name: own\r\n", "default/own"},
		{"none.yaml", "spec:\n  name: x\n", ""},
		{"text.yaml", "text: |\n  metadata:\n    name: x\nmetadata:\n  generateName: y\n", ""},
	} {
		n.write(n.conf+"/manifests/"+m.file, []byte(m.text), 0o600)
		if m.pod != "" {
			want[n.conf+"/manifests/"+m.file] = m.pod
		}
	}
	if got := n.look().Pods; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// The kubelet reports an unreadable manifest every 20 s. Reports older than the second after the
// last change of a manifest are obsolete and not read.
func TestCollectorReadsTheKubeletsLog(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n[ \"$1\" != show ] || printf 'Id=kubelet.service\\nLoadState=loaded\\nActiveState=activating\\nSubState=auto-restart\\n\\n'\n"), 0o755)
	n.write(n.bin+"/journalctl", []byte("#!/bin/sh\ncase $* in *@*) echo \"$*\" >\"$0.asked\"; echo 'E0301 12:00:00.000000 1 file.go:1] parse as pod: now' ;; *) echo 'E0301 12:00:00.000000 1 file.go:1] parse as pod: then' ;; esac\n"), 0o755)
	n.write(n.conf+"/manifests/etcd.yaml", []byte("x"), 0o600)
	n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte("x"), 0o600)
	out, _, err := n.run("stat -c %Z " + n.conf + "/manifests/* | sort -n | tail -n 1")
	n.ok(err)
	changed, err := strconv.Atoi(strings.TrimSpace(out))
	n.ok(err)
	if log := n.look().Results["kubelet-log"].Output; !strings.Contains(log, "now") || strings.Contains(log, "then") {
		t.Errorf("of the log it tells %q", log)
	}
	if asked, want := string(n.read(n.bin+"/journalctl.asked")), fmt.Sprintf("--since @%d ", changed+1); !strings.Contains(asked, want) {
		t.Errorf("the journal was asked %q, want %q", asked, want)
	}
}

// Kubespray's renewal timer is reported as on, held back by a run, or off, and not at all if none
// is installed.
func TestCollectorTellsTheRenewalTimer(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		installed bool
		states    string
		want      *snapshot.RenewalTimer
	}{
		{false, "active inactive", nil},
		{true, "active inactive", &snapshot.RenewalTimer{State: snapshot.TimerOn, Next: new(time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC))}},
		{true, "inactive active", &snapshot.RenewalTimer{State: snapshot.TimerHeld}},
		{true, "inactive inactive", &snapshot.RenewalTimer{State: snapshot.TimerOff}},
	} {
		n := newNode(t)
		if row.installed {
			n.write(filepath.Dir(n.conf)+"/etc/systemd/system/k8s-certs-renew.timer", nil, 0o600)
		}
		n.write(n.bin+"/systemctl", []byte("#!/bin/sh\ncase $* in 'is-active k8s-certs-renew.timer kscertctl-release-timer.timer') printf '%s\\n' "+row.states+" ;; *NextElapse*) echo 'NextElapseUSecRealtime=Mon 2026-03-02 03:00:00 UTC' ;; esac\n"), 0o755)
		if got := n.look().RenewalTimer; !reflect.DeepEqual(got, row.want) {
			t.Errorf("%t, %s: %v, want %v", row.installed, row.states, got, row.want)
		}
	}
}

// The container runtime is the one that the kubelet is configured for, by a flag before its file.
func TestCollectorKnowsTheRuntime(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ file, env, want string }{
		{"", "", "docker"},
		{"containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n", "", "containerd"},
		{"containerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n", "KUBELET_ARGS=\"--container-runtime-endpoint=unix:///var/run/crio/crio.sock --v=2\"\n", "crio"},
	} {
		n := newNode(t)
		n.write(n.bin+"/systemctl", []byte("#!/bin/sh\n[ \"$1\" != show ] || for u in containerd crio docker; do printf 'Id=%s.service\\nLoadState=loaded\\nActiveState=active\\nSubState=running\\n\\n' $u; done\n"), 0o755)
		n.write(n.conf+"/kubelet-config.yaml", []byte(row.file), 0o600)
		n.write(n.conf+"/kubelet.env", []byte(row.env), 0o600)
		if got := n.look().Facts["runtime"]; got != row.want {
			t.Errorf("%q, %q: %q, want %q", row.file, row.env, got, row.want)
		}
	}
}

// The certificate directory is found however the node's kubeadm configuration writes it, as by a
// renewal.
func TestCollectorFindsCertificatesDir(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for _, line := range []string{"certificatesDir: DIR", `"certificatesDir": "DIR"`, "'certificatesDir': DIR", "certificatesDir : DIR", "certificatesDir: 'DIR'"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			dir := n.root() + "/pki"
			n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\n"+strings.ReplaceAll(line, "DIR", dir)+"\n"), 0o600)
			n.write(dir+"/apiserver.crt", ca.Issue(t, testpki.Leaf{CommonName: "x"}).Certificate, 0o600)
			out, errs, err := n.sh(collector(t))
			if err != nil || !strings.Contains(out, " "+dir+"/apiserver.crt\n") {
				t.Errorf("%v\n%s%s", err, out, errs)
			}
			out, errs, err = n.run("pki_dir\n")
			if err != nil || out != dir+"\n" {
				t.Errorf("a renewal takes %q: %v %s", out, err, errs)
			}
		})
	}
}

// If kubeadm's configuration names no certificate directory and kubeadm's default does not exist,
// Kubespray's is used.
func TestCollectorFindsCertificatesDirByDefault(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	for _, dirs := range [][]string{{"ssl"}, {"pki"}, {"ssl", "pki"}} {
		n := newNode(t)
		n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\n"), 0o600)
		if err := os.RemoveAll(n.conf + "/ssl"); err != nil {
			t.Fatal(err)
		}
		places := map[string]string{"ssl": n.conf + "/ssl", "pki": n.root() + "/etc/kubernetes/pki"}
		for _, dir := range dirs {
			n.write(places[dir]+"/apiserver.crt", ca.Issue(t, testpki.Leaf{CommonName: "x"}).Certificate, 0o600)
		}
		want := places[dirs[len(dirs)-1]]
		if got := n.look(); got.Facts["pki"] != want || len(got.Certificates) != 1 {
			t.Errorf("%q: %q, %+v", dirs, got.Facts["pki"], got.Certificates)
		}
		if out, errs, err := n.run("pki_dir\n"); err != nil || out != want+"\n" {
			t.Errorf("%q: a renewal takes %q: %v %s", dirs, out, err, errs)
		}
	}
}

// A group from a directory service may have a blank in its name: the node is still parsed.
func TestCollectorTellsGroupsWithBlanks(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ca := testpki.Authority(t, "kubernetes")
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/admin.conf", kubeconfig(ca, ca.Issue(t, testpki.Leaf{CommonName: "kubernetes-admin"}), ""), 0o600)
	n.write(n.bin+"/stat", []byte("#!/bin/sh\n/usr/bin/stat \"$@\" | awk -F '\\t' -v OFS='\\t' 'NF > 5 { $3 = \"domain users\" } { print }'\n"), 0o755)
	got := n.look()
	if len(got.Certificates) != 2 || got.Certificates[0].File == nil || got.Certificates[0].File.Group != "domain_users" {
		t.Errorf("%+v", got.Certificates)
	}
}
