#!/bin/sh
# update-ca-certificates and a replaced file: the bundle has the new CA, the directory not.
#
# Versions  ca-certificates 20250419~deb12u2 and OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2)
# Guess     A cluster CA lies in /usr/local/share/ca-certificates/kube-ca.crt. At a
#           rotation the file is replaced by a CA of another name, or by a bundle of both,
#           and update-ca-certificates runs. It then treats the file as it would treat a
#           new one, so whatever trusts the system's CAs trusts what the file holds.
# Seen      The command compares names of files, not what is in them:
#                                   trusted: by the bundle   by the directory   hooks
#             new file                       old             old                run
#             replaced by the new CA         new             none               not run
#             replaced by both               both            only old           not run
#             both, with --fresh             both            none               run
#           It prints "0 added, 0 removed; done." and exits 0. --fresh makes the links
#           again: that helps after a replacement, but takes a file of two certificates
#           out of the directory ("does not contain exactly one certificate").
# So        Programs that read the bundle work, those that use the directory
#           (SSL_CERT_DIR, -CApath) or a store that a hook fills (Java's) do not, on one
#           and the same node. Use one file for each CA, with a new name for a new CA.
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

# update [--fresh]: what the command reports
update() {
	: >called
	update-ca-certificates "$@" --certsconf "$t/conf" --certsdir "$t/root/usr/share/ca-certificates" \
		--localcertsdir "$t/local" --etccertsdir "$t/certs" --hooksdir "$t/hooks" 2>err | grep ' added, '
}

# trusted: the CAs that the bundle leads to, then those that the directory leads to
trusted() {
	for n in old new; do
		openssl verify -no-CApath -no-CAstore -CAfile certs/ca-certificates.crt "$n.crt" >o 2>&1 && printf '%s ' "$n"
	done
	printf '|'
	for n in old new; do
		openssl verify -no-CAfile -no-CAstore -CApath certs "$n.crt" >o 2>&1 && printf ' %s' "$n"
	done
	echo
}

mkdir local certs hooks
printf '#!/bin/sh\ncat >"%s/called"\n' "$t" >hooks/store
chmod +x hooks/store
(cd root/usr/share/ca-certificates && find mozilla -name '*.crt' | sort | head -n 3) >conf
for n in old new; do
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $n.key \
		-subj "/CN=kubernetes-ca-$n" -days 5 -out $n.crt 2>/dev/null
done

update >first
cp old.crt local/kube-ca.crt
is 'new file' "$(update)" '1 added, 0 removed; done.'
is 'new file, hooks are called' "$(wc -l <called)" 1
is 'new file, trusted' "$(trusted)" 'old | old'

cp new.crt local/kube-ca.crt
is 'replaced' "$(update)" '0 added, 0 removed; done.'
is 'replaced, hooks are called' "$(wc -l <called)" 0
is 'replaced, trusted' "$(trusted)" 'new |'
update --fresh >fresh
is 'replaced, --fresh, trusted' "$(trusted)" 'new | new'

cp old.crt local/kube-ca.crt
update --fresh >fresh
is 'back, --fresh, trusted' "$(trusted)" 'old | old'

cat old.crt new.crt >local/kube-ca.crt
is 'both' "$(update)" '0 added, 0 removed; done.'
is 'both, hooks are called' "$(wc -l <called)" 0
is 'both, trusted' "$(trusted)" 'old new | old'
update --fresh >fresh
is 'both, --fresh, trusted' "$(trusted)" 'old new |'
is 'both, --fresh, warns' "$(grep -c 'skipping kube-ca.pem' err)" 1
