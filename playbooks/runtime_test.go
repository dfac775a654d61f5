package playbooks_test

import (
	"os/exec"
	"strings"
	"testing"
)

// All runtimes are used through one small interface: list the containers of a component, stop one.
// containerd and CRI-O answer to crictl, as does Docker with cri-dockerd; the Docker of Kubernetes
// before 1.24 to docker.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ command, list, stop string }{
		{
			"crictl", "ps --quiet --no-trunc --state Running --label io.kubernetes.pod.namespace=kube-system --label io.kubernetes.container.name=kube-scheduler",
			"stop --timeout 3 0123456789ab",
		},
		{
			"docker", "ps --quiet --no-trunc --filter status=running --filter label=io.kubernetes.pod.namespace=kube-system --filter label=io.kubernetes.container.name=kube-scheduler",
			"stop --time 3 0123456789ab",
		},
	} {
		t.Run(row.command, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("crictl"); err == nil && row.command != "crictl" {
				t.Skip("this machine has a crictl, which is asked first")
			}
			n := newNode(t)
			n.write(n.bin+"/"+row.command, []byte("#!/bin/sh\necho \"$*\" >>"+n.bin+"/asked\n[ \"$1\" != ps ] || echo 0123456789ab\n"), 0o700)
			out, errs, err := n.run(role(t, "settings/files/components.sh") + "\ncontainers kube-scheduler\nstop \"$(containers kube-scheduler)\"\n")
			if err != nil || out != "0123456789ab\n" {
				t.Fatalf("%v: %q %s", err, out, errs)
			}
			want := strings.Join([]string{row.list, row.list, row.stop, ""}, "\n")
			if got := string(n.read(n.bin + "/asked")); got != want {
				t.Errorf("it was asked\n%swant\n%s", got, want)
			}
		})
	}
}

// crictl uses the kubelet's own endpoint, because /etc/crictl.yaml may name a runtime that is gone.
// As for the kubelet, a flag counts before its file.
func TestRuntimeEndpoint(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, file, env, want string }{
		{"no one says", "kind: KubeletConfiguration\n", "", ""},
		{"the file", "containerRuntimeEndpoint: unix:///run/crio/crio.sock\n", "", "unix:///run/crio/crio.sock"},
		{"the file, in quotes", "containerRuntimeEndpoint: \"unix:///run/crio/crio.sock\" # Kubespray\n", "", "unix:///run/crio/crio.sock"},
		{"the file says nothing", "containerRuntimeEndpoint: \"\"\n", "", ""},
		{"a flag", "", "KUBELET_ARGS=\"--v=2 --container-runtime-endpoint=unix:///run/cri-dockerd.sock --node-ip=10.0.0.1\"\n", "unix:///run/cri-dockerd.sock"},
		{"a flag with a blank", "", "KUBELET_ARGS=\"--container-runtime-endpoint unix:///run/cri-dockerd.sock\"\n", "unix:///run/cri-dockerd.sock"},
		{"both", "containerRuntimeEndpoint: unix:///run/crio/crio.sock\n", "A=\"--container-runtime-endpoint=unix:///run/cri-dockerd.sock\"\n", "unix:///run/cri-dockerd.sock"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.write(n.conf+"/kubelet-config.yaml", []byte(row.file), 0o600)
			n.write(n.conf+"/kubelet.env", []byte(row.env), 0o600)
			n.write(n.bin+"/crictl", []byte("#!/bin/sh\necho \"$1 $2\"\n"), 0o700)
			want := "ps --quiet\n"
			if row.want != "" {
				want = "--runtime-endpoint=" + row.want + " --image-endpoint=" + row.want + "\n"
			}
			if out, errs, err := n.run(role(t, "settings/files/components.sh") + "\ncontainers kube-scheduler\n"); err != nil || out != want {
				t.Errorf("%v: %q, want %q; %s", err, out, want, errs)
			}
		})
	}
}
