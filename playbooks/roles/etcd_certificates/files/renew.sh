# Renews the leaves of Kubespray's host etcd that are due: same key, subject,
# names and usages, signed by etcd's own authority, for as long as before.
dir=$KSCERT_ETCD_DIR
[ -f "$dir/ca.pem" ] || exit 0
need_backup
sweep

due=
for cert in "$dir"/member-*.pem "$dir"/admin-*.pem "$dir"/node-*.pem; do
  case $cert in *-key.pem) continue ;; esac
  [ -f "$cert" ] || continue
  ends_within "$cert" "$seconds" && due="$due $cert"
done
[ -n "$due" ] || exit 0

[ -f "$dir/ca-key.pem" ] || fail "$dir/ca-key.pem does not exist: etcd certificates must be issued where it is"
pair "$dir/ca.pem" "$dir/ca-key.pem" || fail "$dir/ca-key.pem does not belong to $dir/ca.pem"
! ends_within "$dir/ca.pem" 0 || fail "$dir/ca.pem has expired: what it signs is worth nothing"
for cert in $due; do would_renew "$cert" || break; done
[ "$KSCERT_CHECK" != True ] || exit 0
open_stage "$dir"

field() { openssl x509 -in "$1" -noout -text | sed -n "/$2/{n;p;}" | sed 's/^ *//'; }
date_of() { date -d "$(openssl x509 -in "$1" -noout "-$2" | cut -d= -f2)" +%s; }

for cert in $due; do
  key=${cert%.pem}-key.pem
  [ -f "$key" ] || fail "$key does not exist"
  pair "$cert" "$key" || fail "$key does not belong to $cert"
  {
    echo 'basicConstraints = CA:FALSE'
    echo 'subjectKeyIdentifier = hash'
    echo 'authorityKeyIdentifier = keyid,issuer'
    usage=$(field "$cert" 'Extended Key Usage' | sed 's/TLS Web Server Authentication/serverAuth/; s/TLS Web Client Authentication/clientAuth/')
    [ -z "$usage" ] || echo "extendedKeyUsage = $usage"
    names=$(field "$cert" 'Subject Alternative Name' | sed 's/IP Address:/IP:/g')
    [ -z "$names" ] || echo "subjectAltName = $names"
  } >"$stage/extensions"
  # Never beyond the authority's own end.
  days=$((($(date_of "$cert" enddate) - $(date_of "$cert" startdate)) / 86400))
  [ "$days" -ge 365 ] || days=365
  left=$((($(date_of "$dir/ca.pem" enddate) - $(date +%s)) / 86400))
  [ "$days" -le "$left" ] || days=$left
  quietly openssl x509 -x509toreq -in "$cert" -signkey "$key" -out "$stage/request"
  quietly openssl x509 -req -in "$stage/request" -sha256 -days "$days" -set_serial "0x$(openssl rand -hex 15)" \
    -CA "$dir/ca.pem" -CAkey "$dir/ca-key.pem" -extfile "$stage/extensions" -out "$stage/new.pem"
  pair "$stage/new.pem" "$key" || fail "the new $cert does not belong to its key"
  check_successor "$cert" "$stage/new.pem" "$dir/ca.pem"
  place "$stage/new.pem" "$cert"
  changed "$cert"
done
