package orchestrator

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/atomicfile"
	"github.com/infrapuzzle/kscertctl/orchestrator/ansible"
	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/plan"
	"github.com/infrapuzzle/kscertctl/orchestrator/run"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"
	"github.com/infrapuzzle/kscertctl/playbooks"
)

// RequestCertificates writes a certificate signing request (PKCS #10) to dir for each certificate that is
// due, and plan.RequestsFile; nothing if none is. Each is signed on its node with the key of the certificate,
// which stays there, and requests the same subject, names and usages. It changes nothing on the nodes.
//
// The directory must be empty or not exist, unless overwrite is set: then files of the same names are
// replaced. The error is an *Error: ExitUsage for the directory; and after the others' requests are
// written, ExitUnreachable for nodes that could not be inspected or reached, and ExitNotBegun for other
// certificates that are due and that are not requested: Missing has both. With any other error, the result is zero.
func (o *Orchestrator) RequestCertificates(ctx context.Context, dir string, overwrite bool) (all plan.Requests,
	err error) {
	if err := writableDir(dir, overwrite); err != nil {
		return all, err
	}
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	s, err := o.beginInspecting(ctx, soft, run.Entry{Kind: run.KindLook})
	if err != nil {
		return all, err
	}
	defer s.finish(&Result{}, &err)
	snap, d, err := s.inspectUntilStarted(soft)
	if err != nil {
		return all, err
	}
	wanted, missing := requestable(snap, d, s.opts.Thresholds)
	var replies map[string]reply
	var lost []string
	if len(wanted) > 0 {
		if replies, lost, err = s.requested(soft, wanted); err != nil {
			return all, err
		}
	}
	made := plan.Requests{Schema: plan.RequestsSchema, Made: time.Now().UTC(), Cluster: run.ClusterID(snap),
		Requests: []plan.Request{}, Missing: missing}
	if all, err = writeRequests(dir, wanted, replies, made); err != nil {
		return all, err
	}
	for _, m := range all.Missing {
		s.tell(Event{Kind: EventNotice, Message: m.String()})
	}
	return all, s.incomplete(all.Missing, lost)
}

// incomplete is the error about certificates that are not requested, of which nodes are lost; nil if there
// are none.
func (s *session) incomplete(missing []plan.Missing, lost []string) error {
	if len(missing) == 0 {
		return nil
	}
	e := &Error{Code: ExitNotBegun, Next: "to see why: " + s.command("diagnose", "-i", "INVENTORY")}
	if len(lost) > 0 {
		e.Code = ExitUnreachable
	}
	var unknown, nodes []string
	for _, m := range missing {
		if m.File == "" {
			unknown = append(unknown, m.Node)
			continue
		}
		if !slices.Contains(nodes, m.Node) {
			nodes = append(nodes, m.Node)
		}
	}
	var parts []string
	if len(nodes) > 0 {
		parts = append(parts, "not all that is due is requested on "+strings.Join(nodes, ", "))
	}
	if len(unknown) > 0 {
		e.Code = ExitUnreachable
		parts = append(parts,
			"nothing is requested for nodes that could not be inspected: "+strings.Join(unknown, ", "))
	}
	e.Summary = strings.Join(parts, "; ")
	return e
}

// writableDir refuses a directory that requests cannot be written to. The error is an *Error.
func writableDir(dir string, overwrite bool) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return &Error{Code: ExitUsage, Summary: err.Error(), Err: err, Next: "name another directory with --dir"}
	case len(entries) > 0 && !overwrite:
		return &Error{Code: ExitUsage,
			Summary: fmt.Sprintf("--dir %s is not empty: it may hold the requests of another command", dir),
			Next:    "name a new directory, or replace files of the same names with --overwrite"}
	}
	return nil
}

