package witness

import (
	"encoding/base64"
	"slices"
	"testing"
)

func TestDigestDiff(t *testing.T) {
	before := Digest{"cp1:/a": "1", "cp1:/b": "1", "w1:/a": "1"}
	if diff := before.Diff(Digest{"cp1:/a": "1", "cp1:/b": "1", "w1:/a": "1"}); len(diff) != 0 {
		t.Errorf("equal digests differ: %q", diff)
	}
	got := before.Diff(Digest{"cp1:/a": "2", "w1:/a": "1", "w1:/c": "1"})
	want := []string{"changed: cp1:/a: 2, was 1", "gone: cp1:/b", "new: w1:/c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRefusesRubbish(t *testing.T) {
	for name, text := range map[string]string{
		"no base64":      "client-certificate-data: ???",
		"no certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"inner":          "client-certificate-data: " + base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if certs, err := parse([]byte("client-certificate: /a/file\n")); err != nil || len(certs) != 0 {
		t.Errorf("a reference: got %v, %v", certs, err)
	}
}

func TestServerOfKubeconfig(t *testing.T) {
	m := server.FindStringSubmatch("clusters:\n- cluster:\n    certificate-authority-data: QQ==\n    server: https://api.x.test:8443\n  name: x\n")
	if m == nil || m[1] != "https://api.x.test:8443" {
		t.Errorf("got %q", m)
	}
	if m := server.FindStringSubmatch("-----BEGIN CERTIFICATE-----\n"); m != nil {
		t.Errorf("a certificate leads to %q", m)
	}
}
