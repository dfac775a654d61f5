package witness

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// keptFiles must be byte-identical after a repair that keeps the CAs.
func keptFiles(c *cluster.Cluster) []string {
	ssl := c.Spec.ConfigDir + "/ssl"
	return []string{
		ssl + "/ca.crt", ssl + "/ca.key", ssl + "/front-proxy-ca.crt", ssl + "/front-proxy-ca.key", ssl + "/sa.key",
		ssl + "/sa.pub",
		ssl + "/secrets_encryption.yaml", ssl + "/etcd/ca.crt", ssl + "/etcd/ca.key",
		"/etc/ssl/etcd/ssl/ca.pem", "/etc/ssl/etcd/ssl/ca-key.pem",
	}
}

// keyOf, behind the path of a CA certificate, stands for its public key.
const keyOf = " (its key)"

// certFiles are where certificates lie on a node.
func certFiles(c *cluster.Cluster) []string {
	conf := c.Spec.ConfigDir
	return []string{
		conf + "/ssl/*.crt", conf + "/ssl/etcd/*.crt", conf + "/*.conf", rootKubeconfig,
		kubeletClient, kubeletServing, "/var/lib/kubelet/pki/kubelet-server-current.pem", "/etc/ssl/etcd/ssl/*.pem",
	}
}

const (
	kubeletClient  = "/var/lib/kubelet/pki/kubelet-client-current.pem"
	kubeletServing = "/var/lib/kubelet/pki/kubelet.crt"
	rootKubeconfig = "/root/.kube/config"
)

func kubeletConf(c *cluster.Cluster) string { return c.Spec.ConfigDir + "/kubelet.conf" }

// onEach calls f for all nodes at once and collects the results by node name.
func onEach[T any](ctx context.Context, nodes []cluster.Node,
	f func(context.Context, cluster.Node) (T, error)) (map[string]T, error) {
	var mu sync.Mutex
	out := map[string]T{}
	err := cluster.Each(ctx, nodes, func(ctx context.Context, n cluster.Node) error {
		v, err := f(ctx, n)
		mu.Lock()
		defer mu.Unlock()
		out[n.Name] = v
		return err
	})
	return out, err
}

func (w *Witness) keptDigests(ctx context.Context) (map[string]map[string]string, error) {
	return onEach(ctx, w.c.Nodes(), func(ctx context.Context, n cluster.Node) (map[string]string, error) {
		files, err := w.c.ReadFiles(ctx, n.Name, keptFiles(w.c)...)
		digests := map[string]string{}
		for _, f := range files {
			sum := sha256.Sum256(f.Data)
			digests[f.Path] = hex.EncodeToString(sum[:])
			if list, err := parse(f.Data); err == nil && len(list) > 0 {
				sum = sha256.Sum256(list[0].RawSubjectPublicKeyInfo)
				digests[f.Path+keyOf] = hex.EncodeToString(sum[:])
			}
		}
		return digests, err
	})
}

// holdings are the certificates and kubeconfigs of a node, by path.
type holdings struct {
	// certs is empty for a kubeconfig that refers to another file.
	certs map[string][]*x509.Certificate
	// servers are the API servers that kubeconfigs name.
	servers map[string]string
	// kubelet is the kubelet's kubeconfig.
	kubelet string
}

func (w *Witness) holdings(ctx context.Context, n cluster.Node) (holdings, error) {
	files, err := w.c.ReadFiles(ctx, n.Name, certFiles(w.c)...)
	if err != nil {
		return holdings{}, err
	}
	h := holdings{certs: map[string][]*x509.Certificate{}, servers: map[string]string{}}
	for _, f := range files {
		if strings.HasSuffix(f.Path, "-key.pem") {
			continue
		}
		name := f.Path
		if strings.HasPrefix(name, "/var/lib/kubelet/pki/kubelet-client-") {
			name = kubeletClient // a link to a file with a date in its name
		}
		if name == kubeletConf(w.c) {
			h.kubelet = string(f.Data)
		}
		if m := server.FindSubmatch(f.Data); m != nil {
			h.servers[name] = string(m[1])
		}
		list, err := parse(f.Data)
		if err != nil {
			return holdings{}, fmt.Errorf("%s: %w", f.Path, err)
		}
		h.certs[name] = list
	}
	return h, nil
}

