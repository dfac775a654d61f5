package report

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/shell"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
)

// Runbook writes, as Markdown, what an operator would type to carry a plan out by hand on this very
// cluster: the plan's steps in their order, with the actual names and addresses and only for what
// is due. If API servers work these are the playbooks of a run; if none can be used, commands for
// each node. A plan without steps becomes a list of what to inspect.
//
// Every block is for a shell at the place in its heading, and changes nothing in that shell. It
// holds no secret, and asks for none.
func Runbook(w io.Writer, s snapshot.Snapshot, a Assessment, hand ByHand) error {
	if len(hand.Ansible) == 0 {
		hand.Ansible = []string{"-i", "INVENTORY"}
	}
	b := &book{printer: printer{w: w}, s: s, d: a.Diagnosis, hand: hand}
	b.line("# Runbook: %s", md(a.Verdict))
	b.line("")
	b.line("Seen at %s, %s. Route: %s.", s.Taken.UTC().Format(time.RFC3339), count(len(s.Nodes), "node"), a.Route)
	if a.Unplanned != "" {
		b.line("")
		b.hanging("No plan: ", "", md(a.Unplanned))
	}
	switch {
	case len(a.Plan.Steps) == 0 || a.Route == diagnosis.NewCA: // the playbooks re-issue a CA
		b.listFindings()
	case a.Route == diagnosis.Renew:
		b.renewal(a.Plan)
	default:
		b.recovery(a.Plan)
	}
	return b.err
}

// recovery writes the steps of a plan for a cluster whose API server cannot be used: commands for
// each node.
func (b *book) recovery(p plan.Plan) {
	b.line("")
	b.line("Each block is for a root shell on the node that its heading names; it stops at the")
	b.line("first command that fails. Work from top to bottom, and continue only after a block has")
	b.line("succeeded. `kscertctl run -i INVENTORY` does the same, with checks that no person")
	b.line("has the patience for.")
	b.warnings(p)
	for _, step := range p.Steps {
		b.step(step)
	}
}

// book writes a runbook.
type book struct {
	printer
	s        snapshot.Snapshot
	d        diagnosis.Diagnosis
	hand     ByHand
	sections int
	// issued are the control planes whose certificates an earlier step issues.
	issued []string
}

// script is what is typed on a node, line by line.
type script []string

// code is text that is shell already.
type code string

// add appends a line. Of the arguments, each string becomes one word of the shell and each list of
// them one word each, whatever they contain; code is inserted as it is.
func (s *script) add(format string, args ...any) {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = shell.Quote(arg)
		case []string:
			args[i] = shell.Join(arg)
		}
	}
	*s = append(*s, fmt.Sprintf(format, args...))
}

// typable reports whether every line can be typed as shown. It cannot if a node reports names or
// paths that no healthy node has.
func (s script) typable() bool {
	return !slices.ContainsFunc(s, func(line string) bool { return !shell.Typable(line) })
}

// untypable stands for a node's text that must not become part of a command.
const untypable = "\uFFFD"

// warnings describe where the obvious way would do harm on this cluster.
func (b *book) warnings(p plan.Plan) {
	b.line("")
	b.line("## What not to do")
	b.line("")
	answered := map[string]bool{}
	warn := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		if !answered[text] {
			answered[text] = true
			b.hanging("- ", "  ", text)
		}
	}
	for _, n := range b.s.Nodes {
		if n.Failure != nil || !n.Is(cluster.ControlPlane) {
			continue
		}
		if pki, linked := path.Join(dir(n, "config-dir"), "pki"), dir(n, "pki-real"); pki != linked {
			warn("%s cannot be backed up as a link: the certificates are in %s.", span("mv "+pki), span(linked))
		}
		warn("`kubeadm init phase certs` without the CAs in %s silently creates new ones: "+
			"every kubelet, token and kubeconfig would become invalid.", span(dir(n, "pki-real")))
		warn("kubeadm without %s takes its own defaults instead of this cluster's%s.",
			span("--config "+n.Facts["kubeadm-config"]), md(remembered(n)))
		if n.Facts["config-dir"] != "" && n.Facts["config-dir"] != kubernetesDir {
			warn("kubeadm renews kubeconfigs in %s only, and those of this cluster are in %s: use `kscertctl "+
				"run` instead.",
				kubernetesDir, span(n.Facts["config-dir"]))
		}
		if b.due(n, certs.EtcdHostCA) {
			warn("kubeadm does not know the certificates in %s: etcd runs on the host, and they are signed there.",
				span(dir(n, "etcd-dir")))
		}
		if b.has(n, certs.KindKubeletClient) {
			warn("`kubeadm init phase kubeconfig kubelet` writes the certificate into `kubelet.conf`, where nothing "+
				"renews it: "+
				"next year's outage. `kubelet.conf` has to refer to %s.", span(current(n)))
		}
	}
	if slices.ContainsFunc(p.Steps, func(s plan.Step) bool { return s.Together() }) {
		warn("Do not wait for one control plane before the next has its certificates: etcd has no quorum until most " +
			"members trust each other again.")
	}
}

