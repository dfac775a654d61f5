package plan

import "fmt"

// renewedByUpgrade is what Kubespray's upgrade-cluster.yml renews and what not, so that no one
// takes it for a renewal: kubeadm returns before it renews when no static pod's manifest changes
// (Kubernetes, cmd/kubeadm/app/phases/upgrade/staticpods.go), etcd's certificates are issued again
// each time since Kubespray v2.16 (force_etcd_cert_refresh), and a worker that has a kubelet.conf
// counts as joined.
const renewedByUpgrade = "upgrade-cluster.yml renews by itself: admin.conf, and certificates of etcd as a host " +
	"service. " +
	"It does not renew: the other certificates of a control plane, as long as kube_version and the static pods stay " +
	"what they are; the kubelet's certificate of a worker, ever. " +
	"So what is due is renewed before it, and every certificate is inspected again after it"

// notes describes the checkout that a plan was made with, and returns warnings about it.
func (p Policy) notes() (notes, warnings []string) {
	k := p.Kubespray
	if p.Choice == UpgradeCluster {
		notes = append(notes, renewedByUpgrade)
	}
	if k == nil {
		return notes, nil
	}
	checkout := fmt.Sprintf("Kubespray %s in %s", k.Release, k.Dir)
	if k.Found != "" {
		checkout += ", found as " + k.Found
	}
	if p.Runs() {
		checkout += fmt.Sprintf("; ansible-core %s (it asks for %s)", k.Ansible, k.Demands)
		if k.Tasks > 0 {
			checkout += fmt.Sprintf("; tasks: %d", k.Tasks)
		}
		warnings = k.Warnings
	}
	notes = append([]string{checkout}, notes...)
	switch {
	case p.Choice == RenewCerts && k.Renew != "":
		notes = append(notes, fmt.Sprintf(
			"%s is the checkout's own, which decides what it renews, keeps and restarts. It runs on one control "+
				"plane at a time (--limit), each after a backup and followed by a gate; "+
				"kscertctl's own then renews what is still due, and is used where an API server is down", k.Renew))
	case p.Choice == RenewCerts:
		notes = append(notes, "renew-certs.yml is kscertctl's own: the checkout has none")
	case k.Renew != "":
		notes = append(notes, fmt.Sprintf(
			"the checkout has a %s of its own, which is not run: --playbook renew-certs would", k.Renew))
	}
	return notes, warnings
}
