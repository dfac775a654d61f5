# Runs on each node that has a key of a CA when no file of a node has the former CA: takes it out of
# extension-apiserver-authentication, to which API servers only ever add, and removes the files of the
# rotation.
need_backup
open_own_stage
given
targets next
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=20s -n kube-system "$@"; }

# purged KEY: that field has the former CA no more; else it is taken out.
purged() {
  kubectl_ get configmap extension-apiserver-authentication --ignore-not-found \
    -o "go-template={{with .data}}{{with index . \"$1\"}}{{.}}{{end}}{{end}}" </dev/null >"$stage/field" || return 1
  renewed "$stage/field" || return 0
  ! checking "take the former CA out of extension-apiserver-authentication" || return 0
  awk -v key="$1" 'BEGIN { printf "{\"data\":{\"%s\":\"", key } { printf "%s\\n", $0 } END { print "\"}}" }' \
    "$stage/renewed" >"$stage/patch"
  kubectl_ patch configmap extension-apiserver-authentication --type=merge --patch-file "$stage/patch" \
    >/dev/null </dev/null || return 1
  [ -n "${purged:-}" ] || changed 'extension-apiserver-authentication'
  purged=yes
  return 1
}

# An API server that has not reloaded its files yet adds the former CA again.
calm=0
case $rotating in *kubernetes-ca* | *front-proxy-ca*) [ -f "$conf/manifests/kube-apiserver.yaml" ] || calm=4 ;; *) calm=4 ;; esac
while [ "$calm" -lt 4 ] && [ "$KSCERT_CHECK" != True ]; do
  if purged client-ca-file && purged requestheader-client-ca-file; then calm=$((calm + 1)); else calm=0; fi
  [ "$(date +%s)" -lt "$deadline" ] ||
    fail "after $KSCERT_WAIT_SECONDS seconds, extension-apiserver-authentication still gets the former CA"
  sleep 1
done
for name in $rotating; do
  rotated "$name"
  [ -e "$ca_next" ] || continue
  ! checking "remove $ca_former" || continue
  { pair "$ca" "$ca_key" && [ "$(fingerprint "$ca")" = "$(fingerprint "$stage/next.$name")" ]; } ||
    fail "$ca is not the next $name with its key"
  rm -f "$ca_cross" "$ca_former" "$ca_next_key" "$ca_next"
  changed "$ca_next"
done
