package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/lab/fault"
)

// state is the expected diagnosis of a fault.
type state struct {
	// fault is the fault's name.
	fault string
	// primary is the first reason code, subject its subject; an empty subject is not compared.
	primary, subject string
	// on is the node that it is found on, where that is not the fault's.
	on string
	// also are the only other reason codes that may be found: true consequences.
	also []string
	// sample: CI injects the fault, too; the others only run in a longer task.
	sample bool
}

// apiDown are the consequences of an API server that does not answer: its own probes fail, and
// those of its clients.
var apiDown = []string{"api-server-unusable", "api-server-refused", "api-server-crashing", "api-server-not-ready", "api-server-untrusted", "load-balancer"}

// clusterStates are the states of one cluster, in order.
type clusterStates struct {
	name, title string

	faults []fault.Fault
	states []state
}

// states has all faults of the lab, each once.
func states() []clusterStates {
	return []clusterStates{
		{"host-etcd", "One control plane, one worker, etcd as a service of the host", fault.One(), []state{
			{fault: "apiserver-expired", primary: "serving-certificate-expired", subject: "apiserver", also: apiDown, sample: true},
			{fault: "own-serving-expired", primary: "own-certificate-invalid", subject: "/etc/kubernetes/ssl/own/tls.crt", also: apiDown},
			{fault: "admin-expired", primary: "client-certificate-expired", subject: "admin.conf", also: slices.Concat(apiDown, []string{"client-certificate-expired"}), sample: true},
			{fault: "controller-manager-expired", primary: "client-certificate-expired", subject: "controller-manager.conf", also: []string{"static-pod-not-ready"}},
			{fault: "kubelet-client-expired", primary: "kubelet-client-certificate-expired", sample: true},
			{fault: "kubelet-client-expired-rebooted", primary: "kubelet-client-certificate-expired", also: slices.Concat([]string{"kubelet-down"}, apiDown)},
			{fault: "kubelet-access-expired", primary: "kubelet-access-certificate-expired"},
			{fault: "front-proxy-expired", primary: "front-proxy-certificate-expired"},
			{fault: "kubelet-serving-expired", primary: "kubelet-serving-certificate-expired"},
			{fault: "etcd-member-expired", primary: "etcd-certificate-expired", also: slices.Concat([]string{"etcd-no-quorum", "etcd-member-down"}, apiDown)},
			{fault: "etcd-client-expired", primary: "etcd-certificate-expired", also: apiDown},
			{fault: "etcd-admin-expired", primary: "etcd-certificate-expired"},
			{fault: "not-yet-valid", primary: "certificate-begins-later", subject: "front-proxy-client", sample: true},
			{fault: "expiring", primary: "certificate-expiring", subject: "apiserver"},
			{fault: "authority-expired", primary: "ca-expired", subject: "front-proxy-ca", also: []string{"ca-expires-first", "rotation-unfinished"}},
			{fault: "authority-expiring", primary: "ca-expiring", subject: "front-proxy-ca", also: []string{"certificate-expiring"}},
			{fault: "authority-ends-first", primary: "ca-expires-first"},
			{fault: "authority-wrong", primary: "unknown-authority", also: []string{"authorities-differ"}, sample: true},
			{fault: "bundle-old-first", primary: "rotation-unfinished", subject: "ca", on: "w1"},
			{fault: "bundle-new-first", primary: "rotation-unfinished", subject: "ca", on: "w1"},
			{fault: "authority-reissued-here", primary: "rotation-unfinished", subject: "ca", on: "w1", sample: true},
			{fault: "authority-reissued-there", primary: "rotation-unfinished", subject: "ca", on: "cp1"},
			{fault: "authority-intermediate", primary: "rotation-unfinished", subject: "ca", on: "w1"},
			{fault: "authority-cross-signed", primary: "rotation-unfinished", subject: "ca", on: "w1"},
			{fault: "signed-by-stranger", primary: "unknown-authority", also: apiDown},
			{fault: "key-mismatch", primary: "key-mismatch", subject: "apiserver", sample: true},
			{fault: "certificate-removed", primary: "file-missing"},
			{fault: "key-removed", primary: "file-missing"},
			{fault: "certificate-damaged", primary: "certificate-unreadable"},
			{fault: "authority-removed", primary: "ca-missing", subject: "front-proxy-ca"},
			{fault: "authority-key-absent", primary: "ca-key-missing", subject: "ca"},
			{fault: "served-stale", primary: "served-certificate-stale"},
			{fault: "credential-stale", primary: "credential-stale"},
			{fault: "san-missing", primary: "san-missing", also: apiDown},
			{fault: "kubeadm-config-removed", primary: "kubeadm-config-missing"},
			{fault: "kubeadm-removed", primary: "tool-missing", subject: "kubeadm"},
			{fault: "disk-full", primary: "disk-full", sample: true},
			{fault: "disk-without-inodes", primary: "disk-full"},
			{fault: "etcd-stopped", primary: "etcd-member-down", also: slices.Concat([]string{"etcd-no-quorum"}, apiDown), sample: true},
			{fault: "etcd-disk-full", primary: "disk-full", also: slices.Concat([]string{"etcd-no-quorum", "etcd-member-down"}, apiDown)},
			{fault: "kubelet-stopped", primary: "kubelet-down", also: []string{"node-not-ready"}, sample: true},
			{fault: "kubelet-flag", primary: "kubelet-down", also: []string{"node-not-ready"}},
			{fault: "runtime-stopped", primary: "container-runtime-down", also: []string{"kubelet-down", "node-not-ready"}},
			{fault: "manifest-flag", primary: "api-server-crashing", also: apiDown},
			{fault: "manifest-flag-and-leftovers", primary: "api-server-crashing", also: apiDown},
			{fault: "manifest-no-yaml", primary: "manifest-invalid", also: slices.Concat([]string{"api-server-refused", "api-server-blocked"}, apiDown), sample: true},
			{fault: "manifest-removed", primary: "manifest-missing", also: slices.Concat([]string{"api-server-refused", "api-server-blocked"}, apiDown)},
			{fault: "image-removed", primary: "api-server-refused", also: apiDown},
			{fault: "scheduler-flag", primary: "static-pod-not-ready"},
			{fault: "network-plugin-removed", primary: "node-not-ready"},
			{fault: "node-deleted", primary: "node-not-registered"},
			{fault: "port-blocked", primary: "api-server-blocked", also: apiDown},
			{fault: "port-rejected", primary: "api-server-blocked", also: apiDown},
			{fault: "etcd-port-blocked", primary: "api-server-not-ready", also: apiDown},
			{fault: "endpoint-name", primary: "name-resolution-failed", also: []string{"node-not-ready"}},
			{fault: "endpoint-down", primary: "load-balancer", also: []string{"node-not-ready"}},
			{fault: "way-blocked", primary: "api-server-blocked", also: []string{"node-not-ready"}},
			{fault: "ssh-stopped", primary: "node-unreachable", sample: true},
			{fault: "ssh-blocked", primary: "node-unreachable"},
			{fault: "sudo-removed", primary: "privilege-missing"},
			{fault: "clock-wrong", primary: "clock-skew"},
		}},
		{"kubeadm-etcd", "One control plane, one worker, etcd as a static pod", fault.KubeadmEtcd(), []state{
			{fault: "etcd-server-expired", primary: "etcd-certificate-expired", subject: "etcd-server", also: slices.Concat([]string{"etcd-no-quorum", "static-pod-not-ready"}, apiDown)},
			{fault: "etcd-peer-expired", primary: "etcd-certificate-expired", subject: "etcd-peer"},
			{fault: "etcd-healthcheck-expired", primary: "etcd-certificate-expired", subject: "etcd-healthcheck-client"},
			{fault: "apiserver-etcd-client-expired", primary: "etcd-certificate-expired", subject: "apiserver-etcd-client", also: apiDown},
			{fault: "etcd-manifest-removed", primary: "etcd-member-down", also: slices.Concat([]string{"etcd-no-quorum"}, apiDown)},
		}},
		{"three", "Three control planes, one worker, etcd as a service of the hosts", fault.Three(), []state{
			{fault: "one-apiserver-expired", primary: "serving-certificate-expired", also: apiDown},
			{fault: "authorities-differ", primary: "authorities-differ"},
			{fault: "authority-reissued-on-one", primary: "rotation-unfinished", subject: "ca", on: "cp1"},
			{fault: "service-account-keys-differ", primary: "service-account-keys-differ"},
			{fault: "etcd-member-stopped", primary: "etcd-member-down"},
			{fault: "one-kubelet-stopped", primary: "kubelet-down", also: []string{"node-not-ready"}},
			{fault: "one-port-blocked", primary: "api-server-blocked", also: apiDown},
		}},
	}
}

