// Package orchestrator recovers Kubespray clusters whose certificates have expired, and renews them
// before they expire.
//
// An Orchestrator inspects every node through Ansible, diagnoses why the API server does or does
// not answer, plans the way out, and carries the plan out step by step behind health gates:
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
// # Methods and functions
//
// Inspect, Diagnose and Plan inspect and change nothing. Run does what is needed; Apply carries out
// what Plan proposed; Resume continues a run that was stopped or killed, and Rollback undoes one.
// Runs, FindRun, LoadRun and History read earlier runs and ask no node; neither does PlanFrom,
// which plans from a saved snapshot. ListBackups, VerifyBackups and PruneBackups manage the backups
// on the nodes, Unlock a lock that was left behind.
//
// WithHooks adds steps and gates of the program's own; the examples show each.
//
// # Common rules
//
// Nothing is changed unless the function of WithApproval approves. Every method that asks nodes
// takes a context and stops with it, along with everything that it has started; WithStop stops a
// run between two steps. Errors are of type *Error: they carry the exit code of the command line's
// contract, the evidence and what to do next; Code reads it from any error. The package writes
// nothing to the terminal; it reports what happens through WithObserver, and keeps a record of each
// run in the directory of WithStateDir. It has no global state: several Orchestrators may work on
// several clusters in one process. Two runs on one cluster keep each other out by a lock; the later
// one returns ExitLocked.
//
// # Further packages
//
// Results have types of the packages below this one: snapshot (what was seen), diagnosis (what is
// wrong), plan (what is to be done), run (the record); expiry reports how long certificates last,
// and report renders all of them.
package orchestrator
