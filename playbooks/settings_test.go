package playbooks_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// The arguments of a static pod are understood in every style of YAML and JSON that the kubelet
// reads, for the container of that name, whatever else is in the pod.
func TestManifestsOfAnyStyle(t *testing.T) {
	t.Parallel()
	const own = "--tls-cert-file=ROOT/own/tls.crt"
	pod := func(containers string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver}\nspec:\n  containers:\n" + containers + "  hostNetwork: true\n"
	}
	block := func(arguments string) string {
		return pod("  - command:\n    - kube-apiserver\n" + arguments + "    name: kube-apiserver\n")
	}
	list := func(arguments string) string {
		return pod("  - command: " + arguments + "\n    name: kube-apiserver\n")
	}
	const sidecar = "  - command:\n    - auth\n    - --tls-cert-file=/side/tls.crt\n    name: auth\n    volumeMounts:\n    - {name: side, mountPath: ROOT/own}\n"
	for name, text := range map[string]string{
		"as kubeadm writes it":         block("    - " + own + "\n"),
		"flag and value apart":         block("    - --tls-cert-file\n    - ROOT/own/tls.crt\n    - --secure-port\n    - '6443'\n"),
		"a remark":                     block("    - " + own + " # it's ours\n"),
		"quotes and a remark":          block("    - \"" + own + "\" # ours\n"),
		"a remark with a flag":         block("    - " + own + "\n    # - --tls-cert-file=/old.crt\n    #- --tls-cert-file=/old.crt\n"),
		"underscores":                  block("    - --tls_cert_file=ROOT/own/tls.crt\n"),
		"folded":                       block("    - >-\n      " + own + "\n"),
		"carriage returns":             strings.ReplaceAll(block("    - "+own+"\n"), "\n", "\r\n"),
		"a tag and an anchor":          block("    - !!str &a " + own + "\n"),
		"indented":                     pod("    -   command:\n          - kube-apiserver\n          - " + own + "\n        name: kube-apiserver\n"),
		"args":                         pod("  - args:\n    - " + own + "\n    command: [kube-apiserver]\n    name: kube-apiserver\n"),
		"args count after the command": pod("  - args:\n    - " + own + "\n    command: [kube-apiserver, --tls-cert-file=/old.crt]\n    name: kube-apiserver\n"),
		"a list in brackets":           list("[kube-apiserver, " + own + ", '--secure-port=1', --etcd-servers=https://10.0.0.1:2379]"),
		"in brackets and quotes":       list(`["kube-apiserver", "` + own + `"]`),
		"in brackets on lines":         list("[\n      kube-apiserver, # [ it's\n      " + own + ",\n      ]"),
		"in brackets apart":            list("[kube-apiserver, --tls-cert-file, ROOT/own/tls.crt]"),
		"JSON":                         `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"command":["kube-apiserver","` + own + `"],"name":"kube-apiserver"}]}}`,
		"JSON on lines": "{\n \"spec\": {\n  \"containers\": [\n   {\n    \"command\": [\n     \"kube-apiserver\",\n     \"" + own + "\"\n    ],\n" +
			"    \"name\": \"kube-apiserver\"\n   }\n  ]\n }\n}\n",
		"another container before it":   pod(sidecar + "  - command:\n    - kube-apiserver\n    - " + own + "\n    name: kube-apiserver\n"),
		"another container behind it":   pod("  - command:\n    - kube-apiserver\n    - " + own + "\n    name: kube-apiserver\n" + sidecar),
		"one that runs first behind it": block("    - "+own+"\n") + "  initContainers:\n" + sidecar,
		"a shell":                       block("    - sh\n    - -c\n    - exec kube-apiserver " + own + " --secure-port=6443\n"),
		"a directory of a mount":        pod("  - command: [kube-apiserver, --tls-cert-file=/c/tls.crt]\n    name: kube-apiserver\n    volumeMounts:\n    - mountPath: /c\n      name: v\n      subPath: own\n") + "  volumes:\n  - hostPath:\n      path: ROOT\n    name: v\n",
		"mounted":                       pod("  - command: [kube-apiserver, --tls-cert-file=/c/tls.crt]\n    name: kube-apiserver\n    volumeMounts: [{mountPath: /c/, name: v}]\n") + "  volumes: [{name: v, hostPath: {path: ROOT/own/}}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte(strings.ReplaceAll(text, "ROOT", n.root())), 0o600)
			want := n.root() + "/own/tls.crt"
			if f := n.look().Facts["kube-apiserver.tls-cert-file"]; f != want {
				t.Errorf("the collector tells %q, want %q", f, want)
			}
			if out, errs, err := n.run("named kube-apiserver tls-cert-file"); err != nil || out != want+"\n" {
				t.Errorf("the roles take %q: %v %s", out, err, errs)
			}
		})
	}
}

