package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// Each thing that a re-issued CA must keep, or have, is checked.
func TestCheckReissue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	keys := make([]*ecdsa.PrivateKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	type change struct {
		template *x509.Certificate
		parent   *x509.Certificate
		key      *ecdsa.PrivateKey
		by       *ecdsa.PrivateKey
	}
	issue := func(edit func(*change)) *x509.Certificate {
		c := change{key: keys[0], by: keys[0], template: &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte("id"),
		}}
		if edit != nil {
			edit(&c)
		}
		if c.parent == nil {
			c.parent = c.template
		}
		der, err := x509.CreateCertificate(rand.Reader, c.template, c.parent, c.key.Public(), c.by)
		if err != nil {
			t.Fatal(err)
		}
		x, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	old := issue(func(c *change) { c.template.NotAfter = now.Add(-time.Minute) })
	for name, row := range map[string]struct {
		edit func(*change)
		why  string
	}{
		"right":           {nil, ""},
		"another key":     {func(c *change) { c.key, c.by = keys[1], keys[1] }, "another key"},
		"another subject": {func(c *change) { c.template.Subject.CommonName = "Kubernetes" }, "its subject is"},
		"the same subject in another type": {func(c *change) {
			c.template.RawSubject = []byte("\x30\x15\x31\x13\x30\x11\x06\x03\x55\x04\x03\x0c\x0akubernetes")
		}, "its subject is"},
		"signed by another":    {func(c *change) { c.parent, c.by = &x509.Certificate{Subject: pkix.Name{CommonName: "other"}}, keys[1] }, "not signed by itself"},
		"no CA":                {func(c *change) { c.template.IsCA = false }, "does not say that it is a CA"},
		"a longer chain":       {func(c *change) { c.template.MaxPathLen = 3 }, "pathlen"},
		"no usage":             {func(c *change) { c.template.KeyUsage = x509.KeyUsageDigitalSignature }, "may not sign"},
		"another identifier":   {func(c *change) { c.template.SubjectKeyId = []byte("other") }, "another subject key identifier"},
		"another's identifier": {func(c *change) { c.template.AuthorityKeyId = []byte("x") }, "names another key"},
		"not valid yet":        {func(c *change) { c.template.NotBefore = now.Add(time.Minute) }, "it is valid from"},
		"not valid any more":   {func(c *change) { c.template.NotAfter = now.Add(-time.Minute) }, "it is valid from"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := certs.CheckReissue(old, issue(row.edit), now)
			if (err == nil) != (row.why == "") || err != nil && !strings.Contains(err.Error(), row.why) {
				t.Errorf("%v, want %q", err, row.why)
			}
		})
	}
	forged := issue(nil)
	forged.Signature = append([]byte{}, forged.Signature...)
	forged.Signature[len(forged.Signature)-1] ^= 1
	if err := certs.CheckReissue(old, forged, now); err == nil || !strings.Contains(err.Error(), "its signature") {
		t.Errorf("a forged signature: %v", err)
	}
}
