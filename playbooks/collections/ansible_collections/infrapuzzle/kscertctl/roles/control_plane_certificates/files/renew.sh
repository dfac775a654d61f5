# Renews the leaves and kubeconfigs of a control plane node that are due, with kubeadm and the
# node's own configuration, without the API server.
#
# kubeadm works on copies in a stage next to the originals; a copy replaces its original only after
# it was checked. CAs, service account keys and everything that is not due stay untouched. kubeadm's
# renewal keeps user, groups and SANs (Kubernetes, cmd/kubeadm/app/phases/certs/renewal), while
# "init phase certs" would take them from a configuration that may be older.
need_backup
pki=$(pki_dir)

# shared LEAF: a file of its pair also belongs to another certificate, which would not match a
# renewed one.
shared() {
  for mine in "$pki/$1.crt" "$pki/$1.key"; do
    for leaf_too in $leaves; do
      leaf_too=${leaf_too%%|*}
      for other in "$pki/$leaf_too.crt" "$pki/$leaf_too.key"; do
        if [ "$other" != "$mine" ] && [ -e "$other" ] && [ "$(readlink -f "$other")" = "$(readlink -f "$mine")" ]; then
          refused="$mine and $other are one file"
          return 0
        fi
      done
    done
  done
  return 1
}

# unused LEAF [ASKED]: a setting names another file instead, or the leaf it is used with is unused,
# if that is not among those in ASKED already.
unused() {
  kind_of "$1"
  used=$(of_setting "$kind_setting")
  if [ -n "$used" ]; then
    other "$pki/$1.crt" "$used"
    return
  fi
  case " ${2:-} " in *" $kind_with "*) kind_with= ;; esac
  [ -n "$kind_with" ] && unused "$kind_with" "${2:-} $1"
}

# instead: what else helps with a pair that cannot be renewed.
instead='restore it from a backup, or set it and its key aside and issue them with: kubeadm init phase certs'

# keyless LEAF: its key is not there to be replaced.
keyless() {
  refused="its key $pki/$1.key does not exist; $instead"
  [ ! -f "$pki/$1.key" ]
}

# leaf_due LEAF: it is to be replaced. An interrupted run leaves a pair that does not match.
leaf_due() {
  if from_outside; then
    [ -n "$(signed_for <"$pki/$1.crt")" ]
    return
  fi
  ends_within "$pki/$1.crt" "$seconds" || ! pair "$pki/$1.crt" "$pki/$1.key" 2>/dev/null ||
    unidentified "$pki/$1.crt" || follows "$1"
}

# follows LEAF: CAs are rotated, and it is to be of the next one at this stage.
follows() {
  case ${KSCERT_CA_STAGE:-}/$1 in clients/apiserver | clients/etcd/server | clients/etcd/peer) return 1 ;; esac
  kind_of "$1"
  superseded "$kind_ca" <"$pki/$1.crt"
}

sweep
due=
for leaf in $leaves; do
  leaf=${leaf%%|*}
  [ -e "$pki/$leaf.crt" ] || [ -L "$pki/$leaf.crt" ] || continue
  ! unused "$leaf" || continue
  if ! openssl x509 -in "$pki/$leaf.crt" -noout 2>/dev/null; then
    refused="no certificate is in it that could be renewed; $instead"
    refuse "$pki/$leaf.crt"
    continue
  fi
  if leaf_due "$leaf"; then
    if led_astray "$pki/$leaf.crt" || led_astray "$pki/$leaf.key" || shared "$leaf" || keyless "$leaf"; then
      refuse "$pki/$leaf.crt"
    else
      due="$due $leaf"
    fi
  fi