// TestStatesCoverFaults: every fault has a state and every state a fault.
func TestStatesCoverFaults(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/reference/reason-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, group := range states() {
		for _, s := range group.states {
			if !slices.ContainsFunc(group.faults, func(f fault.Fault) bool { return f.Name == s.fault }) {
				t.Errorf("%s is not a fault of %s", s.fault, group.name)
			}
			if seen[s.fault] {
				t.Errorf("%s is there twice", s.fault)
			}
			seen[s.fault] = true
			for _, code := range append([]string{s.primary}, s.also...) {
				if code != "" && !strings.Contains(string(page), "`"+code+"`") {
					t.Errorf("%s: %s is no reason code", s.fault, code)
				}
			}
		}
	}
	for _, f := range fault.All() {
		if !seen[f.Name] {
			t.Errorf("fault %s has no expected diagnosis", f.Name)
		}
	}
}

// TestStatesAreDocumented compares the page's lists with the table above. UPDATE_DOCS=1
// writes it.
func TestStatesAreDocumented(t *testing.T) {
	t.Parallel()
	const page = "testdata/diagnosed-states.md"
	unusable := "`" + strings.Join(apiDown, "`, `") + "`"
	var lists strings.Builder
	fmt.Fprintf(&lists, "*API server down* stands for any of %s.\n\n", unusable)
	for _, group := range states() {
		fmt.Fprintf(&lists, "## %s\n\n", group.title)
		for _, s := range group.states {
			f := group.faults[slices.IndexFunc(group.faults, func(f fault.Fault) bool { return f.Name == s.fault })]
			codes := "`" + strings.Join(append([]string{s.primary}, s.also...), "`, `") + "`"
			fmt.Fprintf(&lists, "- %s, `%s`: %s → %s\n", f.Node, f.Name, f.What, strings.ReplaceAll(codes, unusable, "API server down"))
		}
		lists.WriteString("\n")
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	between := regexp.MustCompile(`(?s)(<!-- lists: [^\n]* -->\n\n).*?<!-- end -->`)
	if !between.Match(data) {
		t.Fatalf("%s has no markers for its lists", page)
	}
	want := between.ReplaceAllStringFunc(string(data), func(old string) string {
		return between.FindStringSubmatch(old)[1] + lists.String() + "<!-- end -->"
	})
	if os.Getenv("UPDATE_DOCS") != "" {
		err = os.WriteFile(page, []byte(want), 0o600)
	} else if string(data) != want {
		err = fmt.Errorf("%s is stale; update it with UPDATE_DOCS=1", page)
	}
	if err != nil {
		t.Error(err)
	}
}