// The kubelet's flags, configuration and drop-ins are read as the kubelet reads them, by the
// collector and by the roles.
func TestKubeletSettingsOfAnyStyle(t *testing.T) {
	t.Parallel()
	const flagged = `KUBELET_ARGS="--config=CONF/k.yaml"` + "\n"
	for name, row := range map[string]struct{ env, config, dropIn, want string }{
		"a flag before the configuration": {`A="--config=CONF/k.yaml --tls-cert-file=/x.crt"`, "tlsCertFile: /no.crt\n", "", "/x.crt"},
		"a flag twice":                    {`A="--tls-cert-file=/no.crt --tls-cert-file=/x.crt"`, "", "", "/x.crt"},
		"flag and value apart":            {`A="--tls-cert-file  /x.crt --v=2"`, "", "", "/x.crt"},
		"the configuration apart":         {`A="--config CONF/k.yaml"`, "tlsCertFile: /x.crt\n", "", "/x.crt"},
		"a remark before":                 {`#A="--config=/no.yaml --tls-cert-file=/no.crt"` + "\n" + flagged, "tlsCertFile: /x.crt\n", "", "/x.crt"},
		"a remark behind":                 {flagged + "# --config=/no.yaml\n; --tls-cert-file=/no.crt\n", "tlsCertFile: /x.crt\n", "", "/x.crt"},
		"apostrophes":                     {"A='--config=CONF/k.yaml'\n", "tlsCertFile: /x.crt\n", "", "/x.crt"},
		"no quotes":                       {"A=--config=CONF/k.yaml\n", "tlsCertFile: /x.crt\n", "", "/x.crt"},
		"several lines":                   {"A=\"--v=2 \\\n--config=CONF/k.yaml\t\\\n  --tls-cert-file=/x.crt\"\n", "", "", "/x.crt"},
		"keys in quotes":                  {flagged, "\"tlsCertFile\" : '/x.crt' # it's ours\n", "", "/x.crt"},
		"JSON":                            {flagged, `{"kind":"KubeletConfiguration","tlsCertFile":"/x.crt"}`, "", "/x.crt"},
		"JSON on lines":                   {flagged, "{\n  \"kind\": \"KubeletConfiguration\",\n  \"tlsCertFile\": \"/x.crt\"\n}\n", "", "/x.crt"},
		"a drop-in":                       {`A="--config=CONF/k.yaml --config-dir=CONF/k.d"`, "tlsCertFile: /no.crt\n", "tlsCertFile: /x.crt\n", "/x.crt"},
		"a drop-in that says nothing":     {`A="--config-dir CONF/k.d --config CONF/k.yaml"`, "tlsCertFile: /x.crt\n", "kind: KubeletConfiguration\n", "/x.crt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/kubelet.env", []byte(strings.ReplaceAll(row.env, "CONF", n.conf)), 0o600)
			n.write(n.conf+"/k.yaml", []byte(row.config), 0o600)
			n.write(n.conf+"/k.d/20-b.conf", []byte(row.dropIn), 0o600)
			n.write(n.conf+"/k.d/10-a.conf", []byte("tlsCertFile: /no.crt\n"), 0o600)
			n.write(n.conf+"/k.d/README", []byte("tlsCertFile: /no.crt\n"), 0o600)
			if !strings.Contains(row.dropIn, "tlsCertFile") {
				n.ok(os.Remove(n.conf + "/k.d/10-a.conf"))
			}
			got := n.look()
			if f := got.Facts["kubelet.tlsCertFile"]; f != row.want {
				t.Errorf("the collector tells %q, want %q", f, row.want)
			}
			if dir := n.conf + "/k.d/20-b.conf"; strings.Contains(row.env, "config-dir") != (got.Files[dir] != "") {
				t.Errorf("it is watched: %q", got.Files[dir])
			}
			if out, errs, err := n.run("kubelet_says tlsCertFile; if serves_other; then echo other; fi"); err != nil || out != row.want+"\nother\n" {
				t.Errorf("the roles take %q: %v %s", out, err, errs)
			}
		})
	}
}

