#!/bin/sh
# The proxy of a kubeconfig costs a connection per client, the same one in HTTPS_PROXY one in all.
#
# Versions  k8s.io/client-go v0.37.2, Go 1.26.8
# Guess     A program behind a bastion makes 100 clients from one kubeconfig: one per kind, per
#           request or per controller. client-go has one transport for equal TLS settings, so
#           they share one HTTP/2 connection to the API server, also through a proxy. Whether
#           "proxy-url" or HTTPS_PROXY names that proxy makes no difference.
# Seen      Connections that the proxy makes to the API server for 100 clients, one request each,
#           and how many are open after that:
#             HTTPS_PROXY                             1   1
#             HTTPS_PROXY, client certificate files   1   1
#             proxy-url                             100   100
#             proxy-url, client certificate files   100   100
#           A kubeconfig with proxy-url makes a transport of its own for each client: a proxy is
#           a function, which the cache can not compare. With certificate files each of them
#           has a watcher of the files, too.
# So        What is light directly or with HTTPS_PROXY makes a TLS handshake per client
#           with proxy-url, and holds that many connections. Make the HTTP client once
#           (rest.HTTPClientFor) and the clients with NewForConfigAndClient.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

cat >main.go <<'EOF'
package main

import (
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
	"runtime"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// certificate makes the files of a server and client that is its own CA.
func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"},
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"api.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(err)
	secret, err := x509.MarshalECPrivateKey(key)
	must(err)
	must(os.WriteFile("tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile("tls.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	return l
}

func main() {
	server, proxy := listen(), listen()
	go (&http.Server{ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate()},
			ClientAuth: tls.RequestClientCert}}).ServeTLS(server, "", "")
	var made, open atomic.Int32
	go http.Serve(proxy, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		up, err := net.Dial("tcp", server.Addr().String())
		must(err)
		made.Add(1)
		open.Add(1)
		defer open.Add(-1)
		down, _, err := w.(http.Hijacker).Hijack()
		must(err)
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(up, down)
			up.Close()
		}()
		io.Copy(down, up)
	}))
	url := "http://" + proxy.Addr().String()
	os.Setenv("HTTPS_PROXY", url)

	for _, way := range []struct {
		what, proxyURL string
		user           api.AuthInfo
	}{
		{"HTTPS_PROXY", "", api.AuthInfo{}},
		{"HTTPS_PROXY, client certificate files", "", api.AuthInfo{ClientCertificate: "tls.crt", ClientKey: "tls.key"}},
		{"proxy-url", url, api.AuthInfo{}},
		{"proxy-url, client certificate files", url, api.AuthInfo{ClientCertificate: "tls.crt", ClientKey: "tls.key"}},
	} {
		k := api.NewConfig()
		k.Clusters["a"] = &api.Cluster{Server: "https://api.example:6443", CertificateAuthority: "tls.crt",
			ProxyURL: way.proxyURL}
		k.AuthInfos["a"] = &way.user
		k.Contexts["a"] = &api.Context{Cluster: "a", AuthInfo: "a"}
		k.CurrentContext = "a"
		config, err := clientcmd.NewDefaultClientConfig(*k, nil).ClientConfig()
		must(err)
		madeBefore, openBefore := made.Load(), open.Load()
		var clients []*http.Client
		for range 100 {
			client, err := rest.HTTPClientFor(config)
			must(err)
			r, err := client.Get("https://api.example:6443/version")
			must(err)
			io.ReadAll(r.Body)
			r.Body.Close()
			clients = append(clients, client)
		}
		fmt.Printf("%s: %d made, %d open\n", way.what, made.Load()-madeBefore, open.Load()-openBefore)
		runtime.KeepAlive(clients) // a transport without clients leaves the cache
	}
}
EOF
cat >want <<'EOF'
HTTPS_PROXY: 1 made, 1 open
HTTPS_PROXY, client certificate files: 1 made, 1 open
proxy-url: 100 made, 100 open
proxy-url, client certificate files: 100 made, 100 open
EOF
go mod init finding >go.log 2>&1
go get k8s.io/client-go/tools/clientcmd@v0.37.2 >>go.log 2>&1
go build -o clients . >>go.log 2>&1
./clients | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
