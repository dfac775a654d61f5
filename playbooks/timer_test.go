package playbooks_test

import (
	"strings"
	"testing"
)

// systemctl and systemd-run, for timers: an active one is a file.
const timers = `#!/bin/sh
units=${0%/*}/units
echo "${0##*/} $*" >>"${0%/*}/reported"
case "${0##*/} $*" in
"systemctl is-active --quiet "*) [ -e "$units/$3" ] ;;
"systemctl start "*) : >"$units/$2" ;;
"systemctl stop "* | "systemctl reset-failed "*) rm -f "$units/$2" ;;
"systemd-run "*) # which refuses a unit that is there
  [ ! -e "$units/broken" ] || { echo no bus; exit 1; }
  ! [ -e "$units/kscertctl-release-timer.timer" ] && ! [ -e "$units/kscertctl-release-timer.service" ] || exit 1
  : >"$units/kscertctl-release-timer.timer"
  ;;
esac
`

// Kubespray's timer is held back only if it is on, and only a timer that was held back is released.
// Its release is scheduled before it is stopped, so that it is never forgotten.
func TestRenewalTimer(t *testing.T) {
	t.Parallel()
	const theirs, ours = "k8s-certs-renew.timer", "kscertctl-release-timer.timer"
	for _, row := range []struct{ name, action, active, check, then, answered string }{
		{"on", "hold", theirs, "False", ours, "changed: k8s-certs-renew.timer is held back\n"},
		{"on, after a run that was killed before a reboot", "hold", theirs + " " + ours, "False", ours, "changed: k8s-certs-renew.timer is held back\n"},
		{"on, after systemd failed to let it go", "hold", theirs + " kscertctl-release-timer.service", "False", ours, "changed: k8s-certs-renew.timer is held back\n"},
		{"off", "hold", "", "False", "", ""},
		{"held back already", "hold", ours, "False", ours, "changed: k8s-certs-renew.timer is held back\n"},
		{"held back", "release", ours, "False", theirs, "changed: k8s-certs-renew.timer continues\n"},
		{"off, and no one held it back", "release", "", "False", "", ""},
		{"on, by systemd itself", "release", theirs, "False", theirs, ""},
		{"in check mode", "hold", theirs, "True", theirs, "changed: would hold back k8s-certs-renew.timer\n"},
	} {
		t.Run(row.action+" "+row.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			for _, name := range []string{"systemctl", "systemd-run"} {
				n.write(n.bin+"/"+name, []byte(timers), 0o700)
			}
			for unit := range strings.FieldsSeq(row.active) {
				n.write(n.bin+"/units/"+unit, nil, 0o600)
			}
			script := "mkdir -p " + n.bin + "/units\nKSCERT_CHECK=" + row.check + " KSCERT_TIMER_ACTION=" + row.action + "\n" +
				role(t, "renewal_timer/files/timer.sh")
			out, errs, err := n.run(script)
			if err != nil || out != row.answered {
				t.Fatalf("%v: %q, want %q; %s", err, out, row.answered, errs)
			}
			active, _, err := n.run("ls " + n.bin + "/units\n")
			if err != nil || strings.TrimSpace(active) != row.then {
				t.Errorf("%v: active are %q, want %q", err, active, row.then)
			}
			reported := string(n.read(n.bin + "/reported"))
			if held := strings.Contains(reported, "systemd-run --quiet --unit=kscertctl-release-timer --on-active=1d systemctl start "+theirs+"\n"); held != (row.check == "False" && row.then == ours) {
				t.Errorf("systemd was reported to start it again within a day: %t\n%s", held, reported)
			}
			if held, stopped := strings.Index(reported, "systemd-run"), strings.Index(reported, "stop "+theirs); row.answered != "" && row.check == "False" && row.action == "hold" && (held < 0 || held > stopped) {
				t.Errorf("it was stopped before systemd was reported to start it again:\n%s", reported)
			}
		})
	}
}

// If systemd cannot schedule the release, the timer is not held back, or no longer.
func TestRenewalTimerIsNotForgotten(t *testing.T) {
	t.Parallel()
	const theirs, ours = "k8s-certs-renew.timer", "kscertctl-release-timer.timer"
	for _, active := range []string{theirs, ours} {
		n := newNode(t)
		for _, name := range []string{"systemctl", "systemd-run"} {
			n.write(n.bin+"/"+name, []byte(timers), 0o700)
		}
		n.write(n.bin+"/units/"+active, nil, 0o600)
		n.write(n.bin+"/units/broken", nil, 0o600)
		_, errs, err := n.run("KSCERT_CHECK=False KSCERT_TIMER_ACTION=hold\n" + role(t, "renewal_timer/files/timer.sh"))
		if err == nil || !strings.Contains(errs, "systemd-run cannot release "+theirs+" after a day: no bus") {
			t.Errorf("%s: %v, %q", active, err, errs)
		}
		if _, _, err := n.run("[ -e " + n.bin + "/units/" + theirs + " ]\n"); err != nil {
			t.Errorf("%s: the timer was forgotten", active)
		}
	}
}
