package snapshot

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// collectorVersion is the version of the collector's output that Parse reads
// (playbooks/roles/inspect/files/collect.sh).
const collectorVersion = "1"

// Errors of Parse.
var (
	// ErrNotCollector says that the text does not begin as the collector's does.
	ErrNotCollector = errors.New("not the collector's output")
	// ErrTruncated says that the text stops before its end mark.
	ErrTruncated = errors.New("the collector's output is cut off")
)

// Parse reads the collector's output of one node.
//
// Text before the first record (a login banner, a warning of sudo) is passed
// over. A record that is not understood is an error: nothing is guessed.
func Parse(node cluster.Node, output []byte) (Node, error) {
	recs, err := records(output)
	if err != nil {
		return Node{}, err
	}
	n := Node{
		Node:    node,
		Facts:   map[string]string{},
		Units:   map[string]Unit{},
		Disks:   map[string]Disk{},
		Digests: map[string]string{},
		Results: map[string]Result{},
	}
	for _, r := range recs {
		h, ok := handlers[r.tag]
		if !ok {
			return Node{}, fmt.Errorf("unknown record %q of the collector", r.tag)
		}
		fields := strings.SplitN(r.fields, " ", h.fields)
		if len(fields) < h.min {
			return Node{}, fmt.Errorf("record %q of the collector has %d fields, want %d", r.tag, len(fields), h.min)
		}
		if err := h.read(&n, fields, r.text); err != nil {
			return Node{}, fmt.Errorf("record %q of the collector: %w", r.tag, err)
		}
	}
	n.View = view(n.Results)
	return n, nil
}

type record struct {
	tag, fields string
	text        []byte // without the leading bars
}

// records splits the output into its records, from "@@KSCERT" to "@@END".
func records(output []byte) ([]record, error) {
	var recs []record
	started, ended := false, false
	for len(output) > 0 && !ended {
		var line []byte
		line, output, _ = bytes.Cut(output, []byte("\n"))
		line = bytes.TrimRight(line, "\r") // raw runs in a pty
		switch {
		case bytes.HasPrefix(line, []byte("@@")):
			tag, fields, _ := strings.Cut(string(line[2:]), " ")
			if !started {
				if tag != "KSCERT" {
					continue // a banner may draw its frame with these too
				}
				started = true
			}
			if ended = tag == "END"; !ended {
				recs = append(recs, record{tag: tag, fields: strings.TrimSpace(fields)})
			}
		case started && bytes.HasPrefix(line, []byte("|")):
			r := &recs[len(recs)-1]
			r.text = append(append(r.text, line[1:]...), '\n')
		}
	}
	switch {
	case !started:
		return nil, ErrNotCollector
	case !ended:
		return nil, ErrTruncated
	}
	return recs, nil
}

// handler reads one kind of record. fields is into how many the line is split,
// min how many it must have: an empty last field is dropped with its blank.
type handler struct {
	fields, min int
	read        func(n *Node, f []string, text []byte) error
}

var handlers = map[string]handler{
	"KSCERT":     {2, 2, readHeader},
	"FACT":       {2, 1, readFact},
	"DISK":       {4, 4, readDisk},
	"UNIT":       {5, 5, readUnit},
	"FILE":       {7, 7, readFile},
	"KUBECONFIG": {7, 7, readKubeconfig},
	"DIGEST":     {2, 2, func(n *Node, f []string, _ []byte) error { n.Digests[f[1]] = f[0]; return nil }},
	"SERVED":     {2, 2, readServed},
	"RESULT":     {2, 2, readResult},
}

func readHeader(n *Node, f []string, _ []byte) error {
	if f[0] != collectorVersion {
		return fmt.Errorf("version %s, this program reads version %s", f[0], collectorVersion)
	}
	sec, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	n.Clock = time.Unix(sec, 0).UTC()
	return nil
}

func readFact(n *Node, f []string, _ []byte) error {
	if len(f) == 2 && f[1] != "" {
		n.Facts[f[0]] = f[1]
	}
	return nil
}

func readDisk(n *Node, f []string, _ []byte) error {
	var numbers [3]int64
	for i := range numbers {
		v, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return err
		}
		numbers[i] = v
	}
	n.Disks[f[3]] = Disk{FreeKiB: numbers[0], SizeKiB: numbers[1], FreeInodes: numbers[2]}
	return nil
}

func readUnit(n *Node, f []string, _ []byte) error {
	restarts, err := strconv.Atoi(f[3])
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(f[4])
	n.Units[f[0]] = Unit{Active: f[1], Sub: f[2], Restarts: restarts, ActiveSeconds: seconds}
	return err
}

