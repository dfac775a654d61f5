package playbooks_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testansible"
	"github.com/infrapuzzle/kscertctl/internal/testpki"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// rotation runs a script of the role with settings before it.
func (n *node) rotation(file string, settings ...string) string {
	n.t.Helper()
	paths := []string{"ca_renewal/files/authority.sh", "ca_rotation/files/rotation.sh", "ca_rotation/files/" + file + ".sh"}
	if file == "place" {
		paths = append(paths, "ca_renewal/files/replace.sh")
	}
	out, errs, err := n.run(strings.Join(append(settings, "KSCERT_CAS='kubernetes-ca front-proxy-ca' KSCERT_CA_SECONDS=0"), "\n") + "\n" + script(n.t, paths...))
	if err != nil {
		n.t.Fatalf("%s: %v: %s%s", file, err, out, errs)
	}
	if left, _ := filepath.Glob(n.conf + "/*/.kscertctl.*"); file != "receive" && len(left) > 0 {
		n.t.Errorf("%s leaves behind: %s", file, left)
	}
	return out
}

// answers are the lines of an output with that beginning, without it.
func answers(out, kind string) string {
	var all []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, kind); ok {
			all = append(all, strings.TrimSpace(rest))
		}
	}
	return strings.Join(all, "\n")
}

const managerPod = `apiVersion: v1
kind: Pod
metadata: {name: kube-controller-manager, namespace: kube-system}
spec:
  containers:
  - name: kube-controller-manager
    command:
    - kube-controller-manager
    - --client-ca-file=%[1]s/ca.crt
    - --cluster-signing-cert-file=%[1]s/ca.crt
    - --cluster-signing-key-file=%[1]s/ca.key
    - --root-ca-file=%[1]s/ca.crt
`

