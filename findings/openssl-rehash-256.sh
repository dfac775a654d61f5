#!/bin/sh
# The 257th CA named "kubernetes" keeps every later CA out of a Debian machine's trust.
#
# Versions  ca-certificates 20250419~deb12u2, OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2)
# Guess     A machine that watches many clusters has each cluster's CA in a file of its own
#           below /usr/local/share/ca-certificates. All are named CN=kubernetes, as
#           kubeadm names them. The hashed directory numbers equal names (HASH.0, HASH.1,
#           and so on), so their count does not matter.
# Seen      "openssl rehash" takes 256 of one name. With one more it prints "hash table
#           overflow" and exits 1. update-ca-certificates then stops before it moves the
#           new bundle into place, and removes it: exit code 1, and ca-certificates.crt is
#           what it was. The same happens for each CA added later, whatever its name.
#           The next run without another change finds "0 added", does not call rehash,
#           exits 0, and puts all into the bundle.
# So        Roles that run update-ca-certificates fail on the first run and pass on the
#           second. Give CAs names of their own, or give programs a bundle.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 ca-certificates=20250419~deb12u2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p"; done
export PATH="$t/root/usr/bin:$t/root/usr/sbin:$PATH" OPENSSL_CONF="$t/root/etc/ssl/openssl.cnf"

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

# update: the exit code of the command, and how many CAs of clusters the bundle then has
update() {
	code=0
	update-ca-certificates --certsconf "$t/conf" --certsdir "$t/root/usr/share/ca-certificates" \
		--localcertsdir "$t/local" --etccertsdir "$t/certs" --hooksdir "$t/hooks" >out 2>err || code=$?
	echo "$code, $(($(grep -c BEGIN certs/ca-certificates.crt) - 3))"
}

# ca FILE NAME
ca() {
	openssl req -x509 -key key -subj "/CN=$2" -days 5 -out "local/$1.crt" 2>/dev/null
}

mkdir local certs hooks
(cd root/usr/share/ca-certificates && find mozilla -name '*.crt' | sort | head -n 3) >conf
openssl ecparam -name prime256v1 -genkey -noout -out key
i=100
while [ $i -lt 356 ]; do
	ca "cluster-$i" kubernetes
	i=$((i + 1))
done
is '256 of one name: exit code, CAs' "$(update)" '0, 256'
ca cluster-356 kubernetes
is '257 of one name' "$(update)" '1, 256'
is 'it reports' "$(grep -o 'hash table overflow' err)" 'hash table overflow'
ca other monitoring
is 'one of another name' "$(update)" '1, 256'
is 'again, nothing new' "$(update)" '0, 258'
is 'links of openssl rehash' "$(find certs -name '*.[0-9]*' -lname 'cluster-*' | wc -l)" 256
