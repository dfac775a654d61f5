#!/bin/sh
# A crontab line with days of the month and of the week runs on either in Kubernetes, and under
# systemd-cron only where both meet.
#
# Versions  systemd-cron 1.15.19-5 (Debian 12), systemd-analyze 252.39 (Debian
#           252.39-1~deb12u2), github.com/robfig/cron/v3 3.0.1 (the parser of Kubernetes
#           1.37's CronJob), Go 1.26.8
# Guess     systemd-cron makes two OnCalendar lines of such a schedule, one for each field,
#           since crontab(5) has the job run if either matches. Both run it equally often.
# Seen      There is one OnCalendar line, in which systemd demands both. In 2027,
#             0 3 1,15 * 1    "the 1st, the 15th and Mondays"   CronJob 70 times, systemd-cron 6
#             0 3 1-7 * 0     "the first Sunday", often wanted  CronJob 124, systemd-cron 12
#             0 3 */2 * 1     every second day of the month     CronJob 211, systemd-cron 27
#           A field with a star in it is no restriction by crontab(5), so in the last one both
#           must match. CronJob counts only a bare star as none.
# So        A line that is moved between a crontab, systemd-cron and a CronJob can run six
#           times a year instead of seventy, and nothing reports it. Restrict one of the two
#           fields, and test the other one in the job.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"
export GOTOOLCHAIN=go1.26.8 GOFLAGS=-buildvcs=false GOWORK=off

for p in systemd-cron=1.15.19-5 systemd=252.39-1~deb12u2 libsystemd-shared=252.39-1~deb12u2 \
	libapparmor1=3.0.8-3 libkmod2=30+20221128-1 libip4tc2=1.8.9-2 libgcrypt20=1.10.1-3+deb12u1 \
	libseccomp2=2.5.4-1+deb12u1 libcap2=1:2.66-4+deb12u3+b1 \
	libssl3=3.0.22-1~deb12u2 libgpg-error0=1.46-1; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done

cat >main.go <<'EOF'
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/robfig/cron/v3"
)

func main() {
	schedule, err := cron.ParseStandard(os.Args[1])
	if err != nil {
		panic(err)
	}
	n := 0
	for at := time.Date(2026, 12, 31, 12, 0, 0, 0, time.UTC); ; n++ {
		if at = schedule.Next(at); at.Year() > 2027 {
			break
		}
	}
	fmt.Println(n)
}
EOF
go mod init finding 2>/dev/null
go get github.com/robfig/cron/v3@v3.0.1 2>/dev/null
go build -o cronjob .

# The generator has the places of crontabs built in, so its functions are called.
cat >units.py <<'EOF'
import importlib.machinery, importlib.util, itertools, os, sys
path = 'root/lib/systemd/system-generators/systemd-crontab-generator'
loader = importlib.machinery.SourceFileLoader('generator', path)
generator = importlib.util.module_from_spec(importlib.util.spec_from_loader('generator', loader))
loader.exec_module(generator)
generator.TARGET_DIR = generator.TIMERS_DIR = sys.argv[2]
for job in generator.parse_crontab(sys.argv[1], withuser=True):
    generator.generate_timer_unit(job, seq=itertools.count())
EOF

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

# on SCHEDULE: how often each runs it in 2027, and how many OnCalendar lines it becomes
on() {
	rm -rf units lines
	mkdir units
	printf '%s root true\n' "$1" >lines
	python3 -W ignore units.py lines "$t/units"
	sed -n 's/^OnCalendar=//p' units/*.timer >calendar
	runs=$(
		for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p:$t/root/lib/${p##*/}:$p/systemd"; done
		TZ=UTC LC_ALL=C "$t/root/usr/bin/systemd-analyze" calendar --base-time='2026-12-31 12:00' --iterations=400 \
			"$(cat calendar)" | grep -c '\(Next elapse\|Iter[^:]*\): [A-Z][a-z]* 2027-'
	)
	printf 'CronJob %s, systemd-cron %s in %s line' "$(./cronjob "$1")" "$runs" "$(grep -c . calendar)"
}

is '0 3 1,15 * 1' "$(on '0 3 1,15 * 1')" 'CronJob 70, systemd-cron 6 in 1 line'
is '0 3 1-7 * 0' "$(on '0 3 1-7 * 0')" 'CronJob 124, systemd-cron 12 in 1 line'
is '0 3 */2 * 1' "$(on '0 3 */2 * 1')" 'CronJob 211, systemd-cron 27 in 1 line'
is '0 3 * * 1' "$(on '0 3 * * 1')" 'CronJob 52, systemd-cron 52 in 1 line'