// The collector and the roles agree on whether a kubelet renews its client certificate: the flag
// first, then the configuration, in which a missing field means no.
func TestRotates(t *testing.T) {
	t.Parallel()
	const kind, on, off = "kind: KubeletConfiguration\n", "rotateCertificates: true\n", "rotateCertificates: false\n"
	for name, row := range map[string]struct {
		env, config, dropIn string
		want                bool
	}{
		"nothing is known":                  {"", "", "", true},
		"a file that is none of a kubelet":  {"", "kind: Secret\n", "", true},
		"a file that cannot be read":        {"A=--config=CONF/gone.yaml", kind, "", true},
		"on":                                {"", kind + on, "", true},
		"off":                               {"", kind + off, "", false},
		"not named":                         {"", kind, "", false},
		"not named in the file of the flag": {"A=--config=CONF/k.yaml", kind, "", false},
		"not named in JSON":                 {"", `{"kind": "KubeletConfiguration", "address": "::"}`, "", false},
		"named without a value":             {"", kind + "rotateCertificates:\n", "", false},
		"named as nothing":                  {"", kind + "rotateCertificates: null\n", "", false},
		"no":                                {"", kind + "rotateCertificates: no\n", "", false},
		"in a remark":                       {"", kind + "# rotateCertificates: true\n", "", false},
		"elsewhere":                         {"", kind + "logging:\n  rotateCertificates: true\n", "", false},
		"on in a drop-in":                   {"A=--config=CONF/k.yaml --config-dir=CONF/k.d", kind, kind + on, true},
		"off in a drop-in":                  {"A=--config=CONF/k.yaml --config-dir=CONF/k.d", kind + on, kind + off, false},
		"a drop-in that is not read":        {"A=--config=CONF/k.yaml", kind + on, kind + off, true},
		"a flag":                            {"A=--rotate-certificates=true", kind + off, "", true},
		"a flag that says no":               {"A=--rotate-certificates=false", kind + on, "", false},
		"a flag that says 0":                {"A=--rotate-certificates=0", kind + on, "", false},
		"a flag without a value":            {"A=--rotate-certificates --v=2", kind + off, "", true},
		"a flag without a value behind all": {"A=--v=2 --rotate-certificates", kind + off, "", true},
		"a flag without a value, of two the last": {"A=--rotate-certificates=false --rotate-certificates", kind, "", true},
		"a flag that is called similarly":         {"A=--rotate-server-certificates=true", kind + off, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/kubelet.env", []byte(strings.ReplaceAll(row.env, "CONF", n.conf)), 0o600)
			for _, file := range []string{"k.yaml", "kubelet-config.yaml"} {
				n.write(n.conf+"/"+file, []byte(row.config), 0o600)
			}
			n.write(n.conf+"/k.d/1.conf", []byte(row.dropIn), 0o600)
			if got := n.look().Rotates(); got != row.want {
				t.Errorf("the collector tells %t", got)
			}
			want := map[bool]string{true: "on\n", false: "off\n"}[row.want]
			if out, errs, err := n.run("if rotates; then echo on; else echo off; fi"); err != nil || out != want {
				t.Errorf("the roles take %q: %v %s", out, err, errs)
			}
		})
	}
}

// If no flag names its configuration, a kubelet may have it where kubeadm writes it: the collector
// reads that, like the roles.
func TestConfigurationOfKubeadm(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.write(filepath.Dir(n.conf)+"/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\nserverTLSBootstrap: yes\n"), 0o600)
	got := n.look()
	if got.Rotates() || got.Facts["kubelet.serverTLSBootstrap"] == "" {
		t.Errorf("the collector tells %v", got.Facts)
	}
	if out, errs, err := n.run("rotates || echo off; ! asks_to_serve || echo asks"); err != nil || out != "off\nasks\n" {
		t.Errorf("the roles take %q: %v %s", out, err, errs)
	}
}

