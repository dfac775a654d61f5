#!/bin/sh
# kubectl's library reads a manifest in JSON with "\/", and no kubeconfig in JSON with it.
#
# Versions  k8s.io/client-go and apimachinery v0.37.2, sigs.k8s.io/yaml v1.6.0 (what v0.37.2
#           requires), Go 1.26.8
# Guess     A kubeconfig may be JSON, so any valid JSON is one. RFC 8259 allows "\/" for a
#           slash, and serializers such as PHP's json_encode write it by default. What the
#           decoder of "kubectl apply -f" reads, the one of kubeconfigs reads, too.
# Seen      The decoder of manifests and encoding/json read "https:\/\/...". clientcmd.Load,
#           which kubectl, kubelet, kube-scheduler and kube-controller-manager use, fails:
#           it takes JSON for YAML, and its YAML is of version 1.1, which has no such escape.
#           gopkg.in/yaml.v3 fails in the same way, although YAML 1.2 added it for JSON.
# So        A kubeconfig that a program writes as JSON should go through "kubectl config view
#           --raw" once, before a component restarts with it.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

cat >main.go <<'EOF'
package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
	manifests "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/clientcmd"
)

type config struct {
	Clusters []struct {
		Cluster struct{ Server string }
	}
}

// verdict is what a reader made of the server's address.
func verdict(c config, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return c.Clusters[0].Cluster.Server
}

func main() {
	const plain = `{"apiVersion":"v1","kind":"Config","current-context":"a",` +
		`"clusters":[{"name":"a","cluster":{"server":"https://10.0.0.1:6443"}}],` +
		`"contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}],"users":[{"name":"a","user":{}}]}`
	for _, text := range []string{plain, strings.ReplaceAll(plain, "/", `\/`)} {
		var a, b, c config
		err := json.Unmarshal([]byte(text), &a)
		fmt.Println("encoding/json      ", verdict(a, err))
		err = yaml.Unmarshal([]byte(text), &b)
		fmt.Println("yaml.v3            ", verdict(b, err))
		err = manifests.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096).Decode(&c)
		fmt.Println("YAMLOrJSONDecoder  ", verdict(c, err))
		loaded, err := clientcmd.Load([]byte(text))
		if err == nil {
			a.Clusters[0].Cluster.Server = loaded.Clusters["a"].Server
		}
		fmt.Println("clientcmd.Load     ", verdict(a, err))
	}
}
EOF
cat >want <<'EOF'
encoding/json       https://10.0.0.1:6443
yaml.v3             https://10.0.0.1:6443
YAMLOrJSONDecoder   https://10.0.0.1:6443
clientcmd.Load      https://10.0.0.1:6443
encoding/json       https://10.0.0.1:6443
yaml.v3             error: yaml: found unknown escape character
YAMLOrJSONDecoder   https://10.0.0.1:6443
clientcmd.Load      error: yaml: found unknown escape character
EOF
go mod init finding >go.log 2>&1
go get k8s.io/client-go/tools/clientcmd@v0.37.2 gopkg.in/yaml.v3@v3.0.1 >>go.log 2>&1
go build -o read .
grep -q 'sigs.k8s.io/yaml v1.6.0' go.mod || { echo 'CHANGED: another sigs.k8s.io/yaml'; exit 1; }
./read | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