// kubernetesDir is where kubeadm looks for kubeconfigs, whatever its configuration sets
// (Kubernetes, cmd/kubeadm/app/constants).
const kubernetesDir = "/etc/kubernetes"

// remembered names what a kubeadm configuration keeps and kubeadm's defaults lack.
func remembered(n snapshot.Node) string {
	var parts []string
	if c := n.Kubeadm; c != nil {
		if c.CertificatesDir != "" {
			parts = append(parts, "the directory "+c.CertificatesDir)
		}
		if len(c.CertSANs) > 0 {
			parts = append(parts, fmt.Sprintf("the names %s", strings.Join(c.CertSANs, ", ")))
		}
		if len(c.EtcdEndpoints) > 0 {
			parts = append(parts, "etcd at "+strings.Join(c.EtcdEndpoints, ", "))
		}
	}
	if len(parts) == 0 {
		return " directory, names and etcd"
	}
	return ": " + strings.Join(parts, "; ")
}

// step writes one step of the plan. A gate is part of the step that it waits for, except the last
// one.
func (b *book) step(step plan.Step) {
	switch {
	case step.Gate == plan.ClusterGate:
		b.heading(step)
		b.on(b.controlPlanes(), "inspect", prove)
		b.line("")
		b.line("Then, from where the inventory is: `kscertctl diagnose -i INVENTORY`.")
	case step.Gate == plan.KubeletGate:
		b.heading(step)
		b.on(b.controlPlanes()[:1], "wait for the kubelets",
			func(n snapshot.Node) script { return b.waitForNodes(n, step.Nodes) })
	case step.Gate == plan.EtcdGate, step.Gate == plan.APIServerGate: // the block before has waited
	case step.Action == plan.Backup:
		b.heading(step)
		b.on(step.Nodes, "a verified copy", backup)
	case step.Action == plan.EtcdCertificates:
		b.heading(step)
		b.on(step.Nodes, "new certificates, which etcd reloads by itself",
			func(n snapshot.Node) script { return b.signEtcd(n, step.Signer) })
	case step.Action == plan.PrePhase, step.Action == plan.Renew:
		b.heading(step)
		nodes := slices.DeleteFunc(slices.Clone(step.Nodes),
			func(name string) bool { return slices.Contains(b.issued, name) })
		b.issued = append(b.issued, nodes...)
		if len(nodes) == 0 {
			b.line("")
			b.line("Nothing is left to be typed for it.")
		}
		b.on(nodes, "new certificates", func(n snapshot.Node) script { return b.issue(n, step.Signer) })
		if step.Action == plan.PrePhase {
			b.on(nodes, "the kubelet", b.startKubelet)
		}
		b.on(nodes, "restart what holds an old credential", b.restart)
		b.approve(nodes)
	case step.Action == plan.KubeletBootstrap:
		b.heading(step)
		needy := slices.DeleteFunc(slices.Clone(step.Nodes), func(name string) bool {
			n, _ := b.s.Node(name)
			return !b.has(n, certs.KindKubeletClient, certs.KindKubeletConf)
		})
		if len(needy) > 0 {
			b.line("")
			b.wrapped("", "A key and a request on each node. The key stays there; the request is printed, and "+
				"is public.")
			b.on(needy, "make a request", request)
			b.line("")
			b.wrapped("", "Only the key of a request counts; the subject is set here. Make sure to paste what that "+
				"node has printed.")
			b.on(b.controlPlanes()[:1], "sign for "+md(strings.Join(needy, ", ")),
				func(cp snapshot.Node) script { return b.signFor(cp, needy) })
		}
		b.on(step.Nodes, "the kubelet", b.takeKubelet)
		b.approve(step.Nodes)
	}
}

