package snapshot

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// collectorVersion is the version of the collector's output that Parse reads (the role inspect's
// files/collect.sh).
const collectorVersion = "3"

// Errors of Parse.
var (
	// ErrNotCollector means that the text does not begin like the collector's.
	ErrNotCollector = errors.New("not the collector's output")
	// ErrTruncated means that the text stops before its end mark.
	ErrTruncated = errors.New("the collector's output is cut off")
	// ErrForged means that the text has what the collector never prints: a second beginning,
	// something after its end, or a record twice.
	ErrForged = errors.New("not what the collector prints: something on the node writes into its output")
	// ErrTooMuch means that the text is longer than that of any real node, so that reading it would
	// take too long.
	ErrTooMuch = errors.New(
		"more than a node has: check the files there, remove what does not belong, and inspect again")
)

// Limits for what is read from one node: many times what a node has.
const (
	maxRecords      = 1000    // of one kind, if its handler has no other number
	maxCertificates = 2000    // of one node, with those of chains
	maxChain        = 100     // of one record: a bundle of CAs
	maxSignatures   = 5000    // verified; an RSA key of 8192 bits takes less than 1 ms
	maxDBSize       = 1 << 40 // bytes; etcd warns of more than 8 GiB
	maxMembers      = 50      // of etcd, and URLs of each: 7 are advised at most
	maxRows         = 20000   // of what the API server lists
	maxNames        = 1000    // in the kubeadm configuration, or addresses of one
	maxValue        = 1 << 14 // bytes of a fact or setting
	maxEncoded      = 1 << 24 // bytes of certificates in kubeconfigs, with those that aliases of YAML repeat
)

// Parse reads the collector's output of one node.
//
// Text before the first record (a login banner, a warning of sudo) is skipped. A record that is not
// understood is an error: nothing is guessed. So is what the collector never prints (ErrForged),
// and what would take too long (ErrTooMuch).
func Parse(node cluster.Node, output []byte) (Node, error) {
	recs, err := records(output)
	if err != nil {
		return Node{}, err
	}
	n := reading{
		Node: Node{
			Node:    node,
			Facts:   map[string]string{},
			Units:   map[string]Unit{},
			Disks:   map[string]Disk{},
			Digests: map[string]string{},
			Files:   map[string]string{},
			Results: map[string]Result{},
		},
		keys:     map[string][]string{},
		logins:   map[string][]login{},
		misread:  map[string]string{},
		without:  map[string]string{},
		tls:      map[string]answer{},
		http:     map[string]answer{},
		resolved: map[string][]string{},
	}
	seen, counts := map[[2]string]bool{}, map[string]int{}
	for _, r := range recs {
		h, ok := handlers[r.tag]
		if !ok {
			return Node{}, fmt.Errorf("unknown record %q of the collector", r.tag)
		}
		fields := strings.SplitN(r.fields, " ", h.fields)
		if len(fields) < h.min {
			return Node{}, fmt.Errorf("record %q of the collector has %d fields, want %d", r.tag, len(fields), h.min)
		}
		if h.key != repeats {
			id := [2]string{r.tag, fields[h.key]}
			if seen[id] {
				return Node{}, fmt.Errorf("a second record %q of %.100q: %w", r.tag, id[1], ErrForged)
			}
			seen[id] = true
		}
		if counts[r.tag]++; counts[r.tag] > cmp.Or(h.most, maxRecords) {
			return Node{}, fmt.Errorf("more than %d records %q: %w", cmp.Or(h.most, maxRecords), r.tag, ErrTooMuch)
		}
		if err := h.read(&n, fields, r.text); err != nil {
			return Node{}, fmt.Errorf("record %q of the collector: %w", r.tag, err)
		}
	}
	if err := n.identify(); err != nil {
		return Node{}, err
	}
	if err := n.derive(); err != nil {
		return Node{}, err
	}
	return n.Node, nil
}

// reading is a node while its records are read, with what can be checked only when all of them are
// there.
type reading struct {
	Node
	// chains are the certificates of n.Certificates by index, as they came.
	chains [][]*x509.Certificate
	// trusted are the CAs in kubeconfigs.
	trusted []*x509.Certificate
	// keys are the digests of public keys by the path of the private one, or "unreadable".
	keys map[string][]string
	// logins are the users of kubeconfigs that have certificates, by path; misread has the reason
	// why a kubeconfig was not understood, without the reason why none of its users has one.
	logins           map[string][]login
	misread, without map[string]string
	// parsed is how many certificates were read, with those of chains.
	parsed int
	// encoded is how much of kubeconfigs was decoded for certificates.
	encoded int
	// trusting is how many CAs objects of the cluster have, and secrets how many certificates its
	// Secrets.
	trusting, secrets int
	// tls and http are what ports answered, by name; resolved are addresses by host.
	tls, http map[string]answer
	resolved  map[string][]string
}

