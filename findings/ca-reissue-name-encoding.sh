#!/bin/sh
# A CA re-issued by OpenSSL with the same key and name: Go refuses its old leaves.
#
# Versions  OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2), Go 1.26.8 crypto/x509,
#           GnuTLS certtool 3.7.9, NSS certutil 3.87.1
# Guess     Go made a CA "CN=kubernetes" and a leaf. OpenSSL re-issues the CA with the
#           same key and -subj /CN=kubernetes. The name and the key are the same, so
#           all four libraries verify the old leaf with the new CA, or none does.
# Seen      Only OpenSSL verifies it. Go writes the name as PrintableString, and
#           "openssl req" as UTF8String. RFC 5280 (7.1) wants a comparison of the
#           characters. OpenSSL does that; Go, GnuTLS and NSS compare the bytes.
#             openssl  leaf.crt: OK
#             go       x509: certificate signed by unknown authority
#             gnutls   The certificate issuer is unknown
#             nss      Peer's Certificate issuer is not recognized
#           "openssl x509 -in ca.crt -signkey ca.key" keeps the bytes: all four verify.
# So        "openssl verify" does not prove that a re-issued CA works in Kubernetes.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 \
	gnutls-bin=3.7.9-2+deb12u7 libgnutls30=3.7.9-2+deb12u7 libgnutls-dane0=3.7.9-2+deb12u7 \
	libnss3-tools=2:3.87.1-1+deb12u4 libnss3=2:3.87.1-1+deb12u4 libnspr4=2:4.35-1; do
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
	"time"
)

func write(name, kind string, der []byte) {
	os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func read(name string) *x509.Certificate {
	b, _ := os.ReadFile(name)
	p, _ := pem.Decode(b)
	c, _ := x509.ParseCertificate(p.Bytes)
	return c
}

func main() {
	if len(os.Args) == 3 {
		roots := x509.NewCertPool()
		roots.AddCert(read(os.Args[1]))
		_, err := read(os.Args[2]).Verify(x509.VerifyOptions{Roots: roots})
		fmt.Println(err)
		return
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	write("ca.crt", "CERTIFICATE", der)
	kb, _ := x509.MarshalECPrivateKey(key)
	write("ca.key", "EC PRIVATE KEY", kb)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(20 * time.Hour), DNSNames: []string{"kubernetes"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	lk, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ = x509.CreateCertificate(rand.Reader, leaf, read("ca.crt"), lk.Public(), key)
	write("leaf.crt", "CERTIFICATE", der)
}
EOF
go mod init finding >go.log 2>&1
go build -o x509go .
# The identifiers of both are SHA-1, as in CAs made before Go 1.25: only the name differs.
GODEBUG=x509sha256skid=0 ./x509go

# verdicts CA: what each library reports about leaf.crt, one word each
verdicts() {
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	certutil -A -d sql:db -n ca -t CT,C,C -i "$1"
	certutil -A -d sql:db -n leaf -t ,, -i leaf.crt
	if openssl verify -CAfile "$1" leaf.crt >o 2>&1; then printf 'openssl:ok '; else printf 'openssl:no '; fi
	if ./x509go "$1" leaf.crt | grep -qx '<nil>'; then printf 'go:ok '; else printf 'go:no '; fi
	if certtool --verify --load-ca-certificate "$1" --infile leaf.crt >g 2>&1; then
		printf 'gnutls:ok '
	else
		printf 'gnutls:no '
	fi
	if certutil -V -d sql:db -n leaf -u V >n 2>&1; then printf 'nss:ok\n'; else printf 'nss:no\n'; fi
}

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

openssl req -x509 -key ca.key -subj /CN=kubernetes -days 3650 -out req.crt
openssl x509 -in ca.crt -signkey ca.key -days 3650 -out x509.crt 2>/dev/null
is 'old CA' "$(verdicts ca.crt)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 're-issued by openssl req' "$(verdicts req.crt)" 'openssl:ok go:no gnutls:no nss:no'
is 'Go reports' "$(./x509go req.crt leaf.crt)" 'x509: certificate signed by unknown authority'
is 're-issued by openssl x509' "$(verdicts x509.crt)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 'type in the old CA' "$(openssl asn1parse -in ca.crt | grep -c 'PRINTABLESTRING *:kubernetes')" 2
is 'type in the new CA' "$(openssl asn1parse -in req.crt | grep -c 'UTF8STRING *:kubernetes')" 2
