package expire

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
)

// Authorities gives CAs of a cluster another end, on all nodes and in all kubeconfigs: same
// keys, same names, so that all they have signed stays signed by them. They are named by the
// common names of their subjects; the front proxy's is front-proxy-ca, the cluster's is
// kubernetes, and those of etcd are etcd-ca. Then everything is started again, as by a reboot.
func Authorities(ctx context.Context, c *cluster.Cluster, end time.Time, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cas, err := readCAs(ctx, c)
	if err != nil {
		return err
	}
	texts := map[string][]byte{} // the old one, as PEM, to the new one
	for _, ca := range cas {
		if !slices.Contains(names, ca.Cert.Subject.CommonName) {
			continue
		}
		next := *ca.Cert
		next.NotBefore, next.NotAfter, next.ExtraExtensions = end.Add(-10*year), end, nil
		if next.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
			return err
		}
		der, err := x509.CreateCertificate(rand.Reader, &next, &next, ca.Cert.PublicKey, ca.Key)
		if err != nil {
			return fmt.Errorf("signing %q: %w", next.Subject, err)
		}
		old := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})
		texts[string(old)] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	if len(texts) != len(names) {
		return fmt.Errorf("%d of the CAs %q found", len(texts), names)
	}
	conf := c.Spec.ConfigDir
	err = cluster.Each(ctx, c.Nodes(), func(ctx context.Context, n cluster.Node) error {
		files, err := c.ReadFiles(ctx, n.Name, conf+"/ssl/*.crt", conf+"/ssl/etcd/*.crt", "/etc/ssl/etcd/ssl/ca.pem",
			conf+"/*.conf", "/root/.kube/config")
		if err != nil {
			return err
		}
		var changed []cluster.File
		for _, f := range files {
			was := f.Data
			for old, next := range texts {
				f.Data = bytes.ReplaceAll(f.Data, []byte(old), next)
				f.Data = bytes.ReplaceAll(f.Data, encoded([]byte(old)), encoded(next))
			}
			if !bytes.Equal(was, f.Data) {
				changed = append(changed, f)
			}
		}
		if len(changed) == 0 {
			return nil
		}
		return c.WriteFiles(ctx, n.Name, changed...)
	})
	if err != nil {
		return fmt.Errorf("re-signing the CAs of cluster %s: %w", c.Name(), err)
	}
	return c.Restart(ctx, c.Nodes()...)
}

func encoded(text []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(text)) }
