# Runs on the other control planes: puts the next CA next to the present one (make.sh).
need_backup
received=$pki/.kscertctl.receive
open_stage "$(safe_dir "$pki")"
trap 'rm -rf "$stage" "$received"' EXIT
given
while IFS='|' read -r name _ _ _ key; do
  [ -n "$name" ] || continue
  rotated "$name"
  [ "$(fingerprint "$ca")" = "$(fingerprint "$stage/former.$name")" ] ||
    fail "$ca is another certificate than on the control plane that has made the next one"
  if [ -s "$base-next.key" ] && pair "$stage/next.$name" "$base-next.key" 2>/dev/null; then
    cp "$base-next.key" "$stage/key"
  else
    printf '%s' "$key" | base64 -d >"$stage/encrypted" || fail "the key of the next $name is not base64"
    quietly openssl cms -decrypt -inform DER -in "$stage/encrypted" -inkey "$received/key" -recip "$received/crt" \
      -out "$stage/key"
  fi
  pair "$stage/next.$name" "$stage/key" 2>/dev/null || fail "the key of the next $name does not belong to it"
  [ ! -s "$stage/cross.$name" ] || create "$stage/cross.$name" "$ca" "$base-cross.crt"
  create "$stage/former.$name" "$ca" "$base-former.crt"
  create_key "$stage/key" "$base-next.key"
  create "$stage/next.$name" "$ca" "$base-next.crt"
  rm -f "$stage/key"
done <"$stage/given"
