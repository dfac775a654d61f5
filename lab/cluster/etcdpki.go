package cluster

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// etcdValidity is Kubespray's validity of host etcd's CA and leaf certificates.
const etcdValidity = 36500 * 24 * time.Hour

// etcdDir is Kubespray's etcd_cert_dir.
const etcdDir = "/etc/ssl/etcd/ssl/"

// etcdPKI creates host etcd's certificates as the script of Kubespray's role etcd does with
// openssl: one CA, a member and an admin certificate for each member, a client certificate
// (node) for each control plane. They are made one after the other for the same number of
// days, so each expires a second after the previous one, and all after their CA; none has a
// key usage.
func etcdPKI(members, controlPlanes []Node, now time.Time) ([]File, error) {
	begin := now.Add(-time.Duration(1+2*len(members)+len(controlPlanes)) * time.Second)
	caKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	template := func(name string) (*x509.Certificate, error) {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		defer func() { begin = begin.Add(time.Second) }()
		return &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name},
			NotBefore: begin, NotAfter: begin.Add(etcdValidity), BasicConstraintsValid: true,
		}, err
	}
	ca, err := template("etcd-ca")
	if err != nil {
		return nil, err
	}
	ca.IsCA = true
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("making the etcd CA: %w", err)
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return nil, err
	}
	files, err := pair(etcdDir+"ca", caDER, caKey)
	if err != nil {
		return nil, err
	}
	names := []string{"localhost"}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, n := range members {
		names = append(names, n.Name)
		addresses = append(addresses, net.IP(n.IP.AsSlice()))
	}
	issue := func(kind, node string) error {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		leaf, err := template("etcd-" + kind + "-" + node)
		if err != nil {
			return err
		}
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		leaf.DNSNames, leaf.IPAddresses = names, addresses
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
		if err != nil {
			return fmt.Errorf("making the etcd %s certificate of %s: %w", kind, node, err)
		}
		made, err := pair(etcdDir+kind+"-"+node, der, key)
		files = append(files, made...)
		return err
	}
	for _, n := range members {
		if err := errors.Join(issue("member", n.Name), issue("admin", n.Name)); err != nil {
			return nil, err
		}
	}
	for _, n := range controlPlanes {
		if err := issue("node", n.Name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// etcdFiles returns the host etcd files of a node: a member has all of them, including the
// CA's key; another control plane has the CA's certificate and its own pair (Kubespray,
// roles/etcd, gen_certs_script.yml).
func (c *Cluster) etcdFiles(n Node, all []File) []File {
	switch {
	case c.isEtcdMember(n):
		return all
	case n.Role != ControlPlane:
		return nil
	}
	var own []File
	for _, f := range all {
		switch strings.TrimPrefix(f.Path, etcdDir) {
		case "ca.pem", "node-" + n.Name + ".pem", "node-" + n.Name + "-key.pem":
			own = append(own, f)
		}
	}
	return own
}

// pair is a certificate and its key, in the format of openssl since 3.0.
func pair(base string, der []byte, key *rsa.PrivateKey) ([]File, error) {
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	return []File{
		{Path: base + ".pem", Mode: 0o700, Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})},
		{Path: base + "-key.pem", Mode: 0o700,
			Data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})},
	}, err
}
