#!/bin/sh
# A CA of pathlen:0 and a cross-certificate of its own name: two libraries refuse it.
#
# Versions  OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2), Go 1.26.8 crypto/x509,
#           GnuTLS certtool 3.7.9, NSS certutil 3.87.1
# Guess     A CA with pathlen:0 gets a new key under its old name. The old key signs a
#           cross-certificate for the new one, so that clients with only the old CA
#           verify new leaves. RFC 5280 (4.2.1.9) does not count self-issued
#           certificates against the path length, so all four libraries verify it.
# Seen      OpenSSL and NSS do. Go and GnuTLS count the cross-certificate:
#             go      x509: too many intermediates for path length constraint
#             gnutls  The certificate chain violates the signer's constraints
#           Without pathlen, as kubeadm makes its CAs, all four verify.
# So        The cross-certificate trick of a CA rotation depends on one field of the old
#           CA, and "openssl verify" does not show it.
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
export PATH="$t/root/usr/bin:$PATH" OPENSSL_CONF="$t/c.cnf"

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
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AddCert(read("old.crt"))
	o.Intermediates.AddCert(read("cross.crt"))
	_, err := read("leaf.crt").Verify(o)
	fmt.Println(err)
}
EOF
go mod init finding >go.log 2>&1
go build -o x509go .

# make PATHLEN: old.crt, cross.crt (new key, same name, signed by the old key), leaf.crt
make() {
	cat >c.cnf <<EOF
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical,CA:TRUE$1
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[leaf]
subjectAltName = DNS:localhost
authorityKeyIdentifier = keyid
EOF
	for k in old.key new.key leaf.key; do openssl ecparam -name prime256v1 -genkey -noout -out $k; done
	openssl req -x509 -extensions ca -key old.key -subj /CN=kubernetes -days 5 -out old.crt
	openssl req -new -key new.key -subj /CN=kubernetes |
		openssl x509 -req -CA old.crt -CAkey old.key -set_serial 2 -days 5 \
			-extfile c.cnf -extensions ca -out cross.crt 2>/dev/null
	openssl req -new -key leaf.key -subj /CN=localhost |
		openssl x509 -req -CA cross.crt -CAkey new.key -set_serial 3 -days 4 \
			-extfile c.cnf -extensions leaf -out leaf.crt 2>/dev/null
	cat leaf.crt cross.crt >chain.pem
}

# verdicts: what each library reports about leaf.crt, cross.crt with old.crt as the only root
verdicts() {
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	certutil -A -d sql:db -n ca -t CT,C,C -i old.crt
	certutil -A -d sql:db -n cross -t ,, -i cross.crt
	certutil -A -d sql:db -n leaf -t ,, -i leaf.crt
	if openssl verify -CAfile old.crt -untrusted cross.crt leaf.crt >o 2>&1; then
		printf 'openssl:ok '
	else
		printf 'openssl:no '
	fi
	if ./x509go | grep -qx '<nil>'; then printf 'go:ok '; else printf 'go:no '; fi
	if certtool --verify --load-ca-certificate old.crt --infile chain.pem >g 2>&1; then
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

make ''
is 'without pathlen' "$(verdicts)" 'openssl:ok go:ok gnutls:ok nss:ok'
make ,pathlen:0
is 'with pathlen:0' "$(verdicts)" 'openssl:ok go:no gnutls:no nss:ok'
is 'Go reports' "$(./x509go)" 'x509: too many intermediates for path length constraint'
