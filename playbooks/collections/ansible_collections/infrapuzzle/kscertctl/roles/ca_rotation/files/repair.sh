# Runs on a control plane after the CAs of the cluster were replaced at once: waits until the tokens in
# Secrets have the new CA, finds or patches caBundles that have the former one, and restarts, or lists,
# pods that started with it.
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=20s "$@" </dev/null; }
# asked WHAT COMMAND...: its output, or a failure that names WHAT.
asked() {
  asked_for=$1
  shift
  kubectl_ "$@" 2>"$stage/message" || fail "$asked_for cannot be read: $(cat "$stage/message")"
}
# Not in $conf, whose times a rollback restores.
public_stage
root_ca=$(named kube-controller-manager root-ca-file)
[ -f "$root_ca" ] || root_ca=$pki/ca.crt

# --- tokens in Secrets ---------------------------------------------------------------------
behind() {
  asked 'Secrets with tokens' get secrets -A --field-selector type=kubernetes.io/service-account-token \
    -o 'go-template={{range .items}}{{.metadata.namespace}}/{{.metadata.name}} {{with .data}}{{index . "ca.crt"}}{{end}}{{"\n"}}{{end}}' \
    >"$stage/tokens"
  awk -v want="$(one_line <"$root_ca")" '$2 != want { printf "%s ", $1 }' "$stage/tokens"
}
while missing=$(behind) && [ -n "$missing" ]; do
  ! checking "wait until Secrets have the new CA: $missing" || break
  [ "$(date +%s)" -lt "$deadline" ] ||
    fail "after $KSCERT_WAIT_SECONDS seconds these Secrets with tokens do not have what $root_ca is: $missing"
  sleep 2
done

# --- caBundles -----------------------------------------------------------------------------
# bundle KIND NAME PATH BASE64: reports it, or replaces the former CA in it.
bundle() {
  printf '%s' "$4" | base64 -d >"$stage/bundle" 2>/dev/null || return 0
  renewed "$stage/bundle" || return 0
  if [ "$KSCERT_PATCH_CA_BUNDLES" != True ]; then
    noted "the caBundle of $1 $2 ($3) has the former CA of the cluster, and is not changed: where its server has" \
      "a certificate of the new CA, replace it there (--patch-ca-bundles does)"
    return 0
  fi
  ! checking "put the new CA into the caBundle of $1 $2" || return 0
  printf '[{"op":"test","path":"%s","value":"%s"},{"op":"replace","path":"%s","value":"%s"}]' \
    "$3" "$4" "$3" "$(one_line <"$stage/renewed")" >"$stage/patch"
  quietly kubectl_ patch "$1" "$2" --type=json --patch-file "$stage/patch"
  changed "the caBundle of $1 $2"
}
if [ -n "$KSCERT_NEXT" ]; then
  given
  targets next
  # A bundle is no chain of a leaf.
  wherever=yes
  for kind in validatingwebhookconfigurations mutatingwebhookconfigurations apiservices customresourcedefinitions; do
    # shellcheck disable=SC2016 # $ is kubectl's
    case $kind in
    apiservices) each='{{with .spec.caBundle}}{{$name}} /spec/caBundle {{.}}{{"\n"}}{{end}}' ;;
    customresourcedefinitions)
      each='{{with .spec.conversion}}{{with .webhook}}{{with .clientConfig}}{{with .caBundle}}'
      each=$each'{{$name}} /spec/conversion/webhook/clientConfig/caBundle {{.}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}'
      ;;
    *)
      each='{{range $i, $hook := .webhooks}}{{with $hook.clientConfig.caBundle}}'
      each=$each'{{$name}} /webhooks/{{$i}}/clientConfig/caBundle {{.}}{{"\n"}}{{end}}{{end}}'
      ;;
    esac
    asked "$kind" get "$kind" -o "go-template={{range .items}}{{\$name := .metadata.name}}$each{{end}}" >"$stage/bundles"
    while read -r of path text; do bundle "$kind" "$of" "$path" "$text"; done <"$stage/bundles"
  done
fi

# --- after a rollback ----------------------------------------------------------------------
# cleared KEY FILE: that field of extension-apiserver-authentication, to which API servers only ever add, has
# no CA that is not in FILE; else those of FILE replace it. Other API servers add theirs again.
cleared() {
  [ -f "$2" ] || return 0
  : >"$stage/own"
  with_each "$2" note_own || :
  # shellcheck disable=SC2016 # $ is kubectl's
  asked 'extension-apiserver-authentication' -n kube-system get configmap extension-apiserver-authentication \
    --ignore-not-found -o "go-template={{with .data}}{{with index . \"$1\"}}{{.}}{{end}}{{end}}" >"$stage/field"
  with_each "$stage/field" is_other || return 0
  ! checking 'take other CAs out of extension-apiserver-authentication' || return 0
  certificates "$2" | awk -v key="$1" \
    'BEGIN { printf "{\"data\":{\"%s\":\"", key } { printf "%s\\n", $0 } END { print "\"}}" }' >"$stage/patch"
  quietly kubectl_ -n kube-system patch configmap extension-apiserver-authentication --type=merge \
    --patch-file "$stage/patch"
  return 1
}
one_fingerprint() { printf '%s\n' "$one" | openssl x509 -noout -fingerprint -sha256; }
note_own() { ! one_fingerprint >>"$stage/own"; }
is_other() { ! grep -qxF "$(one_fingerprint)" "$stage/own"; }
if [ -z "$KSCERT_NEXT" ]; then
  # An API server that has not reloaded its files yet adds the CA again.
  calm=0
  while [ "$calm" -lt 4 ]; do
    if cleared client-ca-file "$(named kube-apiserver client-ca-file)" &&
      cleared requestheader-client-ca-file "$(named kube-apiserver requestheader-client-ca-file)"; then
      calm=$((calm + 1))
    else
      calm=0
    fi
    [ "$(date +%s)" -lt "$deadline" ] ||
      fail "after $KSCERT_WAIT_SECONDS seconds, extension-apiserver-authentication still gets another CA"
    sleep 1
  done
