# The files of a rotation are next to those of the CA: the next certificate and its key, the former
# certificate, and the next one as the former CA has signed it.
# shellcheck shell=sh disable=SC2034,SC2154

# rotated NAME: leaves in $ca and $ca_key what at() does, and in $ca_next, $ca_next_key, $ca_former and
# $ca_cross the other files.
rotated() {
  at "$1"
  ca_next=${ca%.*}-next.${ca##*.} ca_former=${ca%.*}-former.${ca##*.} ca_cross=${ca%.*}-cross.${ca##*.}
  trusted_since=${ca%.*}-trusted-since
  case $ca_key in *-key.pem) ca_next_key=${ca_key%-key.pem}-next-key.pem ;; *) ca_next_key=${ca_key%.key}-next.key ;; esac
}

# home_of_cas: a directory of CAs on this node: of etcd alone on a node of its own.
home_of_cas() { if [ -d "$pki" ]; then printf '%s\n' "$pki"; else printf '%s\n' "$KSCERT_ETCD_DIR"; fi; }
received=$(home_of_cas)/.kscertctl.receive

# open_own_stage: a stage where a node has its configuration, or only those CAs.
open_own_stage() { if [ -d "$conf" ]; then open_stage "$conf"; else open_stage "$(safe_dir "$KSCERT_ETCD_DIR")"; fi; }

# create_key NEW FILE: create for a key, like that of the CA, which may be lost.
create_key() {
  if [ -f "$ca_key" ]; then create "$1" "$ca_key" "$2"; else create "$1" "$ca" "$2" 0600; fi
}

# replace_ca PAIR: the CA and its key become those of PAIR, a path without suffix.
replace_ca() {
  [ -f "$ca_key" ] || create_key "$1.key" "$ca_key"
  place_pair "$1" "$ca" "$ca_key"
  changed "$ca"
}

# create NEW LIKE FILE [MODE]: FILE gets NEW's content, and owner and mode of LIKE.
create() {
  made=$(successor_path "$3") || exit 1
  rm -f "$made"
  { cp --preserve=all --attributes-only "$(readlink -f "$2")" "$made" && cat "$1" >"$made" &&
    chmod "${4:-u+r}" "$made"; } || fail "$3 cannot be written"
  settle "$made" "$3"
  changed "$3"
}

# made: the next CA is there, with its key.
made() { [ -s "$ca_next" ] && [ -s "$ca_next_key" ] && pair "$ca_next" "$ca_next_key" 2>/dev/null; }

# put_next FORMER KEY NEXT: the files of the rotation next to those of the CA. The last one shows that all
# are there.
put_next() {
  create "$1" "$ca" "$ca_former"
  create_key "$2" "$ca_next_key"
  create "$3" "$ca" "$ca_next"
}

# given: the CAs of this rotation from KSCERT_NEXT, "NAME|next|former|cross" in base64: files in $stage,
# and their names in $rotating. A certificate that is not the one that the control planes agree on
# (KSCERT_CA_WANT, "NAME|SHA-256") is refused.
given() {
  rotating=
  printf '%s\n' "$KSCERT_NEXT" >"$stage/given"
  while IFS='|' read -r name new old cross _; do
    [ -n "$name" ] || continue
    rotated "$name"
    for part in "next|$new" "former|$old" "cross|$cross"; do
      of=$stage/${part%%|*}.$name
      printf '%s' "${part#*|}" | base64 -d >"$of" || fail "the ${part%%|*} certificate of $name is not base64"
      [ -s "$of" ] || continue
      alone x509 "$of" || fail "the ${part%%|*} certificate of $name cannot be read"
      identity "$of" >"$stage/whose.${part%%|*}.$name"
    done
    { [ -s "$stage/next.$name" ] && [ -s "$stage/former.$name" ]; } || fail "the certificates of $name are missing"
    openssl x509 -in "$stage/next.$name" -noout -text | grep -q 'CA:TRUE' || fail "the next $name is no CA"
    openssl verify -CAfile "$stage/next.$name" "$stage/next.$name" >/dev/null 2>&1 ||
      fail "the next $name is not valid here now: check the clock of this node"
    wanted=$(printf '%s\n' "${KSCERT_CA_WANT:-}" | sed -n "s/^$name|//p")
    [ -z "$wanted" ] ||
      [ "$wanted" = "$(openssl x509 -in "$stage/next.$name" -outform DER | sha256sum | cut -c1-64)" ] ||
      fail "the next $name is not the one that the control planes have"
    rotating="$rotating $name"
  done <"$stage/given"
  [ -n "$rotating" ] || fail 'no control plane has printed a next CA: run the stage "make" first'
}

# renewed FILE: with what this stage has, in $stage/target.NAME, where FILE has the former or the next
# certificate of a CA. Chains of leaves stay: such a file does not begin with a CA, which does not count
# if $wherever is "yes".
renewed() {
  case $1 in
  "$pki"/*-next.crt | "$pki"/*-former.crt | "$pki"/*-cross.crt) return 1 ;;
  "$(readlink -f "$KSCERT_ETCD_DIR")"/ca-next.pem | "$(readlink -f "$KSCERT_ETCD_DIR")"/ca-former.pem) return 1 ;;
  esac
  blocks "$1"
  [ -f "$stage/block.1" ] || return 1
  followed='' with=''
  for block in "$stage"/block.*; do
    name=$(which_ca "$block") || continue
    with="$with ${block##*.}:$name"
    case "$followed " in *" $name "*) ;; *) followed="$followed $name" ;; esac
  done
  [ -n "$with" ] || return 1
  # A file that begins with another certificate is one of what others trust, too, or the chain of a leaf.
  case "${wherever:-}$with " in
  yes\ * | *' 1:'*) ;;
  *) openssl x509 -in "$stage/block.1" -noout -text | grep -q 'CA:TRUE' || return 1 ;;
  esac
  awk -v with="$with" -v new="$stage/target." '
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
  ! cmp -s "$1" "$stage/renewed"
}

# which_ca FILE: the CA that is rotated whose former or next certificate FILE has; of a former one that
# was issued again, too.
which_ca() {
  whose=$(identity "$1") || return 1
  for name in $rotating; do
    if [ "$whose" = "$(cat "$stage/whose.next.$name")" ] || [ "$whose" = "$(cat "$stage/whose.former.$name")" ]; then
      echo "$name"
      return 0
    fi
  done
  return 1
}

# targets FORMER-OR-NEXT...: what files get in place of either, in this order.
targets() {
  for name in $rotating; do
    for part; do openssl x509 -in "$stage/$part.$name"; done >"$stage/target.$name"
  done
}
