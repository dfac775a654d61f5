#!/bin/sh
# https://kubernetes.default.svc.cluster.local./ works for Go, curl and wget, not for Ansible.
#
# Versions  Go 1.26.8 (server and client), OpenSSL 3.0.22 (3.0.22-1~deb12u2), curl 7.88.1
#           (7.88.1-10+deb12u15), wget 1.21.3 with GnuTLS 3.7.9, ansible-core 2.14.18 with
#           Python 3.11 (uri); all but Go of Debian 12
# Guess     In a Pod ("ndots:5") a dot at the end of a name saves the DNS queries of its search
#           list. It is the same name, absolute, and valid in a URL. A certificate for the name
#           without the dot is good for all clients, or for none.
# Seen      The certificate has the name api.example, and the URL api.example.:
#                               Go's server (API server, etcd)   openssl s_server
#             Go, curl, wget    ok                               ok
#             openssl s_client  tlsv1 alert decode error         hostname mismatch
#             Ansible's uri     TLSV1_ALERT_DECODE_ERROR         Hostname mismatch
#           The first three remove the dot, from the name in the ClientHello as well. OpenSSL
#           sends what its caller passes, and RFC 6066 forbids the dot there: Go's server ends the
#           handshake before there is a certificate to look at.
# So        curl proves nothing for Python here, and "decode error" names neither the dot nor
#           the certificate. Save the queries by ndots in the Pod's dnsConfig.
set -eu
t=$(mktemp -d)
running=
trap 'for p in $running; do kill "$p"; done; rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 curl=7.88.1-10+deb12u15 libcurl4=7.88.1-10+deb12u15 \
	wget=1.21.3-1+deb12u1 libgnutls30=3.7.9-2+deb12u7 libnss-wrapper=1.1.12-1 \
	ansible-core=2.14.18-0+deb12u2 python3-cryptography=38.0.4-3+deb12u1 python3-cffi-backend=1.15.1-5+b1 \
	python3-jinja2=3.1.2-1+deb12u3 python3-markupsafe=2.1.2-1+b1 python3-packaging=23.0-1 \
	python3-resolvelib=0.9.0-2 python3-yaml=6.0-3+b2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p"; done
export PATH="$t/root/usr/bin:$PATH" OPENSSL_CONF="$t/root/etc/ssl/openssl.cnf" LC_ALL=C.UTF-8
export PYTHONPATH="$t/root/usr/lib/python3/dist-packages" NSS_WRAPPER_HOSTS="$t/hosts"
export ANSIBLE_CONFIG="$t/ansible.cfg" ANSIBLE_HOME="$t/home" ANSIBLE_LOCALHOST_WARNING=0
: >ansible.cfg
printf '127.0.0.1 %s\n' api.example api.example. >hosts

cat >main.go <<'EOF'
// Without an argument: a server, which writes its port to a file. With a URL: a client.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) == 1 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		must(os.WriteFile("port.new", []byte(port), 0o600))
		must(os.Rename("port.new", "port"))
		server := &http.Server{ErrorLog: log.New(io.Discard, "", 0),
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })}
		must(server.ServeTLS(l, "tls.crt", "tls.key"))
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile("tls.crt")
	must(err)
	pool.AppendCertsFromPEM(ca)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(address)
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
		}}}
	_, err = client.Get(os.Args[1])
	must(err)
}
EOF
go mod init finding >go.log 2>&1
go build -o hello . >>go.log 2>&1
openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -subj /CN=server -days 5 \
	-addext subjectAltName=DNS:api.example -out tls.crt 2>/dev/null
./hello &
running=$!
openssl s_server -accept 127.0.0.1:0 -cert tls.crt -key tls.key -www >accept 2>&1 &
running="$running $!"
n=0
until [ -f port ] && grep -q '^ACCEPT .' accept; do
	n=$((n + 1))
	[ "$n" -lt 100 ]
	sleep 0.1
done
wrapped() { LD_PRELOAD=libnss_wrapper.so "$@"; }

# client CLIENT NAME PORT: "ok" or its error
client() {
	case $1 in
	go) ./hello "https://$2:$3/" ;;
	curl) wrapped curl -sS -o answer --cacert tls.crt "https://$2:$3/" ;;
	wget) wrapped wget -nv -O answer --ca-certificate=tls.crt "https://$2:$3/" ;;
	s_client)
		openssl s_client -connect "127.0.0.1:$3" -servername "$2" -verify_hostname "$2" -CAfile tls.crt \
			-verify_return_error </dev/null
		;;
	uri)
		wrapped /usr/bin/python3 root/usr/bin/ansible localhost -e ansible_python_interpreter=/usr/bin/python3 \
			-m uri -a "url=https://$2:$3/ ca_path=$t/tls.crt"
		;;
	esac >out 2>&1 || {
		grep -ioE 'tlsv1.alert.decode.error|hostname mismatch' out | head -n 1 | grep . || cat out
		return
	}
	echo ok
}

# is CLIENT GO OPENSSL: what it makes of the name with a dot; each works without the dot
is() {
	[ "$(client "$1" api.example "$go_port")" = ok ] || { cat out; exit 1; }
	[ "$(client "$1" api.example "$openssl_port")" = ok ] || { cat out; exit 1; }
	set -- "$1" "$2 | $3" "$(client "$1" api.example. "$go_port") | $(client "$1" api.example. "$openssl_port")"
	printf '%s: %s\n' "$1" "$3"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$2"; exit 1; }
}
go_port=$(cat port)
openssl_port=$(sed -n 's/^ACCEPT .*://p' accept)

is go ok ok
is curl ok ok
is wget ok ok
is s_client 'tlsv1 alert decode error' 'hostname mismatch'
is uri TLSV1_ALERT_DECODE_ERROR 'Hostname mismatch'
