// Package ansible is the only package that uses go-ansible: it runs a playbook, streams its events
// and returns the result.
//
// go-ansible builds the commands and drives the process; around it this package has its own process
// handling (go-ansible's cancellation kills only the parent and leaves Ansible's workers running),
// its own exit code handling, and events from a callback plugin that writes JSON lines to a file.
//
// Options configure how the nodes are reached; orchestrator.WithAnsible takes them. Most programs
// need nothing else from it: Runner is for those that run playbooks of their own in the same way.
package ansible
