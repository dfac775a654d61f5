// Package orchestrator brings back Kubespray clusters whose certificates have
// expired, and renews them before they do.
//
// An Orchestrator looks at every node through Ansible, diagnoses why the API
// server does or does not answer, plans the way out, and carries the plan out
// step by step behind health gates:
//
//	o, err := orchestrator.New(
//		orchestrator.WithInventory("inventory.ini"),
//		orchestrator.WithApproval(func(ctx context.Context, p orchestrator.Proposal) (bool, error) {
//			return p.Diagnosis.Route == diagnosis.Renew, nil
//		}),
//	)
//	if err != nil { ... }
//	result, err := o.Run(ctx)
//
// # What there is to call
//
// Inspect, Diagnose and Plan look and change nothing. Run does what is to be done;
// Apply carries out what Plan proposed; Resume goes on with a run that was stopped or
// killed, and Rollback undoes one. Runs, FindRun, LoadRun and History tell of earlier
// runs and ask no node; neither does PlanFrom, which checks a saved snapshot.
// ListBackups, VerifyBackups and PruneBackups see to the backups on the nodes, Unlock
// to a lock that was left behind.
//
// WithHooks adds steps and gates of the program's own; the examples show each.
//
// # What holds for all of it
//
// Nothing is changed unless the function of WithApproval says so. Every method that
// asks nodes takes a context and ends with it, with all that it has started; WithStop
// ends a run between two steps. Errors are of type *Error: they carry the exit code of
// the command line's contract, what was seen and what to do next; Code reads it from
// any error. The package writes nothing to the terminal; it tells what happens through
// WithObserver, and keeps a record of each run in the folder of WithStateDir. It has no
// global state: several Orchestrators may work on several clusters in one process. Two
// runs on one cluster keep each other out by a lock; the later one ends with ExitLocked.
//
// # Further packages
//
// What comes back is made of the types of the packages below this one: snapshot (what
// was seen), diagnosis (what is wrong), plan (what is to be done), run (the record);
// expiry says how long certificates last, and report renders all of them.
package orchestrator
