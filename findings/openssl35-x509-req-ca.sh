#!/bin/sh
# A CA made by "openssl req" and "openssl x509 -req": good from 3.0, refused from 3.5.
#
# Versions  OpenSSL 3.5.9 (Debian 13, 3.5.9-1~deb13u1), OpenSSL 3.0.22 and GnuTLS 3.7.9
#           (Debian 12), Go 1.26.8 crypto/x509
# Guess     Guides to clusters built by hand make the CA in three commands: genrsa, "req
#           -new", "x509 -req -signkey", without an extension file. The result may be old
#           fashioned, but a newer OpenSSL makes it no worse, and whether its own
#           "verify" accepts such a CA does not depend on who made it.
# Seen      3.0 makes version 1, which has no extensions: a root of version 1 may sign, so
#           the leaves verify everywhere. 3.5 adds a subject key identifier by itself. That
#           makes it version 3, and a version 3 certificate without basicConstraints is no
#           CA, so only GnuTLS trusts its leaves:
#                                 made by 3.0    made by 3.5
#             OpenSSL 3.0, 3.5    ok             refused (error 79, invalid CA certificate)
#             Go                  ok             refused
#             GnuTLS              ok             ok
#           The same happens to a CA that has been good for years: "openssl x509 -in ca.crt
#           -signkey ca.key" of 3.5 re-issues a version 1 CA as such a version 3.
# So        After an upgrade of the machine that signs, the same script makes a CA that no
#           API server accepts, without a warning. Use "req -x509", which adds
#           basicConstraints, and look at the version before a CA is re-issued.
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

# verdicts CA: the version of the CA, and what each library reports about its leaf
verdicts() {
	openssl30 x509 -in "$1" -noout -text | sed -n 's/ *Version: \([0-9]\).*/version \1/p'
	for v in openssl30 openssl35; do
		if "$v" verify -CAfile "$1" leaf.crt >out 2>&1; then echo "$v:ok"; else grep -o 'error 79' out; fi
	done
	if ./x509go "$1" leaf.crt | grep -qx '<nil>'; then echo go:ok; else echo go:no; fi
	if certtool --verify --load-ca-certificate "$1" --infile leaf.crt >g 2>&1; then
		echo gnutls:ok
	else
		echo gnutls:no
	fi
}

openssl30 genrsa -out ca.key 2048 2>/dev/null
openssl30 req -new -key ca.key -subj /CN=KUBERNETES-CA -out ca.csr
openssl30 x509 -req -in ca.csr -signkey ca.key -days 5 -out by30.crt 2>/dev/null
openssl35 x509 -req -in ca.csr -signkey ca.key -days 5 -out by35.crt 2>/dev/null
openssl35 x509 -in by30.crt -signkey ca.key -days 5 -out reissued.crt
openssl35 req -x509 -key ca.key -subj /CN=KUBERNETES-CA -days 5 -out req.crt
printf '%s\n' 'subjectAltName=DNS:kubernetes' 'basicConstraints=CA:FALSE' >ext
openssl30 req -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=kube-apiserver -out leaf.csr 2>/dev/null
# leaf CA: makes leaf.crt, signed by it
leaf() {
	openssl30 x509 -req -in leaf.csr -CA "$1" -CAkey ca.key -set_serial 2 -days 4 -extfile ext -out leaf.crt 2>/dev/null
}

good='version 3 openssl30:ok openssl35:ok go:ok gnutls:ok'
bad='version 3 error 79 error 79 go:no gnutls:ok'
leaf by30.crt
is 'made by 3.0' "$(verdicts by30.crt | paste -sd ' ')" 'version 1 openssl30:ok openssl35:ok go:ok gnutls:ok'
is 'made by 3.0, re-issued by 3.5' "$(verdicts reissued.crt | paste -sd ' ')" "$bad"
leaf by35.crt
is 'made by 3.5' "$(verdicts by35.crt | paste -sd ' ')" "$bad"
leaf req.crt
is 'made by 3.5, req -x509' "$(verdicts req.crt | paste -sd ' ')" "$good"
