#!/bin/sh
# "kubeadm certs renew" takes the other CAs out of a kubeconfig, and the chain out of a file.
#
# Versions  k8s.io/kubernetes v1.37.2 cmd/kubeadm/app/phases/certs/renewal (what "kubeadm certs
#           renew" calls), k8s.io/client-go v0.37.2, OpenSSL 3.0.22 (3.0.22-1~deb12u2)
# Guess     To renew a certificate replaces it and its key. The CAs that a kubeconfig trusts
#           are not part of that; if kubeadm writes them again, then all that ca.crt has. A
#           certificate file with intermediate certificates, which kubeadm accepts when it
#           verifies its files, keeps them: signer and chain do not change.
# Seen      Of each file the first certificate remains:
#                             ca.crt               CAs in admin.conf    apiserver.crt
#             before          old, next            old, next            leaf
#             renewed         old, next            old                  leaf
#             before          intermediate, root   intermediate, root   leaf, intermediate
#             renewed         intermediate, root   intermediate         leaf
#           admin.conf's client certificate loses its chain, too. Clients that trust the root
#           alone then refuse the API server. The CAs in the renewed admin.conf suffice for
#           Go, which takes an intermediate for a trust anchor, and not for "openssl verify".
# So        In the middle of a CA rotation a renewal undoes the first step for admin.conf,
#           controller-manager.conf and scheduler.conf: they lose the next CA, and fail when
#           the API server's certificate changes. Write CAs and chains again after a renewal.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p"; done
export PATH="$t/root/usr/bin:$PATH" OPENSSL_CONF="$t/root/etc/ssl/openssl.cnf"

cat >main.go <<'EOF'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/phases/certs/renewal"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issue(name string, by *pair, ca bool) *pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), BasicConstraintsValid: true, IsCA: ca}
	if ca {
		c.KeyUsage = x509.KeyUsageCertSign
	} else {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		c.DNSNames = []string{"localhost"}
	}
	if by == nil {
		by = &pair{c, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, key.Public(), by.key)
	must(err)
	out, err := x509.ParseCertificate(der)
	must(err)
	return &pair{out, key}
}

func encode(pairs ...*pair) (b []byte) {
	for _, p := range pairs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})...)
	}
	return b
}

func (p *pair) secret() []byte {
	b, err := keyutil.MarshalPrivateKeyToPEM(p.key)
	must(err)
	return b
}

func names(b []byte, err error) string {
	must(err)
	certs, err := certutil.ParseCertsPEM(b)
	must(err)
	var s []string
	for _, c := range certs {
		s = append(s, c.Subject.CommonName)
	}
	return strings.Join(s, ", ")
}

func show(dir, when string) {
	c, err := clientcmd.LoadFromFile(filepath.Join(dir, "admin.conf"))
	must(err)
	cas := c.Clusters["k"].CertificateAuthorityData
	must(os.WriteFile(filepath.Join(dir, "trusted.pem"), cas, 0o600))
	fmt.Printf("%s, %s: ca.crt: %s; admin.conf: %s; apiserver.crt: %s; client: %s\n", dir, when,
		names(os.ReadFile(filepath.Join(dir, "ca.crt"))), names(cas, nil),
		names(os.ReadFile(filepath.Join(dir, "apiserver.crt"))),
		names(c.AuthInfos["admin"].ClientCertificateData, nil))
}

// renew makes a PKI that signs with the first CA, and renews two certificates of it.
func renew(dir string, cas []*pair, chain ...*pair) {
	must(os.Mkdir(dir, 0o700))
	server, admin := issue("leaf", cas[0], false), issue("admin", cas[0], false)
	for name, b := range map[string][]byte{"ca.crt": encode(cas...), "ca.key": cas[0].secret(),
		"root.pem":      encode(cas[len(cas)-1]),
		"apiserver.crt": append(encode(server), encode(chain...)...), "apiserver.key": server.secret()} {
		must(os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	c := api.NewConfig()
	c.Clusters["k"] = &api.Cluster{Server: "https://localhost:6443", CertificateAuthorityData: encode(cas...)}
	c.AuthInfos["admin"] = &api.AuthInfo{ClientCertificateData: append(encode(admin), encode(chain...)...),
		ClientKeyData: admin.secret()}
	c.Contexts["a"] = &api.Context{Cluster: "k", AuthInfo: "admin"}
	c.CurrentContext = "a"
	must(clientcmd.WriteToFile(*c, filepath.Join(dir, "admin.conf")))

	show(dir, "before")
	m, err := renewal.NewManager(&kubeadm.ClusterConfiguration{CertificatesDir: dir,
		EncryptionAlgorithm: kubeadm.EncryptionAlgorithmECDSAP256}, dir)
	must(err)
	for _, name := range []string{"apiserver", "admin.conf"} {
		if done, err := m.RenewUsingLocalCA(name); err != nil || !done {
			panic(fmt.Sprint(name, done, err))
		}
	}
	show(dir, "renewed")
}

// verdict is whether Go trusts the API server's file by the CAs of another.
func verdict(dir, cas string) {
	server, err := certutil.CertsFromFile(filepath.Join(dir, "apiserver.crt"))
	must(err)
	o := x509.VerifyOptions{DNSName: "localhost", Intermediates: x509.NewCertPool()}
	o.Roots, err = certutil.NewPool(filepath.Join(dir, cas))
	must(err)
	for _, c := range server[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err = server[0].Verify(o)
	fmt.Printf("Go, %s/%s: trusted: %t\n", dir, cas, err == nil)
}

func main() {
	old, next := issue("old", nil, true), issue("next", nil, true)
	renew("rotation", []*pair{old, next})
	root := issue("root", nil, true)
	intermediate := issue("intermediate", root, true)
	renew("chain", []*pair{intermediate, root}, intermediate)
	verdict("chain", "root.pem")
	verdict("chain", "trusted.pem")
}
EOF
cat >want <<'EOF'
rotation, before: ca.crt: old, next; admin.conf: old, next; apiserver.crt: leaf; client: admin
rotation, renewed: ca.crt: old, next; admin.conf: old; apiserver.crt: leaf; client: admin
chain, before: ca.crt: intermediate, root; admin.conf: intermediate, root; apiserver.crt: leaf, intermediate; client: admin, intermediate
chain, renewed: ca.crt: intermediate, root; admin.conf: intermediate; apiserver.crt: leaf; client: admin
Go, chain/root.pem: trusted: false
Go, chain/trusted.pem: trusted: true
OpenSSL, chain/trusted.pem: error 2 at 1 depth lookup: unable to get issuer certificate
EOF
go mod init finding >go.log 2>&1
go mod download k8s.io/kubernetes@v1.37.2 >>go.log 2>&1
# The libraries that Kubernetes is released with go by the same version.
sed -n 's|^\t\(k8s.io/[a-z-]*\) => ./staging/.*|replace \1 => \1 v0.37.2|p' \
	"$(go env GOMODCACHE)/k8s.io/kubernetes@v1.37.2/go.mod" >>go.mod
go get k8s.io/kubernetes/cmd/kubeadm/app/phases/certs/renewal@v1.37.2 >>go.log 2>&1
go build -o renew . >>go.log 2>&1
./renew >got
printf 'OpenSSL, chain/trusted.pem: %s\n' \
	"$(openssl verify -CAfile chain/trusted.pem chain/apiserver.crt 2>&1 | grep '^error.*depth')" >>got
cat got
cmp want got || { echo 'CHANGED'; exit 1; }
