# Replaces CA certificates with their re-issued successors (issue.sh), in every file and kubeconfig
# of this node. A successor has the same key and subject, so the node comes to trust nothing new.
# Every other certificate of a bundle stays, and every other byte of a file.
need_backup
sweep
# Kubeconfigs hold keys: their new versions stay in the same directory.
if [ -d "$conf" ]; then open_stage "$conf"; else open_stage "$(safe_dir "$KSCERT_ETCD_DIR")"; fi

printf '%s\n' "$KSCERT_NEW" | while IFS='|' read -r name data; do
  [ -n "$name" ] || continue
  at "$name"
  printf '%s' "$data" | base64 -d >"$stage/new.$name" || fail "the new certificate of $name is not base64"
  alone x509 "$stage/new.$name" || fail "the new certificate of $name cannot be read"
  openssl x509 -in "$stage/new.$name" -noout -text | grep -q 'CA:TRUE' ||
    fail "the new certificate of $name is none of a CA"
  openssl verify -CAfile "$stage/new.$name" "$stage/new.$name" >/dev/null 2>&1 ||
    fail "the new certificate of $name is not valid here now: check the clock of this node"
  identity "$stage/new.$name" >"$stage/whose.$name"
done

# new_for FILE: the new certificate that succeeds the one in FILE, or that is in FILE already.
new_for() {
  whose=$(identity "$1") || return 1
  for new in "$stage"/new.*; do
    [ "$whose" = "$(cat "$stage/whose.${new##*/new.}")" ] || continue
    echo "${new##*/new.}"
    return 0
  done
  return 1
}

# renewed FILE: leaves in $stage/renewed FILE with the new certificates, and in $followed their CAs;
# fails if there is nothing to replace.
renewed() {
  blocks "$1"
  followed='' with=''
  for block in "$stage"/block.*; do
    [ -f "$block" ] || return 1
    name=$(new_for "$block") || continue
    # A new one that is there already is written once.
    case "$with " in
    *":$name "*) followed="$followed $name" ;;
    *) [ "$(fingerprint "$block")" = "$(fingerprint "$stage/new.$name")" ] || followed="$followed $name" ;;
    esac
    with="$with ${block##*.}:$name"
  done
  [ -n "$followed" ] || return 1
  awk -v with="$with" -v new="$stage/new." '
    BEGIN { n = split(with, all, " "); for (i = 1; i <= n; i++) { split(all[i], of, ":"); by[of[1]] = of[2] } }
    /^-----BEGIN CERTIFICATE-----/ {
      k++
      if (k in by) {
        skip = 1
        if (!(by[k] in put)) { put[by[k]]; while ((getline line <(new by[k])) > 0) print line; close(new by[k]) }
      }
    }
    !skip
    /^-----END CERTIFICATE-----/ { skip = 0 }' "$1" >"$stage/renewed"
}
