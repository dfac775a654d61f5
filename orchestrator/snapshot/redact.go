package snapshot

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// Redacted replaces a secret.
const Redacted = "[redacted]"

// secret is something that must not leave a node, however it came into a text.
type secret struct {
	// sign is in every text that holds it: most texts need no closer check.
	sign string
	// text is its pattern; what its group "keep" matches stays.
	text *regexp.Regexp
	// loose is true if a host name could match it too, so that it is searched in free text alone.
	loose bool
}

// secrets that the logs and answers of a node may hold. Forms: RFC 7468 (PEM), RFC 7515 (JWT), RFC
// 9110 (Authorization), RFC 3986 (user information in URLs), Kubernetes documentation,
// "Authenticating with Bootstrap Tokens".
func secrets() []secret {
	return []secret{
		{sign: "PRIVATE KEY-----",
			text: regexp.MustCompile(
				`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)},
		{sign: "PRIVATE KEY-----",
			text: regexp.MustCompile(
				`[A-Za-z0-9+/=\\\s]*-----END [A-Z0-9 ]*PRIVATE KEY-----`)}, // its beginning was cut off
		// The same in base64, as in a kubeconfig: "-----BEGIN" and not "CERT".
		{sign: "LS0tLS1CRUdJTi", text: regexp.MustCompile(`LS0tLS1CRUdJTiB[A-CE-Za-z0-9+/][A-Za-z0-9+/=]+`)},
		{sign: "eyJ", text: regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?`)},
		{sign: "uthorization", text: regexp.MustCompile(
			`(?P<keep>[Aa]uthorization["']?\s*[:=]\s*["']?(?:(?:[Bb]asic|[Bb]earer)\s+)?)[A-Za-z0-9._~+/=-]+`),
			loose: true},
		// Without the header's name a word such as "Basic Constraints" is none.
		{sign: "earer", text: regexp.MustCompile(`(?P<keep>\b[Bb]earer\s+)[A-Za-z._~+/=-]*[0-9][A-Za-z0-9._~+/=-]*`),
			loose: true},
		{sign: "asic", text: regexp.MustCompile(`(?P<keep>\b[Bb]asic\s+)[A-Za-z+/]*[0-9][A-Za-z0-9+/]*=*`),
			loose: true},
		{sign: "assword=", text: regexp.MustCompile(`(?P<keep>[Pp]assword=)\S+`), loose: true},
		{sign: "://", text: regexp.MustCompile(`(?P<keep>[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"']*:)[^\s/@"']+@`)},
		{sign: ".", text: regexp.MustCompile(`(?P<keep>^|[^a-z0-9.-])[a-z0-9]{6}\.[a-z0-9]{16}\b`), loose: true},
	}
}

// Redact returns a copy of the snapshot without the secrets that a node's logs and answers may hold
// by accident: private keys, tokens and passwords. It goes through every text, so that a new field
// is covered automatically; the names and addresses that identify nodes and certificates stay as
// they are.
func Redact(s Snapshot) Snapshot {
	all := secrets()
	scrub := func(text string, free bool) string { return redact(all, text, free) }
	out, _ := reflect.TypeAssert[Snapshot](rewriter{text: scrub, names: names()}.copy(reflect.ValueOf(s), true))
	return out
}

// RedactText returns a text without the secrets that may be in it.
func RedactText(text string) string { return redact(secrets(), text, true) }

// redact: free means that a text is free text rather than a name.
func redact(all []secret, text string, free bool) string {
	for _, secret := range all {
		if (secret.loose && !free) || !strings.Contains(text, secret.sign) {
			continue
		}
		text = secret.text.ReplaceAllString(text, "${keep}"+Redacted)
	}
	return text
}

// names lists the fields that hold names, addresses and paths; "" stands for every field of the
// type.
func names() map[reflect.Type][]string {
	return map[reflect.Type][]string{
		reflect.TypeFor[Snapshot]():          {"Endpoint"},
		reflect.TypeFor[Node]():              {"Node", "Facts", "Digests", "Files", "Pods"},
		reflect.TypeFor[Endpoint]():          {"Name", "Address"},
		reflect.TypeFor[Probe]():             {"Endpoint", "Addresses", "SANs"},
		reflect.TypeFor[Unreadable]():        {"Path"},
		reflect.TypeFor[certs.Certificate](): {""},
		reflect.TypeFor[Kubeconfig]():        {""},
		reflect.TypeFor[KubeadmConfig]():     {""},
		reflect.TypeFor[EtcdMember]():        {""},
		reflect.TypeFor[View]():              {"ControlPlanes", "Addresses"},
		reflect.TypeFor[StaticPod]():         {""},
	}
}

// rewriter copies a value with every text in it replaced.
type rewriter struct {
	text  func(s string, free bool) string
	names map[reflect.Type][]string
}

// copy: free means that a text is free text rather than a name.
func (r rewriter) copy(v reflect.Value, free bool) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(r.text(v.String(), free))
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(r.copy(v.Elem(), free))
		}
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				out.Index(i).Set(r.copy(v.Index(i), free))
			}
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
			for key, value := range v.Seq2() {
				out.SetMapIndex(key, r.copy(value, free))
			}
		}
	case reflect.Struct:
		out.Set(v)
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		fields := r.names[v.Type()]
		for i := range v.NumField() {
			isName := slices.Contains(fields, "") || slices.Contains(fields, v.Type().Field(i).Name)
			out.Field(i).Set(r.copy(v.Field(i), free && !isName))
		}
	default:
		out.Set(v)
	}
	return out
}