// approve writes how to approve the serving certificates that kubelets of nodes request (the role
// kubelet_serving).
func (b *book) approve(names []string) {
	var nodes []string
	for _, name := range names {
		n, _ := b.s.Node(name)
		c, has := n.Certificate(certs.KindKubeletServer)
		if n.AsksToServe() && (!has || c.StatusAt(n.Clock, b.hand.Settings.RenewBefore) != certs.Valid) {
			nodes = append(nodes, b.s.NameOf(n))
		}
	}
	if len(nodes) == 0 {
		return
	}
	b.line("")
	b.wrapped("", "These kubelets request their serving certificates. Type `yes` only for names and addresses that "+
		"the inventory has for the node, too.")
	b.on(b.controlPlanes()[:1], "approve the serving certificates of "+md(strings.Join(nodes, ", ")),
		func(n snapshot.Node) script {
			var s script
			s.tools(n)
			s.add("for node in %s; do", nodes)
			s.add("  pending() { %s get csr --field-selector spec.signerName=kubernetes.io/kubelet-serving -o "+
				`"jsonpath={range .items[?(@.spec.username=='system:node:$node')]}{.metadata.name}{' '}`+
				`{.status.conditions[*].type}{'\n'}{end}" | sed -n 's/ *$//; / /!p'; }`, kubectl(n))
			s.add(`  timeout=60; until [ -n "$(pending)" ] || [ $((timeout -= 1)) = 0 ]; do sleep 1; done`)
			s.add("  for name in $(pending); do")
			s.add(`    %s get csr "$name" -o 'jsonpath={.spec.request}' | base64 -d | openssl req -noout -text -verify`,
				kubectl(n))
			s.add(`    printf 'node %%s: approve %%s? ' "$node" "$name"; read -r answer`)
			s.add(`    [ "$answer" != yes ] || %s certificate approve "$name"`, kubectl(n))
			s.add("  done")
			s.add("done")
			return s
		})
}

func (b *book) heading(step plan.Step) {
	b.sections++
	b.line("")
	b.line("## %d. %s", b.sections, md(step.Title))
	b.line("")
	b.wrapped("", md(sentenceCase(step.Why))+".")
}

// on writes what is typed on each of the nodes; nodes with the same commands share a block.
func (b *book) on(names []string, what string, write func(snapshot.Node) script) {
	var order, refused []string
	nodes := map[string][]string{}
	for _, name := range names {
		n, _ := b.s.Node(name)
		lines := write(n)
		if len(lines) == 0 {
			continue
		}
		if !lines.typable() {
			refused = append(refused, name)
			continue
		}
		text := strings.Join(lines, "\n")
		if nodes[text] == nil {
			order = append(order, text)
		}
		nodes[text] = append(nodes[text], name)
	}
	for _, text := range order {
		b.block(nodes[text], what, strings.Split(text, "\n"))
	}
	if len(refused) > 0 {
		b.refused(refused, what)
	}
}

// block writes lines for a shell in one place or several.
func (b *book) block(where []string, what string, lines script) {
	b.line("")
	b.line("### On %s: %s", md(strings.Join(where, ", ")), what)
	b.line("")
	b.line("```sh")
	b.line("(")
	b.line("set -eu")
	b.line("umask 077")
	for _, line := range lines {
		b.line("%s", line)
	}
	b.line(")")
	b.line("```")
}

// refused writes that a block would not have been safe to type.
func (b *book) refused(where []string, what string) {
	b.line("")
	b.line("### On %s: %s, not shown", md(strings.Join(where, ", ")), what)
	b.line("")
	b.wrapped("", "A name or path that a node reports cannot be typed safely: it has control characters or an "+
		"expression, or is neither a name nor an absolute path. Find out why before you change anything there.")
}

func (b *book) controlPlanes() []string {
	var out []string
	for _, n := range b.s.With(cluster.ControlPlane) {
		if n.Failure == nil {
			out = append(out, n.Name)
		}
	}
	return out
}

// due reports whether any certificate of a CA is due on the node.
func (b *book) due(n snapshot.Node, signer certs.Authority) bool {
	return slices.ContainsFunc(b.d.Due[n.Name], func(k certs.Kind) bool {
		row, _ := certs.Lookup(k)
		return row.Signer == signer
	})
}

// has reports whether one of the kinds is due on the node.
func (b *book) has(n snapshot.Node, kinds ...certs.Kind) bool {
	return slices.ContainsFunc(b.d.Due[n.Name], func(k certs.Kind) bool { return slices.Contains(kinds, k) })
}

// Defaults of the directories that a node may report (Kubespray, roles/kubespray_defaults).
func dir(n snapshot.Node, fact string) string {
	switch v := n.Facts[fact]; {
	case path.IsAbs(v):
		return v
	case v != "":
		return untypable // it could be taken for a flag
	}
	return map[string]string{
		"config-dir": kubernetesDir, "pki-real": kubernetesDir + "/ssl", "etcd-dir": "/etc/ssl/etcd/ssl",
		"kubelet-dir": "/var/lib/kubelet/pki", "home-dir": "/root/.kube",
	}[fact]
}

// current is the kubelet's rotating client certificate.
func current(n snapshot.Node) string {
	return path.Join(dir(n, "kubelet-dir"), "kubelet-client-current.pem")
}

// tools extends PATH to the node's commands.
func (s *script) tools(n snapshot.Node) {
	if bin := path.Dir(n.Facts["kubeadm"]); path.IsAbs(bin) {
		s.add("PATH=$PATH:%s", bin)
	}
}

