#!/bin/sh
# Three CA files, the first without a final newline, joined by cat: three readings.
#
# Versions  Go 1.26.8 crypto/x509, OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2),
#           GnuTLS certtool 3.7.9
# Guess     "cat a.crt b.crt c.crt" joins "-----END CERTIFICATE-----" and "-----BEGIN" on
#           one line. A parser either accepts that, or rejects the file. If it loses
#           anything, it loses b, whose BEGIN is not at the start of a line.
# Seen      go        loses a and b, keeps c, and AppendCertsFromPEM returns true
#           openssl   -CAfile: "bad end line", no certificate is used, exit code not 0;
#                     "openssl x509 -in" of the same file: no error, and shows c
#           gnutls    reads all three
# So        A check with "openssl x509 -in bundle" shows a certificate that is the last
#           one of the file, and Go's result "at least one was added" hides two lost CAs.
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

func main() {
	bundle, _ := os.ReadFile("bundle")
	roots := x509.NewCertPool()
	fmt.Print(roots.AppendCertsFromPEM(bundle))
	for _, n := range []string{"a", "b", "c"} {
		b, _ := os.ReadFile(n + ".crt")
		p, _ := pem.Decode(b)
		c, _ := x509.ParseCertificate(p.Bytes)
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
			fmt.Print(" ", n)
		}
	}
	fmt.Println()
}
EOF
go mod init finding >go.log 2>&1
go build -o x509go .

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

for n in a b c; do
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k \
		-subj "/CN=$n" -days 5 -out $n.crt 2>/dev/null
done

# ask LABEL: what each reader finds in the file "bundle"
ask() {
	is "$1, Go: added, then found" "$(./x509go)" "$2"
	if openssl verify -CAfile bundle a.crt >o 2>&1; then r=ok; else r=$(grep -o -m1 'bad end line' o); fi
	is "$1, openssl verify -CAfile" "$r" "$3"
	is "$1, openssl x509 -in" "$(openssl x509 -in bundle -noout -subject)" "$4"
	loaded=$(certtool --verify --load-ca-certificate bundle --infile a.crt 2>&1 | grep Loaded)
	is "$1, certtool" "$loaded" 'Loaded CAs (3 available)'
}

cat a.crt b.crt c.crt >bundle
ask 'with newline' 'true a b c' ok 'subject=CN = a'
printf %s "$(cat a.crt)" | cat - b.crt c.crt >bundle
ask 'without newline' 'true c' 'bad end line' 'subject=CN = c'
