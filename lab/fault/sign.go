package fault

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/lab/cluster"
	"github.com/infrapuzzle/kscertctl/lab/expire"
)

// signer makes certificates on a node.
type signer = func(context.Context, *cluster.Cluster, string) error

const day = 24 * time.Hour

// expired gives certificates of a kind an end an hour ago; of its files only
// those named, if any are.
func expired(kind expire.Kind, files ...string) signer {
	return dated(-365*day, -time.Hour, kind, files...)
}

// dated gives certificates of a kind other dates, from now.
func dated(begin, end time.Duration, kind expire.Kind, files ...string) signer {
	return func(ctx context.Context, c *cluster.Cluster, node string) error {
		n, err := expire.Cluster(ctx, c, expire.Options{
			Kinds: []expire.Kind{kind}, Nodes: []string{node}, Files: files,
			NotBefore: time.Now().Add(begin), NotAfter: time.Now().Add(end),
		})
		if err == nil && n == 0 {
			err = fmt.Errorf("no certificate of kind %s", kind)
		}
		return err
	}
}

// each signs one after the other.
func each(signers ...signer) signer {
	return func(ctx context.Context, c *cluster.Cluster, node string) error {
		for _, sign := range signers {
			if err := sign(ctx, c, node); err != nil {
				return err
			}
		}
		return nil
	}
}

// ends gives a CA another end, from now: same key, same name, so that
// all it has signed stays signed by it.
func ends(ca string, end time.Duration) signer {
	return reissued(ca, ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(end) })
}

// reissued signs a certificate again with the CA's key after a change.
// Both are named by their path without its suffix.
func reissued(cert, ca string, change func(*x509.Certificate)) signer {
	return func(ctx context.Context, c *cluster.Cluster, node string) error {
		from := node // where the CA's key is
		if !slices.ContainsFunc(c.ControlPlanes(), func(n cluster.Node) bool { return n.Name == node }) {
			from = c.ControlPlanes()[0].Name
		}
		files, err := c.ReadFiles(ctx, from, cert+".crt", ca+".crt", ca+".key")
		if err != nil {
			return err
		}
		found := map[string]cluster.File{}
		for _, f := range files {
			found[f.Path] = f
		}
		authority, err := expire.ParseCA(found[ca+".crt"].Data, found[ca+".key"].Data)
		if err != nil {
			return fmt.Errorf("%s: %w", ca, err)
		}
		f := found[cert+".crt"]
		block, _ := pem.Decode(f.Data)
		if block == nil {
			return fmt.Errorf("%s.crt: no certificate in it", cert)
		}
		next, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s.crt: %w", cert, err)
		}
		change(next)
		if next.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
			return err
		}
		parent := authority.Cert
		if cert == ca {
			parent = next
		}
		der, err := x509.CreateCertificate(rand.Reader, next, parent, next.PublicKey, authority.Key)
		if err != nil {
			return fmt.Errorf("signing %s.crt: %w", cert, err)
		}
		f.Data = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		return c.WriteFiles(ctx, node, f)
	}
}