var server = regexp.MustCompile(`(?m)^\s*server:\s*(\S+)`)

var clientCertificateData = regexp.MustCompile(`client-certificate-data:\s*(\S+)`)

// parse returns the certificates in a PEM file or those embedded in a
// kubeconfig for its users.
func parse(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, m := range clientCertificateData.FindAllSubmatch(data, -1) {
		inner, err := base64.StdEncoding.DecodeString(string(m[1]))
		if err != nil {
			return nil, err
		}
		list, err := parse(inner)
		if err != nil {
			return nil, err
		}
		certs = append(certs, list...)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return certs, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
}

// remember notes which certificates nodes have, and which API servers they talk to.
func (w *Witness) remember(ctx context.Context) error {
	all, err := onEach(ctx, w.c.Nodes(), w.holdings)
	w.Leaves, w.Servers = map[string]map[string][]string{}, map[string]map[string]string{}
	for node, h := range all {
		w.Servers[node], w.Leaves[node] = h.servers, map[string][]string{}
		for path, list := range h.certs {
			if len(list) > 0 {
				w.Leaves[node][path] = fingerprintsOf(list)
			}
		}
	}
	return err
}

func fingerprintsOf(certs []*x509.Certificate) []string {
	var out []string
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		out = append(out, hex.EncodeToString(sum[:]))
	}
	return out
}

// Digest describes files: "node:path" to type, mode, owner, time and content.
type Digest map[string]string

// FilesDigest describes everything a repair may touch, on all nodes. Two equal
// digests mean that nothing was changed between them.
func FilesDigest(ctx context.Context, c *cluster.Cluster) (Digest, error) {
	// kubectl keeps a cache next to the kubeconfig; it is no state, nor is the
	// time its directory was made in.
	const script = `conf=$0; for d in "$conf" /etc/ssl/etcd /var/lib/kubelet/pki /root/.kube; do [ -e "$d" ] && echo "$d"; done |
xargs -I{} find {} -path /root/.kube -o -path /root/.kube/cache -prune -o -printf '%p\t%y %m %U:%G %T@ %l\n'
for d in "$conf" /etc/ssl/etcd /var/lib/kubelet/pki /root/.kube; do [ -e "$d" ] && echo "$d"; done |
xargs -I{} find {} -path /root/.kube -o -path /root/.kube/cache -prune -o -type f -print0 | xargs -0 -r sha256sum | sed -E 's/^([0-9a-f]+)  (.*)$/\2\t\1/'`
	lists, err := onEach(ctx, c.Nodes(), func(ctx context.Context, n cluster.Node) (string, error) {
		out, err := c.Exec(ctx, n.Name, "bash", "-c", script, c.Spec.ConfigDir)
		return string(out), err
	})
	if err != nil {
		return nil, fmt.Errorf("describing the files of cluster %s: %w", c.Name(), err)
	}
	digest := Digest{}
	for node, list := range lists {
		digest.add(node, list)
	}
	return digest, nil
}

// Diff returns what is different in another digest, one line a file.
func (d Digest) Diff(other Digest) []string {
	var lines []string
	for _, path := range slices.Sorted(maps.Keys(d)) {
		now, ok := other[path]
		switch {
		case !ok:
			lines = append(lines, "gone: "+path)
		case now != d[path]:
			lines = append(lines, fmt.Sprintf("changed: %s: %s, was %s", path, now, d[path]))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(other)) {
		if _, ok := d[path]; !ok {
			lines = append(lines, "new: "+path)
		}
	}
	return lines
}
