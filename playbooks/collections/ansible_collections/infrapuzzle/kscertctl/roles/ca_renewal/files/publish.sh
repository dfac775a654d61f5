# Runs on a control plane node: publishes the current CA certificate in the cluster: in
# kube-public/cluster-info, which nodes join with, and, like kube-controller-manager, in
# kube-root-ca.crt of every namespace. Waits until all have it. Of a CA that is rotated, takes what is not
# trusted any more out of extension-apiserver-authentication, to which API servers only ever add.
pki=$(pki_dir)
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=20s "$@"; }
openssl x509 -in "$pki/ca.crt" -noout || fail "$pki/ca.crt holds no certificate"
public_stage

# identities FILE: identity() of each certificate, one per line.
identities() { with_each "$1" one_identity || :; }
one_identity() { ! printf '%s\n' "$one" | identity | tr -d '\n' | sed 's/$/\n/'; }

# cluster_info: its kubeconfig with what ca.crt of this node holds: several while the CA is rotated.
cluster_info() {
  kubectl_ -n kube-public get configmap cluster-info -o 'jsonpath={.data.kubeconfig}' \
    >"$stage/info" 2>"$stage/message" </dev/null || {
    ! grep -qi 'notfound\|not found' "$stage/message" || return 0 # no node joins with it
    fail "cluster-info cannot be read: $(cat "$stage/message")"
  }
  [ -s "$stage/info" ] || return 0
  known=$(runs "$stage/info" | head -n 2)
  [ "$(printf '%s\n' "$known" | grep -c .)" = 1 ] || {
    echo 'left: kube-public/cluster-info: it does not hold one certificate, as kubeadm writes it'
    return 0
  }
  read -r from length run <<END
$known
END
  text_of "$run" >"$stage/text"
  identities "$stage/text" >"$stage/there"
  # A run that replaces the CA at once, or is rolled back, leaves none in common.
  [ "${KSCERT_CA_STAGE:-}" = replace ] || identities "$pki/ca.crt" | grep -Fxqf "$stage/there" ||
    fail 'kube-public/cluster-info names a CA with another key: nothing is changed there'
  [ "$(certificates "$stage/text")" != "$(certificates "$pki/ca.crt")" ] || return 0
  ! checking 'put the new certificate of the CA into kube-public/cluster-info' || return 0
  one_line <"$pki/ca.crt" >"$stage/ca"
  echo "$from $length ca" | splice "$stage/info" "$stage" >"$stage/kubeconfig"
  # As JSON; kube-controller-manager's bootstrapsigner signs it again.
  awk '
    BEGIN { printf "{\"data\":{\"kubeconfig\":\"" }
    {
      gsub(/\\/, "&&") # awks differ in what "\\\\" is
      gsub(/"/, "\\\"")
      gsub(/\t/, "\\t")
      gsub(/\r/, "\\r")
      printf "%s\\n", $0
    }
    END { print "\"}}" }' "$stage/kubeconfig" >"$stage/patch"
  quietly kubectl_ -n kube-public patch configmap cluster-info --type=merge --patch-file "$stage/patch"
  changed 'kube-public/cluster-info'
}

# behind: namespaces, except those being deleted, whose kube-root-ca.crt differs from the file that
# kube-controller-manager publishes there; or why that is unknown.
root_ca=$(named kube-controller-manager root-ca-file)
[ -f "$root_ca" ] || root_ca=$pki/ca.crt
behind() {
  if ! kubectl_ get namespaces -o 'jsonpath={range .items[?(@.status.phase=="Active")]}{.metadata.name}{"\n"}{end}' \
    >"$stage/namespaces" 2>"$stage/message" </dev/null ||
    ! kubectl_ get configmaps -A --field-selector metadata.name=kube-root-ca.crt \
      -o 'jsonpath={range .items[*]}{.metadata.namespace}{"\t"}{.data}{"\n"}{end}' \
      >"$stage/published" 2>"$stage/message" </dev/null; then
    printf 'the API server does not tell: %s\n' "$(tail -n 1 "$stage/message")"
    return 0
  fi
  # .data is printed as JSON: {"ca.crt":"-----BEGIN CERTIFICATE-----\nMII..."}
  awk -F '\t' -v want="$(tr -d '\r\n' <"$root_ca")" '
    FNR == NR { gsub(/^[{]"ca[.]crt":"|"[}]$|\\[rn]/, "", $2); got[$1] = $2; next }
    got[$1] != want { printf "%s ", $1 }' "$stage/published" "$stage/namespaces"
}

