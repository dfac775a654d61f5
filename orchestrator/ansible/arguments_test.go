package ansible

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"-v"}, {"-vvv"}, {"-bv"}, {"-D"}, {"--force-handlers"}, {"--flush-cache"},
		{"-T", "30"}, {"-T30"}, {"-vT", "30"}, {"--timeout=30"}, {"--timeout", "30", "-b"},
		{"-u", "admin"}, {"--ssh-extra-args=-C -l me"}, {"--ssh-extra-args", "-o Compression=yes"}, {"-M", "--library"},
		{"--become"}, {"--become-method", "su", "--become-user=root"},
	} {
		if err := CheckArguments(args); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, row := range []struct {
		args      []string
		bad, next string
	}{
		{[]string{"--check"}, "--check", "kscertctl plan"},
		{[]string{"-C"}, "-C", "kscertctl plan"},
		{[]string{"-vC"}, "-vC", "kscertctl plan"},
		{[]string{"-bDCv"}, "-bDCv", "kscertctl plan"},
		{[]string{"-T", "30", "-C"}, "-C", "kscertctl plan"},
		{[]string{"--timeout=30", "--syntax-check"}, "--syntax-check", "kscertctl plan"},
		{[]string{"--list-hosts"}, "--list-hosts", "kscertctl plan"},
		{[]string{"--list-tasks"}, "--list-tasks", "kscertctl plan"},
		{[]string{"--list-tags"}, "--list-tags", "kscertctl plan"},
		{[]string{"-l", "cp1"}, "-l", "stays unchanged"},
		{[]string{"-lcp1"}, "-lcp1", "stays unchanged"},
		{[]string{"--limit=cp1"}, "--limit=cp1", "stays unchanged"},
		{[]string{"-t", "etcd"}, "-t", "before the --"},
		{[]string{"--skip-tags=x"}, "--skip-tags=x", "before the --"},
		{[]string{"--start-at-task", "x"}, "--start-at-task", "kscertctl resume"},
		{[]string{"--step"}, "--step", "kscertctl plan"},
		{[]string{"-i", "x"}, "-i", "before the --"},
		{[]string{"-e", "password=x"}, "-e", "before the --"},
		{[]string{"-K"}, "-K", "before the --"},
		{[]string{"-kb"}, "-kb", "before the --"},
		{[]string{"--ask-vault-password"}, "--ask-vault-password", "before the --"},
		{[]string{"--become-pass-file=x"}, "--become-pass-file=x", "before the --"},
		{[]string{"--vault-id", "x@prompt"}, "--vault-id", "before the --"},
		{[]string{"--help"}, "--help", "ansible-playbook --help"},
		// Ansible accepts the beginning of a name as the name.
		{[]string{"--che"}, "--che", "--force-handlers"},
		{[]string{"--sta=x"}, "--sta=x", "--force-handlers"},
		{[]string{"site.yml"}, "site.yml", "--force-handlers"},
		{[]string{"-b", "site.yml"}, "site.yml", "--force-handlers"},
		{[]string{"-x"}, "-x", "--force-handlers"},
		{[]string{""}, "", "--force-handlers"},
		{[]string{"-"}, "-", "--force-handlers"},
		{[]string{"--"}, "--", "--force-handlers"},
		{[]string{"-u"}, "-u", "-u=VALUE"},
	} {
		var refused *ArgumentError
		if err := CheckArguments(row.args); !errors.As(err, &refused) || refused.Argument != row.bad || refused.Reason == "" || !strings.Contains(refused.Next, row.next) {
			t.Errorf("%q: %+v, want %q refused, with %q", row.args, refused, row.bad, row.next)
		}
	}
	if _, err := New(Options{Inventories: []string{"a,"}, Args: []string{"--check"}}); !errors.As(err, new(*ArgumentError)) {
		t.Errorf("New: %v", err)
	}
}