// readFile: base mode user group size mtime path-below-base.
func readFile(n *Node, f []string, text []byte) error {
	base, rel := certs.Base(f[0]), f[6]
	p := n.path(base, rel)
	c, err := certs.ParsePEM(text)
	if err != nil {
		n.Unreadable = append(n.Unreadable, Unreadable{Path: p, Reason: err.Error()})
		return nil //nolint:nilerr // a file without a certificate is a fact of the node, not of the parsing
	}
	c.Path, c.Kind = p, certs.Classify(base, rel)
	n.Certificates = append(n.Certificates, c)
	return nil
}

func readKubeconfig(n *Node, f []string, text []byte) error {
	base, rel := certs.Base(f[0]), f[6]
	k := Kubeconfig{Path: n.path(base, rel)}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		value = strings.Trim(value, `"'`)
		switch key {
		case "server:":
			k.Server = value
		case "client-certificate:":
			k.ClientCertificateFile = value
		case "certificate-authority-data:":
			c, err := fromBase64(value)
			if err != nil {
				n.Unreadable = append(n.Unreadable, Unreadable{Path: k.Path, Reason: "certificate-authority-data: " + err.Error()})
				continue
			}
			k.CAFingerprint = c.Fingerprint
		case "client-certificate-data:":
			c, err := fromBase64(value)
			if err != nil {
				n.Unreadable = append(n.Unreadable, Unreadable{Path: k.Path, Reason: "client-certificate-data: " + err.Error()})
				continue
			}
			c.Path, c.Kind = k.Path, certs.Classify(base, rel)
			n.Certificates = append(n.Certificates, c)
		}
	}
	n.Kubeconfigs = append(n.Kubeconfigs, k)
	return nil
}

func fromBase64(s string) (certs.Certificate, error) {
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return certs.Certificate{}, fmt.Errorf("decoding base64: %w", err)
	}
	return certs.ParsePEM(data)
}

// readServed: component address, with a PEM block or the client's error.
func readServed(n *Node, f []string, text []byte) error {
	e := Endpoint{Name: f[0], Address: f[1]}
	c, err := certs.ParsePEM(text)
	if err == nil {
		c.Path, c.Kind, c.Served = f[1], certs.Kind(f[0]), true
		n.Certificates = append(n.Certificates, c)
		e.Fingerprint = c.Fingerprint
	} else {
		e.Error = strings.TrimSpace(string(text))
		if e.Error == "" {
			e.Error = "no certificate was served"
		}
	}
	n.Endpoints = append(n.Endpoints, e)
	return nil
}

func readResult(n *Node, f []string, text []byte) error {
	status, err := strconv.Atoi(f[1])
	n.Results[f[0]] = Result{Status: status, Output: strings.Trim(string(text), "\n")}
	return err
}

// path joins a base folder of this node with a path below it.
func (n *Node) path(b certs.Base, rel string) string {
	dir := map[certs.Base]string{
		certs.PKI:     n.Facts["pki"],
		certs.Config:  n.Facts["config-dir"],
		certs.Kubelet: "/var/lib/kubelet/pki",
		certs.EtcdPKI: n.Facts["etcd-dir"],
		certs.Home:    "/root/.kube",
	}[b]
	return path.Join(dir, rel)
}

// view reads what the API server told; nil unless /readyz answered.
func view(results map[string]Result) *View {
	if r, ok := results["readyz"]; !ok || r.Status != 0 {
		return nil
	}
	v := &View{
		Nodes:           map[string]string{},
		NodeLeases:      leases(results["node-leases"]),
		ComponentLeases: leases(results["component-leases"]),
	}
	for _, f := range table(results["nodes"], 2) {
		v.Nodes[f[0]] = f[1]
	}
	for _, f := range table(results["static-pods"], 3) {
		v.StaticPods = append(v.StaticPods, StaticPod{Component: f[0], Node: f[1], Ready: f[2]})
	}
	for _, name := range []string{"nodes", "node-leases", "component-leases", "static-pods"} {
		delete(results, name)
	}
	return v
}

func leases(r Result) map[string]time.Time {
	out := map[string]time.Time{}
	for _, f := range table(r, 2) {
		if t, err := time.Parse(time.RFC3339Nano, f[1]); err == nil {
			out[f[0]] = t
		}
	}
	return out
}

// table splits tab-separated lines; a line without all its columns is no row.
func table(r Result, columns int) [][]string {
	if r.Status != 0 {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(r.Output) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == columns {
			out = append(out, f)
		}
	}
	return out
}