// TestRotation takes two control planes and a worker through the stages of a rotation, as far as
// files go: keys travel encrypted, kube-controller-manager always signs with one certificate, and
// what trusts a CA trusts both from the first stage to the last.
func TestRotation(t *testing.T) {
	t.Parallel()
	ca, proxy := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "front-proxy-ca")
	conf := func(cas ...[]byte) []byte {
		return fmt.Appendf(nil, "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://127.0.0.1:6443\n  name: c\n",
			base64.StdEncoding.EncodeToString(bytes.Join(cas, nil)))
	}
	leaf := ca.Issue(t, testpki.Leaf{CommonName: "kube-apiserver"})
	var nodes []*node
	for i := range 3 {
		n := newNode(t)
		n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
		n.write(n.conf+"/scheduler.conf", conf(ca.Certificate), 0o600)
		if i < 2 {
			n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
			n.write(n.conf+"/ssl/front-proxy-ca.crt", proxy.Certificate, 0o644)
			n.write(n.conf+"/ssl/front-proxy-ca.key", proxy.Key, 0o600)
			n.write(n.conf+"/ssl/apiserver.crt", leaf.Certificate, 0o644)
			n.write(n.conf+"/manifests/kube-controller-manager.yaml", fmt.Appendf(nil, managerPod, n.conf+"/ssl"), 0o600)
		}
		n.verified()
		nodes = append(nodes, n)
	}
	cp1, cp2, w1 := nodes[0], nodes[1], nodes[2]

	receiver := answers(cp2.rotation("receive"), "receiver: ")
	out := cp1.rotation("make", "KSCERT_RECEIVERS='cp2|"+receiver+"'")
	key := cp1.read(cp1.conf + "/ssl/ca-next.key")
	for line := range strings.Lines(string(key)) {
		if strings.Contains(out, strings.TrimSpace(line)) || strings.Contains(out, base64.StdEncoding.EncodeToString(key)) {
			t.Fatal("the key leaves its node in clear")
		}
	}
	cp2.rotation("take", "KSCERT_NEXT='"+answers(out, "next: cp2|")+"'")
	if !bytes.Equal(cp2.read(cp2.conf+"/ssl/ca-next.key"), key) {
		t.Error("the key that arrives is another one")
	}
	next := parsed(t, cp1.read(cp1.conf+"/ssl/ca-next.crt"))
	cross := parsed(t, cp2.read(cp2.conf+"/ssl/ca-cross.crt"))
	if !strings.HasPrefix(next.Subject.CommonName, "kubernetes-20") || len(next.SubjectKeyId) == 0 || !next.IsCA || next.CheckSignatureFrom(next) != nil {
		t.Errorf("the next CA is %s, identifier %x", next.Subject, next.SubjectKeyId)
	}
	if cross.CheckSignatureFrom(ca.X509) != nil || !bytes.Equal(cross.RawSubjectPublicKeyInfo, next.RawSubjectPublicKeyInfo) {
		t.Error("the cross certificate is not the next CA as signed by the former")
	}
	if made := cp1.rotation("make", "KSCERT_RECEIVERS="); strings.Contains(made, "changed: ") {
		t.Errorf("made again: %s", made)
	}
	shown := answers(cp1.rotation("show"), "rotated: ")
	place := func(n *node, stage string) string {
		return n.rotation("place", "export KSCERT_CA_STAGE="+stage, "KSCERT_NEXT='"+shown+"'", "KSCERT_CA_WANT='kubernetes-ca|"+certs.Describe(next).Fingerprint+"'")
	}
	nextProxy := cp1.read(cp1.conf + "/ssl/front-proxy-ca-next.crt")
	nextPEM := cp1.read(cp1.conf + "/ssl/ca-next.crt")
	want := func(stage string, n *node, file string, cas ...[]byte) {
		t.Helper()
		data := n.read(n.conf + file)
		same := bytes.Equal(data, bytes.Join(cas, nil))
		if strings.HasSuffix(file, ".conf") {
			same = bytes.Equal(data, conf(cas...))
		}
		if !same {
			t.Errorf("%s: %s of %s is\n%s", stage, file, n.conf, data)
		}
	}
	signs := func(stage string, n *node, file string) {
		t.Helper()
		manifest := string(n.read(n.conf + "/manifests/kube-controller-manager.yaml"))
		for _, flag := range []string{"--cluster-signing-cert-file=" + n.conf + "/ssl/" + file + ".crt\n", "--root-ca-file=" + n.conf + "/ssl/ca.crt\n"} {
			if !strings.Contains(manifest, flag) {
				t.Errorf("%s: no %s in\n%s", stage, flag, manifest)
			}
		}
		if bundle, _ := certs.ParseChain(n.read(n.conf + "/ssl/" + file + ".crt")); len(bundle) != 1 {
			t.Errorf("%s: it signs with a file of %d certificates", stage, len(bundle))
		}
	}
	for _, n := range nodes {
		place(n, "trust")
		want("trust", n, "/ssl/ca.crt", ca.Certificate, nextPEM)
		want("trust", n, "/scheduler.conf", ca.Certificate, nextPEM)
		if out := place(n, "trust"); strings.Contains(out, "changed: ") {
			t.Errorf("trust again: %s", out)
		}
	}
	want("trust", cp2, "/ssl/front-proxy-ca.crt", proxy.Certificate, nextProxy)
	want("trust", cp2, "/ssl/apiserver.crt", leaf.Certificate)
	signs("trust", cp1, "ca-former")
	for _, n := range nodes[:2] {
		place(n, "clients")
		signs("clients", n, "ca-next")
		want("clients", n, "/ssl/ca.crt", ca.Certificate, nextPEM)
	}
	for _, n := range nodes[:2] {
		place(n, "servers")
		want("servers", n, "/ssl/ca.crt", nextPEM, ca.Certificate)
		want("servers", n, "/ssl/ca.key", key)
		want("servers", n, "/ssl/front-proxy-ca.crt", nextProxy, proxy.Certificate)
		want("servers", n, "/scheduler.conf", ca.Certificate, nextPEM)
		signs("servers", n, "ca-next")
		if out := place(n, "servers"); strings.Contains(out, "changed: ") {
			t.Errorf("servers again: %s", out)
		}
	}
	cp1.write(cp1.conf+"/ssl/apiserver.crt", bytes.Join([][]byte{leaf.Certificate, cp1.read(cp1.conf + "/ssl/ca-cross.crt")}, nil), 0o644)
	for _, n := range nodes {
		place(n, "drop")
		want("drop", n, "/ssl/ca.crt", nextPEM)
		want("drop", n, "/scheduler.conf", nextPEM)
	}
	want("drop", cp1, "/ssl/apiserver.crt", leaf.Certificate)
	want("drop", cp2, "/ssl/front-proxy-ca.crt", nextProxy)
	signs("drop", cp1, "ca")
	if _, err := parsed(t, w1.read(w1.conf+"/ssl/ca.crt")).Verify(x509.VerifyOptions{}); err == nil {
		t.Error("any pool trusts it")
	}
}