// backup copies what may be changed, with owners, modes, times and links, and reads the copy back.
func backup(n snapshot.Node) script {
	paths := []string{dir(n, "config-dir"), dir(n, "kubelet-dir")}
	if conf := n.Facts["kubelet-conf"]; conf != "" { // elsewhere
		paths = append(paths, conf)
	}
	if n.Is(cluster.ControlPlane) {
		paths = append(paths, dir(n, "pki-real"), path.Join(dir(n, "home-dir"), "config"))
	}
	if n.Is(cluster.Etcd) || n.Is(cluster.ControlPlane) {
		paths = append(paths, dir(n, "etcd-dir"))
		for _, e := range members(n) {
			paths = append(paths, e.EnvFile())
		}
	}
	var s script
	s.add("backup=/var/backups/kscertctl/manual-$(date -u +%%Y%%m%%dT%%H%%M%%SZ)")
	s.add(`mkdir -p "$backup"`)
	s.add("for path in %s; do", outermost(paths))
	s.add(`  [ -e "$path" ] || continue`)
	s.add(`  cp -a --parents "$path" "$backup"`)
	s.add(`  diff -r "$path" "$backup$path"`)
	s.add("done")
	s.add(`echo "backed up to $backup"`)
	return s
}

// outermost leaves out what is in another of the directories.
func outermost(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		return slices.ContainsFunc(paths, func(outer string) bool { return strings.HasPrefix(p, outer+"/") })
	})
}

// issue issues what is due on a control plane again, from the CAs that are there and without the
// API server.
func (b *book) issue(n snapshot.Node, signer string) script {
	var s script
	s.tools(n)
	head := len(s)
	s = append(s, b.signEtcd(n, signer)...)
	s = append(s, b.renew(n)...)
	if len(s) == head {
		return nil
	}
	return s
}

// renew makes kubeadm renew what it knows: same subject and names, new key.
func (b *book) renew(n snapshot.Node) script {
	var names []string
	var before, after script // of kubeadm, for what follows a certificate
	home := false
	for _, row := range certs.Table() { // the table's order: the leaves, then the kubeconfigs
		if !slices.Contains(b.d.Due[n.Name], row.Kind) {
			continue
		}
		switch {
		case row.Base == certs.Home:
			home = true
		case row.Base == certs.PKI, row.Base == certs.Config && row.Kind != certs.KindKubeletConf:
			names = append(names, row.Name)
			if c, ok := n.Certificate(row.Kind); ok && c.Chain > 0 {
				keep, restore := chained(n, c, row)
				before, after = append(before, keep...), append(after, restore...)
			}
		}
	}
	var s script
	if len(before) > 0 {
		s.add("behind=$(mktemp -d)")
	}
	s = append(s, before...)
	if len(names) > 0 {
		s.add("for name in %s; do", names)
		s.add("  %s certs renew \"$name\" --config %s", kubeadm(n), n.Facts["kubeadm-config"])
		s.add("done")
	}
	if s = append(s, after...); len(before) > 0 {
		s.add(`rm -r "$behind"`)
	}
	if home {
		admin, config := path.Join(dir(n, "config-dir"), "admin.conf"), path.Join(dir(n, "home-dir"), "config")
		// Root's may hold other users and clusters, too: they are not changed.
		s.add("new=$(mktemp -d)")
		for _, part := range []string{"certificate", "key"} {
			s.add("kubectl config view --kubeconfig %s --raw -o 'jsonpath={.users[0].user.client-"+part+
				"-data}' | base64 -d >$new/"+part, admin)
		}
		s.add("user=$(kubectl config view --kubeconfig %s --minify -o 'jsonpath={.users[0].name}')", config)
		s.add("kubectl config set-credentials \"$user\" --kubeconfig %s --embed-certs "+
			"--client-certificate=$new/certificate --client-key=$new/key", config)
		s.add("rm -r $new")
	}
	return s
}

// others prints the certificates of a PEM file that follow the first.
const others code = "awk '/-BEGIN CERT/ {n++; c = 1} c && n > 1; /-END CERT/ {c = 0}'"

// behind prints what is to follow a new certificate: what followed the old one; if one of those
// expires first, only the CA, which signs the new one.
func behind(n snapshot.Node, c certs.Certificate, row certs.Row) code {
	switch {
	case !c.ChainNotAfter.IsZero():
		return "cat " + code(shell.Quote(issuer(n, row.Signer)))
	case row.Base == certs.Config: // with sed: a worker may have no kubectl
		return code(fmt.Sprintf("sed -n 's/^ *client-certificate-data: *//p' %s | base64 -d | %s", shell.Quote(c.Path),
			others))
	default:
		return others + " " + code(shell.Quote(c.Path))
	}
}

