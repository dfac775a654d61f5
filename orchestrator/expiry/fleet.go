package expiry

import (
	"cmp"
	"slices"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator/certs"
)

// FleetSchema is the version of the JSON form of a Fleet.
const FleetSchema = 1

// Member is one cluster of a fleet, and what an inspection of it brought back.
type Member struct {
	// Name of the cluster, and its labels.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	// ExitCode is that of a check of this cluster alone; Error and Next are what that
	// reports, empty for exit code 0.
	ExitCode int    `json:"exitCode"`
	Error    string `json:"error,omitempty"`
	Next     string `json:"next,omitempty"`
	// Report is that of the cluster; absent when it could not be inspected.
	Report *Report `json:"report,omitempty"`
}

// Fleet is the expiry of every certificate of many clusters.
type Fleet struct {
	Schema int `json:"schema"`
	// Taken is when the inspections began, by the clock of the asking machine.
	Taken time.Time `json:"taken"`
	// ExitCode is the worst of the clusters.
	ExitCode int `json:"exitCode"`
	// Status is the worst of all certificates; valid when there are none.
	Status Status `json:"status"`
	// Complete is false when something is not known: a cluster, a node, or a file.
	Complete bool `json:"complete"`
	// Counts has the number of certificates in each state, zeros included.
	Counts map[Status]int `json:"counts"`
	// Clusters: first those that could not be inspected, then what ends first.
	Clusters []Member `json:"clusters"`
}

// OfFleet makes the report of a fleet of those of its clusters.
func OfFleet(taken time.Time, exitCode int, clusters []Member) Fleet {
	f := Fleet{Schema: FleetSchema, Taken: taken, ExitCode: exitCode, Status: Valid, Complete: true,
		Counts: map[Status]int{}, Clusters: slices.Clone(clusters)}
	if f.Clusters == nil {
		f.Clusters = []Member{}
	}
	for _, status := range Statuses() {
		f.Counts[status] = 0
	}
	for i := range f.Clusters {
		m := &f.Clusters[i]
		if m.Labels == nil {
			m.Labels = map[string]string{}
		}
		f.Complete = f.Complete && m.Report != nil && m.Report.Complete
		if m.Report == nil {
			continue
		}
		for status, n := range m.Report.Counts {
			f.Counts[status] += n
		}
		if slices.Index(Statuses(), m.Report.Status) > slices.Index(Statuses(), f.Status) {
			f.Status = m.Report.Status
		}
	}
	slices.SortStableFunc(f.Clusters, func(a, b Member) int {
		x, xKnown := a.First()
		y, yKnown := b.First()
		switch {
		case xKnown && yKnown:
			return cmp.Or(x.Ends().Compare(y.Ends()), cmp.Compare(a.Name, b.Name))
		case xKnown != yKnown && !xKnown:
			return -1
		case xKnown != yKnown:
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return f
}

// First returns the certificate in use that ends first; false when none is known.
func (m Member) First() (Row, bool) {
	return m.first(func(Row) bool { return true })
}

// NextOutage returns the certificate whose end is the next that takes the API server or the
// control plane away, unless it is renewed before; false when none is known. What a kubelet
// renews by itself is none while that can be expected.
func (m Member) NextOutage() (Row, bool) {
	return m.first(func(c Row) bool {
		kind, _ := certs.Lookup(c.Kind)
		if c.KubeletRenews && c.Status == Valid {
			return false
		}
		return !c.Served && (kind.Outage != certs.NoOutage || kind.CA)
	})
}

func (m Member) first(want func(Row) bool) (Row, bool) {
	if m.Report == nil {
		return Row{}, false
	}
	i := slices.IndexFunc(m.Report.Certificates, func(c Row) bool { return c.Status != Unused && !c.InFile && want(c) })
	if i < 0 {
		return Row{}, false
	}
	return m.Report.Certificates[i], true
}

// FleetRow is one certificate of one cluster.
type FleetRow struct {
	Cluster string
	Row
}

// Rows returns the certificates of all clusters, what ends first at the top.
func (f Fleet) Rows() []FleetRow {
	var out []FleetRow
	for _, m := range f.Clusters {
		if m.Report == nil {
			continue
		}
		for _, c := range m.Report.Certificates {
			out = append(out, FleetRow{m.Name, c})
		}
	}
	slices.SortStableFunc(out, func(a, b FleetRow) int { return a.Ends().Compare(b.Ends()) })
	return out
}
