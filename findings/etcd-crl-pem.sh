#!/bin/sh
# etcd's CRL file: what etcd 3.5 reads in PEM makes etcd 3.6 and later close every connection.
#
# Versions  go.etcd.io/etcd/client/pkg/v3 v3.5.30 and v3.7.3 (the package "transport",
#           which etcd listens with), Go 1.26.8, OpenSSL 3.0.22 (3.0.22-1~deb12u2)
# Guess     "openssl ca -gencrl" and Ansible's x509_crl write PEM by default. A
#           file for --client-crl-file that etcd 3.5 accepts is good for etcd 3.7, too. If
#           it is not, etcd reports that when it starts, as for a certificate it can not
#           read.
# Seen                            3.5       3.7
#             CRL in DER          served    served
#             CRL in PEM          served    connection closed: x509: malformed crl
#             version 1 in DER    served    connection closed: x509: unsupported crl version
#           Version 1 is what "openssl ca" writes for a CA without a crlnumber. Both listen
#           without an error: the file is read for each connection and not before. Since
#           3.6 it is read by Go's ParseRevocationList instead of ParseCRL.
# So        After an upgrade etcd is up and listens, and no API server can use it. Write
#           version 2 (crlnumber), and convert it before:
#           openssl crl -in crl.pem -outform DER.
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

cat >main.go <<'EOG'
package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

func must(err error) {
	if err != nil {
		fmt.Println("not listening:", err)
		os.Exit(1)
	}
}

func main() {
	info := transport.TLSInfo{CertFile: "etcd.crt", KeyFile: "etcd.key", TrustedCAFile: "ca.crt",
		ClientCertAuth: true, CRLFile: os.Args[1]}
	reason := make(chan error, 1)
	info.HandshakeFailure = func(_ *tls.Conn, err error) { reason <- err }
	l, err := transport.NewListener("127.0.0.1:0", "https", &info)
	must(err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	client, err := transport.TLSInfo{CertFile: "etcd.crt", KeyFile: "etcd.key", TrustedCAFile: "ca.crt"}.ClientConfig()
	must(err)
	client.ServerName = "localhost"
	c, err := tls.Dial("tcp", l.Addr().String(), client)
	must(err)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err = c.Read(make([]byte, 5)); err != nil {
		fmt.Println("closed:", <-reason)
		return
	}
	fmt.Println("served")
}
EOG
for v in v3.5.30 v3.7.3; do
	mkdir $v
	cp main.go $v
	(
		cd $v
		go mod init finding
		go get go.etcd.io/etcd/client/pkg/v3/transport@$v
		go build -o ../$v.bin .
	) >>go.log 2>&1
done

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=etcd-ca -days 5 \
	-addext keyUsage=critical,keyCertSign,cRLSign -out ca.crt 2>/dev/null
printf '%s\n' 'subjectAltName=DNS:localhost' 'extendedKeyUsage=serverAuth,clientAuth' >ext
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout etcd.key -subj /CN=etcd 2>/dev/null |
	openssl x509 -req -CA ca.crt -CAkey ca.key -set_serial 2 -days 4 -extfile ext -out etcd.crt 2>/dev/null
printf '%s\n' '[ca]' 'default_ca=x' '[x]' 'database=index' 'default_md=sha256' 'default_crl_days=4' >ca.cnf
: >index
openssl ca -config ca.cnf -gencrl -cert ca.crt -keyfile ca.key 2>/dev/null | openssl crl -outform DER -out v1.der
echo 'crlnumber=number' >>ca.cnf
echo 01 >number
openssl ca -config ca.cnf -gencrl -cert ca.crt -keyfile ca.key -out crl.pem 2>/dev/null
openssl crl -in crl.pem -outform DER -out crl.der

is '3.5, DER' "$(./v3.5.30.bin crl.der)" served
is '3.7, DER' "$(./v3.7.3.bin crl.der)" served
is '3.5, PEM' "$(./v3.5.30.bin crl.pem)" served
is '3.7, PEM' "$(./v3.7.3.bin crl.pem)" 'closed: x509: malformed crl'
is '3.5, version 1' "$(./v3.5.30.bin v1.der)" served
is '3.7, version 1' "$(./v3.7.3.bin v1.der)" 'closed: x509: unsupported crl version'
