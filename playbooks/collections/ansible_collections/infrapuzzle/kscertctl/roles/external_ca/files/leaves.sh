# The certificates of this node that CAs of the cluster sign, whatever file they are in.
# shellcheck shell=sh disable=SC2034,SC2154
pki=$(pki_or_default)
current=$kubelet/kubelet-client-current.pem

# private_stage: opens a directory that may hold a copy of a key, in memory: nothing else of the node
# changes, not even the time of a directory. Where there is none, next to the node's keys. Its name has
# the process, so that what one leaves that is killed can be removed.
private_stage() {
  sweep_memory
  for place in "$root/run" "$conf" "$KSCERT_ETCD_DIR" "$kubelet"; do
    if [ ! -d "$place" ] || { [ "$place" = "$root/run" ] && [ ! -w "$place" ]; }; then continue; fi
    open_stage "$(safe_dir "$place")" $$
    return 0
  done
  fail "this node has neither $conf nor $KSCERT_ETCD_DIR"
}

# each_leaf COMMAND: runs COMMAND with $what, the file that holds it, $ca, the file of its CA,
# $leaf_kind, and in $stage the certificate with those after it, chain.pem, and its key, key.pem. The
# key is empty where there is none that is readable.
each_leaf() {
  for leaf in $leaves; do
    leaf=${leaf%%|*}
    [ -f "$pki/$leaf.crt" ] || continue
    kind_of "$leaf"
    what=$pki/$leaf.crt ca=$pki/$kind_ca.crt leaf_kind=$leaf
    one_leaf "$what" "$pki/$leaf.key" "$1"
  done
  for leaf in $etcd_leaves; do
    leaf=${leaf%%|*}
    for file in "$KSCERT_ETCD_DIR/$leaf"-*.pem; do
      case $file in *-key.pem) continue ;; esac
      [ -f "$file" ] || continue
      what=$file ca=$KSCERT_ETCD_DIR/ca.pem leaf_kind=etcd-host-$leaf
      one_leaf "$file" "${file%.pem}-key.pem" "$1"
    done
  done
  for file in $kubeconfigs "$home"; do
    [ "$file" = "$home" ] || file=$conf/${file%%|*}.conf
    [ -f "$file" ] || continue
    what=$file ca=$pki/ca.crt leaf_kind=kubeconfig
    known=$(parts "$file") || continue
    printf '%s\n' "$known" | awk '
      { public[NR] = $3; run[NR] = $5; if ($4 == "key") key[$3] = $5; is[NR] = $4 != "key" }
      END { for (i = 1; i <= NR; i++) if (is[i] && public[i] in key) print run[i], key[public[i]] }' >"$stage/pairs"
    while read -r run of_run; do
      text_of "$run" >"$stage/chain.pem"
      text_of "$of_run" >"$stage/key.pem"
      "$1"
    done <"$stage/pairs"
  done
  [ -f "$kubelet_conf" ] || return 0
  kubelet_pair >"$stage/kubelet.pem"
  if [ -s "$stage/kubelet.pem" ]; then
    what=$current leaf_kind=kubelet
    trusted_by_kubelet
    one_leaf "$stage/kubelet.pem" "$stage/kubelet.pem" "$1"
  fi
  rm -f "$stage/kubelet.pem"
}

# one_leaf FILE KEY COMMAND
one_leaf() {
  certificates "$1" >"$stage/chain.pem"
  openssl pkey -in "$2" -out "$stage/key.pem" 2>/dev/null || : >"$stage/key.pem"
  [ ! -s "$stage/chain.pem" ] || "$3"
}

# trusted_by_kubelet: leaves in $ca the file with the CA that the kubelet trusts, which is also the one
# that signs kubelets.
trusted_by_kubelet() {
  ca=$stage/kubelet-ca.pem
  embedded_authorities "$kubelet_conf" >"$ca"
  [ -s "$ca" ] || ca=$pki/ca.crt
}

# sha256_of FILE: the fingerprint of its first certificate, in lower case without colons.
sha256_of() { fingerprint "$1" | sed 's/.*=//; s/://g' | tr '[:upper:]' '[:lower:]'; }
