#!/bin/sh
# A timer at midnight does not run late where the clock skips midnight: it does not run.
#
# Versions  systemd-analyze 252.39 (Debian 252.39-1~deb12u2), tzdata 2026f
# Guess     Where summer time begins at 00:00 the clock goes from 23:59:59 to 01:00:00. A
#           timer for 00:00 ("daily", "weekly", "monthly") elapses at 01:00 that day, as
#           Debian's cron runs jobs of a skipped hour right after it.
# Seen      There is no elapse on such a day. The timer waits for the next day that has
#           the hour, so the rarer a timer, the longer the gap:
#             daily, Africa/Cairo         no run on 30 April 2027
#             every Sunday, Santiago      14 days between two runs in September 2027
#             first Sunday of the month   no run in all of September 2027
#             monthly, America/Asuncion   no run in all of October 2017
#           Where the hour is there twice (Berlin, 02:30 in October) it elapses once. With
#           "UTC" at the end of the expression no run is missed. Persistent=true does not
#           help: there is no elapse to catch up with.
# So        A renewal "on the first Sunday of the month", as Kubespray plans one for
#           Mondays, can miss a month. Write the zone into OnCalendar, or plan to renew
#           early enough that one missed run does not matter.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

for p in systemd=252.39-1~deb12u2 libsystemd-shared=252.39-1~deb12u2 tzdata=2026f-0+deb12u1 \
	libapparmor1=3.0.8-3 libkmod2=30+20221128-1 libip4tc2=1.8.9-2 libgcrypt20=1.10.1-3+deb12u1 \
	libseccomp2=2.5.4-1+deb12u1 libcap2=1:2.66-4+deb12u3+b1 \
	libssl3=3.0.22-1~deb12u2 libgpg-error0=1.46-1; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p:$t/root/lib/${p##*/}:$p/systemd"; done
export TZDIR="$t/root/usr/share/zoneinfo" LC_ALL=C

# days ZONE FROM EXPRESSION: the next three elapses after FROM, in that zone's time
days() {
	TZ=$1 "$t/root/usr/bin/systemd-analyze" calendar --base-time="$2" --iterations=3 "$3" |
		sed -n 's/.*\(Next elapse\|Iter[^:]*\): [A-Z][a-z]* \([-0-9]*\) \([0-9]*:[0-9]*\):.*/\2T\3/p' |
		paste -sd ' '
}

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

is 'daily, Cairo' "$(days Africa/Cairo '2027-04-28 12:00' daily)" \
	'2027-04-29T00:00 2027-05-01T00:00 2027-05-02T00:00'
is 'every Sunday, Santiago' "$(days America/Santiago '2027-08-28 12:00' 'Sun *-*-* 00:00')" \
	'2027-08-29T00:00 2027-09-12T00:00 2027-09-19T00:00'
is 'first Sunday, Santiago' "$(days America/Santiago '2027-07-31 12:00' 'Sun *-*-01..07 00:00')" \
	'2027-08-01T00:00 2027-10-03T00:00 2027-11-07T00:00'
is 'first Sunday, Santiago, UTC' "$(days America/Santiago '2027-07-31 00:00' 'Sun *-*-01..07 03:00 UTC')" \
	'2027-07-31T23:00 2027-09-04T23:00 2027-10-03T00:00'
is 'monthly, Asuncion' "$(days America/Asuncion '2017-08-15 12:00' monthly)" \
	'2017-09-01T00:00 2017-11-01T00:00 2017-12-01T00:00'
is 'an hour that is there twice, Berlin' "$(days Europe/Berlin '2027-10-30 12:00' '*-*-* 02:30')" \
	'2027-10-31T02:30 2027-11-01T02:30 2027-11-02T02:30'
