package snapshot

import (
	"cmp"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// loopback is the name under which an API server was asked for the certificate of its connections
// to itself, and the subject of that (k8s.io/apiserver, pkg/server/options,
// LoopbackClientServerNameOverride).
const (
	loopback        = "kube-apiserver-loopback"
	loopbackSubject = "CN=apiserver-loopback-client"
)

// endpoint is the name under which the API endpoint of a node's kubelet was asked.
const endpoint = "endpoint"

// answer is what a port reported, in one connection.
type answer struct {
	address   string
	connected bool
	chain     []*x509.Certificate
	responses []response
	// words are the client's own messages, empty without an error.
	words string
}

// response is one HTTP response.
type response struct {
	status int
	body   string
}

func (r response) String() string {
	return strings.TrimSpace("HTTP " + strconv.Itoa(r.status) + ": " + lastLine(r.body))
}

// answered is why the answer is not that of an API server that serves; nil if it is.
func (r response) answered() error {
	switch err := FromAPIServer(r.status, r.body); {
	case err == nil:
		return nil
	case slices.Contains(served, r.status):
		return fmt.Errorf("HTTP %d: %w", r.status, err)
	default:
		return errors.New(r.String())
	}
}

// served are the codes of an API server that works: 200, or, if anonymous requests are not allowed,
// 401 and 403.
var served = []int{http.StatusOK, http.StatusUnauthorized, http.StatusForbidden}

var tag = regexp.MustCompile(`<[^>]*>`)

// FromAPIServer returns nil if status and body are the answer of a serving API server to GET /livez
// or /readyz: 200 with "ok" (k8s.io/apiserver, pkg/server/healthz), or 401 or 403 with a Status in
// JSON (apimachinery, meta/v1), because anonymous requests may be disabled. Anything else behind
// that port can answer with such a code. The error describes what answered instead.
func FromAPIServer(status int, body string) error {
	var object struct {
		Kind string `json:"kind"`
	}
	response{status: status, body: body}.decode(&object)
	switch {
	case !slices.Contains(served, status):
		return fmt.Errorf("HTTP %d", status)
	case status == http.StatusOK && slices.Contains(strings.Fields(body), "ok"),
		status != http.StatusOK && object.Kind == "Status":
		return nil
	}
	text := strings.Join(strings.Fields(tag.ReplaceAllString(body, " ")), " ")
	if text == "" {
		return errors.New("the answer is empty, so it is not from an API server")
	}
	return fmt.Errorf("the answer is not from an API server: %.200s", text)
}

// statusLine begins a response. It need not begin a line: the previous one may lack a line break.
var statusLine = regexp.MustCompile(`HTTP/1\.[01] ([0-9]{3})[^\n]*\n`)

// responses splits what was read from a connection into the responses.
func responses(text string) []response {
	var out []response
	starts := statusLine.FindAllStringSubmatchIndex(text, -1)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		status, _ := strconv.Atoi(text[at[2]:at[3]])
		_, body, _ := strings.Cut("\n"+text[at[1]:end], "\n\n")
		out = append(out, response{status: status, body: strings.TrimSpace(body)})
	}
	return out
}

// opensslError is a line of OpenSSL's error queue: thread, code, library, function, reason, and
// where in its source (ERR_print_errors(3)). Older ones put "lib(n)" and "func(n)" for names. The
// reason is what matters.
var opensslError = regexp.MustCompile(`^[0-9A-Fa-f]+:error:[0-9A-Fa-f]+:[^:]*:[^:]*:([^:]+):.*$`)

// inNoTime is reported for a client that exited before it had an answer.
const inNoTime = "no answer in time"

// stated separates the client's messages, marked with "!", from what it read.
func stated(text []byte, exit string) (read, words string) {
	var reported []string
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		if word, ok := strings.CutPrefix(line, "!"); ok {
			reported = append(reported, opensslError.ReplaceAllString(strings.TrimSpace(word), "$1"))
			continue
		}
		b.WriteString(line)
	}
	words = strings.Join(reported[:min(3, len(reported))], "\n")
	if exit == "124" { // timeout(1)
		words = cmp.Or(words, inNoTime)
	}
	return b.String(), words
}

