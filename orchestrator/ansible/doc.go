// Package ansible is the one room that knows go-ansible: it runs a playbook,
// streams its events and says what came of it.
//
// go-ansible builds the commands and drives the process; around it this package
// brings its own process handling (go-ansible's cancellation kills only the
// parent and leaves Ansible's workers at work), its own exit code reading, and
// events from a callback plugin that writes JSON lines to a file.
//
// Options say how the nodes are reached; orchestrator.WithAnsible takes them. Most
// programs need nothing else of it: Runner is for those that run playbooks of their own
// in the same way.
package ansible
