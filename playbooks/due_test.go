package playbooks_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
)

// The scripts and diagnosis agree on what is due: what expires within the threshold, what is not
// yet valid, and of what the kubelet renews the last tenth, or all if it is set not to.
func TestDue(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	n := newNode(t)
	ca := testpki.Authority(t, "kubernetes")
	for _, file := range []string{"/d/1.conf", "/own.yaml"} {
		n.write(n.conf+file, []byte("rotateCertificates: false\n"), 0o600)
	}
	for i, row := range []struct {
		name              string
		begins, ends      time.Duration
		due, kubelet, off bool
	}{
		{"fresh", -10 * day, 300 * day, false, false, false},
		{"about to end", -300 * day, 20 * day, true, true, true},
		{"it will be renewed by itself", -80 * day, 20 * day, true, false, true},
		{"it was not", -80 * day, 5 * day, true, true, true},
		{"expired", -80 * day, -time.Hour, true, true, true},
		{"not begun", time.Hour, 300 * day, true, true, true},
	} {
		cert := ca.Issue(t, testpki.Leaf{CommonName: "x", NotBefore: time.Now().Add(row.begins), NotAfter: time.Now().Add(row.ends)}).Certificate
		file := fmt.Sprintf("%s/%d.pem", n.conf, i)
		n.write(file, cert, 0o600)
		for _, ask := range []struct {
			function, flags, config string
			want                    bool
		}{
			{`ends_within "$f" "$seconds"`, "", "rotateCertificates: true\n", row.due},
			{`client_due "$f"`, "", "rotateCertificates: true\n", row.kubelet},
			{`client_due "$f"`, "", "rotateCertificates: false\n", row.off},
			{`client_due "$f"`, "", "{\"rotateCertificates\": false}\n", row.off},
			{`client_due "$f"`, `A="--config-dir=` + n.conf + `/d"`, "rotateCertificates: true\n", row.off},
			{`client_due "$f"`, "A=--rotate-certificates=false", "rotateCertificates: true\n", row.off},
			{`client_due "$f"`, "", "\"rotateCertificates\": False # by hand\n", row.off},
			{`client_due "$f"`, "", "", row.kubelet},
			{`client_due "$f"`, "", "kind: KubeletConfiguration\n", row.off},
			// A kubelet that is given another file reads no other.
			{`client_due "$f"`, `A="--config=` + n.conf + `/own.yaml"`, "rotateCertificates: true\n", row.off},
		} {
			n.write(n.conf+"/kubelet.env", []byte(ask.flags+"\n"), 0o600)
			n.write(n.conf+"/kubelet-config.yaml", []byte(ask.config), 0o600)
			out, errs, err := n.run("f='" + file + "'\nif " + ask.function + "; then echo due; else echo fresh; fi\n")
			if want := map[bool]string{true: "due\n", false: "fresh\n"}[ask.want]; err != nil || out != want {
				t.Errorf("%s, %s with %q and %q: %v, %q %q, want %q", row.name, ask.function, ask.flags, ask.config, err, out, errs, want)
			}
		}
	}
}
