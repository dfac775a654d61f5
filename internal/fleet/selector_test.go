package fleet_test

import (
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/fleet"
)

func TestSelector(t *testing.T) {
	t.Parallel()
	prod := map[string]string{"env": "prod", "example.com/zone": "fra1", "empty": ""}
	for text, want := range map[string]bool{
		"": true, " ": true,
		"env=prod": true, "env==prod": true, "env = prod": true, "env=test": false, "env!=prod": false, "env!=test": true,
		"gone=prod": false, "gone!=prod": true, "empty=": true, "env=": false, "gone=": false, "gone!=": true,
		"env in (prod)": true, "env in (test, prod)": true, "env in (test,dev)": false, "env  in(prod)": true,
		"env notin (prod)": false, "env notin (test)": true, "gone notin (a)": true, "gone in (a)": false,
		"env": true, "empty": true, "gone": false, "!gone": true, "!env": false, "! gone": true,
		"example.com/zone=fra1": true, "env=prod,example.com/zone=fra1": true, "env=prod,example.com/zone=fra2": false,
		"env in (prod,test),!gone": true, "empty in (,a)": true,
	} {
		s, err := fleet.ParseSelector(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := s.Matches(prod); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
	for _, text := range []string{
		",", "env=prod,", "=prod", "!", "env=a=b", "env in ()", "env in prod", "env in (a", "env)", "env in (a))", "(env)", "en v", "env=a b",
		"env<3", "-env", "env=-a", "a/b/c=d", "/a", "Example.com/a", "env===a", "!env=a", "env in (a b)", "env\x00", "env=\xff",
	} {
		if s, err := fleet.ParseSelector(text); err == nil {
			t.Errorf("%q is taken for %+v", text, s)
		}
	}
}

// Whatever is a selector means what its parts mean.
func FuzzSelector(f *testing.F) {
	for _, text := range []string{"env=prod", "a in (b,c),!d", "a notin (b)", "a!=b", ",", "((", "a==", "!"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := fleet.ParseSelector(text)
		if err != nil {
			return
		}
		labels := map[string]string{"a": "b", "env": "prod"}
		all := true
		for i := range s {
			all = all && s[i:i+1].Matches(labels)
		}
		if s.Matches(labels) != all {
			t.Errorf("%q: %t, its parts %t", text, !all, all)
		}
	})
}
