package kubespray

import (
	"maps"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/infrapuzzle/kscertctl/orchestrator/cluster"
)

// ExtraVars reads the arguments of -e as far as they are plain: pairs of key=value, JSON or
// YAML objects, and files of those. The last value of a name wins. It ignores what it cannot
// read, such as a vaulted file.
func ExtraVars(args []string) map[string]any {
	out := map[string]any{}
	for _, arg := range args {
		text := arg
		if file, ok := strings.CutPrefix(arg, "@"); ok {
			data, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			text = string(data)
		} else if !strings.HasPrefix(strings.TrimSpace(arg), "{") {
			for word := range strings.FieldsSeq(arg) {
				if key, value, ok := strings.Cut(word, "="); ok {
					out[key] = strings.Trim(value, `'"`)
				}
			}
			continue
		}
		values := map[string]any{}
		if yaml.Unmarshal([]byte(text), &values) != nil {
			continue
		}
		maps.Copy(out, values)
	}
	return out
}

// Variables are the host variables that Confirmations reads: they make roles of Kubespray wait
// until someone presses a key (roles/upgrade/pre-upgrade and post-upgrade). Without a
// terminal, Ansible continues as if a key had been pressed.
var Variables = []string{"upgrade_node_confirm", "upgrade_node_post_upgrade_confirm"}

// Confirmations returns which of the variables that make Kubespray wait for a key are set,
// given a host's variables from ansible-inventory.
func Confirmations(vars map[string]any) []string {
	var out []string
	for _, name := range Variables {
		if cluster.Truth(vars[name]) {
			out = append(out, name)
		}
	}
	return out
}
