# The leaves of Kubespray's host etcd: what is asked of etcd's authority for a
# successor, how it signs, and how the successor takes its place. The key of a leaf
# stays where it is; what travels between nodes is public.
# shellcheck shell=sh disable=SC2034,SC2154
dir=$KSCERT_ETCD_DIR

field() { openssl x509 -in "$1" -noout -text | sed -n "/$2/{n;p;}" | sed 's/^ *//'; }
date_of() { date -d "$(openssl x509 -in "$1" -noout "-$2" | cut -d= -f2)" +%s; }

# request CERTIFICATE KEY: leaves $stage/request, and in $names, $usage and $days what
# the old one was for.
request() {
  usage=$(field "$1" 'Extended Key Usage' | sed 's/TLS Web Server Authentication/serverAuth/; s/TLS Web Client Authentication/clientAuth/')
  names=$(field "$1" 'Subject Alternative Name' | sed 's/IP Address:/IP:/g')
  days=$((($(date_of "$1" enddate) - $(date_of "$1" startdate)) / 86400))
  [ "$days" -ge 365 ] || days=365
  quietly openssl x509 -x509toreq -in "$1" -signkey "$2" -out "$stage/request"
}

# check_etcd_authority: its key is here, belongs to it, and it is valid.
check_etcd_authority() {
  [ -f "$dir/ca-key.pem" ] || fail "$dir/ca-key.pem does not exist: etcd certificates must be issued where it is"
  pair "$dir/ca.pem" "$dir/ca-key.pem" || fail "$dir/ca-key.pem does not belong to $dir/ca.pem"
  ! ends_within "$dir/ca.pem" 0 || fail "$dir/ca.pem has expired: what it signs is worth nothing"
}

# sign: $stage/request, with $names, $usage and $days, to $stage/new.pem; never beyond
# the authority's own end.
sign() {
  {
    echo 'basicConstraints = CA:FALSE'
    echo 'subjectKeyIdentifier = hash'
    echo 'authorityKeyIdentifier = keyid,issuer'
    [ -z "$usage" ] || echo "extendedKeyUsage = $usage"
    [ -z "$names" ] || echo "subjectAltName = $names"
  } >"$stage/extensions"
  left=$((($(date_of "$dir/ca.pem" enddate) - $(date +%s)) / 86400))
  [ "$days" -le "$left" ] || days=$left
  quietly openssl x509 -req -in "$stage/request" -sha256 -days "$days" -set_serial "0x$(openssl rand -hex 15)" \
    -CA "$dir/ca.pem" -CAkey "$dir/ca-key.pem" -extfile "$stage/extensions" -out "$stage/new.pem"
}

# take CERTIFICATE KEY: $stage/new.pem takes its place, and that of the copies that
# Kubespray makes for network plugins which keep their data in etcd.
take() {
  pair "$stage/new.pem" "$2" || fail "the new $1 does not belong to its key"
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
