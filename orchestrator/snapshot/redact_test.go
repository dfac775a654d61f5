package snapshot_test

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	tc "github.com/infrapuzzle/kscertctl/internal/testcluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// canary is the part of each planted secret that must not be found again.
const canary = "c4naryc4naryc4na"

// plants are secrets in the forms in which logs and answers hold them. Those whose form a name
// could have are searched in free text alone.
func plants() map[string]struct {
	text   string
	inText bool
} {
	block := func(kind string) string {
		return "-----BEGIN " + kind + "PRIVATE KEY-----\n" + canary + "\n-----END " + kind + "PRIVATE KEY-----"
	}
	type plant = struct {
		text   string
		inText bool
	}
	return map[string]plant{
		"a private key":                     {block(""), false},
		"an RSA key":                        {block("RSA "), false},
		"an EC key, in JSON":                {strings.ReplaceAll(block("EC "), "\n", `\n`), false},
		"a key whose end was cut off":       {"-----BEGIN PRIVATE KEY-----\n" + canary, false},
		"a key whose beginning was cut off": {canary + "\n" + canary + "==\n-----END RSA PRIVATE KEY-----", false},
		"a key in a kubeconfig":             {"client-key-data: " + base64.StdEncoding.EncodeToString([]byte("-----BEGIN RSA PRIVATE KEY-----\n")) + canary, false},
		"a service account's token":         {"eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlcm5ldGVz" + canary + ".sig" + canary, false},
		"a password in a URL":               {"https://admin:" + canary + "@proxy:3128/", false},
		"a password that has an at sign":    {"https://admin:p%40" + canary + "@proxy:3128/", false},
		"a bootstrap token":                 {"token: abcdef." + canary, true},
		"a bootstrap token, quoted":         {`"abcdef.` + canary + `"`, true},
		"two bootstrap tokens":              {"abcdef." + canary + " fedcba." + canary, true},
		"a Bearer header":                   {"Authorization: Bearer " + canary, true},
		"a bearer token":                    {"used bearer " + canary, true},
		"a Basic header":                    {`"Authorization":["Basic YWRt` + canary + `=="]`, true},
		"another Authorization header":      {"authorization: " + canary, true},
		"a password on a command line":      {"--password=" + canary, true},
	}
}

// fill sets every text in v, or only those in fields with one of the names.
func fill(v reflect.Value, text string, set bool, fields ...string) int {
	n := 0
	switch v.Kind() {
	case reflect.String:
		if set {
			v.SetString("before " + text + " after")
			n++
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		n += fill(v.Elem(), text, set, fields...)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		n += fill(v.Index(0), text, set, fields...)
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		n += fill(value, text, set, fields...)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range v.NumField() {
			here := len(fields) == 0
			for _, f := range fields {
				here = here || v.Type().Field(i).Name == f
			}
			n += fill(v.Field(i), text, here, fields...)
		}
	default:
	}
	return n
}

// A secret is planted into every field; a field that is added later is filled too.
func TestRedactFindsSecretsEverywhere(t *testing.T) {
	t.Parallel()
	for name, plant := range plants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s snapshot.Snapshot
			var fields []string
			if plant.inText {
				fields = []string{"Output", "Message", "Error", "Reason"}
			}
			if n := fill(reflect.ValueOf(&s).Elem(), plant.text, false, fields...); n < 5 {
				t.Fatalf("planted only %d times", n)
			}
			planted, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(snapshot.Redact(s), "", " ")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(planted), canary) || strings.Contains(string(got), canary) {
				t.Errorf("it is still there:\n%s", got)
			}
			if strings.Count(string(got), snapshot.Redacted) < 5 || !strings.Contains(string(got), " after") && !strings.Contains(plant.text, "BEGIN PRIVATE") {
				t.Errorf("too much or too little is gone:\n%s", got)
			}
			if again, _ := json.Marshal(s); string(again) != string(planted) {
				t.Error("the snapshot that was given has changed")
			}
		})
	}
}

// What a diagnosis needs stays as it is.
func TestRedactKeepsTheRest(t *testing.T) {
	t.Parallel()
	n, _ := tc.Healthy(tc.HA()).Node("cp1")
	for name, s := range map[string]snapshot.Snapshot{
		"healthy": tc.Healthy(tc.HA()),
		"outage":  tc.Healthy(tc.HA(), tc.On("cp1", tc.Expired(tc.Kinds(n)...), tc.CrashLoop(), tc.Refused()), tc.On("w1", tc.Unknown(snapshot.Unreachable, "ssh: no route"))),
		"words": tc.Healthy(tc.Single(), tc.On("cp1", func(n *snapshot.Node) {
			n.KubernetesName = "master.kubernetesclstr" // looks like a bootstrap token
			n.Certificates = append(n.Certificates, certs.Certificate{SANs: []string{"server.productioncls01"}})
			n.Kubeconfigs = append(n.Kubeconfigs, snapshot.Kubeconfig{Server: "https://master.kubernetesclstr:6443"})
			n.Results["apiserver-log"] = snapshot.Result{Output: strings.Join([]string{
				`E1123 authentication.go:73] "Unable to authenticate the request" err="[invalid bearer token, Token has expired]"`,
				"X509v3 Basic Constraints: CA:TRUE", "sudo: a password is required", "-----BEGIN CERTIFICATE-----", "certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==",
				"https://10.0.0.1:6443/readyz?verbose", "etcd.go:123] raft.node: 8e9e05c52164694d elected", "kubelet.service: Main process exited",
			}, "\n")}
		})),
	} {
		if got := snapshot.Redact(s); !reflect.DeepEqual(got, s) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, s)
		}
	}
}

func BenchmarkRedact(b *testing.B) {
	s := tc.Healthy(tc.HA())
	for len(s.Nodes) < 200 {
		s.Nodes = append(s.Nodes, s.Nodes[3])
	}
	for b.Loop() {
		snapshot.Redact(s)
	}
}
