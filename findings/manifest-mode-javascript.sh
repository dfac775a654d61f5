#!/bin/sh
# A Secret's "defaultMode: 0400" is mode 0400 for kubectl, and 0620 for the JavaScript client.
#
# Versions  npm @kubernetes/client-node 1.4.0 with js-yaml 4.3.2 (Node.js 20), k8s.io/api and
#           apimachinery v0.37.2, ansible-core 2.14.18 (Debian 2.14.18-0+deb12u2)
# Guess     A manifest mounts the key of a certificate with defaultMode: 0400. Each official
#           client has a reader of manifests, and it is a Kubernetes format: they read the same
#           number, as kubectl and Ansible do. A reader that knows no such octal numbers
#           reports it.
# Seen                  kubectl's library   Ansible     JavaScript
#             0400      256, mode 0400      256, 0400   400, mode 0620
#             0444      292, mode 0444      292, 0444   444, mode 0674
#             0640      416, mode 0640      416, 0640   640, mode 1200
#             0o400     256, mode 0400      a string    256, mode 0400
#             256       256, mode 0400      256, 0400   256, mode 0400
#           loadYaml of the JavaScript client reads YAML 1.2, where 0400 is 400 in decimal. It
#           exports what it read without an error, and 400 and 444 are valid modes for the API
#           server (up to 511); of these examples it refuses only 640.
# So        A manifest that a JavaScript tool applies instead of kubectl makes the key writable
#           for its group, and a server that demands 0400 of it does not start. Write the mode
#           in decimal, which all read in the same way.
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

cat >main.go <<'EOF'
package main

import (
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	f, err := os.Open("pod.yml")
	if err != nil {
		panic(err)
	}
	var pod corev1.Pod
	if err := yaml.NewYAMLOrJSONDecoder(f, 4096).Decode(&pod); err != nil {
		panic(err)
	}
	for _, v := range pod.Spec.Volumes {
		fmt.Printf("kubectl %s: %d\n", v.Name, *v.Secret.DefaultMode)
	}
}
EOF
go mod init finding >go.log 2>&1
go get k8s.io/api/core/v1@v0.37.2 k8s.io/apimachinery/pkg/util/yaml@v0.37.2 >>go.log 2>&1
go build -o modes . >>go.log 2>&1

cat >modes.mjs <<'EOF'
import { readFileSync } from 'node:fs';
import { loadYaml } from '@kubernetes/client-node';
for (const v of loadYaml(readFileSync('pod.yml', 'utf8')).spec.volumes) {
	console.log(`JavaScript ${v.name}: ${v.secret.defaultMode}`);
}
EOF
npm init -y >npm.log 2>&1
npm install --no-audit --no-fund --ignore-scripts @kubernetes/client-node@1.4.0 js-yaml@4.3.2 >>npm.log 2>&1

cat >modes.yml <<'EOF'
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
  tasks:
    - ansible.builtin.copy:
        dest: "{{ playbook_dir }}/modes.txt"
        content: |
          {% for v in (lookup('file', playbook_dir + '/pod.yml') | from_yaml).spec.volumes %}
          Ansible {{ v.name }}: {{ v.secret.defaultMode }}
          {% endfor %}
        mode: "0600"
EOF

cat >pod.yml <<'EOF'
apiVersion: v1
kind: Pod
metadata:
  name: server
spec:
  containers:
  - name: server
    image: server
  volumes:
EOF
for mode in 0400 0444 0640 0o400 256; do
	cat >>pod.yml <<EOF
  - name: is-$mode
    secret:
      secretName: tls
      defaultMode: $mode
EOF
done
{
	./modes
	node modes.mjs
	/usr/bin/python3 root/usr/bin/ansible-playbook modes.yml >ansible.log 2>&1 || cat ansible.log
	cat modes.txt
	: >key
	for mode in 400 444; do
		chmod "$(printf %o $mode)" key
		printf '%s in decimal: mode %s\n' $mode "$(stat -c %A key)"
	done
} >got
cat >want <<'EOF'
kubectl is-0400: 256
kubectl is-0444: 292
kubectl is-0640: 416
kubectl is-0o400: 256
kubectl is-256: 256
JavaScript is-0400: 400
JavaScript is-0444: 444
JavaScript is-0640: 640
JavaScript is-0o400: 256
JavaScript is-256: 256
Ansible is-0400: 256
Ansible is-0444: 292
Ansible is-0640: 416
Ansible is-0o400: 0o400
Ansible is-256: 256
400 in decimal: mode -rw--w----
444 in decimal: mode -rw-rwxr--
EOF
cat got
cmp want got || { echo 'CHANGED'; exit 1; }
