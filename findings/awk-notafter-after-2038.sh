#!/bin/sh
# Arithmetic with a notAfter after 2038: mawk, busybox awk and mksh each err elsewhere.
#
# Versions  mawk 1.3.4-20200120 (Debian's default awk), gawk 5.2.1, busybox 1.35.0 (awk),
#           mksh 59c with lksh, all amd64 of Debian 12
# Guess     A CA of 100 years, as for etcd in Kubespray, expires in January 2125: Unix time
#           4891363200. awk counts in doubles and shells on amd64 in 64 bits, so all of
#           them print, convert and compare that time correctly.
# Seen             printf "%d"   print          strftime     mktime
#           gawk   4891363200    4891363200     2125-01-01   4891363200
#           mawk   2147483647    4.89136e+09    2038-01-19   4891363200
#           busybox -2147483648  4891363200     2125-01-01   596395904
#           mksh   $((4891363200)) is 596395904 (1988), so it is less than the time of
#           today: "expired". lksh of the same package counts in 64 bits.
# So        No two of them fail at the same place, so a test with one proves nothing for
#           the other. printf "%.0f" works in all three awks.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

for p in mawk=1.3.4.20200120-3.1 gawk=1:5.2.1-2 libsigsegv2=2.14-1 \
	busybox=1:1.35.0-4+deb12u1+b1 mksh=59c-28+deb12u1; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p"; done
export PATH="$t/root/bin:$t/root/usr/bin:$PATH" TZ=UTC LC_ALL=C

# row AWK...: what this awk makes of the time
row() {
	"$@" 'BEGIN {
		t = 4891363200
		printf "%d ", t
		print t, strftime("%Y-%m-%d", t), sprintf("%.0f", mktime("2125 01 01 00 00 00")), sprintf("%.0f", t)
	}'
}

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

is gawk "$(row gawk)" '4891363200 4891363200 2125-01-01 4891363200 4891363200'
is mawk "$(row mawk)" '2147483647 4.89136e+09 2038-01-19 4891363200 4891363200'
is 'busybox awk' "$(row busybox awk)" '-2147483648 4891363200 2125-01-01 596395904 4891363200'
# shellcheck disable=SC2016 # for the shell that is asked
sum='echo $((4891363200)) $((4891363200 > 1795000000))'
is mksh "$(mksh -c "$sum")" '596395904 0'
is lksh "$(lksh -c "$sum")" '4891363200 1'
is 'busybox ash' "$(busybox ash -c "$sum")" '4891363200 1'
