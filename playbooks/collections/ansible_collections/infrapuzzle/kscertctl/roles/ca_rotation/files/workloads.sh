# Runs on a control plane before the former CA is dropped: has controllers restart the workloads with a
# pod whose container started before a time, one after another, as "kubectl rollout restart" does, and
# waits for each. For KSCERT_RESTART "listed" that time is when all trusted the next CA, and two minutes
# for kubelets to follow; for "all" it is when the run began. So a step that is repeated restarts nothing
# twice.
pki=$(pki_dir)
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=30s "$@" </dev/null; }
public_stage

# since: that time, as the API writes it.
since() {
  case $KSCERT_RESTART in
  listed)
    at=$(head -c 20 "$pki/ca-trusted-since" 2>/dev/null | tr -cd 0-9)
    at=$((${at:-$(date +%s)} + 120))
    [ "$at" -le "$(date +%s)" ] || at=$(date +%s)
    date -u -d "@$at" +%Y-%m-%dT%H:%M:%SZ
    ;;
  *) printf '%s\n' "$KSCERT_RUN" | sed -n 's/^\(....\)\(..\)\(..\)T\(..\)\(..\)\(..\)Z-.*/\1-\2-\3T\4:\5:\6Z/p' ;;
  esac
}
before=$(since)
[ -n "$before" ] || fail "$KSCERT_RUN does not name a run that has begun at a known time"

# asked KIND TEMPLATE FILE: of all objects of a kind.
asked() {
  kubectl_ get "$1" -A --chunk-size=500 -o "jsonpath={range .items[*]}$2{'\n'}{end}" >"$3" 2>"$stage/message" ||
    fail "the $1 of the cluster are not known: $(tail -n 1 "$stage/message")"
}
owner="{.metadata.ownerReferences[?(@.controller==true)].kind}{' '}{.metadata.ownerReferences[?(@.controller==true)].name}"
asked pods "{.metadata.namespace}{' '}{.metadata.name}{'|'}$owner{'|'}{.status.containerStatuses[*].state.running.startedAt}{'|'}{.spec.volumes[*].projected.sources[*].configMap.name}" \
  "$stage/pods"
asked replicasets "{.metadata.namespace}{' '}{.metadata.name}{'|'}$owner" "$stage/sets"

# workloads: KIND NAMESPACE NAME of each controller with such a pod, once; for a pod that none restarts,
# "none" and why.
awk -F'|' -v before="$before" '
  FNR == NR { of[$1] = $2; next }
  {
    n = split($3, at, " ")
    old = 0
    for (i = 1; i <= n; i++) if (at[i] < before) old = 1
    if (!old || " " $4 " " !~ / kube-root-ca[.]crt /) next
    split($1, pod, " ")
    split($2, by, " ")
    if (by[1] == "ReplicaSet") split(of[pod[1] " " by[2]], by, " ")
    if (by[1] !~ /^(Deployment|StatefulSet|DaemonSet)$/) by[1] = "none"
    line = by[1] == "none" ? "none " pod[1] " " pod[2] : by[1] " " pod[1] " " by[2]
    if (!(line in seen)) { seen[line]; print line }
  }' "$stage/sets" "$stage/pods" >"$stage/workloads"

# unrestarted KIND NAMESPACE NAME: why its controller would not restart its pods; nothing if it would.
unrestarted() {
  strategy=$(kubectl_ -n "$2" get "$1" "$3" -o 'jsonpath={.spec.updateStrategy.type}|{.spec.paused}' 2>"$stage/message") || {
    echo "it cannot be read: $(tail -n 1 "$stage/message")"
    return 0
  }
  case $strategy in
  OnDelete*) echo 'its update strategy is OnDelete: delete its pods' ;;
  *'|true') echo 'its rollout is paused' ;;
  esac
}

while read -r kind namespace name; do
  if [ "$kind" = none ]; then
    printf 'left: pod %s/%s, which no Deployment, StatefulSet or DaemonSet restarts: delete it and make it again\n' \
      "$namespace" "$name"
    continue
  fi
  why=$(unrestarted "$kind" "$namespace" "$name")
  if [ -n "$why" ]; then
    printf 'left: %s %s/%s: %s\n' "$kind" "$namespace" "$name" "$why"
    continue
  fi
  ! checking "restart $kind $namespace/$name" || continue
  restarted=$(kubectl_ -n "$namespace" get "$kind" "$name" \
    -o 'jsonpath={.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt}') || restarted=
  # Its time has the zone of the machine on which it was restarted last.
  restarted=$(date -u -d "${restarted:-1970-01-01}" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null) || restarted=
  if [ "$(printf '%s\n%s\n' "$before" "$restarted" | LC_ALL=C sort | head -n 1)" != "$before" ]; then
    quietly kubectl_ -n "$namespace" rollout restart "$kind/$name"
    changed "restarted $kind $namespace/$name"
  fi
  message=$(kubectl --kubeconfig "$administrator" -n "$namespace" rollout status "$kind/$name" \
    --timeout="${KSCERT_WAIT_SECONDS}s" 2>&1 </dev/null) ||
    fail "$kind $namespace/$name has not restarted within $KSCERT_WAIT_SECONDS seconds, so the former CA is not" \
      "dropped: $(printf '%s\n' "$message" | tail -n 1)"
done <"$stage/workloads"