// readTLS: name exit address, with the certificates that were presented.
func readTLS(n *reading, f []string, text []byte) error {
	read, words := stated(text, f[1])
	a := answer{address: f[2], connected: strings.Contains(read, "CONNECTED"), words: words}
	chain, err := n.chain([]byte(read))
	if errors.Is(err, ErrTooMuch) {
		return fmt.Errorf("%s: %w", f[2], err)
	}
	if err == nil {
		a.chain, a.connected = chain, true
	}
	a.words = cmp.Or(a.words, "no certificate was served")
	n.tls[f[0]] = a
	if f[0] == endpoint {
		return nil
	}
	e := Endpoint{Name: f[0], Address: f[2]}
	switch {
	case a.chain == nil:
		e.Error = a.words
	case f[0] == loopback && !strings.HasPrefix(certs.Describe(chain[0]).Subject, loopbackSubject):
		e.Error = "no certificate of its own is served to " + strings.TrimPrefix(loopbackSubject, "CN=")
	default:
		n.add(certs.Certificate{Path: f[2], Kind: certs.Kind(f[0]), Served: true}, chain)
		e.Fingerprint = certs.Describe(chain[0]).Fingerprint
	}
	n.Endpoints = append(n.Endpoints, e)
	return nil
}

// readHTTP: name exit address, with the responses.
func readHTTP(n *reading, f []string, text []byte) error {
	read, words := stated(text, f[1])
	n.http[f[0]] = answer{address: f[2], responses: responses(read),
		words: cmp.Or(words, "the connection was closed without an answer")}
	return nil
}

// readResolved: host, with lines that begin with an address.
func readResolved(n *reading, f []string, text []byte) error {
	n.resolved[f[0]] = []string{}
	for line := range strings.Lines(string(text)) {
		first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, err := netip.ParseAddr(first); err == nil && !slices.Contains(n.resolved[f[0]], first) {
			n.resolved[f[0]] = append(n.resolved[f[0]], first)
		}
		if err := bounded("addresses of "+f[0], len(n.resolved[f[0]]), maxNames); err != nil {
			return err
		}
	}
	return nil
}

// derive makes probes, etcd's state and the view of the cluster from the answers. The error wraps
// ErrTooMuch.
func (n *reading) derive() error {
	if n.Kubeadm != nil {
		n.Kubeadm.Path = n.Facts["kubeadm-config"]
	}
	if a, ok := n.tls["kube-apiserver"]; ok {
		p := n.probe("kube-apiserver", a)
		if r, tried := n.Results["readyz"]; p.Failed == "" && tried && r.Status != 0 {
			p.Failed, p.Error = StageAuth, cmp.Or(lastLine(r.Output), inNoTime)
		}
		n.Probes = append(n.Probes, p)
	}
	if a, ok := n.tls[endpoint]; ok {
		n.Probes = append(n.Probes, n.probe(endpoint, a))
	}
	for _, e := range certs.EtcdClusters() {
		member := n.etcd(e.Name)
		if member == nil {
			continue
		}
		urls := 0
		for _, m := range member.Members {
			urls = max(urls, len(m.PeerURLs), len(m.ClientURLs))
		}
		if err := bounded("etcd's members and their URLs", max(urls, len(member.Members)), maxMembers); err != nil {
			return err
		}
		if e.Main() {
			n.Etcd = member
			continue
		}
		if n.OtherEtcd == nil {
			n.OtherEtcd = map[string]*Etcd{}
		}
		n.OtherEtcd[e.Name] = member
	}
	var err error
	if n.View, err = view(n.Results); err != nil {
		return err
	}
	for _, name := range []string{"kubelet-version", "runtime-version"} {
		if v := version.FindString(n.Results[name].Output); v != "" {
			n.Facts[name] = v
		}
		delete(n.Results, name)
	}
	return nil
}

var version = regexp.MustCompile(`v?[0-9]+\.[0-9]+\.[0-9]+`)

