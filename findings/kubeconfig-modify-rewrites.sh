#!/bin/sh
# client-go's ModifyConfig rewrites the kubeconfig once per entry, not once.
#
# Versions  k8s.io/client-go v0.37.2 tools/clientcmd, Go 1.26.8
# Guess     A program adds 200 clusters with users and contexts to a kubeconfig by one
#           call of clientcmd.ModifyConfig, the function under "kubectl config". One
#           call writes the file once; the cost grows with the number of entries.
# Seen      It encodes and writes the whole file for every changed cluster, context and
#           user: 600 times. For 200 contexts it writes about 200 times the bytes of
#           the result, and twice the entries take four times the bytes. In one run 400
#           contexts took 30 s, and clientcmd.WriteToFile of the same 0.02 s.
# So        To write many entries, merge in memory and call WriteToFile once.
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
	"os"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// written is how many bytes this process has passed to write(2).
func written() (n int64) {
	b, _ := os.ReadFile("/proc/self/io")
	_, after, _ := strings.Cut(string(b), "wchar:")
	fmt.Sscan(after, &n)
	return n
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// cost is what adding n contexts writes, in bytes, and in sizes of the file.
func cost(n int) (modify, sizes, once int64) {
	c := api.NewConfig()
	for i := range n {
		s := fmt.Sprintf("cluster-%04d", i)
		c.Clusters[s] = &api.Cluster{Server: "https://" + s + ":6443"}
		c.AuthInfos[s] = &api.AuthInfo{Token: s}
		c.Contexts[s] = &api.Context{Cluster: s, AuthInfo: s}
	}
	must(clientcmd.WriteToFile(*api.NewConfig(), "config"))
	o := clientcmd.NewDefaultPathOptions()
	o.LoadingRules.ExplicitPath = "config"
	before := written()
	must(clientcmd.ModifyConfig(o, *c, false))
	modify = written() - before
	got, err := clientcmd.LoadFromFile("config")
	must(err)
	if len(got.Contexts) != n || len(got.AuthInfos) != n {
		panic("entries are missing")
	}
	before = written()
	must(clientcmd.WriteToFile(*c, "once"))
	once = written() - before
	f, err := os.Stat("config")
	must(err)
	return modify, modify / f.Size(), once / f.Size()
}

func main() {
	small, _, _ := cost(100)
	large, sizes, once := cost(200)
	fmt.Println("ModifyConfig of 200 contexts writes its size over 150 times:", sizes > 150)
	fmt.Println("WriteToFile of 200 contexts writes its size this often:", once)
	fmt.Println("twice the contexts, that many times the bytes:", (large+small/2)/small)
	fmt.Fprintln(os.Stderr, "measured:", sizes)
}
EOF
cat >want <<'EOF'
ModifyConfig of 200 contexts writes its size over 150 times: true
WriteToFile of 200 contexts writes its size this often: 1
twice the contexts, that many times the bytes: 4
EOF
go mod init finding >go.log 2>&1
go get k8s.io/client-go/tools/clientcmd@v0.37.2 >>go.log 2>&1
go build -o modify .
./modify | tee got
cmp want got || { echo 'CHANGED'; exit 1; }