// TestChainOfARotation: a renewal between servers and drop keeps what serves clients of the former CA.
func TestChainOfARotation(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "kubernetes")
	n := caNode(t, ca)
	n.write(n.conf+"/ssl/front-proxy-ca.crt", ca.Certificate, 0o644)
	n.write(n.conf+"/ssl/front-proxy-ca.key", ca.Key, 0o600)
	n.rotation("make", "KSCERT_RECEIVERS=")
	next, cross := n.read(n.conf+"/ssl/ca-next.crt"), n.read(n.conf+"/ssl/ca-cross.crt")
	out, errs, err := n.run(fmt.Sprintf(`pki=%s
umask 077
leaf() {
  stage=%[2]s
  quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$stage/key"
  quietly openssl req -new -key "$stage/key" -subj /CN=kube-apiserver -out "$stage/request"
  echo 'basicConstraints = critical, CA:FALSE' >"$stage/extensions"
  sign_request "$pki/ca-next.crt" "$pki/ca-next.key" 86400
}
leaf
cat "$stage/new.pem" "$pki/ca-cross.crt" >"$stage/old.crt"
leaf
cat "$pki/ca-next.crt" "$pki/ca-former.crt" >"$stage/ca.crt"
chain "$stage/old.crt" "$stage/new.pem" "$stage/ca.crt"
certificates "$stage/new.pem"`, n.conf+"/ssl", t.TempDir()))
	if err != nil || !strings.HasSuffix(out, string(cross)) || strings.Contains(out, string(next)) {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}

// TestRotationRefuses: what is not the agreed CA is not placed, and nothing is without its stage.
func TestRotationRefuses(t *testing.T) {
	t.Parallel()
	ca, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes-202601010000")
	b64 := func(p testpki.Pair) string { return base64.StdEncoding.EncodeToString(p.Certificate) }
	line := "kubernetes-ca|" + b64(other) + "|" + b64(ca) + "|"
	for name, row := range map[string]struct{ stage, next, want, why string }{
		"another than the agreed one": {"trust", line, "kubernetes-ca|" + strings.Repeat("0", 64), "is not the one that the control planes have"},
		"a leaf":                      {"trust", "kubernetes-ca|" + b64(ca.Issue(t, testpki.Leaf{CommonName: "leaf"})) + "|" + b64(ca) + "|", "", "is no CA"},
		"nothing":                     {"trust", "", "", "no control plane has printed a next CA"},
		"no stage":                    {"soak", line, "", "is no stage"},
		"no key for servers":          {"servers", line, "", "is not the key of"},
		"drop before servers":         {"drop", line, "", "the stage before is unfinished"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := caNode(t, ca)
			n.write(n.conf+"/manifests/kube-controller-manager.yaml", fmt.Appendf(nil, managerPod, n.conf+"/ssl"), 0o600)
			out, errs, err := n.run(fmt.Sprintf("export KSCERT_CA_STAGE=%s\nKSCERT_NEXT='%s'\nKSCERT_CA_WANT='%s'\n", row.stage, row.next, row.want) +
				script(t, "ca_renewal/files/authority.sh", "ca_rotation/files/rotation.sh", "ca_rotation/files/place.sh", "ca_renewal/files/replace.sh"))
			if err == nil || !strings.Contains(errs, row.why) || !bytes.Equal(n.read(n.conf+"/ssl/ca.crt"), ca.Certificate) {
				t.Errorf("%v: %s%s", err, out, errs)
			}
		})
	}
}

