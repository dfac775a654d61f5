#!/bin/sh
# Two CAs of one name in a bundle: OpenSSL takes the first, GnuTLS the last.
#
# Versions  OpenSSL 3.0.22 (Debian 3.0.22-1~deb12u2), GnuTLS certtool 3.7.9,
#           NSS certutil 3.87.1
# Guess     Two CAs with the same subject and no key identifiers are in one bundle,
#           as during a rotation. OpenSSL only tries the first (known). GnuTLS is as
#           simple or simpler, so it also takes the first: the CA of the serving
#           certificate goes on top, and curl, Python, apt and wget are content.
# Seen      GnuTLS only tries the last one ("The signature in the certificate is
#           invalid"). For each leaf exactly one of the two libraries refuses, in
#           either order. NSS tries both and accepts both leaves.
#             bundle  leaf of a           leaf of b
#             a,b     openssl only        gnutls only
#             b,a     gnutls only         openssl only
# So        Ordering a bundle is no fix on a node that has both libraries. Another
#           name for the new CA, or key identifiers, is.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

for p in openssl=3.0.22-1~deb12u2 libssl3=3.0.22-1~deb12u2 \
	gnutls-bin=3.7.9-2+deb12u7 libgnutls30=3.7.9-2+deb12u7 libgnutls-dane0=3.7.9-2+deb12u7 \
	libnss3-tools=2:3.87.1-1+deb12u4 libnss3=2:3.87.1-1+deb12u4 libnspr4=2:4.35-1; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
for p in "$t"/root/usr/lib/*-linux-gnu; do export LD_LIBRARY_PATH="$p"; done
export PATH="$t/root/usr/bin:$PATH" OPENSSL_CONF="$t/c.cnf"

# ca NAME COMMON_NAME SKI AKI: a CA, and a leaf of it in leaf-NAME.crt
ca() {
	cat >c.cnf <<EOF
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = $3
[leaf]
subjectAltName = DNS:localhost
subjectKeyIdentifier = none
authorityKeyIdentifier = $4
EOF
	serial=$((${serial:-0} + 1))
	openssl ecparam -name prime256v1 -genkey -noout -out k
	openssl req -x509 -extensions ca -key k -subj "/CN=$2" -days 5 -out "$1.crt"
	openssl req -new -key k -subj /CN=localhost |
		openssl x509 -req -CA "$1.crt" -CAkey k -set_serial "$serial" -days 4 \
			-extfile c.cnf -extensions leaf -out "leaf-$1.crt" 2>/dev/null
}

# verdicts LEAF CA...: what each library reports with a bundle of these CAs
verdicts() {
	leaf=$1
	shift
	rm -rf db && mkdir db
	certutil -N -d sql:db --empty-password
	: >bundle
	for c; do
		cat "$c" >>bundle
		certutil -A -d sql:db -n "$c" -t CT,C,C -i "$c"
	done
	certutil -A -d sql:db -n leaf -t ,, -i "$leaf"
	if openssl verify -CAfile bundle "$leaf" >o 2>&1; then printf 'openssl:ok '; else printf 'openssl:no '; fi
	if certtool --verify --load-ca-certificate bundle --infile "$leaf" >g 2>&1; then
		printf 'gnutls:ok '
	else
		printf 'gnutls:no '
	fi
	if certutil -V -d sql:db -n leaf -u V >n 2>&1; then printf 'nss:ok\n'; else printf 'nss:no\n'; fi
}

# is WHAT GOT WANT
is() {
	printf '%s: %s\n' "$1" "$2"
	[ "$2" = "$3" ] || { printf 'CHANGED, it was: %s\n' "$3"; exit 1; }
}

ca a kubernetes none none
ca b kubernetes none none
is 'bundle a,b, leaf of a' "$(verdicts leaf-a.crt a.crt b.crt)" 'openssl:ok gnutls:no nss:ok'
is 'bundle a,b, leaf of b' "$(verdicts leaf-b.crt a.crt b.crt)" 'openssl:no gnutls:ok nss:ok'
is 'bundle b,a, leaf of a' "$(verdicts leaf-a.crt b.crt a.crt)" 'openssl:no gnutls:ok nss:ok'
is 'bundle b,a, leaf of b' "$(verdicts leaf-b.crt b.crt a.crt)" 'openssl:ok gnutls:no nss:ok'
ca c kubernetes hash keyid
ca d kubernetes hash keyid
is 'with identifiers, leaf of the first' "$(verdicts leaf-c.crt c.crt d.crt)" 'openssl:ok gnutls:ok nss:ok'
is 'with identifiers, leaf of the second' "$(verdicts leaf-d.crt c.crt d.crt)" 'openssl:ok gnutls:ok nss:ok'
ca e kubernetes-2026 none none
is 'other name, leaf of the first' "$(verdicts leaf-a.crt a.crt e.crt)" 'openssl:ok gnutls:ok nss:ok'
is 'other name, leaf of the second' "$(verdicts leaf-e.crt a.crt e.crt)" 'openssl:ok gnutls:ok nss:ok'
