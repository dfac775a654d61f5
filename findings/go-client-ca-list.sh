#!/bin/sh
# A Go server with 2,619 client CAs named "kubernetes" completes no handshake at all.
#
# Versions  Go 1.26.8 crypto/tls, OpenSSL s_client 3.0.22 (Debian 3.0.22-1~deb12u2)
# Guess     A server asks for client certificates (tls.RequestClientCert), and its client
#           CA bundle has grown to some thousand entries. Certificates are checked after
#           they arrive, so the size costs time at a login. Clients without a
#           certificate do not notice.
# Seen      The server sends the name of every CA, repeated ones too, to every client. A
#           list in TLS has a 2-byte length, and "CN=kubernetes" takes 25 bytes of it:
#           2,618 CAs work, with 2,619 every handshake fails, for every client:
#             server   cryptobyte: pending child length 65539 exceeds 2-byte length prefix
#             client   EOF
#             s_client unexpected eof while reading
#           Nothing is logged when the bundle is loaded, and the pool works in Verify.
# So        Bundles that only grow end in an outage of all clients, not of some. The
#           limit is in bytes of names: CAs with long names reach it much earlier.
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

cat >main.go <<'EOF'
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
	"time"
)

func try(n int) {
	now := time.Now()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool := x509.NewCertPool()
	var ca *x509.Certificate
	for i := range n {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "kubernetes"},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, _ := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		ca, _ = x509.ParseCertificate(der)
		pool.AddCert(ca)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		DNSNames: []string{"localhost"}}
	der, _ := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: pool,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		panic(err)
	}
	server := make(chan error)
	go func() {
		for range 2 {
			c, err := l.Accept()
			if err == nil {
				c.SetDeadline(time.Now().Add(5 * time.Second))
				err = c.(*tls.Conn).Handshake()
				c.Write([]byte("hello"))
				c.Close()
			}
			server <- err
		}
	}()
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err == nil {
		_, err = c.Read(make([]byte, 5))
		c.Close()
	}
	fmt.Println(n, "Go client:", err)
	fmt.Println(n, "server:", <-server)
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, "openssl", "s_client", "-brief", "-connect", l.Addr().String()).CombinedOutput()
	fmt.Println(n, "s_client:", err, strings.Contains(string(out), "unexpected eof while reading"))
	fmt.Println(n, "server:", <-server)
	l.Close()
}

func main() {
	try(2618)
	try(2619)
}
EOF
cat >want <<'EOF'
2618 Go client: <nil>
2618 server: <nil>
2618 s_client: <nil> false
2618 server: <nil>
2619 Go client: EOF
2619 server: cryptobyte: pending child length 65539 exceeds 2-byte length prefix
2619 s_client: exit status 1 true
2619 server: cryptobyte: pending child length 65539 exceeds 2-byte length prefix
EOF
go mod init finding >go.log 2>&1
go run . </dev/null | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
