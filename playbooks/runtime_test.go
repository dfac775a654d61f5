package playbooks_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The runtimes are asked by one small interface: which containers of a component run,
// and stop one. containerd and CRI-O answer to crictl, as does Docker behind
// cri-dockerd; the Docker of Kubernetes before 1.24 to docker.
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
