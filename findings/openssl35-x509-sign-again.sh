#!/bin/sh
# OpenSSL 3.5 signs a certificate again for another CA, and leaves the old CA's key in it.
#
# Versions  OpenSSL 3.5.9 (Debian 13, 3.5.9-1~deb13u1), OpenSSL 3.0.22 and GnuTLS 3.7.9
#           (Debian 12), Go 1.26.8 crypto/x509
# Guess     "openssl x509 -in apiserver.crt -CA new-ca.crt -CAkey new-ca.key" signs an
#           existing certificate with a new CA, and so keeps all its names. What names the
#           issuer is replaced: the issuer, the serial number, the authority key identifier.
# Seen      3.0 refuses ("should be self-signed"). 3.5 prints the same two remarks on the
#           old certificate as 3.0, makes the new one, and exits 0; but the authority key
#           identifier stays that of the old CA:
#             OpenSSL 3.0, 3.5   error 20, unable to get local issuer certificate
#             GnuTLS             the certificate issuer is unknown
#             Go                 ok
#           With "-clrext" it is that of the new CA, and the names of the server are gone,
#           too. Only the way by a CSR ("-x509toreq -copy_extensions copyall", then "-req"
#           with the same) replaces the one and keeps the other.
# So        The API server and kubectl work with such a certificate; curl and Python do
#           not. Sign a CSR instead.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 \
	gnutls-bin=3.7.9-2+deb12u7 libgnutls30=3.7.9-2+deb12u7 libgnutls-dane0=3.7.9-2+deb12u7; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" 12; done
set -- "$t"/12/usr/lib/*-linux-gnu
lib12=$1
export OPENSSL_CONF="$t/12/etc/ssl/openssl.cnf"
openssl30() { LD_LIBRARY_PATH="$lib12" "$t/12/usr/bin/openssl" "$@"; }
certtool() { LD_LIBRARY_PATH="$lib12" "$t/12/usr/bin/certtool" "$@"; }

# Debian 13, from the mirror that this machine uses
mkdir -p apt/lists/partial apt/cache/archives/partial
# shellcheck disable=SC2016 # for apt
apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | sort -u |
	sed 's|.*|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & trixie main|' >apt/list
apt13() {
	apt-get -qq -o Dir::Etc::SourceList="$t/apt/list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$t/apt/lists" -o Dir::Cache="$t/apt/cache" -o APT::Sandbox::User=root "$@"
}
apt13 update
rm -f ./*.deb
for p in openssl=3.5.9-1~deb13u1 libssl3t64=3.5.9-1~deb13u1 libc6=2.41-12+deb13u5 \
	zlib1g=1:1.3.dfsg+really1.3.1-1+deb13u1 libzstd1=1.5.7+dfsg-1; do
	apt13 download "$p"
done
for p in *.deb; do dpkg -x "$p" 13; done
set -- "$t"/13/usr/lib/*-linux-gnu/ld-linux-*.so.2
ld=$1
openssl35() { OPENSSL_CONF="$t/13/etc/ssl/openssl.cnf" "$ld" --library-path "${ld%/*}" "$t/13/usr/bin/openssl" "$@"; }

cat >main.go <<'EOG'
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
	roots.AddCert(read(os.Args[1]))
	_, err := read(os.Args[2]).Verify(x509.VerifyOptions{Roots: roots})
	fmt.Println(err)
}
EOG
go mod init finding >go.log 2>&1
go build -o x509go .

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

# verdicts: what each library reports about new.crt under the new CA
verdicts() {
	for v in openssl30 openssl35; do
		if "$v" verify -CAfile new-ca.crt new.crt >out 2>&1; then echo "$v:ok"; else grep -o 'error [0-9][0-9]*' out; fi
	done
	if ./x509go new-ca.crt new.crt | grep -qx '<nil>'; then echo go:ok; else echo go:no; fi
	if certtool --verify --load-ca-certificate new-ca.crt --infile new.crt >out 2>&1; then
		echo gnutls:ok
	else
		echo gnutls:no
	fi
}

# id FILE KIND: an identifier in a certificate
id() { openssl35 x509 -in "$1" -noout -ext "$2KeyIdentifier" | sed -n 's/^ *\([0-9A-F][0-9A-F]:.*\)/\1/p'; }

for ca in old new; do
	openssl35 req -x509 -newkey rsa:2048 -nodes -keyout $ca-ca.key -subj "/CN=kubernetes-$ca" -days 5 \
		-addext keyUsage=critical,keyCertSign -out $ca-ca.crt 2>/dev/null
done
printf '%s\n' 'subjectAltName=DNS:kubernetes' 'basicConstraints=CA:FALSE' >ext
openssl35 req -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=kube-apiserver 2>/dev/null |
	openssl35 x509 -req -CA old-ca.crt -CAkey old-ca.key -days 4 -extfile ext -out apiserver.crt 2>/dev/null

sign_again() {
	"$@" x509 -in apiserver.crt -CA new-ca.crt -CAkey new-ca.key -days 4 -out new.crt >out 2>&1
}
if sign_again openssl30; then r=signed; else r=$(grep -o 'should be self-signed' out); fi
is 'signed again by 3.0' "$r" 'should be self-signed'
if sign_again openssl35; then r=signed; else r=$(tail -n 1 out); fi
is 'signed again by 3.5' "$r" signed
is 'issuer' "$(openssl35 x509 -in new.crt -noout -issuer)" 'issuer=CN=kubernetes-new'
is 'authority key' "$(id new.crt authority)" "$(id old-ca.crt subject)"
is 'verdicts' "$(verdicts | paste -sd ' ')" 'error 20 error 20 go:ok gnutls:no'

openssl35 x509 -in apiserver.crt -clrext -CA new-ca.crt -CAkey new-ca.key -days 4 -out new.crt 2>/dev/null
is '-clrext, verdicts' "$(verdicts | paste -sd ' ')" 'openssl30:ok openssl35:ok go:ok gnutls:ok'
is '-clrext, names of the server' "$(openssl35 x509 -in new.crt -noout -text | grep -c DNS:)" 0

openssl35 x509 -x509toreq -in apiserver.crt -signkey leaf.key -copy_extensions copyall -out again.csr
openssl35 x509 -req -in again.csr -CA new-ca.crt -CAkey new-ca.key -copy_extensions copyall -out new.crt 2>/dev/null
is 'by a CSR, verdicts' "$(verdicts | paste -sd ' ')" 'openssl30:ok openssl35:ok go:ok gnutls:ok'
is 'by a CSR, names of the server' "$(openssl35 x509 -in new.crt -noout -text | grep -c DNS:)" 1