// TestSuperseded: at the stages that issue certificates, those of the former CA are due; clients get
// theirs first.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	ca, next := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes-202601010000")
	n := caNode(t, ca)
	n.write(n.root()+"/old", ca.Issue(t, testpki.Leaf{CommonName: "c"}).Certificate, 0o600)
	n.write(n.root()+"/new", next.Issue(t, testpki.Leaf{CommonName: "c"}).Certificate, 0o600)
	b64 := base64.StdEncoding.EncodeToString(next.Certificate)
	line := "KSCERT_NEXT='kubernetes-ca|" + b64 + "|x|\netcd-ca|" + b64 + "|x|'"
	for _, row := range []struct{ stage, file, name, due, signs string }{
		{"", "old", "ca", "no", "ca"}, {"trust", "old", "ca", "no", "ca"},
		{"clients", "old", "ca", "yes", "ca-next"}, {"clients", "new", "ca", "no", "ca-next"}, {"clients", "old", "front-proxy-ca", "no", "front-proxy-ca"},
		{"clients", "old", "etcd/ca", "yes", "etcd/ca-next"}, {"servers", "new", "etcd/ca", "no", "etcd/ca"}, {"servers", "old", "etcd-host-ca", "no", "etcd-host-ca"},
		{"servers", "old", "ca", "yes", "ca"}, {"servers", "new", "ca", "no", "ca"}, {"drop", "old", "ca", "no", "ca"},
	} {
		out, errs, err := n.run(fmt.Sprintf("%s\nKSCERT_CA_STAGE=%s\npki=%s\nif superseded %s <%s; then echo yes; else echo no; fi\nissues %[4]s", line, row.stage, n.conf+"/ssl", row.name, n.root()+"/"+row.file))
		if want := row.due + "\n" + n.conf + "/ssl/" + row.signs + "\n"; err != nil || out != want {
			t.Errorf("%+v: %v: %s%s", row, err, out, errs)
		}
	}
}

// TestRotationPlays has Ansible carry what nodes print from one to the other: the next CA and its encrypted
// key between control planes, and the certificates to a worker.
func TestRotationPlays(t *testing.T) {
	t.Parallel()
	ca, proxy := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "front-proxy-ca")
	root := t.TempDir()
	var inventory strings.Builder
	nodes := map[string]*node{}
	for _, name := range []string{"cp1", "cp2", "w1"} {
		n := newNode(t)
		n.write(n.conf+"/ssl/ca.crt", ca.Certificate, 0o644)
		if name != "w1" {
			n.write(n.conf+"/ssl/ca.key", ca.Key, 0o600)
			n.write(n.conf+"/ssl/front-proxy-ca.crt", proxy.Certificate, 0o644)
			n.write(n.conf+"/ssl/front-proxy-ca.key", proxy.Key, 0o600)
		}
		nodes[name] = n
		fmt.Fprintf(&inventory, "[all]\n%s kscert_config_dir=%s kscert_etcd_cert_dir=%s kscert_bin_dir=%s kscert_backup_root=%s\n", name, n.conf, n.etcd, n.bin, filepath.Dir(n.backup))
	}
	inventory.WriteString("[kube_control_plane]\ncp1\ncp2\n[kube_node]\nw1\n")
	cp1, cp2, w1 := nodes["cp1"], nodes["cp2"], nodes["w1"]
	cp1.write(root+"/hosts", []byte(inventory.String()), 0o600)
	play := func(stage string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(testansible.Bins(t)[0], "ansible-playbook"), append([]string{
			"-i", root + "/hosts", "ca-rotate.yml", "-e", "ansible_connection=local", "-e", "ansible_become=false", "-e", "ansible_python_interpreter={{ ansible_playbook_python }}",
			"-e", "kscert_run=" + stage, "-e", "kscert_wait_seconds=0", "-e", "kscert_etcd_snapshot=never", "-e", "kscert_ca_stage=" + stage,
			"-e", `{"kscert_cas": ["kubernetes-ca", "front-proxy-ca"]}`,
		}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+w1.bin+":"+os.Getenv("PATH"), "KSCERT_ROOT="+root, "ANSIBLE_NOCOLOR=True")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := play("make", "-e", "kscert_hosts=kube_control_plane")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, file := range []string{"ca-next.crt", "ca-next.key", "ca-cross.crt", "front-proxy-ca-next.key"} {
		if !bytes.Equal(cp1.read(cp1.conf+"/ssl/"+file), cp2.read(cp2.conf+"/ssl/"+file)) {
			t.Errorf("%s differs", file)
		}
	}
	for line := range strings.Lines(string(cp1.read(cp1.conf + "/ssl/ca-next.key"))) {
		if strings.Contains(out, strings.TrimSpace(line)) {
			t.Fatal("the output has the key")
		}
	}
	next := cp1.read(cp1.conf + "/ssl/ca-next.crt")
	want := certs.Describe(parsed(t, next)).Fingerprint
	if out, err := play("trust", "-e", "kscert_hosts=w1", "-e", `{"kscert_ca_want": {"kubernetes-ca": "`+strings.Repeat("0", 64)+`"}}`); err == nil {
		t.Errorf("another CA than the agreed one is taken: %s", out)
	}
	if out, err := play("trust", "-e", "kscert_hosts=w1", "-e", `{"kscert_ca_want": {"kubernetes-ca": "`+want+`"}}`); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if got := w1.read(w1.conf + "/ssl/ca.crt"); !bytes.Equal(got, append(slices.Clone(ca.Certificate), next...)) {
		t.Errorf("the worker trusts\n%s", got)
	}

	// The kubelet's certificate is requested on the worker and signed on a control plane.
	current := root + "/var/lib/kubelet/pki/kubelet-client-current.pem"
	pair := ca.Issue(t, testpki.Leaf{CommonName: "system:node:w1", Organization: "system:nodes"})
	w1.write(current, slices.Concat(pair.Certificate, pair.Key), 0o600)
	w1.write(w1.conf+"/kubelet.conf", fmt.Appendf(nil, "clusters:\n- cluster:\n    certificate-authority: %s\nusers:\n- user:\n    client-certificate: %s\n    client-key: %[2]s\n", w1.conf+"/ssl/ca.crt", current), 0o600)
	w1.write(w1.bin+"/systemctl", []byte("#!/bin/sh\n"), 0o700)
	cp1.write(cp1.conf+"/ssl/ca.crt", append(slices.Clone(ca.Certificate), next...), 0o644) // as after trust
	cp1.write(cp1.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+cp1.conf+"/ssl\n"), 0o600)
	if out, err := play("clients", "-e", "kscert_hosts=w1"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := parsed(t, w1.read(current)).CheckSignatureFrom(parsed(t, next)); err != nil {
		t.Errorf("the kubelet's certificate is not of the next CA: %v", err)
	}
}

