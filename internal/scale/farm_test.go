//go:build e2e

package scale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/internal/testcommand"
)

// host is one machine of a farm.
type host struct {
	name         string
	controlPlane bool
	// command is what the host runs instead of the requested command (ForceCommand of sshd_config),
	// which is in $SSH_ORIGINAL_COMMAND. Empty: the requested one.
	command string
	// remembers makes the host answer the collector from memory, on request (farm.fromMemory).
	remembers bool
	// vars are variables of the inventory, in addition to those of every host.
	vars string
	// apart: it is in no group of Kubespray's.
	apart bool
}

// healthy are hosts as Kubespray makes them: three control planes, the rest workers.
func healthy(count int) []host {
	hosts := make([]host, count)
	for i := range hosts {
		hosts[i] = host{name: fmt.Sprintf("worker%d", i-2)}
		if i < 3 {
			hosts[i] = host{name: fmt.Sprintf("cp%d", i+1), controlPlane: true}
		}
	}
	return hosts
}

// farm is many hosts on this machine: each has a loopback address, an OpenSSH server of its own,
// and a Kubespray node's files below /etc and /var/lib. They belong to the user who runs the test.
type farm struct {
	dir, inventory string
	// roots are the trees of a control plane (true) and of a worker.
	roots map[bool]string
}

// newFarm starts the hosts and stops them with the test.
func newFarm(tb testing.TB, hosts []host) farm {
	tb.Helper()
	dir := tb.TempDir()
	f := farm{dir: dir, inventory: filepath.Join(dir, "inventory.ini")}
	f.makeKeys(tb)
	f.makeTools(tb)

	f.roots = map[bool]string{true: controlPlaneTree(tb, dir), false: workerTree(tb, dir)}
	groups := map[bool][]string{}
	var lines []string
	sshd, remember := daemon(tb), f.memory(tb)
	for i, h := range hosts {
		root := f.roots[h.controlPlane]
		if h.remembers {
			h.command = remember + " " + h.name
		}
		config := f.write(tb, h.name+".sshd", f.sshdConfig(root, h.command))
		port := listen(tb, net.IPv4(127, 1, byte(i/250), byte(i%250+1)), sshd, "-i", "-f", config)
		lines = append(lines, fmt.Sprintf("%s ansible_host=%s ansible_port=%d kube_config_dir=%s/etc/kubernetes etcd_cert_dir=%[4]s/etc/ssl/etcd/ssl %[5]s",
			h.name, port.IP, port.Port, root, h.vars))
		if !h.apart {
			groups[h.controlPlane] = append(groups[h.controlPlane], h.name)
		}
	}
	me, err := user.Current()
	must(tb, err)
	f.write(tb, "inventory.ini", fmt.Sprintf(`%s
[all:vars]
ansible_user=%s
# Nothing here needs root, and sudo may not be installed.
ansible_become=false
ansible_ssh_private_key_file=%[3]s/user
ansible_ssh_extra_args=-o UserKnownHostsFile=%[3]s/known_hosts

[kube_control_plane]
%[4]s

[etcd:children]
kube_control_plane

[kube_node]
%[5]s
`, strings.Join(lines, "\n"), me.Username, dir, strings.Join(groups[true], "\n"), strings.Join(groups[false], "\n")))
	return f
}

// memory writes the program of a host that can answer from memory: it records the requests, and
// after learn answers with its collector's last report, after as long as that took. So it costs
// this machine next to nothing, like a node with its own processors.
func (f farm) memory(tb testing.TB) string {
	tb.Helper()
	path := f.program(tb, "remember", `#!/bin/sh
host=${0%/*}/$1
case $SSH_ORIGINAL_COMMAND in
*KSCERT_ROLES=*) ;;
*) exec sh -c "$SSH_ORIGINAL_COMMAND" ;;
esac
sum=$(printf '%s' "$SSH_ORIGINAL_COMMAND" | sha256sum)
host=$host.${sum%% *} # each build asks for something else
if [ -f "${0%/*}/from-memory" ]; then
	read -r seconds <"$host.seconds"
	sleep "$seconds"
	exec cat "$host.answer"
fi
[ -f "$host.asked" ] || printf '%s' "$SSH_ORIGINAL_COMMAND" >"$host.asked"
exec sh -c "$SSH_ORIGINAL_COMMAND"
`)
	return path
}

// learn has every host answer again what it was asked, one after the other and
// nothing next to it, and keeps how long that took: of three times the middle one.
func (f farm) learn(tb testing.TB, hosts []host) {
	tb.Helper()
	for _, h := range hosts {
		for _, question := range f.questions(tb, h) {
			f.learnOne(tb, h, question)
		}
	}
}

// learnAlike has one host of each kind do so, and the others answer as it does.
func (f farm) learnAlike(tb testing.TB, hosts []host) {
	tb.Helper()
	type question struct {
		controlPlane bool
		sum          string
	}
	first := map[question]string{}
	for _, h := range hosts {
		for _, asked := range f.questions(tb, h) {
			q := question{h.controlPlane, filepath.Ext(asked)}
			like, learned := first[q]
			if !learned {
				first[q] = asked
				f.learnOne(tb, h, asked)
				continue
			}
			for _, kind := range []string{".answer", ".seconds"} {
				must(tb, os.Link(like+kind, asked+kind))
			}
		}
	}
}

