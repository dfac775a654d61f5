package ansible

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What may be a password in arguments of ssh is masked, as Ansible and ssh print it; the address of
// a connection is not.
func TestMask(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, args, line, want string }{
		{"a command", "-o ProxyCommand='sshpass -p canary ssh -W %h:%p x'",
			"debug1: exec sshpass -p canary ssh -W 192.0.2.1:22 x", "debug1: exec ******** -p ******** ssh -W 192.0.2.1:22 x"},
		{"as a variable", `-o ProxyCommand="pass canary"`, `{"kscert_ssh_common_args":"-o ProxyCommand=\"pass canary\""}`,
			`{"kscert_ssh_common_args":"-o ProxyCommand=\"******** ********\""}`},
		{"a flag with its value", "-o ProxyCommand='sshpass -pcanary x'", "-pcanary canary", "-p******** ********"},
		{"a variable", "-o SetEnv=A=canary", "A=canary, canary", "********, ********"},
		{"a jump host", "-o ProxyJump=me@bastion -J me@bastion -i key.pem -F file.cfg", "me@bastion key.pem file.cfg",
			"me@bastion key.pem file.cfg"},
		{"habits", "-o StrictHostKeyChecking=accept-new -C -o Port=2222", "accept-new 2222", "accept-new 2222"},
		{"nothing", "", "anything", "anything"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			m := &masker{mask: Options{SSHCommonArgs: row.args}.mask(), w: &out}
			for _, b := range []byte("before " + row.line) { // however it arrives
				if _, err := m.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.flush(); err != nil || out.String() != "before "+row.want {
				t.Errorf("%v\n%s, want\n%s", err, out.String(), "before "+row.want)
			}
		})
	}
	variables := Options{ExtraVars: []string{"password=canary", "@file.yml"}}.mask()
	if got := variables.Replace("('password=canary', '@file.yml')"); got != "('********', '@file.yml')" {
		t.Errorf("%q", got)
	}
	further := Options{Args: []string{"--user=deploy", "-u", "deploy", "--ssh-extra-args", "-o SetEnv=A=canary"}}.mask()
	if got := further.Replace("deploy canary"); got != "deploy ********" {
		t.Errorf("%q", got)
	}
}

// The same for the report of a failure, and for its file.
func TestMaskOfEvents(t *testing.T) {
	t.Parallel()
	m := Options{SSHExtraArgs: "-o SetEnv=A=canary"}.mask()
	e := Evidence{Msg: "canary", Stdout: "canary", Stderr: "canary", ModuleStdout: "canary", ModuleStderr: "canary",
		Reason: "canary", Items: []string{"canary"}}
	m.evidence(&e)
	want := Evidence{Msg: masked, Stdout: masked, Stderr: masked, ModuleStdout: masked, ModuleStderr: masked,
		Reason: masked, Items: []string{masked}}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("%+v", e)
	}
	path := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(path, []byte("{\"msg\": \"canary\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.file(path); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{\"msg\": \"********\"}\n" {
		t.Errorf("%v: %s", err, text)
	}
}
