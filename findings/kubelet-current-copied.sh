#!/bin/sh
# A copy of kubelet-client-current.pem makes a kubelet demand a certificate every 32 seconds.
#
# Versions  k8s.io/client-go, api and apimachinery v0.37.2 (util/certificate: a kubelet's store
#           and rotation), Go 1.26.8
# Guess     kubelet-client-current.pem is a link to the newest pair. A backup that follows
#           links, or Ansible's fetch and copy, restores it as a file with the same content.
#           The kubelet starts with it, so it is good: the next rotation puts a link in its
#           place, or does not start and reports why, and there is a long pause between tries.
# Seen      The file serves until the next rotation, up to 328 days later. From then on each
#           attempt generates a key, has the request signed, writes both to another file, and
#           only then finds "to be a symlink but it is a file". In the first day:
#                                   link   file
#             requests signed       1      2,704
#             files with a key      2      2,705, and the copy
#             certificate in use    new    the one of the year before
#           It goes on every 32 seconds until the certificate ends, which may be 110 days.
# So        The error comes nearly a year after the restore, as a flood of approved requests,
#           a directory full of valid keys, and at last a node that is not ready. After a
#           restore "test -L" the file, and link it to a copy with a date in its name.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

cat >main_test.go <<'EOF'
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/certificates/v1"
	"k8s.io/client-go/util/certificate"
	"k8s.io/klog/v2"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

var caKey, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)

var subject = pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}

func sign(public any) []byte {
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject,
		NotBefore: time.Now(), NotAfter: time.Now().Add(365 * 24 * time.Hour)}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}}
	der, err := x509.CreateCertificate(rand.Reader, c, ca, public, caKey)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

type request = certificates.CertificateSigningRequest

// cluster is an API server, as far as it is asked, that signs every request at once.
type cluster struct {
	kubernetes.Interface
	typed.CertificatesV1Interface
	typed.CertificateSigningRequestInterface
	first  time.Time
	signed []request
}

func (c *cluster) CertificatesV1() typed.CertificatesV1Interface { return c }

func (c *cluster) CertificateSigningRequests() typed.CertificateSigningRequestInterface { return c }

func (c *cluster) Create(_ context.Context, r *request, _ meta.CreateOptions) (*request, error) {
	if c.signed == nil {
		c.first = time.Now()
	}
	b, _ := pem.Decode(r.Spec.Request)
	csr, err := x509.ParseCertificateRequest(b.Bytes)
	must(err)
	r.Name, r.ResourceVersion = fmt.Sprint("csr-", len(c.signed)), fmt.Sprint(len(c.signed)+1)
	r.Status.Certificate = sign(csr.PublicKey)
	r.Status.Conditions = []certificates.CertificateSigningRequestCondition{
		{Type: certificates.CertificateApproved, Status: core.ConditionTrue}}
	c.signed = append(c.signed, *r)
	return r, nil
}

func (c *cluster) List(context.Context, meta.ListOptions) (*certificates.CertificateSigningRequestList, error) {
	return &certificates.CertificateSigningRequestList{}, nil
}

func (c *cluster) Watch(context.Context, meta.ListOptions) (watch.Interface, error) {
	w, last := watch.NewFakeWithChanSize(2, false), c.signed[len(c.signed)-1]
	w.Add(&last)
	w.Action(watch.Bookmark, &request{ObjectMeta: meta.ObjectMeta{
		ResourceVersion: last.ResourceVersion, Annotations: map[string]string{meta.InitialEventsAnnotationKey: "true"}}})
	return w, nil
}

// run is a kubelet's year up to a day after it first asks for a certificate.
func run(t *testing.T, what string, restore func(file, current string) error) {
	dir := t.TempDir()
	synctest.Test(t, func(*testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		der, err := x509.MarshalECPrivateKey(key)
		must(err)
		start := time.Now()
		pair := append(sign(key.Public()), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...)
		file := filepath.Join(dir, "kubelet-client-1999-12-31-00-00-00.pem")
		must(os.WriteFile(file, pair, 0o600))
		must(restore(file, filepath.Join(dir, "kubelet-client-current.pem")))

		store, err := certificate.NewFileStore("kubelet-client", dir, dir, "", "")
		must(err)
		c := &cluster{}
		m, err := certificate.NewManager(&certificate.Config{
			ClientsetFn:      func(*tls.Certificate) (kubernetes.Interface, error) { return c, nil },
			Template:         &x509.CertificateRequest{Subject: subject},
			Usages:           []certificates.KeyUsage{certificates.UsageDigitalSignature, certificates.UsageClientAuth},
			SignerName:       certificates.KubeAPIServerClientKubeletSignerName,
			CertificateStore: store,
		})
		must(err)
		m.Start()
		for c.signed == nil {
			time.Sleep(time.Hour)
		}
		time.Sleep(24*time.Hour - time.Since(c.first))
		m.Stop()

		keys, err := filepath.Glob(filepath.Join(dir, "kubelet-client-2*.pem"))
		must(err)
		days := c.first.Sub(start).Hours() / 24
		n := fmt.Sprint(len(c.signed))
		if len(c.signed) > 2600 && len(c.signed) < 2800 {
			n = "about 2,700"
		}
		fmt.Printf("%s: asks after 255 to 329 days: %t; signed in a day: %s, each in a file: %t; former one used: %t\n",
			what, days > 255 && days < 329, n, len(keys) == len(c.signed), m.Current().Leaf.NotBefore.Equal(start.UTC()))
		fmt.Fprintln(os.Stderr, "measured:", len(c.signed), len(keys))
		time.Sleep(400 * 24 * time.Hour) // for what waits for a next rotation
	})
}

func Test(t *testing.T) {
	klog.SetLogger(logr.Discard())
	runtime.ErrorHandlers = nil
	run(t, "link", os.Symlink)
	run(t, "file", os.Link)
}
EOF
cat >want <<'EOF'
link: asks after 255 to 329 days: true; signed in a day: 1, each in a file: true; former one used: false
file: asks after 255 to 329 days: true; signed in a day: about 2,700, each in a file: true; former one used: true
EOF
{
	go mod init finding
	go get k8s.io/client-go/util/certificate@v0.37.2
	go mod tidy
	go test -c -o rotate .
} >go.log 2>&1
./rotate >out 2>&1 || { cat out; exit 1; }
grep measured out
grep days out | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