# Before Kubernetes 1.20 there is no kube-root-ca.crt.
published() {
  missing=$(behind)
  [ -z "$missing" ]
}

# spent FILE: leaves in $stage/spent the identities of the next and the former CA of a rotation that are
# not in FILE: they are trusted no more, or, after a rollback, not yet. Fails if there are none.
spent() {
  [ -f "$1" ] || return 1
  identities "$1" >"$stage/trusted"
  for of_rotation in "${1%.crt}-next.crt" "${1%.crt}-former.crt"; do
    [ ! -s "$of_rotation" ] || identities "$of_rotation"
  done | grep -Fxv -f "$stage/trusted" >"$stage/spent"
}
unspent() {
  printf '%s\n' "$one" >"$stage/one"
  if ! identity "$stage/one" | tr -d '\n' | grep -Fxqf "$stage/spent"; then cat "$stage/one"; fi
  return 1
}

# purged FIELD FILE: that field of the ConfigMap has none of them; else they are taken out.
purged() {
  spent "$2" || return 0
  kubectl_ -n kube-system get configmap extension-apiserver-authentication --ignore-not-found \
    -o "go-template={{with .data}}{{with index . \"$1\"}}{{.}}{{end}}{{end}}" </dev/null >"$stage/field" || return 1
  with_each "$stage/field" unspent >"$stage/kept" || :
  [ "$(certificates "$stage/field")" != "$(cat "$stage/kept")" ] || return 0
  ! checking "take a CA out of extension-apiserver-authentication" || return 0
  awk -v key="$1" 'BEGIN { printf "{\"data\":{\"%s\":\"", key } { printf "%s\\n", $0 } END { print "\"}}" }' \
    "$stage/kept" >"$stage/patch"
  kubectl_ -n kube-system patch configmap extension-apiserver-authentication --type=merge --patch-file "$stage/patch" \
    >/dev/null </dev/null || return 1
  [ -n "${has_purged:-}" ] || changed 'extension-apiserver-authentication'
  has_purged=yes
  return 1
}

cluster_info
# An API server that has not reloaded its files yet adds them again.
calm=0
while [ "$calm" -lt 4 ] && { spent "$pki/ca.crt" || spent "$pki/front-proxy-ca.crt"; }; do
  if purged client-ca-file "$pki/ca.crt" && purged requestheader-client-ca-file "$pki/front-proxy-ca.crt"; then
    calm=$((calm + 1))
  else
    calm=0
  fi
  [ "$KSCERT_CHECK" != True ] || break
  [ "$(date +%s)" -lt "$deadline" ] ||
    fail "after $KSCERT_WAIT_SECONDS seconds, extension-apiserver-authentication still gets a CA that ca.crt does not hold"
  sleep 1
done
[ "$KSCERT_CHECK" != True ] || exit 0
kubectl_ -n kube-system get configmap kube-root-ca.crt >/dev/null 2>"$stage/message" </dev/null || {
  ! grep -qi 'not found' "$stage/message" || exit 0
}
until published; do
  [ "$(date +%s)" -lt "$deadline" ] ||
    fail "after $KSCERT_WAIT_SECONDS seconds, kube-root-ca.crt is not what $root_ca is, in: $missing"
  sleep 1
done
echo "kube-root-ca.crt of $(grep -c . "$stage/namespaces") namespaces is what $root_ca is"