// TestRotationPlaysOfEtcd takes Kubespray's etcd on nodes of its own through the stages: the next key reaches
// the member that has the key now, encrypted, and no other node; a node without it has its client
// certificate signed by a member; members get theirs one stage later.
func TestRotationPlaysOfEtcd(t *testing.T) {
	t.Parallel()
	ca := testpki.Authority(t, "etcd-ca")
	root := t.TempDir()
	var inventory strings.Builder
	nodes := map[string]*node{}
	for _, name := range []string{"e1", "e2", "e3", "w1"} {
		n := newNode(t)
		n.ok(os.RemoveAll(n.conf))
		n.write(n.etcd+"/ca.pem", ca.Certificate, 0o644)
		kinds := []string{"member", "admin"}
		switch name {
		case "e1", "e2":
			n.write(n.etcd+"/ca-key.pem", ca.Key, 0o600)
		case "w1":
			kinds = []string{"node"}
		}
		for _, kind := range kinds {
			pair := ca.Issue(t, testpki.Leaf{CommonName: kind + "-" + name})
			n.write(n.etcd+"/"+kind+"-"+name+".pem", pair.Certificate, 0o644)
			n.write(n.etcd+"/"+kind+"-"+name+"-key.pem", pair.Key, 0o600)
		}
		for _, tool := range []string{"systemctl", "crictl"} {
			n.write(n.bin+"/"+tool, []byte("#!/bin/sh\n[ \"$1\" != cat ]\n"), 0o700)
		}
		nodes[name] = n
		fmt.Fprintf(&inventory, "[all]\n%s kscert_config_dir=%s kscert_etcd_cert_dir=%s kscert_bin_dir=%s kscert_backup_root=%s\n", name, n.conf, n.etcd, n.bin, filepath.Dir(n.backup))
	}
	inventory.WriteString("[kube_control_plane]\n[etcd]\ne1\ne2\ne3\n[kube_node]\nw1\n")
	e1, e2, e3, w1 := nodes["e1"], nodes["e2"], nodes["e3"], nodes["w1"]
	e1.write(root+"/hosts", []byte(inventory.String()), 0o600)
	play := func(stage, hosts string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(testansible.Bins(t)[0], "ansible-playbook"), append([]string{
			"-i", root + "/hosts", "ca-rotate.yml", "-e", "ansible_connection=local", "-e", "ansible_become=false", "-e", "ansible_python_interpreter={{ ansible_playbook_python }}",
			"-e", "kscert_run=" + stage, "-e", "kscert_wait_seconds=0", "-e", "kscert_etcd_snapshot=never", "-e", "kscert_ca_stage=" + stage,
			"-e", "kscert_etcd_signer=e1", "-e", "kscert_hosts=" + hosts, "-e", `{"kscert_cas": ["etcd-host-ca"]}`,
		}, args...)...)
		cmd.Env = append(os.Environ(), "PATH="+w1.bin+":"+os.Getenv("PATH"), "KSCERT_ROOT="+root, "ANSIBLE_NOCOLOR=True")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", stage, err, out)
		}
		return string(out)
	}
	out := play("make", "e1,e2,e3")
	key := e1.read(e1.etcd + "/ca-next-key.pem")
	if !bytes.Equal(e2.read(e2.etcd+"/ca-next-key.pem"), key) {
		t.Error("the other member that has the key now has not got the next")
	}
	for line := range strings.Lines(string(key)) {
		if strings.Contains(out, strings.TrimSpace(line)) {
			t.Fatal("the output has the key")
		}
	}
	if left, _ := filepath.Glob(e3.etcd + "/ca-next*"); len(left) > 0 {
		t.Errorf("a member without the key has got %s", left)
	}
	next := e1.read(e1.etcd + "/ca-next.pem")
	by := func(stage string, n *node, file string, want []byte) {
		t.Helper()
		if err := parsed(t, n.read(n.etcd+"/"+file)).CheckSignatureFrom(parsed(t, want)); err != nil {
			t.Errorf("%s: %s is of another CA: %v", stage, file, err)
		}
	}
	trusts := func(stage string, cas ...[]byte) {
		t.Helper()
		for name, n := range nodes {
			if got := n.read(n.etcd + "/ca.pem"); !bytes.Equal(got, bytes.Join(cas, nil)) {
				t.Errorf("%s: %s trusts\n%s", stage, name, got)
			}
		}
	}
	play("trust", "e1,e2,e3,w1")
	trusts("trust", ca.Certificate, next)
	play("clients", "e1,e2,e3,w1")
	by("clients", w1, "node-w1.pem", next)
	for _, name := range []string{"e1", "e2", "e3"} {
		by("clients", nodes[name], "admin-"+name+".pem", next)
		by("clients", nodes[name], "member-"+name+".pem", ca.Certificate)
	}
	play("servers", "e1,e2,e3")
	for _, name := range []string{"e1", "e2", "e3"} {
		by("servers", nodes[name], "member-"+name+".pem", next)
	}
	if got := e2.read(e2.etcd + "/ca.pem"); !bytes.Equal(got, append(slices.Clone(next), ca.Certificate...)) || !bytes.Equal(e2.read(e2.etcd+"/ca-key.pem"), key) {
		t.Errorf("servers: the CA of a member is\n%s", got)
	}
	play("drop", "e1,e2,e3,w1")
	trusts("drop", next)
	play("finish", "e1,e2")
	for name, n := range nodes {
		if left, _ := filepath.Glob(n.etcd + "/ca-[nf]*"); len(left) > 0 {
			t.Errorf("%s: left behind: %s", name, left)
		}
	}
}

