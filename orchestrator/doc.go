// Package orchestrator brings back Kubespray clusters whose certificates have
// expired, and renews them before they do.
//
// An Orchestrator looks at every node through Ansible, diagnoses why the API
// server does or does not answer, plans the way out, and carries the plan out
// step by step behind health gates:
//
//	o, err := orchestrator.New(orchestrator.Options{
//		Ansible: ansible.Options{Inventories: []string{"inventory.ini"}},
//		Approve: func(ctx context.Context, p orchestrator.Proposal) (bool, error) {
//			return p.Diagnosis.Route == diagnosis.Renew, nil
//		},
//	})
//	if err != nil { ... }
//	result, err := o.Run(ctx)
//
// Hooks add steps and gates of the program's own; the examples show each.
//
// Nothing is changed unless Approve says so. Errors are of type *Error and
// carry the exit code of the command line's contract and what to do next. The
// package writes nothing to the terminal; it tells what happens through
// Options.Observe. It has no global state: several Orchestrators may work on
// several clusters in one process.
package orchestrator