// probe returns how far the node got with an API endpoint, stage by stage.
func (n *reading) probe(name string, a answer) Probe {
	p := Probe{Endpoint: a.address}
	host, _, err := net.SplitHostPort(a.address)
	if _, notIP := netip.ParseAddr(host); err == nil && notIP == nil {
		p.Addresses = []string{host}
	}
	addresses, looked := n.resolved[host]
	p.Addresses = append(p.Addresses, addresses...)
	if a.chain != nil {
		c := certs.Describe(a.chain[0])
		p.Fingerprint, p.SANs, p.NotAfter = c.Fingerprint, c.SANs, c.NotAfter
	}
	answers := append(slices.Clone(n.http[name].responses), response{}, response{})
	unanswered := func(r response) string {
		if r.status == 0 {
			return cmp.Or(n.http[name].words, "no answer")
		}
		if err := r.answered(); err != nil {
			return err.Error()
		}
		return ""
	}
	livez, readyz := unanswered(answers[0]), unanswered(answers[1])
	switch {
	case looked && len(addresses) == 0 && !a.connected:
		p.Failed, p.Error = StageResolve, a.words
	case !a.connected:
		p.Failed, p.Error = StageTCP, a.words
	case a.chain == nil:
		p.Failed, p.Error = StageTLS, a.words
	case livez != "":
		p.Failed, p.Error = StageLivez, livez
	case readyz != "":
		p.Failed, p.Error = StageReadyz, readyz
	}
	return p
}

// etcd parses the answers of a cluster's member to the requests of the collector, in their order: /version, the
// member list, /health and the member's status. Numbers come as text (etcd's JSON gateway: 64 bits
// do not fit JavaScript's).
func (n *reading) etcd(name string) *Etcd {
	port, asked := n.tls[name]
	if !asked {
		return nil
	}
	a, asked := n.http[name]
	if !asked {
		return &Etcd{Error: "not asked: its certificate or key is not at its configured path"}
	}
	answers := append(slices.Clone(a.responses), make([]response, 4)...)
	var (
		release struct {
			Server string `json:"etcdserver"`
		}
		list struct {
			Header struct {
				MemberID uint64 `json:"member_id,string"`
			} `json:"header"`
			Members []struct {
				ID         uint64   `json:"ID,string"`
				Name       string   `json:"name"`
				PeerURLs   []string `json:"peerURLs"`
				ClientURLs []string `json:"clientURLs"`
				Learner    bool     `json:"isLearner"`
			} `json:"members"`
		}
		health struct {
			Health string `json:"health"`
			Reason string `json:"reason"`
		}
		status struct {
			DBSize int64 `json:"dbSize,string"`
		}
	)
	answers[0].decode(&release)
	answers[1].decode(&list)
	answers[2].decode(&health)
	answers[3].decode(&status)
	e := &Etcd{
		Healthy: health.Health == "true", Version: release.Server,
		Learner: strings.Contains(answers[1].body, "rpc not supported for learner"), // etcd, v3rpc/rpctypes
	}
	if status.DBSize > 0 && status.DBSize <= maxDBSize {
		e.DBSize = status.DBSize
	}
	if list.Header.MemberID != 0 {
		e.MemberID = strconv.FormatUint(list.Header.MemberID, 16)
	}
	for _, m := range list.Members {
		if m.ID == 0 { // it could not be read, and then the members are unknown
			e.Members = nil
			break
		}
		e.Members = append(e.Members, EtcdMember{
			ID: strconv.FormatUint(m.ID, 16), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs,
			Learner: m.Learner,
		})
	}
	switch {
	case e.Healthy && n.Facts[name+".enable-grpc-gateway"] == "false":
		e.Error = "its JSON gateway is switched off (enable-grpc-gateway): members and size are not known"
	case e.Healthy:
	case port.chain == nil:
		e.Error = port.words
	case answers[2].status != 0:
		e.Error = cmp.Or(health.Reason, answers[2].String())
	default:
		e.Error = a.words
	}
	return e
}

// decode reads the JSON object of a response. What cannot be read stays empty, and so is unknown.
func (r response) decode(into any) {
	if at := strings.Index(r.body, "{"); at >= 0 && r.status != 0 {
		_ = json.NewDecoder(strings.NewReader(r.body[at:])).Decode(into)
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}
