#!/bin/sh
# uutils date: a file's time is now, a Unix time is off by the zone, notAfter is refused.
#
# Versions  uutils coreutils 0.0.30 (Debian 13, rust-coreutils 0.0.30-2),
#           GNU coreutils 9.1 (Debian 12)
# Guess     A renewal script asks date for four things: the time of a certificate file,
#           the time of a Unix time, today in twelve months, and the Unix time of what
#           "openssl x509 -enddate" prints. uutils replaces GNU's date and gives the same,
#           or an error for a form that it does not know.
# Seen      Only the last is an error; the others exit 0 with a wrong time:
#             -r FILE              the present time, whatever the file's
#             -d @N in Berlin      one hour early, also with +%s: N - 3600
#             -d '12 months'       360 days from now
#             -d 'Nov 28 19:17:43 2027 GMT'   invalid date
#           In UTC, -d @N is right, and so is -d 2027-11-28T19:17:43Z in every zone. uutils
#           0.12.0 (Debian unstable in November 2026) was right in all four.
# So        With the uutils of a stable release a check "is this file older than" is always
#           false, and one by Unix time errs by the zone. Use stat -c %Y and
#           "openssl x509 -checkend".
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

# Debian 13, from the mirror that this machine uses
mkdir -p apt/lists/partial apt/cache/archives/partial
# shellcheck disable=SC2016 # for apt
apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | sort -u |
	sed 's|.*|deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] & trixie main|' >apt/list
apt13() {
	apt-get -qq -o Dir::Etc::SourceList="$t/apt/list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$t/apt/lists" -o Dir::Cache="$t/apt/cache" -o APT::Sandbox::User=root "$@"
}
apt13 update
for p in rust-coreutils=0.0.30-2 libc6=2.41-12+deb13u5 libgcc-s1=14.2.0-19 libselinux1=3.8.1-1 \
	libpcre2-8-0=10.46-1~deb13u3 tzdata=2026f-0+deb13u1; do
	apt13 download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
export TZDIR="$t/root/usr/share/zoneinfo" LC_ALL=C

set -- "$t"/root/usr/lib/*-linux-gnu/ld-linux-*.so.2
ld=$1
uutils() { "$ld" --library-path "${ld%/*}" --argv0 coreutils "$t/root/usr/bin/coreutils" date "$@" 2>&1; }

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

# both WHAT ZONE GNU UUTILS ARGUMENTS...
both() {
	what=$1 zone=$2 gnu=$3 other=$4
	shift 4
	is "$what, GNU" "$(TZ=$zone date "$@" 2>&1)" "$gnu"
	is "$what, uutils" "$(TZ=$zone uutils "$@")" "$other"
}

touch -d 2019-01-02T03:04:05Z apiserver.crt
both 'time of a file' UTC 2019 "$(date -u +%Y)" -r apiserver.crt +%Y
both 'Unix time, Berlin' Europe/Berlin 2027-11-28T20:17:43+01:00 2027-11-28T19:17:43+01:00 \
	-d @1827429463 +%FT%T%:z
both 'Unix time there and back, Berlin' Europe/Berlin 1827429463 1827425863 -d @1827429463 +%s
both 'Unix time, UTC' UTC 2027-11-28T19:17:43+00:00 2027-11-28T19:17:43+00:00 -d @1827429463 +%FT%T%:z
both 'twelve months' UTC "$(date -ud '1 year' +%F)" "$(date -ud '360 days' +%F)" -d '12 months' +%F
both "openssl's notAfter" UTC 1827429463 "date: invalid date 'Nov 28 19:17:43 2027 GMT'" \
	-d 'Nov 28 19:17:43 2027 GMT' +%s
both 'RFC 3339, Berlin' Europe/Berlin 1827429463 1827429463 -d 2027-11-28T19:17:43Z +%s
