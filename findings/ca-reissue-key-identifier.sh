#!/bin/sh
# A CA re-issued by Go 1.26 with the same key and name: only Go accepts its old leaves.
#
# Versions  Go 1.26.8 crypto/x509 (x509sha256skid), OpenSSL 3.0.22 (Debian
#           3.0.22-1~deb12u2), GnuTLS certtool 3.7.9, NSS certutil 3.87.1
# Guess     A CA was made by a program of Go 1.24 or older. A program of Go 1.26
#           re-issues it with x509.CreateCertificate: same key, same subject. The
#           subject key identifier is derived from the key, so it is the same, and
#           every library verifies the old leaf with the new CA.
# Seen      The identifier of the new CA differs: since Go 1.25 it is a truncated
#           SHA-256 of the key, before it was SHA-1. The old leaf still names the old
#           one. Go takes identifiers as a hint only and verifies; the others refuse:
#             openssl  error 20: unable to get local issuer certificate
#             gnutls   The certificate issuer is unknown
#             nss      Peer's Certificate issuer is not recognized
#           With GODEBUG=x509sha256skid=0, or with SubjectKeyId copied from the old
#           certificate into the template, all four verify.
# So        A Go toolchain update can turn a harmless CA renewal into an outage for
#           curl, Python and apt, while every test written in Go stays green.
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

func block(name string) []byte {
	b, _ := os.ReadFile(name)
	p, _ := pem.Decode(b)
	return p.Bytes
}

func read(name string) *x509.Certificate {
	c, _ := x509.ParseCertificate(block(name))
	return c
}

func main() {
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	switch os.Args[1] {
	case "verify":
		roots := x509.NewCertPool()
		roots.AddCert(read(os.Args[2]))
		_, err := read(os.Args[3]).Verify(x509.VerifyOptions{Roots: roots})
		fmt.Println(err)
	case "make":
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
	case "reissue":
		key, _ := x509.ParseECPrivateKey(block("ca.key"))
		ca.SerialNumber = big.NewInt(3)
		if len(os.Args) > 3 {
			ca.SubjectKeyId = read("ca.crt").SubjectKeyId
		}
		der, _ := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
		write(os.Args[2], "CERTIFICATE", der)
	}
}
EOF
go mod init finding >go.log 2>&1
go mod edit -go=1.26
go build -o x509go .

# verdicts CA: what each library reports about leaf.crt, one word each
verdicts() {
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	certutil -A -d sql:db -n ca -t CT,C,C -i "$1"
	certutil -A -d sql:db -n leaf -t ,, -i leaf.crt
	if openssl verify -CAfile "$1" leaf.crt >o 2>&1; then printf 'openssl:ok '; else printf 'openssl:no '; fi
	if ./x509go verify "$1" leaf.crt | grep -qx '<nil>'; then printf 'go:ok '; else printf 'go:no '; fi
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

GODEBUG=x509sha256skid=0 ./x509go make # as Go 1.24 and older
./x509go reissue new.crt
GODEBUG=x509sha256skid=0 ./x509go reissue sha1.crt
./x509go reissue copied.crt copy
is 'old CA' "$(verdicts ca.crt)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 're-issued' "$(verdicts new.crt)" 'openssl:no go:ok gnutls:no nss:no'
is 'OpenSSL reports' "$(openssl verify -CAfile new.crt leaf.crt 2>&1 | grep -c 'error 20 at 0 depth')" 1
is 're-issued with x509sha256skid=0' "$(verdicts sha1.crt)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 're-issued with SubjectKeyId copied' "$(verdicts copied.crt)" 'openssl:ok go:ok gnutls:ok nss:ok'
