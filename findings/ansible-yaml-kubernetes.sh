#!/bin/sh
# Ansible's to_nice_yaml writes the string 08 without quotes; to Kubernetes it is 8.
#
# Versions  ansible-core 2.14.18 (Debian 2.14.18-0+deb12u2) with PyYAML 6.0,
#           sigs.k8s.io/yaml v1.6.0, k8s.io/apimachinery v0.37.2, Go 1.26.8
# Guess     Both sides speak YAML 1.1. What Ansible writes from strings (names of nodes and
#           of etcd members, labels, short commit IDs) Kubernetes reads as strings: the
#           writer quotes whatever could be read as something else. "yes" and 010 are
#           quoted, so the well-known cases are taken care of.
# Seen      PyYAML quotes by its own rules of reading, and these differ:
#             string     written    Ansible reads   into any   into a string   serializer
#             yes, 010   quoted     string          string     same            same
#             y          y          string          true       "true"          error
#             08         08         string          8          "8"             error
#             10e2       10e2       string          1000       "1000"          error
#             0o17       0o17       string          15         "15"            error
#           "Into" is sigs.k8s.io/yaml, which etcd reads its configuration file with, and
#           NewYAMLOrJSONDecoder of apimachinery, which operators use. Where a field is a
#           string the value becomes a string, and is another one. The serializer of
#           apimachinery (kubeadm, kubectl) reports the type instead.
# So        A machine or an etcd member named 08 or 10e2 gets another name without an
#           error, and only some readers notice. Write with default_style='"', which
#           quotes every string, or JSON.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in ansible-core=2.14.18-0+deb12u2 python3-cryptography=38.0.4-3+deb12u1 python3-cffi-backend=1.15.1-5+b1 \
	python3-jinja2=3.1.2-1+deb12u3 python3-markupsafe=2.1.2-1+b1 python3-packaging=23.0-1 \
	python3-resolvelib=0.9.0-2 python3-yaml=6.0-3+b2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
export PYTHONPATH="$t/root/usr/lib/python3/dist-packages"
export ANSIBLE_CONFIG="$t/ansible.cfg" ANSIBLE_HOME="$t/home" ANSIBLE_LOCALHOST_WARNING=0 LC_ALL=C.UTF-8
: >ansible.cfg

cat >play.yml <<'EOG'
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
    labels: {a: "yes", b: "010", c: "y", d: "08", e: "10e2", f: "0o17"}
  tasks:
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/labels.yml"
        content: "{{ labels | to_nice_yaml }}"
        mode: "0600"
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/quoted.yml"
        content: "{{ labels | to_nice_yaml(default_style='\"') }}"
        mode: "0600"
    - ansible.builtin.assert:
        that: "lookup('file', playbook_dir + '/labels.yml') | from_yaml == labels"
EOG
/usr/bin/python3 root/usr/bin/ansible-playbook play.yml >ansible.log 2>&1 || { cat ansible.log; exit 1; }

cat >main.go <<'EOG'
package main

import (
	"fmt"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	decoder "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func read(name string) {
	file, err := os.ReadFile(name)
	must(err)
	var loose map[string]any
	must(yaml.Unmarshal(file, &loose))
	for line := range strings.Lines(string(file)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		manifest := "apiVersion: meta.k8s.io/v1\nkind: PartialObjectMetadata\nmetadata: {labels: {k: " + value + "}}\n"
		var object metav1.PartialObjectMetadata
		must(decoder.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 100).Decode(&object))
		scheme := runtime.NewScheme()
		must(metav1.AddMetaToScheme(scheme))
		verdict := "same"
		s := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true})
		if _, _, err := s.Decode([]byte(manifest), nil, nil); err != nil {
			verdict = "error"
		}
		fmt.Printf("%s %v, %q, %s\n", value, loose[strings.Trim(key, `"`)], object.Labels["k"], verdict)
	}
}

func main() {
	read("labels.yml")
	read("quoted.yml")
}
EOG
cat >want <<'EOG'
'yes' yes, "yes", same
'010' 010, "010", same
y true, "true", error
08 8, "8", error
10e2 1000, "1000", error
0o17 15, "15", error
"yes" yes, "yes", same
"010" 010, "010", same
"y" y, "y", same
"08" 08, "08", same
"10e2" 10e2, "10e2", same
"0o17" 0o17, "0o17", same
EOG
go mod init finding >go.log 2>&1
go get sigs.k8s.io/yaml@v1.6.0 k8s.io/apimachinery@v0.37.2 >>go.log 2>&1
go mod tidy >>go.log 2>&1
go build -o read .
./read | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
