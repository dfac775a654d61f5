package orchestrator

import (
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
// replaced. The error is an *Error: ExitUsage for the directory, ExitUnreachable, after what the others
// requested is written, for nodes that could not be inspected.
func (o *Orchestrator) RequestCertificates(ctx context.Context, dir string, overwrite bool) (all plan.Requests,
	err error) {
	if err := writableDir(dir, overwrite); err != nil {
		return all, err
	}
	s, err := o.begin(ctx, run.Entry{Kind: run.KindLook})
	if err != nil {
		return all, err
	}
	defer s.finish(&Result{}, &err)
	soft, cancel := o.stoppable(ctx)
	defer cancel()
	snap, d, err := s.inspectUntilStarted(soft)
	if err != nil {
		return all, err
	}
	all = plan.Requests{Schema: plan.RequestsSchema, Made: time.Now().UTC(), Cluster: run.ClusterID(snap)}
	wanted, odd := requestable(snap, d, s.opts.Thresholds)
	for _, text := range odd {
		s.tell(Event{Kind: EventNotice, Message: text})
	}
	if len(wanted) > 0 {
		answers, err := s.requested(soft, wanted)
		if err != nil {
			return all, err
		}
		if all.Requests, err = writeRequests(dir, wanted, answers, all); err != nil {
			return all, err
		}
	}
	var unknown []string
	for _, n := range snap.Nodes {
		if n.Failure != nil {
			unknown = append(unknown, n.Name)
		}
	}
	if len(unknown) > 0 {
		return all, &Error{Code: ExitUnreachable,
			Summary: "nothing is requested for nodes that could not be inspected: " + strings.Join(unknown, ", "),
			Next:    "to see why: " + s.command("diagnose", "-i", "INVENTORY")}
	}
	return all, nil
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
// nodes, each once, whatever files hold it, without those that are signed in the cluster; and
// messages about the others. What a node reports is not trusted: plan.Entitled decides.
func requestable(s snapshot.Snapshot, d diagnosis.Diagnosis, t diagnosis.Thresholds) (out []plan.Request,
	odd []string) {
	for _, n := range s.Nodes {
		seen := map[string]int{}
		for _, c := range plan.Replaceable(s, n) {
			row, _ := certs.Lookup(c.Kind)
			if plan.SignedInside(s, n, c.Kind) || !slices.Contains(d.Due[n.Name], c.Kind) ||
				c.StatusAt(n.Clock, n.Window(row, c, t.RenewBefore)) == certs.Valid {
				continue
			}
			if i, twice := seen[c.Fingerprint]; twice {
				out[i].Files = append(out[i].Files, c.Path)
				continue
			}
			name := string(c.Kind)
			if strings.Contains(row.Path, "*") {
				name = strings.TrimSuffix(path.Base(c.Path), path.Ext(c.Path))
			}
			ca, err := plan.Entitled(s, n, c)
			if !fileName.MatchString(n.Name) || !fileName.MatchString(name) {
				err = errors.New("its name cannot be that of a file")
			}
			if err != nil {
				odd = append(odd, fmt.Sprintf("%s: %s is due and is not requested: %v", n.Name, c.Path, err))
				continue
			}
			seen[c.Fingerprint] = len(out)
			out = append(out, plan.Request{Node: n.Name, Files: []string{c.Path}, Kind: c.Kind,
				Request: n.Name + "/" + name + ".csr", Certificate: n.Name + "/" + name + ".crt",
				Subject: c.Subject, SANs: c.SANs, Usages: c.Usages, CA: row.Signer, CAFile: ca.Path,
				CASubject: ca.Subject, CAFingerprint: ca.Fingerprint, PublicKey: c.PublicKey,
				KeyAlgorithm: c.KeyAlgorithm, NotAfter: c.NotAfter, Fingerprint: c.Fingerprint})
		}
	}
	return out, odd
}

// requested has the nodes make the requests, and returns their output.
func (s *session) requested(ctx context.Context, wanted []plan.Request) (map[string]string, error) {
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
	if err != nil {
		e := &Error{Code: ExitNotBegun, Summary: "the certificates could not be requested: " + err.Error(), Err: err,
			Next: "nothing was changed; fix this, then run the command again"}
		failed, ofNodes := errors.AsType[*ansible.RunError](err)
		switch {
		case interrupted(err):
			e.Code = ExitInterrupted
		case ofNodes:
			e.Evidence = taskEvidence(failed)
			if len(failed.Unreachable) > 0 {
				e.Code = ExitUnreachable
			}
		}
		return nil, e
	}
	if err := s.heard(nil, outcome); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, node := range nodes {
		if out[node], err = outcome.Payload(node); err != nil {
			return nil, &Error{Code: ExitNotBegun, Summary: fmt.Sprintf("%s: %v", node, err), Err: err,
				Next: "nothing was changed; run the command again"}
		}
	}
	return out, nil
}

// writeRequests checks the answers of nodes, and writes what they have requested. It returns those
// that were written.
func writeRequests(dir string, wanted []plan.Request, answers map[string]string,
	all plan.Requests) ([]plan.Request, error) {
	texts := make([][]byte, len(wanted))
	for i, r := range wanted {
		text, err := requestIn(answers[r.Node], r)
		if err != nil {
			return nil, &Error{Code: ExitNotBegun, Err: err,
				Summary: fmt.Sprintf("what %s requests for %s is not used: %v", r.Node, r.Files[0], err),
				Next:    "nothing was written; see what is on that node: kscertctl diagnose -i INVENTORY"}
		}
		texts[i] = text
	}
	for i, r := range wanted {
		if texts[i] == nil {
			continue
		}
		all.Requests = append(all.Requests, r)
	}
	index, err := json.MarshalIndent(all, "", "  ")
	if err == nil && len(all.Requests) > 0 {
		err = os.MkdirAll(dir, dirMode)
	}
	for i, r := range wanted {
		if err != nil || texts[i] == nil {
			continue
		}
		file := filepath.Join(dir, filepath.FromSlash(r.Request))
		if err = os.MkdirAll(filepath.Dir(file), dirMode); err == nil {
			err = atomicfile.Write(file, texts[i], 0o644)
		}
	}
	if err == nil && len(all.Requests) > 0 {
		err = atomicfile.Write(filepath.Join(dir, plan.RequestsFile), append(index, '\n'), 0o644)
	}
	if err != nil {
		return nil, &Error{Code: ExitUsage, Summary: err.Error(), Err: err, Next: "name another directory with --dir"}
	}
	return all.Requests, nil
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