// A setting of the kubelet counts only in its place, not the same name elsewhere.
func TestNestedKubeletSettings(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"YAML": "authentication:\n  anonymous: {enabled: false}\n  x509:\n    clientCAFile: /ca.crt\nauthorization:\n  mode: Webhook\n  webhook:\n    mode: no\n" +
			"address: 10.0.0.1\nlogging:\n  address: no\nserverTLSBootstrap: true\nshutdown:\n- port: 1\nport: 10251\n",
		"JSON": `{"authentication":{"anonymous":{"enabled":false},"x509":{"clientCAFile":"/ca.crt"}},"authorization":{"mode":"Webhook","webhook":{"mode":"no"}},` +
			`"address":"10.0.0.1","logging":{"address":"no"},"serverTLSBootstrap":true,"shutdown":[{"port":1}],"port":10251}`,
	} {
		n := newNode(t)
		n.write(n.conf+"/kubelet-config.yaml", []byte(text), 0o600)
		got := n.look()
		for setting, want := range map[string]string{
			"authorization.mode": "Webhook", "clientCAFile": "/ca.crt", "address": "10.0.0.1", "serverTLSBootstrap": "true", "port": "10251",
		} {
			if f := got.Facts["kubelet."+setting]; f != want {
				t.Errorf("%s: %s is %q, want %q", name, setting, f, want)
			}
		}
	}
}

// Every awk that a node may have gives the same results.
func TestAnotherAwk(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	users := []user{{"admin", ca.Issue(t, testpki.Leaf{CommonName: "admin"})}, {"developer", ca.Issue(t, testpki.Leaf{CommonName: "developer"})}}
	for i, s := range shapes() {
		n.write(fmt.Sprintf("%s/%d.conf", n.conf, i), []byte(s.render(ca, users)), 0o600)
	}
	n.apiServerPod([]string{"--tls-cert-file=/certs/tls.crt # ours", "--etcd-certfile", "/etcd.crt"}, "/certs "+n.root()+"/own")
	n.write(n.conf+"/kubelet-config.yaml", []byte(`{"authorization": {"mode": "Webhook"}, "tlsCertFile": "/x.crt"}`), 0o600)
	reads := func() string {
		got := n.look()
		var all []string
		for _, c := range got.Certificates {
			if !c.Served {
				all = append(all, fmt.Sprintln(c.Path, c.Subject, c.Key, c.SignedBy, c.File.Modified))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(got.Facts)) {
			all = append(all, name+" "+got.Facts[name]+"\n")
		}
		return strings.Join(slices.Sorted(slices.Values(all)), "") + fmt.Sprint(got.Unreadable, got.Kubeconfigs)
	}
	want := reads()
	awks := []string{"busybox awk", "original-awk"}
	for _, name := range []string{"mawk", "gawk"} {
		if _, err := exec.LookPath(name); err == nil {
			awks = append(awks, name)
		}
	}
	for _, awk := range awks {
		n.use(awk)
		if got := reads(); got != want {
			t.Errorf("%s reads\n%s\nwant\n%s", awk, got, want)
		}
	}
}

// The settings of etcd as a unit are read as systemd reads them: quotes, or a setting that is there
// twice, exclude no member from the renewal.
func TestEtcdSettingsOfAnyStyle(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "etcd-ca")
	for name, text := range map[string]string{
		"plain":       "ETCD_CERT_FILE=M\nETCD_PEER_CERT_FILE=M\n",
		"quotes":      "ETCD_CERT_FILE=\"M\"\nETCD_PEER_CERT_FILE='M'\n",
		"twice":       "ETCD_CERT_FILE=/old/old.pem\nETCD_PEER_CERT_FILE=/old/old.pem\nETCD_CERT_FILE=M\nETCD_PEER_CERT_FILE=M\n",
		"blanks":      "  ETCD_CERT_FILE=M \t\n\tETCD_PEER_CERT_FILE=M\r\n",
		"in a remark": "ETCD_CERT_FILE=M\nETCD_PEER_CERT_FILE=M\n#ETCD_CERT_FILE=/old/old.pem\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.verified()
			p, member := ca.Issue(t, testpki.Leaf{CommonName: "etcd-member-cp1", NotAfter: time.Now().Add(time.Hour)}), n.etcd+"/member-cp1.pem"
			for file, data := range map[string][]byte{"ca.pem": ca.Certificate, "ca-key.pem": ca.Key, "member-cp1.pem": p.Certificate, "member-cp1-key.pem": p.Key} {
				n.write(n.etcd+"/"+file, data, 0o600)
			}
			n.write(n.root()+"/etc/etcd.env", []byte(strings.ReplaceAll(text, "M", member)), 0o600)
			got := n.look()
			for _, setting := range []string{"etcd.cert-file", "etcd.peer-cert-file"} {
				if f := got.Facts[setting]; f != member {
					t.Errorf("the collector tells %s %q", setting, f)
				}
			}
			if out, errs, err := n.with("renew.sh", "KSCERT_ETCD", "renew", "KSCERT_ISSUED", "", "KSCERT_HOSTS", ""); err != nil || out != "changed: "+member+"\n" {
				t.Errorf("%v: %s%s", err, out, errs)
			}
		})
	}
}

