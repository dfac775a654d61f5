# The leaves of Kubespray's host etcd: how a successor is requested from etcd's CA, signed, and
# placed. The key of a leaf stays on its node; only public data travels between nodes.
# shellcheck shell=sh disable=SC2034,SC2154
dir=$KSCERT_ETCD_DIR

# The CA that signs; while it is rotated, the next one.
issuer_file=$dir/ca.pem issuer_key=$dir/ca-key.pem
case ${KSCERT_CA_STAGE:-} in
clients | servers) [ -z "$(next_ca etcd-host-ca)" ] || issuer_file=$dir/ca-next.pem issuer_key=$dir/ca-next-key.pem ;;
esac

# check_etcd_authority: its key is here and matches, and the certificate is valid.
check_etcd_authority() {
  [ -f "$issuer_key" ] || fail "$issuer_key does not exist: etcd certificates must be issued where it is"
  check_issuer "$issuer_file" "$issuer_key"
}

# request OLD KEY: $stage/request, signed by the key of OLD. OpenSSL 1.1.1 writes text before it.
request() {
  quietly openssl x509 -x509toreq -in "$1" -signkey "$2" -out "$stage/request.text"
  quietly openssl req -in "$stage/request.text" -out "$stage/request"
}

# vouch OLD: checks that $stage/request comes from who has the key of OLD, which etcd's CA has
# signed. The successor gets what OLD has, whatever the request names.
vouch() {
  verify "$dir/ca.pem" "$1" -no_check_time >/dev/null 2>&1 || fail "etcd's CA has not signed the old certificate"
  [ "$(openssl req -in "$stage/request" -noout -pubkey)" = "$(openssl x509 -in "$1" -noout -pubkey)" ] ||
    fail 'the request is for another key than that of the old certificate'
  was=$(names "$1" | sed -n 1p)
  if [ -z "$was" ] || [ "$(names "$stage/request" | sed -n 1p)" != "$was" ]; then
    fail 'the request has another subject than the old certificate'
  fi
}

# sign OLD: signs $stage/request to $stage/new.pem, with the names, usages and lifetime of OLD.
sign() {
  {
    echo 'basicConstraints = CA:FALSE'
    echo 'subjectKeyIdentifier = hash'
    echo 'authorityKeyIdentifier = keyid,issuer'
    # As DER, byte by byte: no name can become another line here.
    fields "$1" | sed -n -e 's/^extension 551d25 \(.*\)$/extendedKeyUsage = DER:\1/p' \
      -e 's/^extension 551d11 \(.*\)$/subjectAltName = DER:\1/p'
  } >"$stage/extensions"
  lifetime=$(($(date_of "$1" enddate) - $(date_of "$1" startdate)))
  [ "$lifetime" -ge 31536000 ] || lifetime=31536000
  sign_request "$issuer_file" "$issuer_key" "$lifetime"
}

# take OLD KEY: $stage/new.pem replaces OLD, and the copies that Kubespray makes for network plugins
# which keep their data in etcd.
take() {
  pair "$stage/new.pem" "$2" || fail "the new $1 does not belong to its key"
  # Of what was signed elsewhere, the chain is known.
  [ -n "$given" ] || chain "$1" "$stage/new.pem" "$dir/ca.pem"
  check_successor "$1" "$stage/new.pem" "$dir/ca.pem"
  copies=
  for copy in "$root/etc/calico/certs/cert.crt" "$root/etc/cilium/certs/cert.crt"; do
    ! cmp -s "$1" "$copy" || copies="$copies $copy"
  done
  for file in "$1" $copies; do
    place "$stage/new.pem" "$file"
    changed "$file"
  done
}
