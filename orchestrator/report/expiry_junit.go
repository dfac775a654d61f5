package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/infrapuzzle/kscertctl/internal/printable"
	"github.com/infrapuzzle/kscertctl/orchestrator/expiry"
)

// ExpiryJUnit writes one test suite per node and one test case per certificate. A certificate of
// the given level and above has failed; an unknown node is an error.
func ExpiryJUnit(w io.Writer, r expiry.Report, fails func(expiry.Level) bool) error {
	all := junit.Testsuites{Name: "kscertctl check-expiration"}
	for i, n := range r.Nodes {
		s := suite(i, n.Name, r.Taken)
		s.Hostname = n.Name
		s.Testcases = nodeCases(r, n, n.Name, fails)
		all.AddSuite(counted(s))
	}
	return all.WriteXML(printable.NewWriter(w))
}

// suite is one without test cases.
func suite(id int, name string, taken time.Time) junit.Testsuite {
	s := junit.Testsuite{Name: printable.Line(name), ID: id, Time: "0"}
	s.SetTimestamp(taken)
	return s
}

// counted is a suite with the numbers of its test cases.
func counted(s junit.Testsuite) junit.Testsuite {
	out := s
	out.Testcases = nil
	for _, c := range s.Testcases {
		out.AddTestcase(c)
	}
	return out
}

// nodeCases are the test cases of one node; class is the prefix of their classes' names.
func nodeCases(r expiry.Report, n expiry.Node, class string, fails func(expiry.Level) bool) (out []junit.Testcase) {
	add := func(name, kind string) *junit.Testcase {
		out = append(out, junit.Testcase{Name: printable.Line(name), Classname: printable.Line(class + "." + kind)})
		return &out[len(out)-1]
	}
	if !n.Known {
		add("the node can be inspected", "node").Error = &junit.Result{Message: printable.Line(n.Reason),
			Type: "unknown", Data: printable.Line(strings.TrimSpace(n.Message))}
	}
	for _, u := range r.Unreadable {
		if u.Node != n.Name {
			continue
		}
		c := add(u.Path, "unreadable")
		if fails(expiry.LevelCritical) {
			c.Failure = &junit.Result{Message: printable.Line(u.Reason), Type: "unreadable"}
		}
	}
	for _, row := range r.Certificates {
		if row.Node != n.Name {
			continue
		}
		name := row.Name
		if !row.Served && row.Path != name {
			name += " (" + row.Path + ")"
		}
		c := add(name, string(row.Kind))
		text := fmt.Sprintf("%s: %s", row.Status, sentence(row))
		if row.Stale {
			text += "; stale: the file holds another one"
		}
		if fails(row.Status.Level()) {
			c.Failure = &junit.Result{Message: text, Type: string(row.Status), Data: details(row)}
		} else {
			c.SystemOut = &junit.Output{Data: text}
		}
	}
	return out
}

func details(c expiry.Row) string {
	return printable.Line(fmt.Sprintf("subject %s, serial %s, valid from %s to %s, status by the clock of %s",
		c.Subject, c.SerialNumber, c.NotBefore.UTC().Format("2006-01-02T15:04:05Z"),
		c.Ends().UTC().Format("2006-01-02T15:04:05Z"), c.Node))
}