// If an awk does not run, or stops, the answer counts as incomplete: otherwise the node would seem
// to have no certificates.
func TestCollectorWithoutAwk(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := newNode(t)
	n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/admin.conf", kubeconfig(ca, ca.Issue(t, testpki.Leaf{CommonName: "p"}), ""), 0o600)
	n.apiServerPod(nil)
	installed, err := filepath.EvalSymlinks("/usr/bin/awk")
	n.ok(err)
	// The awk whose program contains this text fails.
	for _, fails := range []string{"client-certificate", "@@FILE", "@@KEY", "wanted"} {
		n.write(n.bin+"/awk", fmt.Appendf(nil, "#!/bin/sh\ncase $* in *'%s'*) exit 2 ;; esac\nexec %s \"$@\"\n", fails, installed), 0o700)
		out, errs, err := n.sh(collector(t))
		if err == nil || !strings.Contains(errs, "awk has failed on this node") {
			t.Errorf("%s: %v, %s", fails, err, errs)
		}
		if _, err := snapshot.Parse(cluster.Node{Name: "cp1"}, []byte(out)); !errors.Is(err, snapshot.ErrTruncated) {
			t.Errorf("%s: %v", fails, err)
		}
	}
}

// A kubelet.conf with expired files of its own is read in every style. What cannot be edited safely
// is refused by name, and no run gives the kubelet one more pair for it.
func TestKubeletOwnFilesOfAnyStyle(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	leaf := testpki.Leaf{CommonName: "system:node:cp1", Organization: "system:nodes"}
	fresh := ca.Issue(t, leaf)
	leaf.NotBefore, leaf.NotAfter = time.Now().AddDate(-1, 0, 0), time.Now().Add(-time.Hour)
	old := ca.Issue(t, leaf)
	const block = "    client-certificate: CONF/k.crt\n    client-key: CONF/k.key\n"
	for name, row := range map[string]struct {
		user    string
		refused bool
	}{
		"a remark":       {strings.ReplaceAll(block, "\n", " # it's ours\n"), false},
		"keys in quotes": {strings.NewReplacer("client-certificate", `"client-certificate"`, "client-key", "'client-key'").Replace(block), true},
		"in braces":      {"    {client-certificate: CONF/k.crt, client-key: CONF/k.key}\n", true},
		"two users":      {block + "- name: other\n  user:\n" + block, true},
	} {
		for _, rotated := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s rotated %t", name, rotated), func(t *testing.T) {
				t.Parallel()
				n := issuer(t, ca)
				n.write(n.conf+"/k.crt", old.Certificate, 0o600)
				n.write(n.conf+"/k.key", old.Key, 0o600)
				n.ok(os.MkdirAll(filepath.Dir(n.pair()), 0o700))
				if rotated {
					n.write(n.pair(), slices.Concat(fresh.Certificate, fresh.Key), 0o600)
				}
				text := strings.ReplaceAll("apiVersion: v1\nkind: Config\nusers:\n- name: u\n  user:\n"+row.user, "CONF", n.conf)
				n.write(n.conf+"/kubelet.conf", []byte(text), 0o600)
				if c := n.look().Certificates; !slices.ContainsFunc(c, func(c certs.Certificate) bool { return c.Path == n.conf+"/k.crt" }) {
					t.Errorf("the collector does not tell of it: %+v", c)
				}
				for turn := range 2 {
					out, errs, err := n.run(role(t, "control_plane_kubelet/files/kubelet.sh"))
					says := func(s string) bool { return strings.Contains(out, s) }
					if err != nil || says("refused: "+n.conf+"/kubelet.conf") != row.refused || says("changed: "+n.conf+"/kubelet.conf") != (!row.refused && turn == 0) {
						t.Errorf("run %d: %v: %s%s", turn+1, err, out, errs)
					}
					if says("changed: "+n.pair()) != (!rotated && turn == 0) {
						t.Errorf("run %d: another pair: %s", turn+1, out)
					}
				}
				want := text
				if !row.refused {
					want = strings.NewReplacer(n.conf+"/k.crt", n.pair(), n.conf+"/k.key", n.pair()).Replace(text)
				}
				if now := string(n.read(n.conf + "/kubelet.conf")); now != want {
					t.Errorf("kubelet.conf is\n%s\nwant\n%s", now, want)
				}
			})
		}
	}
}

