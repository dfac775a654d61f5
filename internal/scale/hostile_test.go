//go:build e2e

package scale

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

// stage is a directory of the hosts' own scripts, records and answers. A host there runs no
// requested command: it answers with what the test has written.
type stage struct {
	tb  testing.TB
	dir string
}

// newStage writes the hosts' programs.
func newStage(tb testing.TB) stage {
	tb.Helper()
	s := stage{tb, tb.TempDir()}
	// A module of Ansible comes through standard input (pipelining), which never ends for raw. The
	// name of the run is part of some answers.
	s.write("answer", `#!/bin/sh
dir=${0%/*} host=$1 asked=$SSH_ORIGINAL_COMMAND kind=raw
case $asked in
*KSCERT_ROLES=*) kind=collector ;;
*KSCERT_LOCK_ACTION=*) kind=lock ;;
*'echo PLATFORM'*) ;; # Ansible looks for Python
*python*'sleep 0'*) kind=module ;;
esac
# A script of ours is packed: what is in it counts.
packed=$(printf '%s\n' "$asked" | sed -n 's/.*(echo \([A-Za-z0-9+/=]*\)|base64 .*/\1/p')
[ -z "$packed" ] || asked="$asked
$(echo "$packed" | base64 -d | gzip -dc)"
{
	printf '%s\n' "$asked"
	[ "$kind" != module ] || timeout 5 cat
} >>"$dir/$host.asked"
[ -f "$dir/$host.$kind" ] || exit 0
named() { printf '%s\n' "$asked" | sed -n "s/.*$1='*\([A-Za-z0-9-]\{1,\}\).*/\1/p" | head -n 1; }
run=$(named KSCERT_BACKUP_RUN)
[ -n "$run" ] || run=$(named KSCERT_RUN)
state=made
case $asked in *KSCERT_BACKUP_ACTION=*verify*) state=verified ;; esac
exec sed "s/@RUN@/$run/g; s/@STATE@/$state/g" "$dir/$host.$kind"
`)
	return s
}

func (s stage) write(name, text string) string {
	s.tb.Helper()
	path := filepath.Join(s.dir, name)
	must(s.tb, testcommand.Write(path, text))
	return path
}

// host is a machine that answers each kind of command with a text: that of the collector, of the
// lock, a module of Ansible, anything else through raw. Without a text its answer is empty.
func (s stage) host(name string, controlPlane bool, answers map[string]string) host {
	s.tb.Helper()
	for kind, text := range answers {
		s.write(name+"."+kind, text)
	}
	return host{name: name, controlPlane: controlPlane, command: filepath.Join(s.dir, "answer") + " " + name,
		vars: "ansible_python_interpreter=/usr/bin/python3"}
}

// asked is everything that a host has been asked for.
func (s stage) asked(name string) string {
	s.tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name+".asked"))
	if !os.IsNotExist(err) {
		must(s.tb, err)
	}
	return string(text)
}

// progress is output that makes roles continue with their work elsewhere for a node.
const progress = "changed: it\nbootstrap: needed\nserving: needed\nrequest: QUJD\nissued: QUJD\n" +
	"@@BACKUP @RUN@ @STATE@ 1 1 1 abc -\n@@END\n"

// module is the answer of a module that has done its work, with variables.
func module(tb testing.TB, facts map[string]any) string {
	tb.Helper()
	answer := map[string]any{"changed": true, "rc": 0, "stdout": progress, "stderr": ""}
	if facts != nil {
		answer["ansible_facts"] = facts
	}
	text, err := json.Marshal(answer)
	must(tb, err)
	return strings.TrimSpace(string(text)) + "\n"
}
