//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/image"
	"github.com/infrapuzzle/kscertctl/lab/internal/cache"
	"github.com/infrapuzzle/kscertctl/lab/kubebuild"
)

// The versions of client-go of the lasting pods. Since 1.36 it reads the file with the CAs again, every
// five minutes (its feature ClientsAllowCARotation, Kubernetes #132922); before, only when it begins.
const (
	clientGoBefore, clientGoSince = "0.34.4", "0.37.1"
	clientGoReads                 = 5 * time.Minute
)

// lasting are clients of a worker that run through a whole rotation of CAs, and send a request every
// 50 ms over a new connection: pods with the two versions of client-go, and curl, which verifies with
// OpenSSL, with the CAs as they were and with those that the kubelet puts into the pods' volumes.
type lasting struct{ c *cluster.Cluster }

// lastingPod is the specification of one of the pods, in JSON: node, image and API server.
const lastingPod = `{"nodeName": %q, "hostNetwork": true, "serviceAccountName": "witness", "terminationGracePeriodSeconds": 1,
 "tolerations": [{"operator": "Exists"}], "containers": [{"name": "client", "image": %q, "imagePullPolicy": "Never", "args": ["witness"],
 "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": %q}, {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"}]}]}`

// The pod that never reads its CA again has a controller that can restart it, the other one has none.
const (
	lastingAlone    = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "namespace": "witness"}, "spec": %s}`
	lastingWorkload = `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": %[1]q, "namespace": "witness"}, "spec": {
 "selector": {"matchLabels": {"app": %[1]q}}, "template": {"metadata": {"labels": {"app": %[1]q}}, "spec": %[2]s}}}`
)

// The names of the lasting clients.
const (
	podBefore, podSince = "client-go-before", "client-go-since"
	curlFormer          = "curl-former-ca"
	curlBundle          = "curl-projected-ca"
)

// curl is a script that sends requests of OpenSSL until it is stopped.
const curl = `while :; do
  curl -sS --max-time 5 --cacert '%[1]s' -o /dev/null -w 'asked %%{http_code}\n' -H "Authorization: Bearer $(cat '%[2]s')" \
    https://%[3]s:6443/api/v1/namespaces/witness/configmaps/writes 2>&1 | sed 's/^curl:/failed &/; s/^asked 200/asked/; s/^asked [0-9].*/failed &/'
  sleep 0.05
done`

// last starts the lasting clients of a cluster in which use has made the config map and the role.
func last(ctx context.Context, t *testing.T, c *cluster.Cluster) *lasting {
	t.Helper()
	l := &lasting{c}
	server := c.ControlPlanes()[0].IP.String()
	worker := c.Workers()[0].Name
	dir, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	for name, version := range map[string]string{podBefore: clientGoBefore, podSince: clientGoSince} {
		program, err := kubebuild.BuildClient(ctx, dir, version, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ref := "localhost/kscertctl-lab/" + name + ":1"
		var archive bytes.Buffer
		if err := image.WriteArchive(&archive,
			map[string]image.Layer{name: {{Path: "client", Mode: 0o755, Source: program}}},
			[]image.ArchiveImage{{Ref: ref, Layer: name, Entrypoint: []string{"/client"}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ExecInput(ctx, worker, &archive, "ctr", "-n", "k8s.io", "images", "import", "-"); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(map[string]string{podBefore: lastingWorkload, podSince: lastingAlone}[name], name,
			fmt.Sprintf(lastingPod, worker, ref, server))
		if _, err := c.KubectlOn(ctx, c.ControlPlanes()[0].Name, strings.NewReader(text), "apply", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		l.await(ctx, t, name)
	}
	uid, err := c.Kubectl(ctx, "-n", "witness", "get", "pod", podSince, "-o", "jsonpath={.metadata.uid}")
	if err != nil {
		t.Fatal(err)
	}
	volume := strings.TrimSpace(shellOutput(ctx, t, c, worker, fmt.Sprintf("ls -d /var/lib/kubelet/pods/%s/volumes/*projected/*", uid)))
	shellOutput(ctx, t, c, worker, fmt.Sprintf("cp %s/ca.crt /run/e2e-former-ca.crt", volume))
	for name, ca := range map[string]string{curlFormer: "/run/e2e-former-ca.crt", curlBundle: volume + "/ca.crt"} {
		script := fmt.Sprintf(curl, ca, volume+"/token", server)
		if _, err := c.ExecInput(ctx, worker, strings.NewReader(script), "sh", "-c",
			fmt.Sprintf("cat >/run/%[1]s.sh && systemd-run --quiet --unit=%[1]s --property=StandardOutput=file:/run/%[1]s.log sh /run/%[1]s.sh", name)); err != nil {
			t.Fatal(err)
		}
		l.await(ctx, t, name)
	}
	return l
}

// await waits for a client's first answer.
func (l *lasting) await(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	if err := cluster.Poll(ctx, time.Minute, 500*time.Millisecond, "the requests of "+name, func(ctx context.Context) error {
		out, err := l.log(ctx, name)
		if err == nil && !strings.Contains(out, "asked") {
			err = errors.New(out)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (l *lasting) log(ctx context.Context, name string) (string, error) {
	if strings.HasPrefix(name, "curl") {
		out, err := l.c.Shell(ctx, l.c.Workers()[0].Name, "cat /run/"+name+".log")
		return string(out), err
	}
	out, err := l.c.Kubectl(ctx, "-n", "witness", "logs", map[string]string{podBefore: "deployment/", podSince: "pod/"}[name]+name)
	return string(out), err
}

// wantContent fails the test if a request of one of these clients has failed, or none has been
// answered.
func (l *lasting) wantContent(ctx context.Context, t *testing.T, during string, names ...string) {
	t.Helper()
	for _, name := range names {
		out, err := l.log(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		asked, failed, first := 0, 0, ""
		for line := range strings.Lines(out) {
			switch word, _, _ := strings.Cut(strings.TrimSpace(line), " "); word {
			case "asked":
				asked++
			case "failed":
				if failed++; first == "" {
					first = line
				}
			}
		}
		if !strings.HasPrefix(name, "curl") {
			asked *= 20 // it prints one of them
		}
		t.Logf("%s: %s: %d requests, failed: %d", during, name, asked, failed)
		if failed > 0 || asked == 0 {
			t.Errorf("%s: %d of %d requests of %s failed, first: %s", during, failed, asked, name, first)
		}
	}
}
