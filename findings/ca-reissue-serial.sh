#!/bin/sh
# A same-key CA re-issue: keep the serial and NSS refuses it, change it and OpenSSL does.
#
# Versions  easy-rsa 3.1.0-1, OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2),
#           Go 1.26.8 crypto/x509, GnuTLS certtool 3.7.9, NSS certutil 3.87.1
# Guess     easy-rsa (the Kubernetes pages show it) makes a CA and a server certificate.
#           The CA is re-issued with the same key, name and key identifier. The serial
#           number of a CA is of no concern to its leaves, so either choice works.
# Seen      easy-rsa leaves carry "authorityKeyIdentifier = keyid,issuer:always": they
#           name the serial of the CA certificate.
#             new serial   openssl: error 20, unable to get local issuer certificate;
#                          Go, GnuTLS and NSS verify the leaf
#             same serial  all verify, but NSS does not import the new CA where it has
#                          the old one: SEC_ERROR_REUSED_ISSUER_AND_SERIAL
#           "openssl x509 -signkey" keeps the serial unless -set_serial is given.
# So        With such leaves no serial suits both. Re-issue the leaves first without
#           "issuer:always", or delete the old CA from NSS stores before the import.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in easy-rsa=3.1.0-1 openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 \
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
	for p, b := pem.Decode(b); p != nil; p, b = pem.Decode(b) {
		if c, err := x509.ParseCertificate(p.Bytes); err == nil {
			return c
		}
	}
	return nil
}

func main() {
	roots := x509.NewCertPool()
	roots.AddCert(read(os.Args[1]))
	_, err := read(os.Args[2]).Verify(x509.VerifyOptions{Roots: roots})
	fmt.Println(err)
}
EOF
go mod init finding >go.log 2>&1
go build -o x509go .

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

# replace CA: imports CA into an NSS store that has the old one
replace() {
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	certutil -A -d sql:db -n old -t CT,C,C -i ca.crt
	if certutil -A -d sql:db -n new -t CT,C,C -i "$1" >n 2>&1; then
		echo imported
	else
		grep -o 'SEC_ERROR_[A-Z_]*' n
	fi
}

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

export EASYRSA="$t/root/usr/share/easy-rsa" EASYRSA_PKI="$t/pki"
export EASYRSA_BATCH=1 EASYRSA_CA_EXPIRE=5 EASYRSA_CERT_EXPIRE=4
"$EASYRSA/easyrsa" init-pki >rsa.log 2>&1
EASYRSA_REQ_CN=kubernetes "$EASYRSA/easyrsa" build-ca nopass >>rsa.log 2>&1
"$EASYRSA/easyrsa" --subject-alt-name=DNS:kubernetes build-server-full server nopass >>rsa.log 2>&1
cp pki/ca.crt ca.crt
openssl x509 -in pki/issued/server.crt -out leaf.crt
openssl x509 -in ca.crt -signkey pki/private/ca.key -days 3650 -out same.crt 2>/dev/null
openssl x509 -in ca.crt -signkey pki/private/ca.key -days 3650 -set_serial 12345 -out other.crt 2>/dev/null

is 'same serial' "$(verdicts same.crt)" 'openssl:ok go:ok gnutls:ok nss:ok'
is 'other serial' "$(verdicts other.crt)" 'openssl:no go:ok gnutls:ok nss:ok'
is 'OpenSSL reports' "$(openssl verify -CAfile other.crt leaf.crt 2>&1 | grep -c 'error 20 at 0 depth')" 1
is 'NSS, same serial next to the old CA' "$(replace same.crt)" SEC_ERROR_REUSED_ISSUER_AND_SERIAL
is 'NSS, other serial next to the old CA' "$(replace other.crt)" imported
