# Runs on a node that has the key of etcd's CA: signs what others request (renew.sh), each for no
# more than its current certificate, and prints the certificates. It changes nothing on the node. A
# refused request does not stop the others.
check_etcd_authority
open_stage "$(safe_dir "$dir")"
printf '%s\n' "$KSCERT_REQUESTS" >"$stage/requests"
refused=
while IFS='|' read -r host id old data; do
  if why=$(
    printf '%s' "$old" | base64 -d >"$stage/old.pem" && printf '%s' "$data" | base64 -d >"$stage/request" &&
      { { alone x509 "$stage/old.pem" && alone req "$stage/request"; } ||
        fail 'the old certificate or the request cannot be read'; } 2>&1 &&
      { vouch "$stage/old.pem" && sign "$stage/old.pem"; } 2>&1
  ); then
    printf 'issued: %s|%s|%s\n' "$host" "$id" "$(one_line <"$stage/new.pem")"
  else
    refused="$refused$host: ${why#kscertctl: }; "
  fi
done <"$stage/requests"
[ -z "$refused" ] || fail "not signed: ${refused%; }"