// chained saves what follows a certificate while kubeadm, which writes the new one alone, renews
// it; and restores it.
func chained(n snapshot.Node, c certs.Certificate, row certs.Row) (keep, restore script) {
	kept := code(`"$behind"/` + shell.Quote(string(row.Kind)))
	keep.add("%s >%s", behind(n, c, row), kept)
	if row.Base != certs.Config {
		restore.add("cat %s >>%s", kept, c.Path)
		return keep, restore
	}
	config := code("kubectl config view --kubeconfig " + shell.Quote(c.Path) + " --minify --raw -o")
	restore.add("%s 'jsonpath={.users[0].user.client-certificate-data}' | base64 -d | cat - %s >\"$behind\"/new",
		config, kept)
	restore.add("kubectl config set-credentials \"$(%s 'jsonpath={.users[0].name}')\" --kubeconfig %s --embed-certs "+
		"--client-certificate=\"$behind\"/new",
		config, c.Path)
	return keep, restore
}

// issuer is the file of a CA on a node.
func issuer(n snapshot.Node, a certs.Authority) string {
	for _, row := range certs.Table() {
		if c, ok := n.Certificate(row.Kind); ok && row.Authority == a {
			return c.Path
		}
	}
	return untypable // nothing can be signed without it
}

// replacement quotes a text for the right side of sed's s|||.
func replacement(s string) string {
	return strings.NewReplacer(`\`, `\\`, `|`, `\|`, `&`, `\&`).Replace(s)
}

// minor is the minor version of Kubernetes on a node; 0 if it is not known.
func minor(n snapshot.Node) int {
	m := regexp.MustCompile(`^v1\.(\d+)\.`).FindStringSubmatch(strings.TrimSpace(n.Results["kubeadm-version"].Output))
	if m == nil {
		return 0
	}
	out, _ := strconv.Atoi(m[1])
	return out
}

// kubeadm is its command: what is used here was "alpha" before v1.20.
func kubeadm(n snapshot.Node) code {
	if v := minor(n); v > 0 && v < 20 {
		return "kubeadm alpha"
	}
	return "kubeadm"
}

// signEtcd signs the leaves of host etcd that are due again: same key, subject, names and usages.
// signer is the node that signs for one without the key of etcd's CA.
func (b *book) signEtcd(n snapshot.Node, signer string) script {
	var s script
	for _, c := range n.Certificates {
		row, _ := certs.Lookup(c.Kind)
		if c.Served || row.Signer != certs.EtcdHostCA || row.CA || row.Copy || b.s.Unused(n, c) || !b.has(n, c.Kind) {
			continue
		}
		if len(s) == 0 {
			s.add("cd %s", dir(n, "etcd-dir"))
		}
		file := path.Base(c.Path)
		if strings.HasPrefix(file, "-") {
			file = untypable // it would be taken for a flag
		}
		key := strings.TrimSuffix(file, ".pem") + "-key.pem"
		s.add("openssl x509 -x509toreq -in %s -signkey %s -out request.new", file, key)
		s.add("cat >extensions.new <<'EXTENSIONS'")
		s.add("basicConstraints = CA:FALSE")
		s.add("subjectKeyIdentifier = hash")
		s.add("authorityKeyIdentifier = keyid,issuer")
		if usages := usages(c); usages != "" {
			s.add("extendedKeyUsage = %s", code(usages))
		}
		if len(c.SANs) > 0 {
			s.add("subjectAltName = %s", code(altNames(c)))
		}
		s.add("EXTENSIONS")
		sign := code(fmt.Sprintf(
			"openssl x509 -req -in request.new -sha256 -days %d -set_serial \"0x$(openssl rand -hex 15)\"", days(n, c)))
		const by code = "-CA ca.pem -CAkey ca-key.pem -extfile extensions.new -out certificate.new"
		if n.SignsEtcd() {
			s.add("%s \\", sign)
			s.add("  %s", by)
		} else {
			s.add("# The key of etcd's CA is not here. Carry request.new and extensions.new to")
			s.add("# %s, sign there, and bring certificate.new back:",
				code(cmp.Or(signer, "a node of etcd that has it")))
			s.add("#   %s \\", sign)
			s.add("#   %s", by)
			s.add("until [ -s certificate.new ]; do sleep 1; done")
		}
		if c.Chain > 0 {
			s.add("%s >>certificate.new", behind(n, c, row))
		}
		s.add("openssl verify -partial_chain -CAfile ca.pem certificate.new")
		s.add("chown --reference=%[1]s certificate.new && chmod --reference=%[1]s certificate.new", file)
		s.add("mv certificate.new %s", file)
		s.add("rm request.new extensions.new")
	}
	return s
}

func usages(c certs.Certificate) string {
	var out []string
	for _, u := range c.Usages {
		if name, ok := map[string]string{"server auth": "serverAuth", "client auth": "clientAuth"}[u]; ok {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

// hostName is a DNS name. Anything else could add names to the certificate: openssl reads more than
// names in its configuration.
var hostName = regexp.MustCompile(`^[A-Za-z0-9*_][A-Za-z0-9._-]*$`)

func altNames(c certs.Certificate) string {
	var out []string
	for _, name := range c.SANs {
		switch {
		case net.ParseIP(name) != nil:
			out = append(out, "IP:"+name)
		case hostName.MatchString(name):
			out = append(out, "DNS:"+name)
		default:
			out = append(out, untypable)
		}
	}
	return strings.Join(out, ", ")
}

// days is how long a new certificate is valid: as long as the old one was, at least a year, and not
// longer than its CA.
func days(n snapshot.Node, c certs.Certificate) int {
	const day = 24 * time.Hour
	out := max(int(c.NotAfter.Sub(c.NotBefore)/day), 365)
	if ca, ok := n.Certificate(certs.KindEtcdHostCA); ok {
		out = min(out, int(ca.NotAfter.Sub(n.Clock)/day))
	}
	return out
}

// startKubelet gives the kubelet of a control plane a client certificate without the API server,
// starts it, and makes etcd load its new certificates.
func (b *book) startKubelet(n snapshot.Node) script {
	var s script
	s.tools(n)
	if b.has(n, certs.KindKubeletClient, certs.KindKubeletConf) {
		s.add("new=$(mktemp)")
		s.add("%s kubeconfig user --config %s --client-name %s --org system:nodes >\"$new\"",
			kubeadm(n), n.Facts["kubeadm-config"], "system:node:"+b.s.NameOf(n))
		s.add("pem=%s/kubelet-client-$(date -u +%%Y-%%m-%%d-%%H-%%M-%%S).pem", dir(n, "kubelet-dir"))
		s.add("for field in client-certificate-data client-key-data; do")
		s.add(`  sed -n "s/^ *$field: *//p" "$new" | base64 -d`)
		s.add(`done >"$pem"`)
		s.add(`rm "$new"`)
		s = append(s, behindKubelets(n)...)
		s = append(s, referToPair(n)...)
	}
	s = append(s, b.dropServing(n)...)
	s.add("systemctl reset-failed kubelet || true")
	s.add("systemctl restart kubelet")
	if n.Is(cluster.Etcd) && (b.due(n, certs.EtcdHostCA) || b.due(n, certs.EtcdCA)) {
		for _, e := range members(n) {
			s = append(s, stop(n, e.Name)...)
		}
	}
	return s
}

// behindKubelets puts into $pem what follows the old certificate of the kubelet.
func behindKubelets(n snapshot.Node) script {
	var s script
	for _, kind := range []certs.Kind{certs.KindKubeletClient, certs.KindKubeletConf} {
		if c, ok := n.Certificate(kind); ok {
			if row, _ := certs.Lookup(kind); c.Chain > 0 {
				s.add("%s >>\"$pem\"", behind(n, c, row))
			}
			break
		}
	}
	return s
}

// dropServing removes the kubelet's self-signed pair, which it makes again.
func (b *book) dropServing(n snapshot.Node) script {
	var s script
	if b.has(n, certs.KindKubeletServing) {
		s.add("rm -f %s %s", path.Join(dir(n, "kubelet-dir"), "kubelet.crt"),
			path.Join(dir(n, "kubelet-dir"), "kubelet.key"))
	}
	return s
}

// stop stops a static pod's container, of which the kubelet starts another one; a unit is
// restarted.
func stop(n snapshot.Node, component string) script {
	if _, unit := n.Units[component]; unit {
		return script{"systemctl restart --no-block " + component}
	}
	list, end := containers(n, component)
	var s script
	s.add("for id in $(%s); do", list)
	s.add("  %s \"$id\" || true # it may have stopped by itself", end)
	s.add("done")
	return s
}

// members are the etcd clusters of which a node may have a member: one that kubeadm keeps on a control
// plane is of the main one.
func members(n snapshot.Node) []certs.EtcdCluster {
	return slices.DeleteFunc(certs.EtcdClusters(),
		func(e certs.EtcdCluster) bool { return !e.Main() && !n.HasMember(e) })
}

// containers are the commands that list a component's running containers and that stop one.
func containers(n snapshot.Node, component string) (list, end code) {
	if n.Facts["runtime"] == "docker" {
		return "docker ps --quiet --no-trunc --filter status=running --filter label=io.kubernetes.container.name=" +
				code(component),
			"docker stop --time 3"
	}
	return "crictl ps --quiet --no-trunc --state Running --label io.kubernetes.pod.namespace=kube-system --label " +
			"io.kubernetes.container.name=" + code(component),
		"crictl stop --timeout 3"
}

// restart makes the components of a control plane load new files, the API server before those that
// exit if they find none.
func (b *book) restart(n snapshot.Node) script {
	var s script
	s.tools(n)
	out := b.d.ControlPlanes[n.Name] != diagnosis.APIUsable
	for _, e := range members(n) {
		if slices.Contains(b.d.Stale[n.Name], e.Name) {
			s = append(s, stop(n, e.Name)...)
		}
	}
	for _, component := range []struct {
		name  string
		out   bool // restarted whenever the API server is down
		kinds []certs.Kind
	}{
		{apiServer, true, certs.ReadBy(apiServer)},
		{"kube-controller-manager", false, certs.ReadBy("kube-controller-manager")},
		{"kube-scheduler", false, certs.ReadBy("kube-scheduler")},
		{"kube-vip", false, certs.ReadBy("kube-vip")},
	} {
		_, runs := n.Process(component.name)
		stale := slices.Contains(b.d.Stale[n.Name], component.name)
		// An API server that works reloads renewed files since Kubernetes 1.20, and is restarted only for
		// the certificate that it makes for itself.
		due := b.has(n, component.kinds...) && (runs || component.name != "kube-vip") &&
			(component.name != apiServer || minor(n) < 20)
		if component.name == apiServer {
			due = due || b.loopback(n)
		}
		if stale || (component.out && out) || due {
			s = append(s, stop(n, component.name)...)
		}
		if component.name == apiServer {
			s.add("timeout 600 sh -c %s",
				"until "+string(kubectl(n))+" --request-timeout=5s get --raw /readyz; do sleep 2; done")
		}
	}
	// The longer the API server was down, the longer the kubelet waits before it starts them again.
	for _, component := range []string{"kube-controller-manager", "kube-scheduler"} {
		list, _ := containers(n, component)
		s.add("timeout 600 sh -c %s", "until "+string(list)+" | grep .; do sleep 2; done")
	}
	return s
}

// loopback reports whether the certificate that an API server has made for itself is about to expire.
func (b *book) loopback(n snapshot.Node) bool {
	return slices.ContainsFunc(b.d.Findings, func(f diagnosis.Finding) bool {
		return f.Node == n.Name && (f.Reason == diagnosis.LoopbackCertificateExpired ||
			f.Reason == diagnosis.LoopbackCertificateExpiring)
	})
}

// apiServer is the component that the others wait for.
const apiServer = "kube-apiserver"

// kubectl asks the node's own API server as administrator.
func kubectl(n snapshot.Node) code {
	out := "kubectl " + admin(n)
	if e, ok := n.Endpoint(apiServer); ok {
		out += " --server " + code(shell.Quote("https://"+e.Address))
	}
	return out
}

// admin is kubectl's or kubeadm's administrator on a control plane.
func admin(n snapshot.Node) code {
	return "--kubeconfig " + code(shell.Quote(path.Join(dir(n, "config-dir"), "admin.conf")))
}

// newKey is where a node keeps the key of its kubelet until there is a certificate for it.
func newKey(n snapshot.Node) string { return path.Join(dir(n, "kubelet-dir"), "new.key") }

// request makes a key for a kubelet and prints a request.
func request(n snapshot.Node) script {
	var s script
	s.add("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out %s", newKey(n))
	s.add("openssl req -new -key %s -subj /CN=kubelet", newKey(n))
	return s
}

// paste writes what is pasted to a file, from PEM's first line to its last.
func (s *script) paste(prompt any, file code) {
	s.add("echo %s", prompt)
	s.add(`sed -un '/^-----BEGIN/,$p; /^-----END/q' >%s`, file)
}

// signFor signs the pasted requests of nodes with the cluster's CA, as kube-controller-manager
// would (the role kubelet_bootstrap's files/sign.sh).
func (b *book) signFor(cp snapshot.Node, names []string) script {
	var nodes []string
	for _, name := range names {
		n, _ := b.s.Node(name)
		nodes = append(nodes, b.s.NameOf(n))
	}
	ca := authority(cp)
	key := strings.TrimSuffix(ca, ".crt") + ".key"
	var s script
	s.add("new=$(mktemp -d)")
	s.add(`printf '%%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=clientAuth >"$new/extensions"`)
	s.add("for node in %s; do", nodes)
	s.paste(code(`"Paste the request of $node, to its last line:"`), `"$new/request"`)
	s.add(`openssl req -in "$new/request" -noout -verify -pubkey -out "$new/key"`)
	s.add(`openssl req -new -key %s -subj "/O=system:nodes/CN=system:node:$node" |`, key)
	s.add(`  openssl x509 -req -force_pubkey "$new/key" -CA %s -CAkey %s -set_serial "0x$(openssl rand -hex 15)" -days 365 -extfile "$new/extensions"`, ca, key)
	s.add("done")
	s.add(`rm -r "$new"`)
	return s
}

// takeKubelet gives a kubelet the certificate that was signed for its key, and restarts it.
func (b *book) takeKubelet(n snapshot.Node) script {
	var s script
	if b.has(n, certs.KindKubeletClient, certs.KindKubeletConf) {
		s.add("pem=%s/kubelet-client-$(date -u +%%Y-%%m-%%d-%%H-%%M-%%S).pem", dir(n, "kubelet-dir"))
		s.paste("Paste the certificate that was signed for this node, to its last line:", `"$pem"`)
		s.add(`openssl verify -partial_chain -CAfile %s "$pem"`, authority(n))
		s.add(`cat %s >>"$pem"`, newKey(n))
		s.add("rm %s", newKey(n))
		s = append(s, behindKubelets(n)...)
		s = append(s, referToPair(n)...)
	}
	s = append(s, b.dropServing(n)...)
	s.add("systemctl reset-failed kubelet || true")
	s.add("systemctl restart kubelet")
	return s
}

// referToPair makes the kubelet's link and kubelet.conf lead to the pair in $pem.
func referToPair(n snapshot.Node) script {
	var s script
	s.add(`ln -sfn "$pem" %s`, current(n))
	if _, embedded := n.Certificate(certs.KindKubeletConf); embedded {
		file := replacement(current(n))
		s.add("sed -i -e %s -e %s %s", "s|client-certificate-data:.*|client-certificate: "+file+"|",
			"s|client-key-data:.*|client-key: "+file+"|", n.KubeletConf())
	}
	return s
}

// authority is the file of the cluster's CA on a node.
func authority(n snapshot.Node) string {
	if c, ok := n.Certificate(certs.KindCA); ok {
		return c.Path
	}
	return path.Join(dir(n, "pki-real"), "ca.crt")
}

func (b *book) waitForNodes(n snapshot.Node, names []string) script {
	var s script
	s.tools(n)
	var nodes []string
	for _, name := range names {
		if other, _ := b.s.Node(name); other.Is(cluster.ControlPlane) ||
			other.Is(cluster.Worker) { // others are no Nodes
			nodes = append(nodes, "node/"+b.s.NameOf(other))
		}
	}
	s.add("%s wait --for=condition=Ready --timeout=300s %s", kubectl(n), nodes)
	return s
}

func prove(n snapshot.Node) script {
	var s script
	s.tools(n)
	s.add("%s get nodes", kubectl(n))
	s.add("%s certs check-expiration --config %s", kubeadm(n), n.Facts["kubeadm-config"])
	return s
}

// listFindings lists the findings if no plan has steps for them, with commands that show more and change
// nothing.
func (b *book) listFindings() {
	b.line("")
	if b.d.Route == diagnosis.None {
		b.line("Nothing is due, so there is nothing to type.")
		return
	}
	b.line("No command here changes anything: fix what is found first, then inspect again with")
	b.line("`kscertctl diagnose -i INVENTORY`.")
	var nodes []string
	for _, g := range group(b.d.Findings) {
		if g.first.Severity() != diagnosis.Critical {
			continue
		}
		b.line("")
		b.line("## %s [%s]", md(g.title()), g.first.Reason)
		b.line("")
		if len(g.subjects) > 0 {
			b.wrapped("", md(strings.Join(g.subjects, ", ")))
			b.line("")
		}
		for line := range strings.Lines(g.evidence()) {
			b.line("    %s", strings.TrimRight(line, "\r\n"))
		}
		if g.first.Evidence != "" {
			b.line("")
		}
		b.line("Next: %s.", md(strings.TrimSuffix(g.first.Next(), ".")))
		if n, ok := b.s.Node(g.first.Node); ok && n.Failure == nil && !slices.Contains(nodes, n.Name) {
			nodes = append(nodes, n.Name)
		}
	}
	if len(nodes) > 0 {
		b.line("")
		b.line("## What the nodes say")
		b.on(nodes, "inspect", words)
	}
}

// words shows the logs of a node's components.
func words(n snapshot.Node) script {
	s := script{"date -u"}
	s.tools(n)
	s.add("df -h /etc /var || true")
	units := []string{"kubelet"}
	for _, e := range members(n) {
		if _, ok := n.Units[e.Name]; ok {
			units = append(units, e.Name)
		}
	}
	for _, unit := range units {
		s.add("systemctl --no-pager status %s || true", unit)
		s.add("journalctl --no-pager -u %s -n 50", unit)
	}
	if n.Is(cluster.ControlPlane) {
		s.add("crictl ps -a --label io.kubernetes.pod.namespace=kube-system || true")
		s.add("tail -n 50 /var/log/pods/kube-system_kube-apiserver-*/kube-apiserver/*.log || true")
		if n.Facts["kubeadm-config"] != "" {
			s.add("%s certs check-expiration --config %s || true", kubeadm(n), n.Facts["kubeadm-config"])
		}
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