type record struct {
	tag, fields string
	text        []byte // without the leading bars
}

// farewell is what may follow the end: ssh's last messages on a pty.
var farewell = regexp.MustCompile(`^\s*((Connection|Shared connection) to \S+ closed\.)?\s*$`)

// records splits the output into its records, from "@@KSCERT" to "@@END".
func records(output []byte) ([]record, error) {
	var recs []record
	started, ended := false, false
	for len(output) > 0 {
		var line []byte
		line, output, _ = bytes.Cut(output, []byte("\n"))
		line = bytes.TrimRight(line, "\r") // raw runs in a pty
		switch {
		case ended:
			if !farewell.Match(line) {
				return nil, fmt.Errorf("%.100q after the end: %w", line, ErrForged)
			}
		case bytes.HasPrefix(line, []byte("@@")):
			tag, fields, _ := strings.Cut(string(line[2:]), " ")
			switch {
			case !started && tag != "KSCERT":
				continue // the frame of a banner may have these too
			case started && tag == "KSCERT":
				return nil, fmt.Errorf("a second header: %w", ErrForged)
			case len(recs) == maxRecords*len(handlers):
				return nil, fmt.Errorf("more than %d records: %w", len(recs), ErrTooMuch)
			}
			started = true
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

// repeats is the key of a record that a node may have several times.
const repeats = -1

// handler reads one kind of record. fields is into how many the line is split, min how many it must
// have: an empty last field is dropped with its blank. key is the field that two records of the
// kind never share, most how many there may be.
type handler struct {
	fields, min, key, most int
	read                   func(n *reading, f []string, text []byte) error
}

// handlers by tag; set in init, because records reads it.
var handlers map[string]handler

func init() {
	handlers = map[string]handler{
		"KSCERT":     {2, 2, 0, 1, readHeader},
		"FACT":       {2, 1, 0, 0, readFact},
		"SETTINGS":   {1, 1, 0, 1, readSettings},
		"USE":        {2, 2, 0, 0, readFact},
		"DISK":       {4, 4, repeats, 0, readDisk}, // directories may share a file system
		"UNIT":       {5, 5, 0, 0, readUnit},
		"TIMER":      {2, 2, 0, 1, readTimer},
		"PROCESS":    {3, 3, 1, 0, readProcess},
		"FILE":       {6, 6, 5, 0, readFile},
		"KUBECONFIG": {6, 6, 5, 100, readKubeconfig},
		"UNREADABLE": {1, 1, repeats, 0, readUnreadable},
		"DIGEST":     {2, 2, 1, 0, func(n *reading, f []string, _ []byte) error { n.Digests[f[1]] = f[0]; return nil }},
		"WATCH":      {2, 2, 1, 0, func(n *reading, f []string, _ []byte) error { n.Files[f[1]] = f[0]; return nil }},
		"POD":        {2, 2, 1, 0, readPod},
		"WORK":       {3, 3, 0, 100, readWork},
		"KEY":        {2, 2, repeats, 0, readKey}, // a kubeconfig may have several
		"RESOLVED":   {1, 1, 0, 1, readResolved},
		"TLS":        {3, 3, 0, 50, readTLS},
		"HTTP":       {3, 3, 0, 50, readHTTP},
		"RESULT":     {2, 2, 0, 100, readResult},
		"TRUST":      {2, 2, repeats, 500, readTrust},
		"SECRET":     {1, 1, repeats, 0, readSecret},
	}
}

// readPod: namespace/name path.
func readPod(n *reading, f []string, _ []byte) error {
	if n.Pods == nil {
		n.Pods = map[string]string{}
	}
	n.Pods[f[1]] = f[0]
	return nil
}

func readKey(n *reading, f []string, _ []byte) error {
	n.keys[f[1]] = append(n.keys[f[1]], f[0])
	return nil
}

func readHeader(n *reading, f []string, _ []byte) error {
	if f[0] != collectorVersion {
		return fmt.Errorf("version %s, this program reads version %s", f[0], collectorVersion)
	}
	var err error
	if n.Clock, err = moment(f[1]); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	return nil
}

// The first and the last second of the years 1 to 9999: JSON has no others, and a time beyond them
// could not be saved.
const firstSecond, lastSecond = -62135596800, 253402300799

// moment parses seconds since 1970, which may have a fraction.
func moment(s string) (time.Time, error) {
	seconds, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return time.Time{}, err
	}
	if seconds < firstSecond || seconds > lastSecond || math.IsNaN(seconds) {
		return time.Time{}, fmt.Errorf("%.40q is not a time", s)
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
}

func readFact(n *reading, f []string, _ []byte) error {
	if len(f) == 2 && f[1] != "" {
		n.Facts[f[0]] = f[1]
		return bounded(f[0], len(f[1]), maxValue)
	}
	return nil
}

// bounded returns an error that wraps ErrTooMuch if there is more of something than most.
func bounded(what string, count, most int) error {
	if count > most {
		return fmt.Errorf("%.100q: %d, more than %d: %w", what, count, most, ErrTooMuch)
	}
	return nil
}

func readDisk(n *reading, f []string, _ []byte) error {
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

func readUnit(n *reading, f []string, _ []byte) error {
	restarts, err := strconv.Atoi(f[3])
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(f[4])
	n.Units[f[0]] = Unit{Active: f[1], Sub: f[2], Restarts: restarts, ActiveSeconds: seconds}
	return err
}

// readTimer: state next.
func readTimer(n *reading, f []string, _ []byte) error {
	t := RenewalTimer{State: TimerState(f[0])}
	if !slices.Contains([]TimerState{TimerOn, TimerHeld, TimerOff}, t.State) {
		return fmt.Errorf("not a state of a timer: %.40q", f[0])
	}
	next, err := moment(f[1])
	if next.Unix() != 0 {
		t.Next = &next
	}
	n.RenewalTimer = &t
	return err
}

// readSettings: lines of a name and a value. The kubeadm configuration's may repeat; the others
// become facts, the first of several.
func readSettings(n *reading, _ []string, text []byte) error {
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err := bounded(name, len(value), maxValue); err != nil {
			return err
		}
		field, ok := strings.CutPrefix(name, "kubeadm.")
		if !ok {
			n.Facts[name] = cmp.Or(n.Facts[name], value)
			continue
		}
		if n.Kubeadm == nil {
			n.Kubeadm = &KubeadmConfig{}
		}
		switch field {
		case "apiVersion":
			n.Kubeadm.APIVersion = value
		case "kubernetesVersion":
			n.Kubeadm.KubernetesVersion = value
		case "controlPlaneEndpoint":
			n.Kubeadm.ControlPlaneEndpoint = value
		case "certificatesDir":
			n.Kubeadm.CertificatesDir = value
		case "encryptionAlgorithm":
			n.Kubeadm.EncryptionAlgorithm = value
		case "certSANs":
			n.Kubeadm.CertSANs = append(n.Kubeadm.CertSANs, value)
		case "endpoints":
			n.Kubeadm.EtcdEndpoints = append(n.Kubeadm.EtcdEndpoints, value)
		}
	}
	if n.Kubeadm == nil {
		return nil
	}
	return bounded("names in the kubeadm configuration", len(n.Kubeadm.CertSANs)+len(n.Kubeadm.EtcdEndpoints), maxNames)
}

// readProcess: name pid started, in seconds since 1970 with a fraction.
func readProcess(n *reading, f []string, _ []byte) error {
	pid, err := strconv.Atoi(f[1])
	if err != nil {
		return err
	}
	started, err := moment(f[2])
	if err != nil {
		return err
	}
	n.Processes = append(n.Processes, Process{Name: f[0], PID: pid, Started: started})
	return nil
}

// readWork: pid seconds what.
func readWork(n *reading, f []string, _ []byte) error {
	pid, err := strconv.Atoi(f[0])
	if err != nil {
		return err
	}
	seconds, err := strconv.Atoi(f[1])
	if err != nil {
		return err
	}
	n.Work = append(n.Work, Work{PID: pid, Seconds: seconds, What: f[2]})
	return nil
}

// metadata: mode user group size mtime.
func metadata(f []string) (*certs.File, error) {
	mode, err := strconv.ParseUint(f[0], 8, 32)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseInt(f[3], 10, 64)
	if err != nil {
		return nil, err
	}
	modified, err := moment(f[4])
	if err != nil {
		return nil, err
	}
	return &certs.File{Mode: fmt.Sprintf("%04o", mode), Owner: f[1], Group: f[2], Size: size, Modified: modified}, nil
}

// add keeps the first certificate of a chain. A place without one is a fact about the node, not a
// parse error.
func (n *reading) add(c certs.Certificate, chain []*x509.Certificate) {
	n.Certificates = append(n.Certificates, describe(c, chain))
	n.chains = append(n.chains, chain)
}

// describe describes the first certificate of a chain, at the place of c.
func describe(c certs.Certificate, chain []*x509.Certificate) certs.Certificate {
	described := certs.Describe(chain[0])
	described.Path, described.Kind, described.Served, described.File = c.Path, c.Kind, c.Served, c.File
	described.Position = c.Position
	if !described.IsCA { // of several CAs each is trusted by itself
		described.Chain = len(chain) - 1
		for _, x := range chain[1:] {
			if end := certs.Bounded(x.NotAfter); end.Before(described.Ends()) {
				described.ChainNotAfter = end
			}
		}
	}
	return described
}

func (n *reading) unreadable(p, reason string) {
	if slices.ContainsFunc(n.Unreadable, func(u Unreadable) bool { return u.Path == p }) {
		return // a file that two settings name is read twice
	}
	n.Unreadable = append(n.Unreadable, Unreadable{Path: p, Reason: reason})
}

// chain reads the certificates of a text. The error wraps ErrTooMuch if there are more than a node
// has; with any other error the node is still known.
func (n *reading) chain(pem []byte) ([]*x509.Certificate, error) {
	count := bytes.Count(pem, []byte("-----BEGIN CERTIFICATE-----"))
	n.parsed += count
	switch {
	case count > maxChain:
		return nil, fmt.Errorf("%d certificates in one place, more than %d: %w", count, maxChain, ErrTooMuch)
	case n.parsed > maxCertificates:
		return nil, fmt.Errorf("more than %d certificates: %w", maxCertificates, ErrTooMuch)
	}
	return certs.ParseChain(pem)
}

func readUnreadable(n *reading, f []string, text []byte) error {
	n.unreadable(f[0], strings.TrimSpace(string(text)))
	return nil
}

// readFile: metadata path, with the certificates in it.
func readFile(n *reading, f []string, text []byte) error {
	file, err := metadata(f)
	if err != nil {
		return err
	}
	chain, err := n.chain(text)
	if errors.Is(err, ErrTooMuch) {
		return fmt.Errorf("%s: %w", f[5], err)
	}
	if err != nil {
		n.unreadable(f[5], err.Error())
		return nil
	}
	c := certs.Certificate{Path: f[5], File: file}
	if !chain[0].IsCA || len(chain) == 1 {
		n.add(c, chain)
		return nil
	}
	for i, x := range chain { // each is trusted by itself
		c.Position = i + 1
		n.add(c, []*x509.Certificate{x})
	}
	return nil
}

func readResult(n *reading, f []string, text []byte) error {
	status, err := strconv.Atoi(f[1])
	n.Results[f[0]] = Result{Status: status, Output: strings.Trim(string(text), "\n")}
	return err
}

// view reads what the API server reported; nil unless /readyz answered. The error wraps ErrTooMuch.
func view(results map[string]Result) (*View, error) {
	if r, ok := results["readyz"]; !ok || r.Status != 0 {
		return nil, nil //nolint:nilnil // what was not reported is no error
	}
	for _, name := range []string{"nodes", "component-leases", "static-pods"} {
		if err := bounded(name, strings.Count(results[name].Output, "\n"), maxRows); err != nil {
			return nil, err
		}
	}
	v := &View{
		Nodes:           map[string]string{},
		Versions:        map[string]NodeVersions{},
		Addresses:       map[string][]string{},
		NodeLeases:      leases(results["nodes"]),
		ComponentLeases: leases(results["component-leases"]),
	}
	for _, f := range table(results["nodes"], 4, 6, 7) { // those of two columns are their leases
		v.Nodes[f[0]] = f[1]
		v.Versions[f[0]] = NodeVersions{Kubelet: f[2], Runtime: f[3]}
		if len(f) < 6 {
			continue
		}
		if f[4] != "" {
			v.ControlPlanes = append(v.ControlPlanes, f[0])
		}
		if addresses := strings.Fields(f[5]); len(addresses) > 0 {
			v.Addresses[f[0]] = addresses
		}
		if len(f) == 7 && f[6] != "" {
			v.Unschedulable = append(v.Unschedulable, f[0])
		}
	}
	for _, f := range table(results["static-pods"], 3) {
		v.StaticPods = append(v.StaticPods, StaticPod{Component: f[0], Node: f[1], Ready: f[2]})
	}
	for _, name := range []string{"nodes", "component-leases", "static-pods"} {
		if r := results[name]; r.Status != 0 && strings.Contains(r.Output, forbidden) {
			v.Forbidden = append(v.Forbidden, lastLine(r.Output))
		}
		delete(results, name)
	}
	return v, nil
}

// forbidden is the beginning of kubectl's message about a request that was not allowed.
const forbidden = "Error from server (Forbidden)"

func leases(r Result) map[string]time.Time {
	out := map[string]time.Time{}
	for _, f := range table(r, 2) {
		if t, err := time.Parse(time.RFC3339Nano, f[1]); err == nil {
			out[f[0]] = certs.Bounded(t)
		}
	}
	return out
}

// table splits tab-separated lines; a line with another number of columns is no row.
func table(r Result, columns ...int) [][]string {
	if r.Status != 0 {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(r.Output) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); slices.Contains(columns, len(f)) {
			out = append(out, f)
		}
	}
	return out
}
