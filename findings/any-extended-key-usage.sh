#!/bin/sh
# A server certificate with the usage "any": two libraries accept it, two refuse.
#
# Versions  OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2), Go 1.26.8 crypto/x509,
#           GnuTLS certtool 3.7.9, NSS certutil 3.87.1
# Guess     A certificate carries only anyExtendedKeyUsage (2.5.29.37.0), which is the
#           usage "any" of a Kubernetes CertificateSigningRequest or of cert-manager.
#           "Any" includes serverAuth, so every library accepts it for a TLS server.
# Seen      go, gnutls  accept it
#           openssl     error 26: unsuitable certificate purpose
#           nss         Certificate type not approved for application
#           RFC 5280 (4.2.1.12) lets an application demand its own usage next to "any".
#           With serverAuth next to "any", all four accept.
# So        A webhook certificate with "any" satisfies the API server, and not a probe that
#           is built on OpenSSL.
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
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func read(name string) *x509.Certificate {
	b, _ := os.ReadFile(name)
	p, _ := pem.Decode(b)
	c, _ := x509.ParseCertificate(p.Bytes)
	return c
}

func main() {
	roots := x509.NewCertPool()
	roots.AddCert(read("ca.crt"))
	_, err := read("leaf.crt").Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost",
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	fmt.Println(err)
}
EOF
go mod init finding >go.log 2>&1
go build -o x509go .

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=kubernetes \
	-days 5 -addext keyUsage=critical,keyCertSign -out ca.crt 2>/dev/null

# verdicts USAGES: what each library reports about a server certificate with these
verdicts() {
	printf '%s\n' 'subjectAltName=DNS:localhost' 'keyUsage=critical,digitalSignature' "extendedKeyUsage=$1" >ext
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf.key -subj /CN=localhost 2>/dev/null |
		openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial 2 -days 4 -extfile ext -out leaf.crt 2>/dev/null
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	certutil -A -d sql:db -n ca -t CT,C,C -i ca.crt
	certutil -A -d sql:db -n leaf -t ,, -i leaf.crt
	if openssl verify -purpose sslserver -CAfile ca.crt leaf.crt >o 2>&1; then
		printf 'openssl:ok '
	else
		printf 'openssl:no '
	fi
	if ./x509go | grep -qx '<nil>'; then printf 'go:ok '; else printf 'go:no '; fi
	if certtool --verify --verify-purpose 1.3.6.1.5.5.7.3.1 --load-ca-certificate ca.crt --infile leaf.crt >g 2>&1; then
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

is 'serverAuth' "$(verdicts serverAuth)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 'any, serverAuth' "$(verdicts anyExtendedKeyUsage,serverAuth)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 'any' "$(verdicts anyExtendedKeyUsage)" 'openssl:no go:ok gnutls:ok nss:no'
reason=$(openssl verify -purpose sslserver -CAfile ca.crt leaf.crt 2>&1 | grep -o 'error 26')
is 'OpenSSL reports' "$reason" 'error 26'
