#!/bin/sh
# A CA limited to DNS names and a client certificate that has none: a dot in the CN decides.
#
# Versions  OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2), Go 1.26.8 crypto/x509,
#           GnuTLS certtool 3.7.9, NSS certutil 3.87.1
# Guess     A cluster CA below a company's CA may sign only for cluster.local (name
#           constraint "permitted;DNS:cluster.local"). That limits DNS names. A client
#           certificate has none, it has a common name, which is the user: no library has
#           anything to compare, and all accept it.
# Seen                                                   openssl  go   gnutls  nss
#             CN=kubernetes-admin                        ok       ok   ok      ok
#             CN=jane.doe                                no       ok   ok      ok
#             CN=jane.doe, SAN email:jane@example.com    no       ok   ok      ok
#             CN=jane.doe, SAN DNS:jane.cluster.local    ok       ok   ok      ok
#             CN=etcd-node1, SAN IP, also for servers    ok       ok   no      ok
#           Where the SAN has no DNS name, OpenSSL takes a common name with a dot for one
#           (error 47, permitted subtree violation), and GnuTLS takes any common name, if
#           the certificate is for servers, too. Go and NSS compare only what the SAN has.
# So        kubectl works for every user, and a proxy in front of the API server that is
#           built on OpenSSL refuses just those with a dot in their name. A CA for client
#           certificates should have no name constraint on DNS names.
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
	_, err := read("client.crt").Verify(x509.VerifyOptions{Roots: roots,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	fmt.Println(err)
}
EOF
go mod init finding >go.log 2>&1
go build -o x509go .

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=kubernetes -days 5 \
	-addext keyUsage=critical,keyCertSign -addext 'nameConstraints=critical,permitted;DNS:cluster.local' \
	-out ca.crt 2>/dev/null

# verdicts CN USAGES [SAN]: what each library reports about a client certificate
verdicts() {
	echo "extendedKeyUsage=$2" >ext
	[ $# = 2 ] || echo "subjectAltName=$3" >>ext
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -subj "/CN=$1" 2>/dev/null |
		openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial 2 -days 4 -extfile ext -out client.crt 2>/dev/null
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	certutil -A -d sql:db -n ca -t CT,C,C -i ca.crt
	certutil -A -d sql:db -n client -t ,, -i client.crt
	if openssl verify -purpose sslclient -CAfile ca.crt client.crt >o 2>&1; then
		printf 'openssl:ok '
	else
		printf 'openssl:%s ' "$(grep -o 'error [0-9]*' o | head -n 1)"
	fi
	if ./x509go | grep -qx '<nil>'; then printf 'go:ok '; else printf 'go:no '; fi
	if certtool --verify --load-ca-certificate ca.crt --infile client.crt >g 2>&1; then
		printf 'gnutls:ok '
	else
		printf 'gnutls:no '
	fi
	if certutil -V -d sql:db -n client -u C >n 2>&1; then printf 'nss:ok\n'; else printf 'nss:no\n'; fi
}

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

all='openssl:ok go:ok gnutls:ok nss:ok'
dot='openssl:error 47 go:ok gnutls:ok nss:ok'
is 'kubernetes-admin' "$(verdicts kubernetes-admin clientAuth)" "$all"
is 'jane.doe' "$(verdicts jane.doe clientAuth)" "$dot"
is 'jane.doe, email' "$(verdicts jane.doe clientAuth email:jane@example.com)" "$dot"
is 'jane.doe, DNS' "$(verdicts jane.doe clientAuth DNS:jane.cluster.local)" "$all"
is 'etcd-node1' "$(verdicts etcd-node1 clientAuth,serverAuth IP:192.0.2.1)" 'openssl:ok go:ok gnutls:no nss:ok'
