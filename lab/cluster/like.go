package cluster

import (
	"context"
	"fmt"
	"path/filepath"
)

// deploymentFiles are the templates of an inventory, by their path in a cluster's directory.
var deploymentFiles = map[Like]map[string]string{
	"": {
		"inventory.ini":      "inventory.ini",
		"group_vars/all.yml": "group_vars.yml",
	},
	// Like Kubespray's sample since v2.27: no group k8s_cluster, but group_vars for it.
	LikeKubespray: {
		"inventory.ini":                          "kubespray/inventory.ini",
		"group_vars/all/all.yml":                 "kubespray/all.yml",
		"group_vars/all/etcd.yml":                "kubespray/etcd.yml",
		"group_vars/k8s_cluster/k8s-cluster.yml": "kubespray/k8s-cluster.yml",
	},
}

// hardening is the path and the template of the variables of Kubespray's hardening page.
const hardeningVars, hardeningTemplate = "group_vars/all/hardening.yml", "hardened/hardening.yml"

// renewScript is Kubespray's own renewal script, which control planes have even if its timer
// is off, as by default.
const renewScript = "k8s-certs-renew.sh"

// likeKubespray adds what a deployment leaves on machines in addition to what the cluster
// needs.
var likeKubespray = map[Role]string{
	// The second run of the playbook copies kubeadm's files.
	ControlPlane: ownFolders + `cd "$conf/ssl"
for f in apiserver apiserver-kubelet-client front-proxy-client; do cp -p $f.crt $f.crt.old; cp -p $f.key $f.key.old; done
cd "$conf"
for f in admin controller-manager kubelet scheduler; do cp -p $f.conf $f.conf.old; done`,
	Worker: ownFolders,
}

// ownFolders gives kube_owner its directories.
const ownFolders = `chown kube "$conf" "$conf/manifests" /etc/cni/net.d /opt/cni/bin
`

// finish makes the cluster resemble its deployment.
func (b *builder) finish(ctx context.Context) error {
	if b.c.Spec.Like != LikeKubespray {
		return nil
	}
	return Each(ctx, b.c.Nodes(), func(ctx context.Context, n Node) error {
		if n.Role == ControlPlane {
			data, err := b.r.render("kubespray/certs-renew.tmpl", n)
			if err != nil {
				return err
			}
			script := File{Path: filepath.Join(b.c.Spec.BinDir, renewScript), Mode: 0o755,
				Data: append([]byte("#!/bin/bash\n"), data...)}
			if err := b.c.WriteFiles(ctx, n.Name, script); err != nil {
				return err
			}
		}
		if _, err := b.script(ctx, n, likeKubespray[n.Role]); err != nil {
			return fmt.Errorf("making it look like Kubespray's: %w", err)
		}
		return nil
	})
}