// questions returns the files of a host's questions, without their ending.
func (f farm) questions(tb testing.TB, h host) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(f.dir, h.name+".*.asked"))
	must(tb, err)
	for i := range files {
		files[i] = strings.TrimSuffix(files[i], ".asked")
	}
	return files
}

func (f farm) learnOne(tb testing.TB, h host, question string) {
	tb.Helper()
	asked, err := os.ReadFile(question + ".asked")
	must(tb, err)
	var took []float64
	for range 3 {
		cmd := f.command(tb, "sh", "-c", string(asked))
		cmd.Env = append(cmd.Env, "KSCERT_ROOT="+f.roots[h.controlPlane], "HOME="+f.roots[h.controlPlane]+"/root", "PATH="+f.dir+"/bin")
		start := time.Now()
		answer, err := cmd.Output()
		must(tb, err)
		took = append(took, time.Since(start).Seconds())
		f.write(tb, filepath.Base(question)+".answer", string(answer))
	}
	f.write(tb, filepath.Base(question)+".seconds", fmt.Sprintf("%.3f\n", median(took)))
}

// fromMemory sets whether the hosts that remember answer from memory.
func (f farm) fromMemory(tb testing.TB, yes bool) {
	tb.Helper()
	if yes {
		f.write(tb, "from-memory", "")
		return
	}
	must(tb, os.RemoveAll(filepath.Join(f.dir, "from-memory")))
}

// daemon finds the program and makes the directory that a service would make for it.
func daemon(tb testing.TB) string {
	tb.Helper()
	for _, path := range []string{"/usr/sbin/sshd", "/usr/bin/sshd"} {
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if os.Getuid() == 0 {
			must(tb, os.MkdirAll("/run/sshd", 0o755)) // of privilege separation
		}
		return path
	}
	tb.Fatal("there is no OpenSSH server: run hack/packages scale")
	return ""
}

// makeKeys makes the key of the hosts, which the control node knows, and its own.
func (f farm) makeKeys(tb testing.TB) {
	tb.Helper()
	for _, name := range []string{"host", "user"} {
		out, err := exec.CommandContext(tb.Context(), "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(f.dir, name)).CombinedOutput()
		if err != nil {
			tb.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(f.dir, "host.pub"))
	must(tb, err)
	f.write(tb, "known_hosts", "* "+string(public))
}

// makeTools gives the hosts the commands that the collector calls and every node has, so that it
// does not matter whether this machine has a kubectl.
func (f farm) makeTools(tb testing.TB) {
	tb.Helper()
	must(tb, os.Mkdir(filepath.Join(f.dir, "bin"), 0o755))
	for name := range strings.FieldsSeq("awk base64 bash cat cut date df find fold getent grep gzip head journalctl mkdir mktemp openssl readlink rm sed sh sha256sum sleep sort stat systemctl tail timeout tr yes") {
		path, err := exec.LookPath(name)
		must(tb, err)
		must(tb, os.Symlink(path, filepath.Join(f.dir, "bin", name)))
	}
}

func (f farm) sshdConfig(root, command string) string {
	config := fmt.Sprintf(`HostKey %s/host
AuthorizedKeysFile %[1]s/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
SetEnv KSCERT_ROOT=%s HOME=%[2]s/root PATH=%[1]s/bin
`, f.dir, root)
	if command != "" {
		config += "ForceCommand " + command + "\n"
	}
	return config
}

// listen starts a command for every connection to an address, which becomes its standard input and
// output, like systemd's ssh.socket.
func listen(tb testing.TB, ip net.IP, command ...string) net.TCPAddr {
	tb.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: ip})
	must(tb, err)
	var serving sync.WaitGroup
	tb.Cleanup(func() { // the test's context is done, and with it the commands
		_ = l.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				err = serve(tb.Context(), &serving, conn, command)
			}
			if err != nil && tb.Context().Err() == nil {
				tb.Errorf("a connection to %s: %v", ip, err)
			}
		}
	})
	address, _ := l.Addr().(*net.TCPAddr)
	return *address
}

func serve(ctx context.Context, serving *sync.WaitGroup, conn *net.TCPConn, command []string) error {
	file, err := conn.File()
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, os.Stderr
	err = cmd.Start()
	if err == nil {
		serving.Go(func() { _ = cmd.Wait() }) // exits with the connection
	}
	return errors.Join(err, file.Close())
}

func (f farm) write(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(f.dir, name)
	must(tb, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// program writes a program of the control node into the farm's directory.
func (f farm) program(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(f.dir, name)
	must(tb, testcommand.Write(path, text))
	return path
}

// command prepares a command that knows nothing of this machine's own settings.
func (f farm) command(tb testing.TB, name string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Dir = f.dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ANSIBLE_") || strings.HasPrefix(v, "KSCERTCTL_")
	})
	cmd.Env = append(cmd.Env, "HOME="+f.dir, "XDG_STATE_HOME="+f.dir, "ANSIBLE_SSH_CONTROL_PATH_DIR="+f.dir+"/cp", "NO_COLOR=1")
	return cmd
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