done
# Certificates of others in the same file are not changed, nor is a file that cannot be edited
# safely. The rest of the node is renewed without it.
for f in $kubeconfigs "$home"; do
  setting=
  [ "$f" = "$home" ] || { setting=${f#*|} setting=${setting%%|*} f=$conf/${f%%|*}.conf; }
  [ -f "$f" ] || continue
  if [ -n "$setting" ] && other "$f" "$(named "${setting%%.*}" "${setting#*.}")"; then continue; fi
  sift "$f"
  [ -n "$due_users$refused" ] || continue
  if [ -n "$refused" ]; then refuse "$f"; else due="$due $f"; fi
done
[ -n "$due" ] || exit 0

# take_leaf LEAF: what was signed for it elsewhere is its successor, in $staged/pki.
take_leaf() {
  signed_for <"$pki/$1.crt" >"$staged/pki/$1.crt"
  pair "$staged/pki/$1.crt" "$pki/$1.key" || fail "$pki/$1.key is not the key of what was signed for $pki/$1.crt"
  check_successor "$pki/$1.crt" "$staged/pki/$1.crt" "$pki/$(authority_of "$1").crt"
}

# renew_leaf LEAF: its successor is in $staged/pki. If kubeadm renews none of its kind, as with a
# negative serial number or without extended key usages, $staged/pki/LEAF.not has the reason.
renew_leaf() {
  cp "$pki/$1.crt" "$staged/pki/$1.crt"
  cp "$pki/$1.key" "$staged/pki/$1.key"
  case $1 in etcd/*) name=etcd-${1#etcd/} ;; *) name=$1 ;; esac
  # shellcheck disable=SC2086 # none or one word
  why=$(timeout 60 kubeadm $alpha certs renew "$name" --config "$staged/kubeadm.yaml" 2>&1 </dev/null) ||
    case $why in
    *'failed to load existing certificate'* | *'must specify at least one ExtKeyUsage'*)
      printf 'kubeadm reports: %s; %s\n' "$(printf '%s\n' "$why" | sed -n "s|$staged/pki|$pki|; s/^error: //p")" \
        "$instead" >"$staged/pki/$1.not"
      return
      ;;
    *) fail "kubeadm certs renew $name failed: $why" ;;
    esac
  chain "$pki/$1.crt" "$staged/pki/$1.crt" "$pki/$(authority_of "$1").crt"
  # For clients that do not trust the next CA yet.
  case ${KSCERT_CA_STAGE:-}/$1 in servers/apiserver) [ ! -f "$pki/ca-cross.crt" ] || cat "$pki/ca-cross.crt" >>"$staged/pki/$1.crt" ;; esac
  pair "$staged/pki/$1.crt" "$staged/pki/$1.key" || fail "kubeadm made a $1 whose key does not match"
  check_successor "$pki/$1.crt" "$staged/pki/$1.crt" "$pki/$(authority_of "$1").crt"
}

authority_of() { kind_of "$1" && printf '%s\n' "$kind_ca"; }

# successor_of LEAF|FINGERPRINT: of a certificate in the PKI directory, or in a kubeconfig.
successor_of() {
  case $1 in
  *:*) issue_user "$1" ;;
  *) if from_outside; then take_leaf "$1"; else renew_leaf "$1"; fi ;;
  esac
}

for item in $due; do
  ! from_outside || break
  case $item in /*) check_authority ca ;; *) check_authority "$(authority_of "$item")" ;; esac
done
if [ "$KSCERT_CHECK" = True ]; then
  for item in $due; do
    case $item in
    /*) would_renew "$item" ;;
    *) would_renew "$pki/$item.crt" ;;
    esac
  done
  exit 0
fi
open_stage "$conf"
if from_outside; then
  staged=$stage
  mkdir -p "$stage/pki/etcd" "$stage/conf"
else
  stage_config
fi
stage_users

# Everything is made and checked first, and placed after that.
set --
for item in $due; do
  case $item in /*) ;; *) set -- "$@" "$item" ;; esac
done
for user in $(printf '%s' "$users" | awk '!message[$2]++ {print $2}'); do
  [ -e "$stage/users/$user.not" ] || set -- "$@" "$user"
done
together successor_of "$@"
for item in $due; do
  case $item in
  /*)
    renew_kubeconfig "$item" "$stage/conf/${item##*/}"
    [ -z "$refused" ] || refuse "$item"
    ;;
  esac
done
for item in $due; do
  case $item in
  /*)
    [ -f "$stage/conf/${item##*/}" ] || continue
    place "$stage/conf/${item##*/}" "$item"
    ;;
  *)
    if [ -e "$stage/pki/$item.not" ]; then
      refused=$(cat "$stage/pki/$item.not")
      refuse "$pki/$item.crt"
      continue
    fi
    if from_outside; then
      place "$stage/pki/$item.crt" "$pki/$item.crt"
    else
      place_pair "$stage/pki/$item" "$pki/$item.crt" "$pki/$item.key"
    fi
    ;;
  esac
  changed "$item"
done
