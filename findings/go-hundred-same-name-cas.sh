#!/bin/sh
# Go stops looking for the right CA after 100 of the same name.
#
# Versions  Go 1.26.8 crypto/x509
# Guess     A pool holds many CAs of one subject, as a client CA bundle that only ever
#           grew. Go tries each of them (known: any order works for two), so it is
#           slower with 101 CAs and still finds the right one, key identifiers or not.
# Seen      With key identifiers it does: the matching CA is tried first, also of 2,000.
#           Without them (OpenSSL configurations before 3.0 often wrote none) the 100th
#           CA is found and the 101st is not:
#             x509: signature check attempts limit reached while verifying certificate chain
# So        The place of a CA in a bundle matters to Go, too, once there are over 100.
#           It is also an answer without the usual words "unknown authority".
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
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// try verifies a leaf of the last of n CAs that share a name.
func try(n int, identifiers bool) error {
	now, roots := time.Now(), x509.NewCertPool()
	var ca *x509.Certificate
	var key *ecdsa.PrivateKey
	for i := range n {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "kubernetes"},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, _ := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		ca, _ = x509.ParseCertificate(der)
		roots.AddCert(ca)
	}
	parent := *ca
	if !identifiers {
		parent.SubjectKeyId = nil // so the leaf gets no authority key identifier
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		Subject: pkix.Name{CommonName: "client"}}
	lk, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.CreateCertificate(rand.Reader, leaf, &parent, lk.Public(), key)
	leaf, _ = x509.ParseCertificate(der)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots})
	return err
}

func main() {
	fmt.Println("100 without identifiers:", try(100, false))
	fmt.Println("101 without identifiers:", try(101, false))
	fmt.Println("101 with identifiers:", try(101, true))
	fmt.Println("2000 with identifiers:", try(2000, true))
}
EOF
cat >want <<'EOF'
100 without identifiers: <nil>
101 without identifiers: x509: signature check attempts limit reached while verifying certificate chain
101 with identifiers: <nil>
2000 with identifiers: <nil>
EOF
go mod init finding >go.log 2>&1
go run . | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
