#!/bin/sh
# client-go reloads a CA file, makes a connection with it, and uses the one from before.
#
# Versions  k8s.io/client-go and apimachinery v0.37.2 (CA files are reloaded since v0.36.0),
#           Go 1.26.8
# Guess     A client watches something, its CA file gets a second CA, and the server another
#           certificate. Five minutes later the client reads the file. The watch stays on its
#           connection; requests that begin later use one made with the CAs of the file.
# Seen      HTTP/1.1 does so. With HTTP/2, the default, the first request after the reload
#           makes a connection, verifies the server's next certificate, closes it, and is
#           sent through the connection of the watch, as are the later ones:
#                                       HTTP/1.1         HTTP/2
#             before                    of the old CA    of the old CA
#             after the reload          of the next CA   of the old CA
#             an hour after the watch   of the next CA   of the old CA
#             90 s without a request    of the next CA   of the next CA
#           With a request a minute, every second one makes such a connection for nothing. The
#           reloaded transport is a clone, and shares the pool of HTTP/2 connections with the
#           former one.
# So        A busy controller that works an hour after a rotation still uses a connection from
#           before. End its connections, or restart it, before the old CA is dropped.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

cat >main_test.go <<'EOF'
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
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
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(100 * time.Hour), DNSNames: []string{"localhost"}}
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

func trust(cas ...*x509.Certificate) {
	var b []byte
	for _, c := range cas {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	must(os.WriteFile("ca.crt", b, 0o600))
}

// listener hands over the server's ends of the connections that the client makes in memory,
// so that hours pass in no time.
type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, io.EOF
}

func (l listener) Close() error   { return nil }
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }

func run(t *testing.T, protocol string) {
	synctest.Test(t, func(*testing.T) {
		old, next := issue("old", nil), issue("next", nil)
		var serving atomic.Pointer[x509.Certificate]
		serving.Store(issue("localhost", old))
		trust(old)

		l, end := make(listener), make(chan struct{})
		server := &http.Server{ErrorLog: log.New(io.Discard, "", 0),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				if r.URL.Path == "/watch" {
					<-end
				}
			}),
			TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{serving.Load().Raw}, PrivateKey: key}, nil
			}}}
		go server.ServeTLS(l, "", "")

		made := 0
		client, err := rest.HTTPClientFor(&rest.Config{Host: "https://localhost:6443",
			TLSClientConfig: rest.TLSClientConfig{CAFile: "ca.crt", NextProtos: []string{protocol}},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				made++
				a, b := net.Pipe()
				l <- b
				return a, nil
			}})
		must(err)
		get := func(path string) *http.Response {
			r, err := client.Get("https://localhost:6443" + path)
			must(err)
			return r
		}
		show := func(when string) {
			r := get("/")
			_, err := io.ReadAll(r.Body)
			must(err)
			must(r.Body.Close())
			fmt.Printf("%s %s: of the %s CA, connections made: %d\n", r.Proto, when,
				r.TLS.PeerCertificates[0].Issuer.CommonName, made)
		}

		watch := get("/watch")
		show("before")
		trust(old, next)
		serving.Store(issue("localhost", next))
		time.Sleep(6 * time.Minute)
		show("after the reload")
		show("again")
		close(end)
		io.ReadAll(watch.Body)
		watch.Body.Close()
		for range 60 {
			time.Sleep(time.Minute)
			r := get("/")
			io.ReadAll(r.Body)
			r.Body.Close()
		}
		show("an hour after the watch")
		time.Sleep(91 * time.Second)
		show("90 s without a request")
		close(l)
		server.Close()
	})
}

func Test(t *testing.T) {
	run(t, "http/1.1")
	run(t, "h2")
}
EOF
cat >want <<'EOF'
HTTP/1.1 before: of the old CA, connections made: 2
HTTP/1.1 after the reload: of the next CA, connections made: 3
HTTP/1.1 again: of the next CA, connections made: 3
HTTP/1.1 an hour after the watch: of the next CA, connections made: 3
HTTP/1.1 90 s without a request: of the next CA, connections made: 4
HTTP/2.0 before: of the old CA, connections made: 1
HTTP/2.0 after the reload: of the old CA, connections made: 2
HTTP/2.0 again: of the old CA, connections made: 2
HTTP/2.0 an hour after the watch: of the old CA, connections made: 32
HTTP/2.0 90 s without a request: of the next CA, connections made: 33
EOF
go mod init finding >go.log 2>&1
go get k8s.io/client-go/rest@v0.37.2 >>go.log 2>&1
go test -c -o reload . >>go.log 2>&1
./reload >out 2>&1 || { cat out; exit 1; }
grep HTTP out | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
