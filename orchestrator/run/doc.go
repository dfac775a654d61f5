// Package run keeps the record of runs: their directories, journals and documents, and the locks
// that exclude concurrent runs.
//
// A run directory holds, readable by its owner alone:
//
//	journal.jsonl           every intent and every outcome, fsynced one by one
//	request.json            what was requested, and how the nodes are reached
//	plan.json               the diagnosis and the plan
//	snapshot-before.json    the state of the nodes when the plan was made
//	backups.json            the backups on the nodes
//	exit.json               how the last command on the run finished
//	snapshots/NN.json       the state of the nodes at each inspection
//	steps/ID.events.jsonl   Ansible's events of a step
//	steps/ID.log            Ansible's own output of a step
//	playbooks/              the playbooks that were run
//	kept/                   the plan, as control planes keep it next to the journal
//
// Programs read these records through package orchestrator (Runs, FindRun, LoadRun, History) and
// get the types of this one; what writes them is for orchestrator itself.
//
// A process that works on a run holds a lock on its journal, so that a run whose process has died
// can be distinguished from one in progress.
package run
