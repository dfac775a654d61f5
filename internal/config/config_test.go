package config_test

import (
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/config"
)

// known has a setting of each kind; internal/cli compares its own with its flags.
func known() config.Known {
	return config.Known{
		Settings: []config.Setting{
			{Name: "inventory", Kind: config.String, List: true},
			{Name: "user", Kind: config.String},
			{Name: "become", Kind: config.Bool},
			{Name: "forks", Kind: config.Integer},
			{Name: "gate-timeout", Kind: config.Duration},
			{Name: "warn", Kind: config.Time},
			{Name: "fail-on", Kind: config.String, Values: []string{"warn", "crit", "never"}},
			{Name: "extra-vars", Kind: config.String, List: true, ByFile: true},
			{Name: "web.listen-address", Kind: config.String, List: true},
		},
		Refused: map[string]string{"yes": "say it each time"},
	}
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for in, want := range map[string]time.Duration{
		"30d": 30 * day, "0d": 0, "1d": day, "12h": 12 * time.Hour, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute, "0": 0,
	} {
		if got, err := config.ParseTime(in); err != nil || got != want {
			t.Errorf("%q: %s %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "d", "soon", "-1d", "-1h", "-0", "1.5d", "30", "30 d", "+3d", "999999999d", "30dd", "3d12h"} {
		if got, err := config.ParseTime(in); err == nil {
			t.Errorf("%q is parsed as %s", in, got)
		}
	}
}

// The environment overrides the file, and a list replaces a list.
func TestMerge(t *testing.T) {
	t.Parallel()
	file, err := config.Parse("k.yaml", []byte("inventory: [a, b]\nforks: 5\n"), known())
	if err != nil {
		t.Fatal(err)
	}
	environment, _, err := config.FromEnvironment([]string{"KSCERTCTL_INVENTORY=c", "KSCERTCTL_USER=admin"}, known())
	if err != nil {
		t.Fatal(err)
	}
	got := config.Merge(file, environment)
	for name, want := range map[string]struct {
		values []string
		origin string
	}{
		"inventory": {[]string{"c"}, "KSCERTCTL_INVENTORY"},
		"user":      {[]string{"admin"}, "KSCERTCTL_USER"},
		"forks":     {[]string{"5"}, "k.yaml:2"},
	} {
		if v := got[name]; !equal(v.Values, want.values) || v.Origin.String() != want.origin {
			t.Errorf("%s is %q from %s, want %q from %s", name, v.Values, v.Origin, want.values, want.origin)
		}
	}
}
