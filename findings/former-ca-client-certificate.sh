#!/bin/sh
# A client certificate of a CA that the server has dropped: Go does not send it, the others do.
#
# Versions  Go 1.26.8 crypto/tls, OpenSSL s_client 3.0.22 (Debian 3.0.22-1~deb12u2),
#           GnuTLS gnutls-cli 3.7.9
# Guess     After a rotation a server asks for client certificates (tls.RequestClientCert,
#           as an API server does) and names the next CA alone. Each client still has a
#           certificate of the former CA. All present it, the server refuses it, and the
#           answer is "unauthorized" for each: 401 in Kubernetes.
# Seen      Certificates that reach the server, with TLS 1.3 and 1.2:
#             client       next CA named   both CAs named   none named
#             Go           0               1                1
#             gnutls-cli   1               1                1
#             s_client     1               1                1
#           Go's client looks for a certificate of a named CA, finds none, and sends an
#           empty list, without an error.
# So        A Go client with an outdated certificate is anonymous: what anonymous users may
#           do it may do, the rest is "forbidden" (403), and nothing names the certificate.
#           OpenSSL's clients get 401 with the same files.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 \
	gnutls-bin=3.7.9-2+deb12u7 libgnutls30=3.7.9-2+deb12u7 libgnutls-dane0=3.7.9-2+deb12u7 \
	libunbound8 libevent-2.1-7 libopts25; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p"; done
export PATH="$t/root/usr/bin:$PATH" OPENSSL_CONF="$t/root/etc/ssl/openssl.cnf"

cat >main.go <<'GO'
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

var key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)

func issue(name string, by *x509.Certificate) *x509.Certificate {
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: []string{"localhost"}}
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), key)
	must(err)
	out, err := x509.ParseCertificate(der)
	must(err)
	return out
}

// sent is how many certificates of the client have reached a server that names these CAs.
func sent(leaf *x509.Certificate, version uint16, named []*x509.Certificate, client func(addr string)) int {
	pool := x509.NewCertPool()
	for _, ca := range named {
		pool.AddCert(ca)
	}
	if named == nil {
		pool = nil
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: pool,
		MinVersion: version, MaxVersion: version,
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}})
	must(err)
	defer l.Close()
	n := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		must(err)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		must(c.(*tls.Conn).Handshake())
		n <- len(c.(*tls.Conn).ConnectionState().PeerCertificates)
		c.Write([]byte("hello"))
		c.Close()
	}()
	client(l.Addr().String())
	return <-n
}

func program(args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader("")
	cmd.Run()
}

func main() {
	former, next := issue("former", nil), issue("next", nil)
	serves, mine := issue("localhost", next), issue("admin", former)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	var pair bytes.Buffer
	pem.Encode(&pair, &pem.Block{Type: "CERTIFICATE", Bytes: mine.Raw})
	pem.Encode(&pair, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	must(os.WriteFile("client.pem", pair.Bytes(), 0o600))
	clients := []struct {
		name string
		run  func(addr string)
	}{
		{"go", func(addr string) {
			c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true,
				Certificates: []tls.Certificate{{Certificate: [][]byte{mine.Raw}, PrivateKey: key}}})
			must(err)
			c.Read(make([]byte, 5))
		}},
		{"gnutls-cli", func(addr string) {
			host, port, _ := strings.Cut(addr, ":")
			program("gnutls-cli", "--insecure", "--x509certfile=client.pem", "--x509keyfile=client.pem", "--port="+port, host)
		}},
		{"s_client", func(addr string) {
			program("openssl", "s_client", "-connect", addr, "-cert", "client.pem", "-key", "client.pem")
		}},
	}
	for _, c := range clients {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			fmt.Printf("%s %s", c.name, tls.VersionName(version))
			for _, named := range [][]*x509.Certificate{{next}, {next, former}, nil} {
				fmt.Printf(" %d", sent(serves, version, named, c.run))
			}
			fmt.Println()
		}
	}
}
GO
go mod init finding 2>/dev/null
go run . >out
cat out
cat >want <<'END'
go TLS 1.2 0 1 1
go TLS 1.3 0 1 1
gnutls-cli TLS 1.2 1 1 1
gnutls-cli TLS 1.3 1 1 1
s_client TLS 1.2 1 1 1
s_client TLS 1.3 1 1 1
END
diff want out