// fileName is a name that is one file, everywhere.
var fileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}$`)

// requestable are the certificates that are due and that their node can request, in the order of the
// nodes, each once, whatever files hold it, without those that are signed in the cluster; and the others,
// with the reason. What a node reports is not trusted: plan.Entitled decides.
func requestable(s snapshot.Snapshot, d diagnosis.Diagnosis, t diagnosis.Thresholds) (out []plan.Request,
	missing []plan.Missing) {
	for _, n := range s.Nodes {
		if n.Failure != nil {
			missing = append(missing, plan.Missing{Node: n.Name, Reason: n.Failure.Message})
		}
		seen, names, found := map[string]int{}, map[string]bool{}, map[certs.Kind]bool{}
		for _, c := range plan.Replaceable(s, n) {
			row, _ := certs.Lookup(c.Kind)
			if plan.SignedInside(s, n, c.Kind) || !slices.Contains(d.Due[n.Name], c.Kind) ||
				c.StatusAt(n.Clock, n.Window(row, c, t.RenewBefore)) == certs.Valid {
				continue
			}
			found[c.Kind] = true
			if i, twice := seen[c.Fingerprint]; twice {
				out[i].Files = append(out[i].Files, c.Path)
				continue
			}
			name := string(c.Kind)
			if strings.Contains(row.Path, "*") {
				name = strings.TrimSuffix(path.Base(c.Path), path.Ext(c.Path))
			}
			ca, err := plan.Entitled(s, n, c)
			if !fileName.MatchString(n.Name) || !fileName.MatchString(name) ||
				strings.EqualFold(n.Name, plan.RequestsFile) {
				err = errors.New("its name cannot be that of a file")
			}
			if err != nil {
				missing = append(missing, plan.Missing{Node: n.Name, File: c.Path, Reason: err.Error()})
				continue
			}
			seen[c.Fingerprint] = len(out)
			name = unique(names, name)
			out = append(out, plan.Request{Node: n.Name, Files: []string{c.Path}, Kind: c.Kind,
				Request: n.Name + "/" + name + ".csr", Certificate: n.Name + "/" + name + ".crt",
				Subject: c.Subject, SANs: c.SANs, Usages: c.Usages, CA: row.Signer, CAFile: ca.Path,
				CASubject: ca.Subject, CAFingerprint: ca.Fingerprint, PublicKey: c.PublicKey,
				KeyAlgorithm: c.KeyAlgorithm, NotAfter: c.NotAfter, Fingerprint: c.Fingerprint})
		}
		for _, kind := range d.Due[n.Name] {
			row, _ := certs.Lookup(kind)
			if found[kind] || plan.SignedInside(s, n, kind) {
				continue
			}
			m := plan.Missing{Node: n.Name, File: cmp.Or(row.Name, row.Path),
				Reason: "it is lost, or has lost its key: the node must join again"}
			if _, has := n.Certificate(kind); has && kind == certs.KindKubeletConf {
				m.Reason = "the kubelet's pair is in " + snapshot.KubeletPair + ": refer to that in the file"
			}
			missing = append(missing, m)
		}
	}
	return out, missing
}

// unique is a name that names does not have yet, in any case, as on file systems that ignore it.
func unique(names map[string]bool, name string) string {
	for i, first := 2, name; names[strings.ToLower(name)]; i++ {
		name = fmt.Sprintf("%s-%d", first, i)
	}
	names[strings.ToLower(name)] = true
	return name
}

// reply is what a node has printed, and why it is not all: empty if it is.
type reply struct{ text, failed string }

// requested has the nodes make the requests. The others' replies are used if some fail; lost are those that
// Ansible could not reach.
func (s *session) requested(ctx context.Context, wanted []plan.Request) (replies map[string]reply, lost []string,
	err error) {
	fingerprints := map[string][]string{}
	var nodes []string
	for _, r := range wanted {
		if fingerprints[r.Node] == nil {
			nodes = append(nodes, r.Node)
		}
		fingerprints[r.Node] = append(fingerprints[r.Node], r.Fingerprint)
	}
	p := s.playbook("ca-csr", playbooks.CACSR, nodes)
	p.Vars["kscert_requested"], p.Many = fingerprints, true
	ctx, cancel := context.WithTimeout(ctx, s.stepTimeout(plan.Step{}))
	defer cancel()
	outcome, err := s.runner.Run(ctx, p, nil)
	failed, ofNodes := errors.AsType[*ansible.RunError](err)
	replies = repliesIn(outcome, nodes)
	if err == nil || ofNodes && slices.ContainsFunc(nodes, func(n string) bool { return replies[n].failed != "" }) &&
		outcome.Stats != nil {
		if ofNodes {
			lost = failed.Unreachable
		}
		return replies, lost, nil
	}
	e := &Error{Code: ExitNotBegun, Summary: "the certificates could not be requested: " + err.Error(), Err: err,
		Next: "nothing was changed; fix this, then run the command again"}
	if interrupted(err) {
		e.Code = ExitInterrupted
	} else if ofNodes {
		e.Evidence = taskEvidence(failed)
	}
	return nil, nil, e
}

// repliesIn are the replies of nodes, as far as they are known.
func repliesIn(outcome ansible.Outcome, nodes []string) map[string]reply {
	out := map[string]reply{}
	for _, node := range nodes {
		text, err := outcome.Payload(node)
		r := reply{text: text}
		stats, asked := outcome.Stats[node]
		switch i := slices.IndexFunc(outcome.Failures, func(e ansible.Event) bool { return e.Host == node }); {
		case err != nil:
			r.failed = fmt.Sprintf("the output of the node could not be read: %v", err)
		case outcome.Oversize[node] > 0:
			r.failed = "the output of the node is too long"
		case stats.Unreachable > 0:
			r.failed = "Ansible could not reach the node"
		case i >= 0:
			r.failed = "the node has failed: " + shown(evidenceText(outcome.Failures[i].Evidence))
		case !asked:
			r.failed = "Ansible has not asked the node"
		}
		out[node] = r
	}
	return out
}

// shown is text of a node, in one line that is not too long.
func shown(text string) string {
	return fmt.Sprintf("%.*s", maxKnownLength, strings.ReplaceAll(snapshot.RedactText(text), "\n", "; "))
}

// writeRequests checks the answers of nodes, and writes what they have requested. It adds that to all, and
// what is missing.
func writeRequests(dir string, wanted []plan.Request, replies map[string]reply,
	all plan.Requests) (plan.Requests, error) {
	texts := map[string][]byte{}
	for _, r := range wanted {
		text, err := requestIn(replies[r.Node].text, r)
		reason := ""
		switch {
		case err != nil:
			reason = fmt.Sprintf("what the node requests is not used: %v", err)
		case text == nil:
			reason = cmp.Or(keptBack(replies[r.Node].text, r), replies[r.Node].failed,
				"the node has found no certificate with a key there")
		}
		if reason != "" {
			all.Missing = append(all.Missing, plan.Missing{Node: r.Node, File: r.Files[0], Reason: reason})
			continue
		}
		texts[r.Request] = text
		all.Requests = append(all.Requests, r)
	}
	if len(all.Requests) == 0 {
		return all, nil
	}
	old, err := outdated(dir, all.Requests)
	if err != nil {
		return plan.Requests{}, err
	}
	index, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = removeAll(dir, old)
	}
	if err == nil {
		texts[plan.RequestsFile] = append(index, '\n')
		err = writeAll(dir, texts)
	}
	if err != nil {
		return plan.Requests{}, unwritten(err)
	}
	return all, nil
}

func unwritten(err error) *Error {
	return &Error{Code: ExitUsage, Summary: err.Error(), Err: err,
		Next: "some of the files may be there: name another directory with --dir, or replace them with --overwrite"}
}

// outdated are the requests of an earlier command in a directory, by its index, that are not made again. The
// error is an *Error: a certificate is there for one of them, and would be read as an answer to the new ones.
func outdated(dir string, requests []plan.Request) (old []string, err error) {
	refuse := func(what string, err error) error {
		return &Error{Code: ExitUsage, Err: err, Summary: fmt.Sprintf("--dir %s: %s", dir, what),
			Next: "nothing was written; install what is there first (kscertctl ca install), remove it, or name " +
				"another directory with --dir"}
	}
	data, err := os.ReadFile(filepath.Join(dir, plan.RequestsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var was plan.Requests
	if err == nil {
		err = json.Unmarshal(data, &was)
	}
	if err != nil {
		return nil, refuse(fmt.Sprintf("%s cannot be read: %v", plan.RequestsFile, err), err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, refuse(err.Error(), err)
	}
	defer func() { _ = root.Close() }()
	var signed []string
	for _, r := range was.Requests {
		if slices.ContainsFunc(requests, func(now plan.Request) bool { return now.Request == r.Request }) {
			continue
		}
		if _, err := root.Lstat(r.Certificate); err == nil {
			signed = append(signed, r.Certificate)
		}
		if path.Ext(r.Request) == ".csr" {
			old = append(old, r.Request)
		}
	}
	if len(signed) > 0 {
		return nil, refuse("these are no longer requested: "+cluster.Some(signed, 5), nil)
	}
	return old, nil
}

// removeAll removes files below a directory, as far as they are there.
func removeAll(dir string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, name := range names {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeAll writes files below a directory, the index last.
func writeAll(dir string, texts map[string][]byte) error {
	names := slices.Sorted(maps.Keys(texts))
	if i := slices.Index(names, plan.RequestsFile); i >= 0 {
		names = append(slices.Delete(names, i, i+1), plan.RequestsFile)
	}
	for _, name := range names {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), dirMode); err != nil {
			return err
		}
		if err := atomicfile.Write(file, texts[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// keptBack is why a node has not requested a certificate, in its own words; empty if it has none.
func keptBack(answer string, r plan.Request) string {
	for line := range strings.Lines(answer) {
		for _, file := range r.Files {
			if why, ok := strings.CutPrefix(strings.TrimSpace(line), "refused: "+file+" stays as it is: "); ok {
				return shown(why)
			}
		}
	}
	return ""
}

// dirMode is that of directories that others read, too: who signs. Nothing in them is secret.
const dirMode = 0o755

// requestIn is the request for a certificate in the output of its node, in PEM: nil without one. The
// error is why it must not be signed: it is none, or not for the same key, subject, names and usages.
func requestIn(answer string, want plan.Request) ([]byte, error) {
	for line := range strings.Lines(answer) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "request: "+want.Fingerprint+"|")
		if !ok {
			continue
		}
		request, certificate, _ := strings.Cut(data, "|")
		asked, err := unpacked(request)
		if err != nil {
			return nil, err
		}
		r, err := x509.ParseCertificateRequest(asked)
		if err != nil {
			return nil, fmt.Errorf("it cannot be read: %w", err)
		}
		der, err := unpacked(certificate)
		if err != nil {
			return nil, fmt.Errorf("its certificate: %w", err)
		}
		if fmt.Sprintf("%x", sha256.Sum256(der)) != want.Fingerprint {
			return nil, errors.New("it is for another certificate")
		}
		of, err := x509.ParseCertificate(der)
		if err == nil {
			err = certs.CheckRequest(of, r)
		}
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: asked}), nil
	}
	return nil, nil
}

// unpacked is the DER in a PEM text in base64.
func unpacked(data string) ([]byte, error) {
	text, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not PEM")
	}
	return block.Bytes, nil
}

// Limits of what is read of a directory, which may come from others.
const (
	maxSignedFile = 64 << 10
	maxSignedAll  = 10000
)

// ReadSigned reads the certificates in a directory of RequestCertificates: NODE/*.crt, PEM, each with
// the CAs after it that lead to the cluster's; and the names of files that it does not read. What is in
// the directory is not trusted: a file that is a link, too large, or no certificate is an *Error with
// ExitUsage that names it. Whether a certificate belongs to its node, the plan checks.
func ReadSigned(dir string) (signed []plan.Signed, ignored []string, err error) {
	refuse := func(name string, err error) error {
		return &Error{Code: ExitUsage, Summary: fmt.Sprintf("--dir %s: %s: %v", dir, name, err), Err: err,
			Next: "nothing was changed; get the file from its CA again, in PEM (openssl x509 -in FILE), or remove it"}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, &Error{Code: ExitUsage, Summary: fmt.Sprintf("--dir: %v", err), Err: err,
			Next: "name the directory that kscertctl ca csr has written, with --dir"}
	}
	defer func() { _ = root.Close() }()
	nodes, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, nil, refuse(".", err)
	}
	for _, node := range nodes {
		if !node.IsDir() {
			if node.Name() != plan.RequestsFile {
				ignored = append(ignored, node.Name())
			}
			continue
		}
		files, err := fs.ReadDir(root.FS(), node.Name())
		if err != nil {
			return nil, nil, refuse(node.Name(), err)
		}
		for _, file := range files {
			name := path.Join(node.Name(), file.Name())
			switch path.Ext(name) {
			case ".csr":
				continue
			case ".crt":
			default:
				ignored = append(ignored, name)
				continue
			}
			text, err := readSigned(root, name)
			if err == nil && len(signed) == maxSignedAll {
				err = fmt.Errorf("there are more than %d certificates", maxSignedAll)
			}
			if err != nil {
				return nil, nil, refuse(name, err)
			}
			signed = append(signed, plan.Signed{Node: node.Name(), File: name, Certificate: text})
		}
	}
	if len(signed) == 0 {
		return nil, ignored, &Error{Code: ExitUsage,
			Summary: fmt.Sprintf("--dir %s has no certificate: none of its files is NODE/NAME.crt", dir),
			Next: "have the requests signed, and put each certificate next to its request, under the name that " +
				plan.RequestsFile + " has; to make sure that it is PEM: openssl x509 -in FILE"}
	}
	return signed, ignored, nil
}

// readSigned reads a certificate with its chain: PEM, and nothing else than that.
func readSigned(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("it is not a regular file")
	case info.Size() > maxSignedFile:
		return "", fmt.Errorf("it has %d bytes, more than any certificate (%d)", info.Size(), maxSignedFile)
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxSignedFile))
	if err != nil {
		return "", err
	}
	chain, err := certs.ParseSigned(data)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for _, x := range chain {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: x.Raw}) // a Builder takes everything
	}
	return text.String(), nil
}
