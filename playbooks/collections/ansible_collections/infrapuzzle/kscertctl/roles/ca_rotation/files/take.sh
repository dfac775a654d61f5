# Runs on the other nodes that have a key of a CA: puts the next CA next to the present one (make.sh).
need_backup
open_stage "$(safe_dir "$(home_of_cas)")"
trap 'rm -rf "$stage" "$received"' EXIT
given
while IFS='|' read -r name _ _ _ key; do
  [ -n "$name" ] || continue
  rotated "$name"
  [ "$(fingerprint "$ca")" = "$(fingerprint "$stage/former.$name")" ] ||
    fail "$ca is another certificate than on the node that has made the next one"
  if [ -s "$ca_next_key" ] && pair "$stage/next.$name" "$ca_next_key" 2>/dev/null; then
    cp "$ca_next_key" "$stage/key"
  else
    printf '%s' "$key" | base64 -d >"$stage/encrypted" || fail "the key of the next $name is not base64"
    quietly openssl cms -decrypt -inform DER -in "$stage/encrypted" -inkey "$received/key" -recip "$received/crt" \
      -out "$stage/key"
  fi
  pair "$stage/next.$name" "$stage/key" 2>/dev/null || fail "the key of the next $name does not belong to it"
  [ ! -s "$stage/cross.$name" ] || create "$stage/cross.$name" "$ca" "$ca_cross"
  put_next "$stage/former.$name" "$stage/key" "$stage/next.$name"
  rm -f "$stage/key"
done <"$stage/given"
