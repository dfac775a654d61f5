package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// etcdValidity is what Kubespray gives to host etcd's CA and leaves alike.
const etcdValidity = 36500 * 24 * time.Hour

// etcdPKI makes the certificates of host etcd in Kubespray's names: one CA and,
// for every control plane, a member, an admin and a client (node) certificate.
func etcdPKI(nodes []Node, now time.Time) ([]File, error) {
	const dir = "/etc/ssl/etcd/ssl/"
	caKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	template := func(name string) (*x509.Certificate, error) {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		return &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Minute), NotAfter: now.Add(etcdValidity), BasicConstraintsValid: true,
		}, err
	}
	ca, err := template("etcd-ca")
	if err != nil {
		return nil, err
	}
	ca.IsCA = true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("making the etcd CA: %w", err)
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return nil, err
	}
	files := pair(dir+"ca", caDER, caKey)
	names := []string{"localhost"}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, n := range nodes {
		names = append(names, n.Name)
		addresses = append(addresses, net.IP(n.IP.AsSlice()))
	}
	for _, n := range nodes {
		for _, kind := range []string{"member", "admin", "node"} {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				return nil, err
			}
			leaf, err := template("etcd-" + kind + "-" + n.Name)
			if err != nil {
				return nil, err
			}
			leaf.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageContentCommitment
			leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
			leaf.DNSNames, leaf.IPAddresses = names, addresses
			der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
			if err != nil {
				return nil, fmt.Errorf("making the etcd %s certificate of %s: %w", kind, n.Name, err)
			}
			files = append(files, pair(dir+kind+"-"+n.Name, der, key)...)
		}
	}
	return files, nil
}

func pair(base string, der []byte, key *rsa.PrivateKey) []File {
	return []File{
		{Path: base + ".pem", Mode: 0o640, Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})},
		{Path: base + "-key.pem", Mode: 0o600, Data: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})},
	}
}
