#!/bin/sh
# KUBECONFIG=a:b: kubectl's library uses the first cluster, the JavaScript client the last.
#
# Versions  npm @kubernetes/client-node 1.4.0 (Node.js 20), k8s.io/client-go v0.37.2
# Guess     KUBECONFIG lists two files, each with its own current-context. The official
#           clients merge them as kubectl does: what is set first stays, names that occur
#           twice are taken from the first file, and files that do not exist are skipped.
# Seen                          kubectl's library   JavaScript
#           two contexts        first               last: another cluster, no error
#           a name twice        first               Error: Duplicate cluster
#           first file missing  skipped             ENOENT
# So        With one and the same environment a JavaScript tool acts on another cluster
#           than kubectl. Name the context wherever a script mixes them.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

cat >main.go <<'EOF'
package main

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Host)
}
EOF
go mod init finding >go.log 2>&1
go get k8s.io/client-go/tools/clientcmd@v0.37.2 >>go.log 2>&1
go build -o current .

cat >current.mjs <<'EOF'
import { KubeConfig } from '@kubernetes/client-node';
const c = new KubeConfig();
try {
	c.loadFromDefault();
	console.log(c.getCurrentCluster().server);
} catch (e) {
	console.log(e.message.replace(/,.*/, ''));
}
EOF
npm init -y >npm.log 2>&1
npm install --no-audit --no-fund --ignore-scripts @kubernetes/client-node@1.4.0 >>npm.log 2>&1

# file NAME CLUSTER SERVER
file() {
	cat >"$1" <<EOF
apiVersion: v1
kind: Config
current-context: $2
clusters:
- {name: $2, cluster: {server: "https://$3:6443"}}
contexts:
- {name: $2, context: {cluster: $2, user: $2}}
users:
- {name: $2, user: {token: not-a-secret}}
EOF
}

# ask WHAT KUBECONFIG GO JAVASCRIPT
ask() {
	export KUBECONFIG="$2"
	set -- "$1" "$3 | $4" "$(./current) | $(node current.mjs)"
	printf '%s: %s\n' "$1" "$3"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$2"; exit 1; }
}

file first blue first.example
file second green second.example
file twice blue second.example
one=https://first.example:6443 two=https://second.example:6443
ask 'two contexts' first:second "$one" "$two"
ask 'a name twice' first:twice "$one" 'Duplicate cluster: blue'
ask 'first file missing' none:second "$two" 'ENOENT: no such file or directory'
