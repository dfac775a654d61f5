# Renews the leaves of Kubespray's host etcd that are due: same key, subject, names, usages and
# lifetime, signed by etcd's own CA. Without the CA's key, as on a control plane without an etcd
# member, KSCERT_ETCD=request prints requests for the node that has it (sign.sh), and what that has
# signed is taken from KSCERT_ISSUED. With certificates from outside, what is due and not among them is
# renewed only where the key is, or with KSCERT_ETCD_SIGNER, the node that has it.
[ -f "$dir/ca.pem" ] || exit 0
here='' inside=''
[ ! -f "$dir/ca-key.pem" ] || here=yes
if [ -n "$here" ] || [ -n "${KSCERT_ETCD_SIGNER:-}" ] || ! from_outside; then inside=yes; fi
[ -n "$inside" ] || [ "$KSCERT_ETCD" != request ] || exit 0
[ "$KSCERT_ETCD" != request ] || { [ -z "$here" ] && [ "$KSCERT_CHECK" != True ]; } || exit 0
need_backup
sweep

# host FILE: the host in the name of a file.
host() { host=${1##*/} host=${host#*-} host=${host%.pem}; }

# follows NAME: CAs are rotated, and it is to be of the next one at this stage: members' after clients'.
follows() {
  case ${KSCERT_CA_STAGE:-}/${1##*/} in clients/member-*) return 1 ;; esac
  superseded etcd-host-ca <"$1"
}

# nameless FILE: no component names it.
nameless() {
  printf '%s' "$in_use" | while IFS= read -r file; do if same "$1" "$file"; then exit 1; fi; done
}

# A certificate of an unknown host on a node that does not use the host's etcd is a leftover, and so
# is one without a key that no component names (orchestrator/snapshot, Snapshot.Unused).
hosts=" ${KSCERT_HOSTS:-} " here_used='' elsewhere='' in_use=''
while IFS= read -r file; do
  [ -n "$file" ] || continue
  host "$file"
  hosts="$hosts$host " in_use="$in_use$file
"
  if same "${file%/*}" "$dir"; then here_used=yes; else elsewhere=yes; fi
done <<END
$(of_members cert-file)
$(of_members peer-cert-file)
$(named kube-apiserver etcd-certfile)
END
[ -z "$elsewhere" ] || [ -n "$here_used" ] || exit 0

# A name may be a link to another, such as that of the first control plane's client certificate on
# nodes that joined. Each file once, and none elsewhere.
due=
seen=
set --
for kind in $etcd_leaves; do set -- "$@" "$dir/${kind%%|*}"-*.pem; done
for name in "$@"; do
  case $name in *-key.pem) continue ;; esac
  [ -f "$name" ] || continue
  host "$name"
  case "$here_used:$hosts" in yes:*" $host "* | :*) ;; *) continue ;; esac
  if [ -n "$here_used" ] && [ ! -f "${name%.pem}-key.pem" ] && nameless "$name"; then continue; fi
  cert=$(readlink -f "$name")
  case $cert in
  "$(readlink -f "$dir")"/*) ;;
  *) fail "$name leads to $cert, which is not in $dir: it is left alone" ;;
  esac
  case "$seen " in *" $cert "*) continue ;; esac
  seen="$seen $cert"
  if from_outside && [ -n "$(signed_for <"$cert")" ]; then
    [ "$KSCERT_ETCD" = request ] || due="$due $name"
  elif [ -n "$inside" ] && { ends_within "$cert" "$seconds" || unidentified "$cert" || follows "$name"; }; then
    due="$due $name"
  fi
done
[ -n "$due" ] || exit 0

[ -z "$here" ] || check_etcd_authority
for name in $due; do would_renew "$(readlink -f "$name")" || break; done
[ "$KSCERT_CHECK" != True ] || exit 0
open_stage "$(safe_dir "$dir")"

for name in $due; do
  cert=$(readlink -f "$name")
  key=${name%.pem}-key.pem
  [ -f "$key" ] || fail "$key does not exist"
  pair "$cert" "$key" || fail "$key does not belong to $cert"
  id=$(printf '%s' "$name" | one_line)
  if [ "$KSCERT_ETCD" = request ]; then
    request "$cert" "$key"
    printf 'request: %s|%s|%s\n' "$id" "$(openssl x509 -in "$cert" | one_line)" "$(one_line <"$stage/request")"
    continue
  fi
  rm -f "$stage/new.pem"
  given=
  ! from_outside || signed_for <"$cert" >"$stage/new.pem"
  if [ -s "$stage/new.pem" ]; then
    given=yes
  elif [ -n "$here" ]; then
    request "$cert" "$key"
    sign "$cert"
  else
    printf '%s\n' "$KSCERT_ISSUED" | sed -n "s#^$id|##p" | base64 -d >"$stage/new.pem"
    [ -s "$stage/new.pem" ] || fail "$cert is due, $dir/ca-key.pem is not here, and no node has signed a new one:" \
      "kscert_etcd_signer names the node that has that key; with --limit, name it there too"
  fi
  take "$cert" "$key"
done
