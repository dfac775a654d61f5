#!/bin/sh
# With "interactive" in kuberc, a playbook's "kubectl delete" deletes nothing and exits 0.
#
# Versions  kubectl 1.36.4 (Debian forky, 1.36.4+ds-1, November 2026), ansible-core 2.14.18
#           (Debian 12, 2.14.18-0+deb12u2), Go 1.26.8
# Guess     An administrator lets kubectl ask before it deletes, by a default in ~/.kube/kuberc.
#           Playbooks and scripts of the same user have no terminal. kubectl does not ask
#           without one; or it fails as "ssh" and "sudo" do, with a code other than 0. What
#           agrees by default, such as "yes | kubectl ..." or --force, is understood.
# Seen      It reads its standard input, finds no "y", and has done its work:
#                                                 kuberc     nodes deleted   code
#             kubectl delete node n1 </dev/null   none       1               0
#             the same                            delete     0               0
#             the same by Ansible                 delete     0               0, CHANGED
#             echo yes | kubectl delete ...       delete     0               0
#             kubectl delete --force ...          delete     0               0
#             echo y | kubectl delete ...         delete     1               0
#             the same with KUBERC=off            delete     1               0
#           The only trace is "deletion is cancelled" in the output.
# So        A preference of one user makes the playbooks that run as this user skip what they
#           delete: a node that is removed stays in the cluster, a pod with an outdated
#           certificate runs on. Set KUBERC=off, or --interactive=false, wherever kubectl is
#           called by a program.
set -eu
t=$(mktemp -d)
api=
trap '[ -z "$api" ] || kill "$api"; rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in ansible-core=2.14.18-0+deb12u2 python3-cryptography=38.0.4-3+deb12u1 python3-cffi-backend=1.15.1-5+b1 \
	python3-jinja2=3.1.2-1+deb12u3 python3-markupsafe=2.1.2-1+b1 python3-packaging=23.0-1 \
	python3-resolvelib=0.9.0-2 python3-yaml=6.0-3+b2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
# Debian forky, from the mirror that this machine uses
mkdir -p apt/lists/partial apt/cache/archives/partial
# shellcheck disable=SC2016 # for apt
apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | sort -u |
	sed 's|.*|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & forky main|' >apt/list
forky() {
	apt-get -qq -o Dir::Etc::SourceList="$t/apt/list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$t/apt/lists" -o Dir::Cache="$t/apt/cache" -o APT::Sandbox::User=root "$@"
}
forky update
forky download kubectl=1.36.4+ds-1
for p in *.deb; do dpkg -x "$p" root; done
export PATH="$t/root/usr/bin:$PATH" PYTHONPATH="$t/root/usr/lib/python3/dist-packages" LC_ALL=C.UTF-8
export ANSIBLE_CONFIG="$t/ansible.cfg" ANSIBLE_HOME="$t/home" ANSIBLE_LOCALHOST_WARNING=0
: >ansible.cfg
GOPATH=$(go env GOPATH) GOCACHE=$(go env GOCACHE)
export GOPATH GOCACHE HOME="$t" KUBECONFIG="$t/config"

cat >main.go <<'EOF'
// An API server with one node, as far as "kubectl delete node" asks. It logs what is deleted.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	os.WriteFile("config.new", fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Config", "current-context": "a",
"clusters": [{"name": "a", "cluster": {"server": "http://%s"}}],
"contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
"users": [{"name": "a", "user": {}}]}`, l.Addr()), 0o600)
	os.Rename("config.new", "config")
	answers := map[string]string{
		"GET /api":  `{"kind": "APIVersions", "versions": ["v1"]}`,
		"GET /apis": `{"kind": "APIGroupList", "apiVersion": "v1", "groups": []}`,
		"GET /api/v1": `{"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "nodes",
			"singularName": "node", "namespaced": false, "kind": "Node", "verbs": ["delete", "get", "list"]}]}`,
		"GET /api/v1/nodes/n1": `{"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n1", "uid": "u"}}`,
		"DELETE /api/v1/nodes/n1": `{"kind": "Status", "apiVersion": "v1", "status": "Success",
			"details": {"name": "n1", "kind": "nodes", "uid": "u"}}`,
	}
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "DELETE" {
			fmt.Println("deleted")
		}
		w.Header().Set("Content-Type", "application/json")
		answer, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}`
		}
		fmt.Fprint(w, answer)
	}))
}
EOF
go mod init finding >go.log 2>&1
go build -o api . >>go.log 2>&1
./api >>deleted &
api=$!
n=0
until [ -f config ]; do
	n=$((n + 1))
	[ "$n" -lt 100 ]
	sleep 0.1
done

# is WHAT WANT COMMAND...: the code of a command, and how many nodes it has deleted
is() {
	: >deleted
	code=0
	"$3" >out 2>&1 || code=$?
	set -- "$1" "$2" "deleted $(grep -c deleted deleted || :), code $code"
	printf '%s: %s\n' "$1" "$3"
	[ "$2" = "$3" ] || { cat out; printf 'CHANGED, it was: %s\n' "$2"; exit 1; }
}
plain() { kubectl delete node n1 --wait=false </dev/null; }
forced() { kubectl delete node n1 --wait=false --force </dev/null; }
ansible() {
	/usr/bin/python3 root/usr/bin/ansible localhost -e ansible_python_interpreter=/usr/bin/python3 \
		-a 'kubectl delete node n1 --wait=false' </dev/null
}
yes() { echo yes | kubectl delete node n1 --wait=false; }
y() { echo y | kubectl delete node n1 --wait=false; }
off() { KUBERC=off kubectl delete node n1 --wait=false </dev/null; }

kubectl version --client
is 'no kuberc' 'deleted 1, code 0' plain
mkdir -p .kube
cat >.kube/kuberc <<'EOF'
apiVersion: kubectl.config.k8s.io/v1beta1
kind: Preference
defaults:
- command: delete
  options:
  - name: interactive
    default: "true"
EOF
is 'kuberc' 'deleted 0, code 0' plain
grep 'deletion is cancelled' out
is 'kuberc, Ansible' 'deleted 0, code 0' ansible
grep 'localhost | CHANGED | rc=0' out
is 'kuberc, yes' 'deleted 0, code 0' yes
is 'kuberc, --force' 'deleted 0, code 0' forced
is 'kuberc, y' 'deleted 1, code 0' y
is 'KUBERC=off' 'deleted 1, code 0' off