// use makes this program the node's awk, one of BusyBox as "busybox awk".
func (n *node) use(awk string) {
	n.t.Helper()
	program, applet, _ := strings.Cut(awk, " ")
	installed, err := exec.LookPath(program)
	n.ok(err)
	n.write(n.bin+"/awk", fmt.Appendf(nil, "#!/bin/sh\nexec %s %s \"$@\"\n", installed, applet), 0o700)
}

// Durations are Go's, with fractions and beyond 2^31 seconds, whatever awk a node has.
func TestDurations(t *testing.T) {
	t.Parallel()
	for _, awk := range []string{"awk", "busybox awk", "original-awk"} {
		n := newNode(t)
		n.use(awk)
		out, errs, err := n.sh(lib(t) + `
printf '%s\n' 8760h0m0s 1.5h 500ms 876000h 1h30m10s 4m x '' | seconds_of_duration
`)
		if want := "31536000\n5400\n0\n3153600000\n5410\n240\n0\n0\n"; err != nil || out != want {
			t.Errorf("%s: %v: %s%q, want %q", awk, err, errs, out, want)
		}
	}
}

// The dates of certificates are Go's, from any awk: also the last one that RFC 5280 has.
func TestDates(t *testing.T) {
	t.Parallel()
	var dates, want strings.Builder
	for _, s := range []string{"1950-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2000-02-29T23:59:59Z", "2024-02-29T12:00:00Z", "2026-11-08T07:17:43Z",
		"2038-01-19T03:14:08Z", "2049-12-31T23:59:59Z", "2100-02-28T23:59:59Z", "2100-03-01T00:00:00Z", "2125-06-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		dates.WriteString("notAfter=" + at.Format("Jan _2 15:04:05 2006 ") + "GMT\n")
		fmt.Fprintln(&want, at.Unix())
	}
	for _, awk := range []string{"awk", "busybox awk", "original-awk"} {
		n := newNode(t)
		n.use(awk)
		out, errs, err := n.sh(lib(t) + "seconds_of_date <<'END'\n" + dates.String() + "notAfter=Bad time value\nEND\n")
		if err != nil || out != want.String() {
			t.Errorf("%s: %v: %s%q, want %q", awk, err, errs, out, want.String())
		}
	}
}

// A node whose admin.conf is empty or gone still has an administrator: the API server is asked with
// super-admin.conf.
func TestAdministrator(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, admin, super, want string }{
		{"both", "a", "s", "/admin.conf"},
		{"an empty admin.conf", "", "s", "/super-admin.conf"},
		{"no admin.conf", "-", "s", "/super-admin.conf"},
		{"an empty admin.conf alone", "", "-", "/admin.conf"},
		{"both empty", "", "", "/admin.conf"},
		{"neither", "-", "-", "/admin.conf"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			for name, text := range map[string]string{"admin": row.admin, "super-admin": row.super} {
				if text != "-" {
					n.write(n.conf+"/"+name+".conf", []byte(text), 0o600)
				}
			}
			if out, errs, err := n.run("printf %s \"$administrator\"\n"); err != nil || out != n.conf+row.want {
				t.Errorf("%q, want %q: %v %s", out, n.conf+row.want, err, errs)
			}
			n.write(n.bin+"/kubectl", []byte("#!/bin/sh\ncase $* in *'--kubeconfig="+n.conf+row.want+" '*/readyz*) echo ok ;; *) exit 1 ;; esac\n"), 0o755)
			n.write(n.conf+"/manifests/kube-apiserver.yaml", []byte("kind: Pod\nspec:\n  containers:\n  - command: [kube-apiserver, --secure-port=6443, --advertise-address=127.0.0.1]\n"), 0o600)
			if got := n.look().Results["readyz"]; got.Status != 0 || got.Output == "" {
				t.Errorf("the API server was asked otherwise: %+v", got)
			}
		})
	}
}
