package certs

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"testing"
	"time"
)

// odd is a certificate split into the parts that are changed here (RFC 5280, 4.1).
type odd struct {
	TBS struct {
		Version   asn1.RawValue
		Serial    *big.Int
		Algorithm asn1.RawValue
		Issuer    asn1.RawValue
		Validity  struct{ NotBefore, NotAfter asn1.RawValue }
		Subject   asn1.RawValue
		Key       struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
		Extensions asn1.RawValue
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// edited is a certificate that is changed after it was signed.
func edited(t *testing.T, edit func(*odd)) Certificate {
	t.Helper()
	var c odd
	if rest, err := asn1.Unmarshal(selfSigned(t), &c); err != nil || len(rest) > 0 {
		t.Fatal(err)
	}
	edit(&c)
	der, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePEM(block("CERTIFICATE", der))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A time zone moves the last moment of all years into the next one, and the first into the one
// before: such a certificate is shown with the nearest time that JSON allows.
func TestYearsBeyondJSON(t *testing.T) {
	t.Parallel()
	generalized := func(text string) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagGeneralizedTime, Bytes: []byte(text)}
	}
	got := edited(t, func(c *odd) {
		c.TBS.Validity.NotBefore, c.TBS.Validity.NotAfter = generalized("00000101000000+0100"), generalized("99991231235959-0100")
	})
	if text, err := json.Marshal(got); err != nil {
		t.Errorf("no JSON: %v: %s", err, text)
	}
	if want := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC); !got.NotAfter.Equal(want) {
		t.Errorf("ends at %s, want %s", got.NotAfter, want)
	}
	if !got.NotBefore.Equal(time.Time{}) {
		t.Errorf("begins at %s", got.NotBefore)
	}
}

// Algorithms that Go does not name have their names, and others their numbers.
func TestKeyAlgorithms(t *testing.T) {
	t.Parallel()
	for want, oid := range map[string]asn1.ObjectIdentifier{
		"RSA-PSS":           {1, 2, 840, 113549, 1, 1, 10},
		"Ed448":             {1, 3, 101, 113},
		"ML-DSA-44":         {2, 16, 840, 1, 101, 3, 4, 3, 17},
		"ML-DSA-65":         {2, 16, 840, 1, 101, 3, 4, 3, 18},
		"ML-DSA-87":         {2, 16, 840, 1, 101, 3, 4, 3, 19},
		"SLH-DSA-SHA2-128s": {2, 16, 840, 1, 101, 3, 4, 3, 20},
		"1.2.3.4":           {1, 2, 3, 4},
	} {
		got := edited(t, func(c *odd) { c.TBS.Key.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oid} })
		if got.KeyAlgorithm != want {
			t.Errorf("%s is called %q, want %q", oid, got.KeyAlgorithm, want)
		}
	}
}

// The user of a certificate does not depend on how its subject is written.
func TestSameUser(t *testing.T) {
	t.Parallel()
	of := func(user string, groups ...string) Certificate {
		return Certificate{Subject: "CN=" + user, CommonName: user, Organizations: groups}
	}
	for _, row := range []struct {
		a, b Certificate
		want bool
	}{
		{of("jane", "a", "b"), of("jane", "b", "a"), true},
		{of("jane", "a", "a"), of("jane", "a"), true},
		{of("jane"), of("jane"), true},
		{of("jane", "a"), of("jane", "b"), false},
		{of("jane", "a"), of("jane"), false},
		{of("jane", "a"), of("joe", "a"), false},
		{Certificate{Subject: "CN=jane"}, of("jane", "a"), true},
		{Certificate{Subject: "CN=jane"}, Certificate{Subject: "CN=joe"}, false},
	} {
		if got := row.a.SameUser(row.b); got != row.want {
			t.Errorf("%+v and %+v: %t", row.a, row.b, got)
		}
	}
}
