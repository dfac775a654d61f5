# One stage of a rotation in the files of this node: what they trust, and with which CA it signs. Every
# other certificate of a bundle stays, and every other byte of a file.
need_backup
sweep
open_own_stage
given
case $KSCERT_CA_STAGE in
trust | clients) targets former next ;;
servers) targets next former ;;
drop | replace) targets next ;;
*) fail "$KSCERT_CA_STAGE is no stage that places anything" ;;
esac

# mine: this node must have the key of the CA in $ca: each control plane, but that of Kubespray's etcd
# those that have it.
mine() { [ -f "$ca_key" ] || { [ "$name" != etcd-host-ca ] && [ -f "$conf/manifests/kube-controller-manager.yaml" ]; }; }

# signs_with CERTIFICATE KEY: kube-controller-manager signs with these files, next to those in its
# manifest: it takes no bundle there (Kubernetes, pkg/controller/certificates/signer).
signs_with() {
  manifest=$conf/manifests/kube-controller-manager.yaml
  [ -f "$manifest" ] || return 0
  awk -v certificate="$1" -v key="$2" '
    /^ *- --cluster-signing-cert-file=[^"\047 ]*\/[^"\047 \/]*$/ { sub(/[^\/]*$/, certificate); n++ }
    /^ *- --cluster-signing-key-file=[^"\047 ]*\/[^"\047 \/]*$/ { sub(/[^\/]*$/, key); m++ }
    { print }
    END { exit n != 1 || m != 1 }' "$manifest" >"$stage/manifest" ||
    fail "$manifest does not have --cluster-signing-cert-file and --cluster-signing-key-file as kubeadm writes them"
  ! cmp -s "$manifest" "$stage/manifest" || return 0
  ! checking "let kube-controller-manager sign with $1" || return 0
  place "$stage/manifest" "$manifest"
  changed "$manifest"
}

# swap: the CA of $name is the next one, with its key; the former one stays trusted, unless this stage
# drops it.
swap() {
  if pair "$ca" "$ca_key" 2>/dev/null && cmp -s "$ca" "$stage/target.$name"; then return 0; fi
  ! checking "replace $ca and its key" || return 0
  pair "$ca_next" "$ca_next_key" || fail "$ca_next_key is not the key of $ca_next"
  cp "$stage/target.$name" "$stage/pair.crt"
  cp "$ca_next_key" "$stage/pair.key"
  replace_ca "$stage/pair"
  rm -f "$stage/pair.key"
}

# unchain: what is served is not followed any more by the next CA as the former one has signed it.
unchain() {
  [ -s "$stage/cross.kubernetes-ca" ] && [ -f "$pki/apiserver.crt" ] || return 0
  of=$(fingerprint "$stage/cross.kubernetes-ca")
  blocks "$pki/apiserver.crt"
  : >"$stage/unchained"
  for block in "$stage"/block.*; do
    [ ! -f "$block" ] || [ "$(fingerprint "$block")" = "$of" ] || cat "$block" >>"$stage/unchained"
  done
  ! cmp -s "$stage/unchained" "$pki/apiserver.crt" || return 0
  ! checking "serve $pki/apiserver.crt without the former CA's signature" || return 0
  place "$stage/unchained" "$pki/apiserver.crt"
  changed "$pki/apiserver.crt"
}

case $KSCERT_CA_STAGE in
servers | replace)
  for name in $rotating; do
    rotated "$name"
    ! mine || swap
  done
  [ "$KSCERT_CA_STAGE" = replace ] || exit 0
  ;;
drop)
  for name in $rotating; do
    rotated "$name"
    mine || continue
    pair "$stage/next.$name" "$ca_key" || fail "$ca_key is not the key of the next $name: the stage before is unfinished"
    ! renewed "$ca" || checking "drop the former CA from $ca" || {
      place "$stage/renewed" "$ca"
      changed "$ca"
    }
  done
  ;;
esac
case $KSCERT_CA_STAGE$rotating in
trust*kubernetes-ca*) signs_with ca-former.crt ca.key ;;
clients*kubernetes-ca*) signs_with ca-next.crt ca-next.key ;;
replace*kubernetes-ca*) signs_with ca.crt ca.key ;;
drop*kubernetes-ca*)
  signs_with ca.crt ca.key
  unchain
  ;;
esac
