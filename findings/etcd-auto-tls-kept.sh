#!/bin/sh
# etcd's --auto-tls makes a certificate once: other hosts, years or its end change nothing.
#
# Versions  go.etcd.io/etcd/client/pkg/v3 v3.7.3 (the package "transport", which etcd makes
#           and uses the certificate with), Go 1.26.8, OpenSSL 3.0.22 (3.0.22-1~deb12u2)
# Guess     With --auto-tls (and --peer-auto-tls) etcd cares for its own certificate. When
#           it starts, it makes one for the hosts it listens on and for the years of
#           --self-signed-cert-validity, and makes a new one if the old one has expired, has
#           other hosts, or another lifetime is asked for.
# Seen      If cert.pem and key.pem are there, they are used, whatever is in them:
#             another host, 10 years instead of 1   the same file, without either
#             expired                               listens without an error, and clients
#                                                   get "certificate has expired"
#           Members do not notice: of a certificate made this way they verify nothing, by
#           design.
# So        The default lasts a year, no restart renews it, and a cluster that looks well to
#           its members refuses its clients. Remove the directory "fixtures" in the data
#           directory, then restart.
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
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// start is etcd with --auto-tls on a host; it tells of the certificate and what clients see.
func start(what, host string, years uint) {
	info, err := transport.SelfCert(zap.NewNop(), "fixtures", []string{net.JoinHostPort(host, "2379")}, years)
	must(err)
	l, err := transport.NewListener("127.0.0.1:0", "https", &info)
	must(err)
	defer l.Close()
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
	file, err := os.ReadFile("fixtures/cert.pem")
	must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(file)
	pair, err := tls.LoadX509KeyPair("fixtures/cert.pem", "fixtures/key.pem")
	must(err)
	life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore) / (24 * time.Hour)
	fmt.Println(what+": hosts", pair.Leaf.IPAddresses, "days", int(life))
	dial(what+": client", l, &tls.Config{RootCAs: pool, ServerName: "10.0.0.1"})
	member, err := info.ClientConfig()
	must(err)
	dial(what+": other member", l, member)
}

func dial(what string, l net.Listener, c *tls.Config) {
	conn, err := tls.Dial("tcp", l.Addr().String(), c)
	if err == nil {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = conn.Read(make([]byte, 5))
		conn.Close()
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		fmt.Println(what, "certificate has expired")
		return
	}
	fmt.Println(what, err)
}

func main() {
	switch os.Args[1] {
	case "first":
		start("first", "10.0.0.1", 1)
	case "again":
		start("again, other host and lifetime", "10.0.0.2", 10)
	case "expired":
		start("expired", "10.0.0.1", 1)
	}
}
EOG
go mod init finding >go.log 2>&1
go get go.etcd.io/etcd/client/pkg/v3/transport@v3.7.3 >>go.log 2>&1
go mod tidy >>go.log 2>&1
go build -o etcd-tls .

cat >want <<'EOG'
first: hosts [10.0.0.1] days 365
first: client <nil>
first: other member <nil>
again, other host and lifetime: hosts [10.0.0.1] days 365
again, other host and lifetime: client <nil>
again, other host and lifetime: other member <nil>
expired: hosts [10.0.0.1] days 365
expired: client certificate has expired
expired: other member <nil>
EOG
{
	./etcd-tls first
	./etcd-tls again
	# the same certificate with the same key, a year and a day older
	printf '%s\n' '[ca]' 'default_ca=x' '[x]' 'database=index' 'new_certs_dir=.' 'default_md=sha256' 'rand_serial=yes' \
		'policy=p' 'copy_extensions=copyall' '[p]' 'organizationName=supplied' >ca.cnf
	: >index
	openssl x509 -x509toreq -in fixtures/cert.pem -signkey fixtures/key.pem -copy_extensions copyall -out old.csr
	openssl ca -batch -config ca.cnf -selfsign -keyfile fixtures/key.pem -in old.csr -notext -out old.pem \
		-startdate "$(date -ud '-366 days' +%Y%m%d%H%M%SZ)" -enddate "$(date -ud '-1 day' +%Y%m%d%H%M%SZ)" 2>ca.log
	mv old.pem fixtures/cert.pem
	./etcd-tls expired
} | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
