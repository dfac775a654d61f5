# On a node that has the key of etcd's authority: signs what another one asked for
# (renew.sh), and prints the certificates. Nothing is changed here.
check_etcd_authority
open_stage "$dir"
printf '%s\n' "$KSCERT_REQUESTS" >"$stage/requests"
while IFS='|' read -r name days usage names data; do
  # These words become a configuration of openssl.
  case $days$usage$names in *[!A-Za-z0-9.:*,\ -]*) fail "$name: not a request for an etcd certificate: $days $usage $names" ;; esac
  printf '%s' "$data" | base64 -d >"$stage/request"
  quietly openssl req -in "$stage/request" -noout -verify
  sign
  printf 'issued: %s|%s\n' "$name" "$(base64 <"$stage/new.pem" | tr -d '\n')"
done <"$stage/requests"
