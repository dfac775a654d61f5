#!/bin/sh
# uutils date cannot read RFC 5280's date for a certificate that never expires.
#
# Versions  uutils coreutils 0.12.0 (rust-coreutils 0.12.0-1 of Debian forky, November 2026),
#           GNU coreutils 9.1 (Debian 12), OpenSSL 3.0
# Guess     RFC 5280 (4.1.2.5) has 99991231235959Z for "no well-defined expiration", and a
#           year of four digits is the last one that every date parser is tested with. If
#           there is a limit, it is the end of a year, or one of the format.
# Seen      The last time is 9999-12-30 22:00:00 UTC: one day and two hours before that date,
#           in words as in seconds since 1970, and for a date in any zone. Later ones are an
#           "invalid date". GNU's date reads them.
# So        A script that compares the end of a CA with date -d fails on such a CA only, and
#           only on hosts with uutils. "openssl x509 -checkend" knows no such limit.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

# Debian forky, from the mirror that this machine uses
mkdir -p apt/lists/partial apt/cache/archives/partial
# shellcheck disable=SC2016 # for apt
apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | sort -u |
	sed 's|.*|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & forky main|' >apt/list
forky() {
	apt-get -qq -o Dir::Etc::SourceList="$t/apt/list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$t/apt/lists" -o Dir::Cache="$t/apt/cache" -o APT::Sandbox::User=root "$@"
}
forky update
forky download rust-coreutils=0.12.0-1 libc6=2.43-7 libgcc-s1=16.2.0-3 libselinux1=3.11-2.1+b1 \
	libpcre2-8-0=10.48-3.1 libssl3t64=3.6.5-1 libsystemd0=262-1 zlib1g=1:1.3.dfsg+really1.3.2-3 \
	libzstd1=1.5.7+dfsg-4
for p in *.deb; do dpkg -x "$p" root; done
set -- "$t"/root/usr/lib/*-linux-gnu/ld-linux-*.so.2
ld=$1
uutils() { "$ld" --library-path "${ld%/*}" "$t/root/usr/bin/coreutils" "$@" 2>&1; }

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

is 'uutils' "$(uutils date --version | head -n 1)" 'date (uutils coreutils) 0.12.0'

# A certificate as RFC 5280 has it, and what openssl prints of it.
cat >ca.cnf <<'END'
[ca]
default_ca = d
[d]
database = index
rand_serial = yes
policy = p
[p]
commonName = supplied
END
: >index
openssl req -new -newkey rsa:2048 -nodes -keyout key -subj /CN=device -out request 2>/dev/null
openssl ca -batch -config ca.cnf -selfsign -keyfile key -md sha256 -startdate 20260101000000Z \
	-enddate 99991231235959Z -in request -out never.crt -notext -outdir . 2>/dev/null
ends=$(openssl x509 -in never.crt -noout -enddate)
is 'openssl' "$ends" 'notAfter=Dec 31 23:59:59 9999 GMT'

never=${ends#*=}
is 'never, GNU' "$(date -d "$never" +%s)" 253402300799
is 'never, uutils' "$(uutils date -d "$never" +%s)" "date: invalid date '$never'"
is 'in seconds, uutils' "$(uutils date -d @253402300799 +%s)" "date: invalid date '@253402300799'"
is 'the last time, uutils' "$(uutils date -u -d '9999-12-30 22:00:00 UTC' +%s)" 253402207200
is 'a second later, uutils' "$(uutils date -u -d '9999-12-30 22:00:01 UTC' +%s)" "date: invalid date '9999-12-30 22:00:01 UTC'"
is 'a second later, in seconds' "$(uutils date -u -d @253402207201 +%s)" "date: invalid date '@253402207201'"
is 'openssl -checkend' "$(openssl x509 -in never.crt -noout -checkend 2147483647)" 'Certificate will not expire'
