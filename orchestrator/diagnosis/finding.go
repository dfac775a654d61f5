package diagnosis

import (
	"encoding/json"
	"strings"

	"github.com/infrapuzzle/kscertctl/internal/shell"
)

// Finding is one fact that matters.
type Finding struct {
	// Reason is the stable code.
	Reason Reason `json:"reason"`
	// Node is the inventory name of the node it was found on; empty if it concerns the way from the
	// control node to the cluster.
	Node string `json:"node"`
	// Subject is a certificate, a file or a component.
	Subject string `json:"subject"`
	// Evidence is what was seen, as it was reported.
	Evidence string `json:"evidence"`
	// Because is the reason of another finding that caused this one; empty for a cause, or if none
	// is known.
	Because Reason `json:"because"`
}

// Severity of the finding's reason.
func (f Finding) Severity() Severity { return f.Reason.Severity() }

// Title is the reason in words.
func (f Finding) Title() string { return f.Reason.Title() }

// Next is what to do or inspect next on this node. Names in it are quoted for a shell, because it
// contains commands.
func (f Finding) Next() string {
	if noPair(f) {
		return renewIt
	}
	var names []string
	for stands, name := range map[string]string{"NODE": f.Node, "SUBJECT": f.Subject} {
		// A command would take one that begins with a dash for an option of its own.
		if name != "" && !strings.HasPrefix(name, "-") {
			names = append(names, stands, shell.Quote(name))
		}
	}
	return strings.NewReplacer(names...).Replace(f.Reason.Next())
}

// Same reports whether another finding, maybe from another moment, is the same.
func (f Finding) Same(other Finding) bool {
	return f.Reason == other.Reason && f.Node == other.Node && f.Subject == other.Subject
}

// MarshalJSON writes the finding with the texts of its reason.
func (f Finding) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Reason   Reason   `json:"reason"`
		Severity Severity `json:"severity"`
		Node     string   `json:"node,omitempty"`
		Subject  string   `json:"subject,omitempty"`
		Title    string   `json:"title"`
		Evidence string   `json:"evidence,omitempty"`
		Because  Reason   `json:"because,omitempty"`
		Next     string   `json:"next"`
	}{f.Reason, f.Severity(), f.Node, f.Subject, f.Title(), f.Evidence, f.Because, f.Next()})
}

// where names the node and the subject of a finding.
func (f Finding) where() string {
	switch {
	case f.Node == "":
		return f.Subject
	case f.Subject == "" || f.Subject == f.Node:
		return f.Node
	default:
		return f.Node + ", " + f.Subject
	}
}