fi

# --- pods ----------------------------------------------------------------------------------
# affected: pods that read the CA of their namespace and started before it was replaced, one per line:
# namespace, name, kind and name of the owner, which a user of the cluster chooses: a name that no object can
# have is left out. Static pods read files.
affected() {
  asked 'kube-root-ca.crt' get configmaps -A --field-selector metadata.name=kube-root-ca.crt \
    -o 'go-template={{range .items}}{{.metadata.namespace}} {{range .metadata.managedFields}}{{.time}} {{end}}{{"\n"}}{{end}}' \
    >"$stage/published"
  # shellcheck disable=SC2016 # $ is kubectl's
  {
    pods='{{range .items}}{{$own := 0}}{{range .spec.volumes}}{{with .projected}}{{range .sources}}{{with .configMap}}'
    pods=$pods'{{if eq .name "kube-root-ca.crt"}}{{$own = 1}}{{end}}{{end}}{{end}}{{end}}{{end}}'
    pods=$pods'{{if and (eq $own 1) (eq .status.phase "Running" "Pending") (not .metadata.deletionTimestamp)}}'
    pods=$pods'{{.metadata.namespace}} {{.metadata.name}} {{with .status.startTime}}{{.}}{{else}}-{{end}} '
    pods=$pods'{{range .metadata.ownerReferences}}{{if .controller}}{{if eq .apiVersion "apps/v1"}}'
    pods=$pods'{{printf "%q %q" .kind .name}}{{end}}{{end}}{{end}}{{"\n"}}{{end}}{{end}}'
  }
  asked 'the pods' get pods -A -o "go-template=$pods" >"$stage/pods"
  # Times in UTC compare as text.
  awk '
    FNR == NR { for (i = 2; i <= NF; i++) if ($i > since[$1]) since[$1] = $i; next }
    $3 == "-" || $3 >= since[$1] { next }
    NF != 5 || $4 !~ /^"[A-Za-z]+"$/ || $5 !~ /^"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"$/ { $4 = $5 = "" }
    { gsub(/"/, ""); print $1, $2, $4, $5 }' "$stage/published" "$stage/pods"
}

# owner NAMESPACE KIND NAME: the workload whose controller replaces its pods one after another; nothing if
# there is none.
owner() {
  case $2 in
  DaemonSet | StatefulSet)
    [ "$(kubectl_ -n "$1" get "$2" "$3" -o 'jsonpath={.spec.updateStrategy.type}' 2>/dev/null)" != RollingUpdate ] ||
      printf '%s %s/%s\n' "$1" "$2" "$3"
    ;;
  ReplicaSet)
    kubectl_ -n "$1" get replicaset "$3" -o \
      'jsonpath={range .metadata.ownerReferences[?(@.kind=="Deployment")]}{.metadata.namespace}{.kind}/{.name}{"\n"}{end}' \
      2>/dev/null | sed "s|^|$1 |"
    ;;
  esac
}

affected >"$stage/affected"
: >"$stage/restart"
case $KSCERT_RESTART_WORKLOADS in none) ;; *)
  awk '{ print $1, $3, $4 }' "$stage/affected" | sort -u | while read -r namespace kind called; do
    [ "$KSCERT_RESTART_WORKLOADS" != system ] || [ "$namespace" = kube-system ] || continue
    owner "$namespace" "$kind" "$called"
  done | sort -u | { grep -Ex '[a-z0-9-]+ (Deployment|DaemonSet|StatefulSet)/[a-z0-9]([a-z0-9.-]*[a-z0-9])?' || :; } >"$stage/owners"
  # Those on each node come first: without kube-proxy and the network, others do not start.
  { grep ' DaemonSet/' "$stage/owners" || :; } >"$stage/restart"
  { grep -v ' DaemonSet/' "$stage/owners" || :; } >>"$stage/restart"
  ;;
esac
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
while read -r namespace workload; do
  ! checking "restart $workload of $namespace" || continue
  kubectl_ -n "$namespace" rollout restart "$workload" >/dev/null 2>"$stage/message" || {
    noted "$workload of $namespace is not restarted: $(tail -n 1 "$stage/message")"
    continue
  }
  changed "restarted $workload of $namespace"
  left=$((deadline - $(date +%s)))
  [ "$left" -gt 10 ] || left=10
  kubectl --kubeconfig "$administrator" -n "$namespace" rollout status "$workload" --timeout="${left}s" </dev/null \
    >/dev/null 2>"$stage/message" ||
    noted "$workload of $namespace does not have all new pods yet: $(tail -n 1 "$stage/message")"
done <"$stage/restart"
affected >"$stage/left"
awk '{ print $1 }' "$stage/left" | sort -u | while read -r namespace; do
  some=$(awk -v of="$namespace" '$1 == of { if (++n <= 10) printf "%s%s", (n > 1 ? ", " : ""), $2 }
    END { if (n > 10) printf " and %d more", n - 10 }' "$stage/left")
  noted "pods of $namespace have started with the former CA: restart them, unless they read it again while they" \
    "run (as client-go from Kubernetes 1.36 on): $some"
done
