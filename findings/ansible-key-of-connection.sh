#!/bin/sh
# Ansible's check of a new SSH key passes with a key that the host does not know.
#
# Versions  ansible-core 2.14.18 (Debian 2.14.18-0+deb12u2), OpenSSH client 9.2p1
#           (1:9.2p1-2+deb12u10), golang.org/x/crypto v0.59.0 (ssh, as the host), Go 1.26.8
# Guess     The SSH key of a host is replaced, and the next run is "ansible -m ping
#           --private-key NEW", to see whether that one logs in. Each run of Ansible logs in
#           with the key that it is given. If it shares connections, then those with the same
#           key.
# Seen      Each is a run of its own, within 60 seconds; the host has replaced the former key:
#             ping with a key it does not know         SUCCESS, without a login
#             ping with the former key                 SUCCESS, without a login
#             wait_for_connection, unknown key         FAILED, permission denied
#             ping with the unknown key, after that    UNREACHABLE
#             ping with the new key                    SUCCESS
#           Ansible keeps the connection of the first run (ControlPersist=60s), and finds it by
#           host, port and user only. wait_for_connection closes it before it tries.
# So        A playbook that replaces keys and then pings proves nothing, and locks itself out a
#           minute later. Put "meta: reset_connection" before the ping, or use
#           wait_for_connection.
set -eu
t=$(mktemp -d)
sshd=
trap '[ -z "$sshd" ] || kill "$sshd"; rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in ansible-core=2.14.18-0+deb12u2 python3-cryptography=38.0.4-3+deb12u1 python3-cffi-backend=1.15.1-5+b1 \
	python3-jinja2=3.1.2-1+deb12u3 python3-markupsafe=2.1.2-1+b1 python3-packaging=23.0-1 \
	python3-resolvelib=0.9.0-2 python3-yaml=6.0-3+b2 openssh-client=1:9.2p1-2+deb12u10; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
export PATH="$t/root/usr/bin:$PATH" PYTHONPATH="$t/root/usr/lib/python3/dist-packages" LC_ALL=C.UTF-8
export ANSIBLE_CONFIG="$t/ansible.cfg" ANSIBLE_HOME="$t/home" ANSIBLE_SSH_CONTROL_PATH_DIR="$t/cp" ANSIBLE_PIPELINING=1
: >ansible.cfg

cat >main.go <<'EOF'
// The host accepts the keys in the file "accepted", runs commands, and counts logins.
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/crypto/ssh"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	signer, err := ssh.NewSignerFromKey(key)
	must(err)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		b, err := os.ReadFile("accepted")
		must(err)
		if !strings.HasPrefix(string(b), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	must(os.WriteFile("port.new", []byte(port), 0o600))
	must(os.Rename("port.new", "port"))
	for {
		c, err := l.Accept()
		must(err)
		go serve(c, config)
	}
}

func serve(c net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	fmt.Println("login")
	go ssh.DiscardRequests(requests)
	for n := range channels {
		ch, rs, err := n.Accept()
		must(err)
		go session(ch, rs)
	}
}

func session(ch ssh.Channel, requests <-chan *ssh.Request) {
	for r := range requests {
		if r.Type != "exec" {
			r.Reply(r.Type == "env", nil)
			continue
		}
		r.Reply(true, nil)
		cmd := exec.Command("/bin/sh", "-c", string(r.Payload[4:]))
		in, err := cmd.StdinPipe()
		must(err)
		cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
		must(cmd.Start())
		go func() {
			io.Copy(in, ch)
			in.Close()
		}()
		cmd.Wait()
		status := make([]byte, 4)
		binary.BigEndian.PutUint32(status, uint32(cmd.ProcessState.ExitCode()))
		ch.SendRequest("exit-status", false, status)
		ch.Close()
	}
}
EOF
go mod init finding >go.log 2>&1
go get golang.org/x/crypto/ssh@v0.59.0 >>go.log 2>&1
go build -o host . >>go.log 2>&1
for k in former new unknown; do ssh-keygen -q -t ed25519 -N '' -f $k; done
cp former.pub accepted
./host >logins 2>host.log &
sshd=$!
n=0
until [ -f port ]; do
	n=$((n + 1))
	[ "$n" -lt 100 ] || { cat host.log; exit 1; }
	sleep 0.1
done
cat >inventory <<EOF
node ansible_host=127.0.0.1 ansible_port=$(cat port) ansible_user=admin ansible_python_interpreter=/usr/bin/python3
[all:vars]
ansible_remote_tmp=$t/tmp
ansible_ssh_common_args='-F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null'
EOF

# is WHAT WANT KEY MODULE ARGUMENTS: a run of Ansible, and how many logins the host has had by then
is() {
	/usr/bin/python3 root/usr/bin/ansible -i inventory node --private-key "$3" -m "$4" -a "$5" >out 2>&1 || :
	set -- "$1" "$2" "$(sed -n 's/^node | \([A-Z]*\).*/\1/p' out), logins: $(grep -c login logins)"
	printf '%s: %s\n' "$1" "$3"
	[ "$2" = "$3" ] || { cat out; printf 'CHANGED, it was: %s\n' "$2"; exit 1; }
}

is 'before' 'SUCCESS, logins: 1' former ping ''
cp new.pub accepted
is 'unknown key' 'SUCCESS, logins: 1' unknown ping ''
is 'former key' 'SUCCESS, logins: 1' former ping ''
is 'wait_for_connection, unknown key' 'FAILED, logins: 1' unknown wait_for_connection timeout=3
is 'unknown key, after that' 'UNREACHABLE, logins: 1' unknown ping ''
is 'new key' 'SUCCESS, logins: 2' new ping ''
