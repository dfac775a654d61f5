package config_test

import (
	"testing"

	"github.com/infrapuzzle/kscertctl/internal/config"
)

func TestFromEnvironment(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, variable string
		setting        string
		want           []string
	}{
		{"a string", "KSCERTCTL_USER=admin", "user", []string{"admin"}},
		{"a numeric string", "KSCERTCTL_USER=1000", "user", []string{"1000"}},
		{"a dash in the name", "KSCERTCTL_GATE_TIMEOUT=10m", "gate-timeout", []string{"10m"}},
		{"a dot in the name", "KSCERTCTL_WEB_LISTEN_ADDRESS=:9995", "web.listen-address", []string{":9995"}},
		{"a boolean in another spelling", "KSCERTCTL_BECOME=1", "become", []string{"true"}},
		{"one of a list", "KSCERTCTL_INVENTORY=cp1,w1,", "inventory", []string{"cp1,w1,"}},
		{"a list, one per line", "KSCERTCTL_INVENTORY= a.ini\n\nmy hosts.ini \n", "inventory", []string{"a.ini", "my hosts.ini"}},
		{"an equals sign", "KSCERTCTL_USER=a=b", "user", []string{"a=b"}},
		{"empty is not set", "KSCERTCTL_USER=", "user", nil},
		{"blank is not set", "KSCERTCTL_INVENTORY= \n ", "inventory", nil},
		{"of others", "USER=admin", "user", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			values, strange, err := config.FromEnvironment([]string{row.variable}, known())
			if err != nil || len(strange) > 0 {
				t.Fatal(err, strange)
			}
			if got := config.Merge(values)[row.setting].Values; !equal(got, row.want) {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// An invalid value is an error, and so is a misspelled setting. Errors do not show the value:
// it may be a secret.
func TestFromEnvironmentProblems(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		environ  []string
		want     []string
		warnings []string
	}{
		{"not a number", []string{"KSCERTCTL_FORKS=many"}, []string{"KSCERTCTL_FORKS: must be a whole number, 0 or more"}, nil},
		{"none of the values", []string{"KSCERTCTL_FAIL_ON=error"}, []string{"KSCERTCTL_FAIL_ON: must be one of warn, crit, never"}, nil},
		{"a secret", []string{"KSCERTCTL_EXTRA_VARS=@vars.yml\npassword=geheim"}, []string{"KSCERTCTL_EXTRA_VARS: may be a secret: write that into a file and name it here, as @FILE"}, nil},
		{"refused", []string{"KSCERTCTL_YES=1"}, []string{"KSCERTCTL_YES: this cannot be set: say it each time"}, nil},
		{"misspelt", []string{"KSCERTCTL_INVENTROY=a.ini"}, []string{"KSCERTCTL_INVENTROY: unknown setting; did you mean KSCERTCTL_INVENTORY?"}, nil},
		{"several, sorted by name", []string{"KSCERTCTL_YES=1", "KSCERTCTL_FORKS=x"}, []string{"KSCERTCTL_FORKS: must be a whole number, 0 or more", "KSCERTCTL_YES: this cannot be set: say it each time"}, nil},
		{"another program's", []string{"KSCERTCTL_VERSION=v1.2.3", "KSCERTCTL_REGISTRY=kscertctl:v1"}, nil, []string{"KSCERTCTL_REGISTRY: unknown setting", "KSCERTCTL_VERSION: unknown setting"}},
		{"the file", []string{"KSCERTCTL_CONFIG=k.yaml"}, nil, nil},
		{"variables of the Services kscertctl and kscertctl-exporter", []string{
			"KSCERTCTL_SERVICE_HOST=10.0.0.1", "KSCERTCTL_SERVICE_PORT=9995", "KSCERTCTL_SERVICE_PORT_HTTP=9995", "KSCERTCTL_PORT=tcp://10.0.0.1:9995",
			"KSCERTCTL_PORT_9995_TCP=tcp://10.0.0.1:9995", "KSCERTCTL_PORT_9995_TCP_PROTO=tcp", "KSCERTCTL_PORT_9995_TCP_PORT=9995", "KSCERTCTL_PORT_9995_TCP_ADDR=10.0.0.1",
			"KSCERTCTL_EXPORTER_SERVICE_HOST=10.0.0.1", "KSCERTCTL_EXPORTER_PORT=tcp://10.0.0.1:9995",
		}, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, strange, err := config.FromEnvironment(row.environ, known())
			if got := problems(t, err); !equal(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
			var warnings []string
			for _, p := range strange {
				warnings = append(warnings, p.String())
			}
			if !equal(warnings, row.warnings) {
				t.Errorf("warnings %q, want %q", warnings, row.warnings)
			}
		})
	}
}

// Two settings with the same variable would overwrite each other.
func TestVariable(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"user": "KSCERTCTL_USER", "gate-timeout": "KSCERTCTL_GATE_TIMEOUT", "web.config.file": "KSCERTCTL_WEB_CONFIG_FILE",
	} {
		if got := config.Variable(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
