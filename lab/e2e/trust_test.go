//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/image"
)

// TestTrust reads what objects of a real cluster trust: each kind of object is in the snapshot,
// what has expired or is of another CA is found, and the number of requests does not depend on
// the number of namespaces.
func TestTrust(t *testing.T) {
	t.Parallel()
	ctx := testContext(t, 15*time.Minute)
	c := newCluster(ctx, t, cluster.Spec{Name: "e2e-trust", ControlPlanes: 1, Workers: 1, Etcd: cluster.EtcdHost, Like: cluster.LikeKubespray})
	plant(ctx, t, c) // its pods trust a CA
	encoded := base64.StdEncoding.EncodeToString(authorityUntil(t, "old", time.Now().Add(-time.Hour)))
	canary := canaryKey(t)
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "apiVersion: v1\nkind: Namespace\nmetadata: {name: n%d}\n---\n", i)
	}
	fmt.Fprintf(&text, `apiVersion: v1
kind: Secret
type: kubernetes.io/service-account-token
metadata: {name: longlived, namespace: n1, annotations: {kubernetes.io/service-account.name: default}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: checks}
webhooks:
- name: one.example.org
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {caBundle: %[1]s, service: {name: s, namespace: n1}}
- name: two.example.org
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  clientConfig: {service: {name: s, namespace: n1}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.example.org}
spec: {caBundle: %[1]s, group: example.org, version: v1, groupPriorityMinimum: 1, versionPriority: 1, service: {name: s, namespace: n1}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Cluster
  names: {plural: things, kind: Thing}
  conversion: {strategy: Webhook, webhook: {conversionReviewVersions: [v1], clientConfig: {caBundle: %[1]s, service: {name: s, namespace: n1}}}}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
---
apiVersion: v1
kind: Pod
metadata: {name: trusting, namespace: witness}
spec:
  nodeName: w1
  hostNetwork: true
  serviceAccountName: witness
  automountServiceAccountToken: true
  containers: [{name: trusting, image: %[2]q, imagePullPolicy: Never}]
---
apiVersion: v1
kind: Namespace
metadata: {name: calico-apiserver}
---
apiVersion: v1
kind: Secret
metadata: {name: calico-apiserver-certs, namespace: calico-apiserver}
data: {apiserver.crt: %[3]s, apiserver.key: %[4]s}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: typha-server, namespace: kube-system}
data: {tls.crt: %[3]s, tls.key: %[4]s}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: web, namespace: n1}
data: {tls.crt: %[1]s, tls.key: %[4]s}
`, encoded, image.WitnessRef,
		base64.StdEncoding.EncodeToString(authorityUntil(t, "typha", time.Now().Add(20*24*time.Hour))),
		base64.StdEncoding.EncodeToString(canary))
	if out, err := c.KubectlOn(ctx, "cp1", strings.NewReader(text.String()), "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := cluster.Poll(ctx, time.Minute, time.Second, "the CA of every namespace", func(ctx context.Context) error {
		out, err := c.Kubectl(ctx, "get", "configmaps", "-A", "--field-selector", "metadata.name=kube-root-ca.crt", "-o", "name")
		if n := bytes.Count(out, []byte("\n")); err == nil && n < 64 {
			err = fmt.Errorf("%d have it", n)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Kubectl(ctx, "-n", "witness", "wait", "--for=condition=Ready", "pod/trusting", "--timeout=9s"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := requests(ctx, t, c)
	file := t.TempDir() + "/snapshot.json"
	o := kscertctl(ctx, t, "diagnose", "-i", c.Inventory(), "-o", "json", "--save-snapshot", file)
	after := requests(ctx, t, c)
	if asked := after - before; asked > 20 || asked < 5 {
		t.Errorf("%d requests, want at most 20", asked)
	}
	var d diagnosed
	if err := json.Unmarshal([]byte(o.stdout), &d); err != nil {
		t.Fatalf("%v\n%s\n%s", err, o.stdout, o.stderr)
	}
	if d.Route != "none" || len(d.Findings) != 1 || d.Findings[0].Reason != "ca-bundle-expiring" {
		t.Errorf("route %s, %v", d.Route, d.Findings)
	}
	var saved struct {
		Nodes []struct {
			Name    string
			Results map[string]struct{ Output string }
			Trust   []struct {
				By         string
				In         []string
				CAs        []any
				Unreadable string
			}
		}
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &saved)
	}
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, n := range saved.Nodes {
		if r, failed := n.Results["trust"]; failed {
			t.Errorf("%s: %s", n.Name, r.Output)
		}
		for _, of := range n.Trust {
			found[of.By] += max(1, len(of.In))
			if of.Unreadable != "" || len(of.CAs) == 0 {
				t.Errorf("%s %v: %s", of.By, of.In, of.Unreadable)
			}
		}
	}
	for by, want := range map[string]int{
		"kube-root-ca": 64, "cluster-info": 1, "service-account-token": 1, "client-ca": 1, "requestheader-client-ca": 1,
		"webhook": 1, "api-service": 1, "conversion": 1, "pod": 1,
	} {
		if found[by] < want {
			t.Errorf("%s: %d, want %d; of all %v", by, found[by], want, found)
		}
	}
	o = kscertctl(ctx, t, "check-expiration", "-i", c.Inventory())
	o.want(t, 3, "caBundle of")
	if strings.Contains(o.stdout, "Secret ") {
		t.Errorf("Secrets were read without being asked for:\n%s", o.stdout)
	}
	before = requests(ctx, t, c)
	o = kscertctl(ctx, t, "check-expiration", "-i", c.Inventory(), "--cluster-secrets", "-o", "wide", "--save-snapshot", file)
	o.want(t, 3, "Secret n1/web", "Secret calico-apiserver/calico-apiserver-certs, kube-system/typha-server")
	if asked := requests(ctx, t, c) - before; asked > 20 {
		t.Errorf("%d requests with those for Secrets, want at most 20", asked)
	}
	wantNoKeys(ctx, t, c, o)
	data, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{strings.Split(string(canary), "\n")[1], base64.StdEncoding.EncodeToString(canary)[60:120]} {
		if strings.Contains(o.stdout+o.stderr+string(data), key) {
			t.Error("the key in a Secret has left the cluster")
		}
	}

	// The one namespace whose pods get another CA.
	other := authorityUntil(t, "kubernetes", time.Now().Add(time.Hour*24*365))
	patch, _ := json.Marshal(map[string]any{"data": map[string]string{"ca.crt": string(other)}})
	shellOutput(ctx, t, c, "cp1", "mv /etc/kubernetes/manifests/kube-controller-manager.yaml /root/") // which would put it back
	if err := cluster.Poll(ctx, time.Minute, time.Second, "kube-controller-manager to end", func(ctx context.Context) error {
		_, err := c.Shell(ctx, "cp1", "! pgrep -x kube-controller")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Kubectl(ctx, "-n", "n7", "patch", "configmap", "kube-root-ca.crt", "-p", string(patch)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	findings := diagnose(ctx, t, c).Findings
	if !slices.ContainsFunc(findings, func(f finding) bool {
		return f.Reason == "rotation-unfinished" && strings.Contains(f.Evidence, "ConfigMap kube-root-ca.crt of namespace n7 lacks")
	}) {
		t.Errorf("%v", findings)
	}
}

// authorityUntil makes the certificate of a CA, in PEM.
func authorityUntil(t *testing.T, name string, end time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: end.AddDate(-1, 0, 0), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// canaryKey makes a private key, in PEM.
func canaryKey(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// counter is what an API server has been asked, but for the probes of its health and its metrics.
var counter = regexp.MustCompile(`(?m)^apiserver_request_total\{[^}]*resource="(?:configmaps|secrets|validatingwebhookconfigurations|mutatingwebhookconfigurations|apiservices|customresourcedefinitions|clustertrustbundles)"[^}]*verb="(?:GET|LIST)"[^}]*\} (\d+)`)

// requests is how many times an API server was asked for the resources that hold CAs.
func requests(ctx context.Context, t *testing.T, c *cluster.Cluster) int {
	t.Helper()
	out, err := c.Kubectl(ctx, "get", "--raw", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, m := range counter.FindAllSubmatch(out, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		sum += n
	}
	return sum
}
