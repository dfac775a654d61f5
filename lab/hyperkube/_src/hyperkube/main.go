// Command hyperkube is every Kubernetes and etcd command in one file: it looks
// at the name it was called by. One link step and one copy of the shared code
// make a node image a quarter of the size, and a lab is rebuilt in seconds.
//
// The applet packages are made from the version's own main packages when the
// module is generated, so flags, logging and exit codes are the real ones.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"

	apiserver "kscertctl.lab/applet/kube-apiserver"
	controllermanager "kscertctl.lab/applet/kube-controller-manager"
	scheduler "kscertctl.lab/applet/kube-scheduler"
	kubeadm "kscertctl.lab/applet/kubeadm"
	kubectl "kscertctl.lab/applet/kubectl"
	kubelet "kscertctl.lab/applet/kubelet"
)

func main() {
	applets := map[string]func(){
		"kube-apiserver":          apiserver.Main,
		"kube-controller-manager": controllermanager.Main,
		"kube-scheduler":          scheduler.Main,
		"kubeadm":                 kubeadm.Main,
		"kubectl":                 kubectl.Main,
		"kubelet":                 kubelet.Main,
		"etcd":                    func() { etcdmain.Main(os.Args) },
		"etcdctl":                 ctlv3.MustStart,
	}
	name := filepath.Base(os.Args[0])
	if name == "hyperkube" && len(os.Args) > 1 {
		name, os.Args = os.Args[1], os.Args[1:]
	}
	applet, ok := applets[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "hyperkube: no applet %q\n", name)
		os.Exit(2)
	}
	applet()
}
