package anchor_test

import (
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/anchor"
)

func TestFinders(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                string
		find                anchor.Finder
		value, before, path string
	}{
		{"a path", anchor.Whole, "venv/bin", "", "venv/bin"},
		{"an inventory", anchor.Inventory, "hosts.yaml", "", "hosts.yaml"},
		{"a list of hosts", anchor.Inventory, "cp1,", "cp1,", ""},
		{"a file of variables", anchor.AtFile, "@vars.yml", "@", "vars.yml"},
		{"a variable", anchor.AtFile, "a=@b", "a=@b", ""},
		{"a labelled vault", anchor.VaultID, "prod@secret", "prod@", "secret"},
		{"a vault", anchor.VaultID, "secret", "", "secret"},
		{"a vault that asks", anchor.VaultID, "prod@prompt", "prod@prompt", ""},
	} {
		if before, path := row.find(row.value); before != row.before || path != row.path {
			t.Errorf("%s: %q and %q, want %q and %q", row.name, before, path, row.before, row.path)
		}
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "a/b": "/d/a/b", "../a": "/a", "/a": "/a", "~/a": "~/a"} {
		if got := anchor.Path("/d", in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