// TestPublishRotation: cluster-info gets what ca.crt holds while it has one of its CAs, and the former CA
// leaves extension-apiserver-authentication, where others stay.
func TestPublishRotation(t *testing.T) {
	t.Parallel()
	ca, next, other := testpki.Authority(t, "kubernetes"), testpki.Authority(t, "kubernetes-202601010000"), testpki.Authority(t, "other")
	join := func(all ...testpki.Pair) []byte {
		var out []byte
		for _, p := range all {
			out = append(out, p.Certificate...)
		}
		return out
	}
	n := caNode(t, ca)
	n.write(n.conf+"/admin.conf", nil, 0o600)
	n.write(n.conf+"/kubeadm-config.yaml", []byte("kind: ClusterConfiguration\ncertificatesDir: "+n.conf+"/ssl\n"), 0o600)
	n.write(n.bin+"/kubectl", fmt.Appendf(nil, `#!/bin/sh
dir=%s
case $* in
*'get configmap cluster-info'*) cat $dir/info ;;
*'get configmap extension-apiserver-authentication'*client-ca-file*requestheader*) ;;
*'get configmap extension-apiserver-authentication'*'"requestheader'*) ;;
*'get configmap extension-apiserver-authentication'*) cat $dir/field ;;
*'get namespaces'*) ;;
*' patch '*) for f; do :; done; cp "$f" $dir/patch; [ ! -e $dir/field ] || cp $dir/purged $dir/field ;;
esac
`, n.root()), 0o700)
	info := func(all ...testpki.Pair) []byte {
		return fmt.Appendf(nil, "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: %s\n    server: https://10.0.0.1:6443\n", base64.StdEncoding.EncodeToString(join(all...)))
	}
	for name, row := range map[string]struct{ has, file, want []testpki.Pair }{
		"trust":              {[]testpki.Pair{ca}, []testpki.Pair{ca, next}, []testpki.Pair{ca, next}},
		"servers":            {[]testpki.Pair{ca, next}, []testpki.Pair{next, ca}, []testpki.Pair{next, ca}},
		"drop":               {[]testpki.Pair{next, ca}, []testpki.Pair{next}, []testpki.Pair{next}},
		"rolled back":        {[]testpki.Pair{ca, next}, []testpki.Pair{ca}, []testpki.Pair{ca}},
		"as it is":           {[]testpki.Pair{ca, next}, []testpki.Pair{ca, next}, nil},
		"of another cluster": {[]testpki.Pair{other}, []testpki.Pair{ca, next}, nil},
	} {
		_ = os.Remove(n.root() + "/patch")
		n.write(n.root()+"/info", info(row.has...), 0o600)
		n.write(n.conf+"/ssl/ca.crt", join(row.file...), 0o644)
		out, errs, err := n.run("KSCERT_WAIT_SECONDS=5\n" + script(t, "ca_renewal/files/authority.sh", "ca_renewal/files/publish.sh"))
		if refused := name == "of another cluster"; (err != nil) != refused || refused != strings.Contains(errs, "names a CA with another key") {
			t.Errorf("%s: %v: %s%s", name, err, out, errs)
		}
		patch, _ := os.ReadFile(n.root() + "/patch")
		if want := base64.StdEncoding.EncodeToString(join(row.want...)); (row.want == nil) != (patch == nil) || !bytes.Contains(patch, []byte(want)) {
			t.Errorf("%s: the patch is %s", name, patch)
		}
	}

	n.write(n.conf+"/ssl/ca-next.crt", next.Certificate, 0o644)
	n.write(n.conf+"/ssl/ca-former.crt", ca.Certificate, 0o644)
	for name, row := range map[string]struct{ has, file, want []testpki.Pair }{
		"drop":        {[]testpki.Pair{ca, other, next}, []testpki.Pair{next}, []testpki.Pair{other, next}},
		"rolled back": {[]testpki.Pair{ca, next, other}, []testpki.Pair{ca}, []testpki.Pair{ca, other}},
		"trust":       {[]testpki.Pair{ca, other, next}, []testpki.Pair{ca, next}, nil},
		"purged":      {[]testpki.Pair{ca, other}, []testpki.Pair{ca}, nil},
	} {
		_ = os.Remove(n.root() + "/patch")
		n.write(n.root()+"/info", info(row.file...), 0o600)
		n.write(n.conf+"/ssl/ca.crt", join(row.file...), 0o644)
		n.write(n.root()+"/field", join(row.has...), 0o600)
		n.write(n.root()+"/purged", join(row.want...), 0o600)
		out, errs, err := n.run("KSCERT_WAIT_SECONDS=20\n" + script(t, "ca_renewal/files/authority.sh", "ca_renewal/files/publish.sh"))
		patch, _ := os.ReadFile(n.root() + "/patch")
		want := ""
		if row.want != nil {
			want = `{"data":{"client-ca-file":"` + strings.ReplaceAll(string(join(row.want...)), "\n", `\n`) + `"}}` + "\n"
		}
		if err != nil || string(patch) != want {
			t.Errorf("%s: %v: %s%s\nthe patch is %s\nwant %s", name, err, out, errs, patch, want)
		}
	}

	n.write(n.conf+"/ssl/ca.crt", next.Certificate, 0o644)
	n.write(n.conf+"/ssl/ca.key", next.Key, 0o600)
	b64 := base64.StdEncoding.EncodeToString
	out, errs, err := n.run("KSCERT_NEXT='kubernetes-ca|" + b64(next.Certificate) + "|" + b64(ca.Certificate) + "|'\n" +
		script(t, "ca_renewal/files/authority.sh", "ca_rotation/files/rotation.sh", "ca_rotation/files/finish.sh"))
	if left, _ := filepath.Glob(n.conf + "/ssl/*-*"); err != nil || len(left) > 0 {
		t.Errorf("%v: %s%s\nleft behind: %s", err, out, errs, left)
	}
}
