package fleet

import (
	"cmp"
	"slices"
	"time"
)

// State is how far the work on a cluster has come.
type State string

// The states.
const (
	Waiting State = "waiting" // it has not begun
	Running State = "running" // it is at work
	Done    State = "done"    // it is done, or there was nothing to do
	Failed  State = "failed"  // it stopped with an error
	Refused State = "refused" // it stopped with an error, before a change
)

// Job is the work on one cluster.
type Job struct {
	State State
	// Wave is the place of its wave: one begins when all jobs of those before it are done.
	Wave int
	// Domain is its failure domain; empty for none.
	Domain  string
	Windows Windows
	// Half: it was stopped after a change, and takes its place in the domain until it is done. It waits for no
	// wave: what has begun is finished.
	Half bool
}

// Policy is what limits the work on a fleet.
type Policy struct {
	// Parallel is how many clusters are worked on at the same time.
	Parallel int
	// PerDomain is how many of one failure domain are; 0 for any number.
	PerDomain int
	// Half is how many other clusters of a failure domain were stopped after a change.
	Half map[string]int
	// StopAfter is after how many failures none is begun any more, without those before a change; 0
	// for never.
	StopAfter int
}

// Reason is why a job that waits is not begun.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	Free        Reason = ""         // nothing keeps it but the number of those at work
	AfterStop   Reason = "failures" // as many have failed as are allowed to
	AfterWave   Reason = "wave"     // a wave before it is not done
	OutOfWindow Reason = "window"   // none of its windows is open
	InDomain    Reason = "domain"   // its failure domain is being worked on
)

// Next returns the jobs to begin now, in their order, and, where windows keep others from
// being begun, when the first of these opens.
func (p Policy) Next(jobs []Job, now time.Time) (start []int, opens time.Time) {
	jobs = append([]Job(nil), jobs...)
	running := 0
	for _, j := range jobs {
		if j.State == Running {
			running++
		}
	}
	for i, j := range jobs {
		if j.State != Waiting {
			continue
		}
		switch p.Why(jobs, i, now) {
		case Free:
			if running < p.Parallel {
				jobs[i].State, running = Running, running+1
				start = append(start, i)
			}
		case OutOfWindow:
			if next := j.Windows.Next(now); !next.IsZero() && (opens.IsZero() || next.Before(opens)) {
				opens = next
			}
		case AfterStop, AfterWave, InDomain:
		}
	}
	return start, opens
}

// Why returns what keeps a job that waits from being begun.
func (p Policy) Why(jobs []Job, i int, now time.Time) Reason {
	failed, inDomain, before := 0, 0, false
	if !jobs[i].Half { // one that is half done itself waits for none that is, nor for a wave
		inDomain = p.Half[jobs[i].Domain]
	}
	for _, j := range jobs {
		if j.State == Failed {
			failed++
		}
		if (j.State == Running || j.Half && !jobs[i].Half) && j.Domain == jobs[i].Domain {
			inDomain++
		}
		before = before || j.Wave < jobs[i].Wave && j.State != Done && !jobs[i].Half
	}
	switch {
	case p.StopAfter > 0 && failed >= p.StopAfter:
		return AfterStop
	case before:
		return AfterWave
	case !jobs[i].Windows.Open(now):
		return OutOfWindow
	case p.PerDomain > 0 && jobs[i].Domain != "" && inDomain >= p.PerDomain:
		return InDomain
	}
	return Free
}

// InWaves are the clusters that are not held, by wave in their order.
func InWaves(clusters []Cluster) (waves [][]Cluster) {
	var all []Cluster
	for _, c := range clusters {
		if c.Hold == "" {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b Cluster) int { return cmp.Compare(a.Wave, b.Wave) })
	for i, c := range all {
		if i == 0 || c.Wave != all[i-1].Wave {
			waves = append(waves, nil)
		}
		waves[len(waves)-1] = append(waves[len(waves)-1], c)
	}
	return waves
}

// AtOnce is how many of the clusters may be worked on at the same time, whichever these are, so that
// never more than perDomain are of one failure domain; perDomain is 0 for any number.
func AtOnce(clusters []Cluster, perDomain int) int {
	of := map[string]int{}
	for _, c := range clusters {
		if of[c.Domain]++; perDomain > 0 && c.Domain != "" && of[c.Domain] > perDomain {
			return perDomain
		}
	}
	return len(clusters)
}
