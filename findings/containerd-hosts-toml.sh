#!/bin/sh
# containerd: a sound hosts.toml next to ca.crt takes the CA away, a broken one keeps it.
#
# Versions  github.com/containerd/containerd/v2 v2.4.2 core/remotes/docker/config, Go 1.26.8
# Guess     /etc/containerd/certs.d/REGISTRY has ca.crt, and pulls work. A hosts.toml with
#           a mirror or a timeout is added. It does not mention CAs, so the directory's
#           stay trusted. A hosts.toml with a syntax error makes each pull fail.
# Seen      The *.crt and *.cert files of a directory are read only while there is no usable
#           hosts.toml:
#             no hosts.toml         ca.crt is trusted
#             empty hosts.toml      ca.crt is trusted
#             sound, without "ca"   x509: certificate signed by unknown authority
#             sound, "ca" at the    the same for the mirror, in its [host] table: "ca" at
#             top                   the top is for "server" only
#             syntax error          ca.crt is trusted; mirrors and timeouts are dropped,
#                                   with an error in the log
# So        Correcting a typo in hosts.toml can be what breaks pulls. Name the CA in
#           hosts.toml, for each [host] again.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

cat >main.go <<'EOG'
package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/sirupsen/logrus"
)

// ask asks every host that containerd would, and tells how each handshake ends.
func ask(what, toml string, registry, mirror *httptest.Server) {
	name := strings.TrimPrefix(registry.URL, "https://")
	r := strings.NewReplacer("REGISTRY", registry.URL, "MIRROR", mirror.URL)
	os.Remove("certs.d/hosts.toml")
	if toml != "none" {
		if err := os.WriteFile("certs.d/hosts.toml", []byte(r.Replace(toml)), 0o644); err != nil {
			log.Fatal(err)
		}
	}
	hosts, err := config.ConfigureHosts(context.Background(), config.HostOptions{
		HostDir: func(string) (string, error) { return "certs.d", nil },
	})(name)
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
	}
	for _, h := range hosts {
		kind := "registry"
		if h.Host != name {
			kind = "mirror"
		}
		fmt.Printf("%s: %s: %s\n", what, kind, get(h))
	}
}

func get(h docker.RegistryHost) string {
	resp, err := h.Client.Get(h.Scheme + "://" + h.Host + "/v2/")
	if err != nil {
		_, after, _ := strings.Cut(err.Error(), "x509: ")
		return after
	}
	resp.Body.Close()
	return "trusted"
}

func main() {
	logrus.SetOutput(io.Discard)
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	registry, mirror := httptest.NewUnstartedServer(ok), httptest.NewUnstartedServer(ok)
	for _, s := range []*httptest.Server{registry, mirror} {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
	}
	os.Mkdir("certs.d", 0o755)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: registry.Certificate().Raw})
	if err := os.WriteFile("certs.d/ca.crt", ca, 0o644); err != nil {
		log.Fatal(err)
	}
	const timeout = "server = \"REGISTRY\"\ndial_timeout = \"5s\"\n"
	const host = "[host.\"MIRROR\"]\ncapabilities = [\"pull\"]\n"
	ask("no hosts.toml", "none", registry, mirror)
	ask("empty", "", registry, mirror)
	ask("timeout", timeout, registry, mirror)
	ask("ca at the top", "ca = \"ca.crt\"\n"+timeout+host, registry, mirror)
	ask("ca at the host", "ca = \"ca.crt\"\n"+timeout+host+"ca = \"ca.crt\"\n", registry, mirror)
	ask("syntax error", timeout+host+"capabilities = pull\n", registry, mirror)
}
EOG
cat >want <<'EOG'
no hosts.toml: registry: trusted
empty: registry: trusted
timeout: registry: certificate signed by unknown authority
ca at the top: mirror: certificate signed by unknown authority
ca at the top: registry: trusted
ca at the host: mirror: trusted
ca at the host: registry: trusted
syntax error: registry: trusted
EOG
go mod init finding >go.log 2>&1
go get github.com/containerd/containerd/v2/core/remotes/docker/config@v2.4.2 >>go.log 2>&1
go build -o hosts .
./hosts | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
