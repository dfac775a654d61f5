# Runs on a control plane before the former CA is dropped: has controllers restart the workloads with a
# pod whose container started before a time, one after another, as "kubectl rollout restart" does, and
# waits for each. For KSCERT_RESTART "listed" that time is when all trusted the next CA
# (KSCERT_TRUSTED_SINCE, seconds since 1970; 0 if it is not known), and two minutes for kubelets to
# follow; else it is when the run began. So a step that is repeated restarts nothing twice.
pki_dir >/dev/null
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=30s "$@" </dev/null; }
public_stage

# begun: when the run began, as the API writes a time: the name of a run has it.
begun() {
  printf '%s\n' "$KSCERT_RUN" | sed -n 's/^\(.*[^0-9]\)\{0,1\}\([0-9]\{4\}\)\([0-9]\{2\}\)\([0-9]\{2\}\)T\([0-9]\{2\}\)\([0-9]\{2\}\)\([0-9]\{2\}\)Z.*$/\2-\3-\4T\5:\6:\7Z/p'
}
before=$(begun)
[ -n "$before" ] || fail "the name of the run, $KSCERT_RUN, does not have the time at which it began"
if [ "$KSCERT_RESTART" = listed ] && [ "$KSCERT_TRUSTED_SINCE" -gt 0 ]; then
  before=$({ printf '%s\n' "$before" && date -u -d "@$((KSCERT_TRUSTED_SINCE + 120))" +%Y-%m-%dT%H:%M:%SZ; } | sort | head -n 1)
fi

# asked KIND TEMPLATE FILE: of all objects of a kind, a line for each. Users of the cluster choose names
# in it: each is quoted, which leaves no tab and no line break in it (Go, strconv.Quote).
asked() {
  kubectl_ get "$1" -A --chunk-size=500 -o "go-template={{range .items}}$2{{\"\\n\"}}{{end}}" >"$3" 2>"$stage/message" ||
    fail "the $1 of the cluster are not known: $(tail -n 1 "$stage/message")"
}
# shellcheck disable=SC2016 # $ is kubectl's
{
  object='{{printf "%q" .metadata.namespace}}{{"\t"}}{{printf "%q" .metadata.name}}{{"\t"}}'
  owner='{{$kind := ""}}{{$name := ""}}{{range .metadata.ownerReferences}}{{if .controller}}{{if eq .apiVersion "apps/v1"}}'
  owner=$owner'{{$kind = .kind}}{{$name = .name}}{{end}}{{end}}{{end}}{{printf "%q" $kind}}{{"\t"}}{{printf "%q" $name}}'
  started='{{with .state}}{{with .running}} {{.startedAt}}{{end}}{{end}}'
  started='{{range .status.containerStatuses}}'$started'{{end}}{{range .status.initContainerStatuses}}'$started'{{end}}'
  mounted='{{range .spec.volumes}}{{with .projected}}{{range .sources}}{{with .configMap}} {{printf "%q" .name}}{{end}}{{end}}'
  mounted=$mounted'{{end}}{{end}}'
}

# old: KIND NAMESPACE NAME of each controller with such a pod, once; "none" with the namespace and name of a
# pod that none restarts. A name that no object can have is not passed on.
old() {
  asked pods "$object$owner{{\"\\t\"}}$started{{\"\\t\"}}$mounted{{\"\\t\"}}{{if .metadata.deletionTimestamp}}ends{{end}}" "$stage/pods"
  asked replicasets "$object$owner" "$stage/sets"
  awk -F '\t' -v before="$before" '
    function plain(name) {
      return name ~ /^"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"$/ ? substr(name, 2, length(name) - 2) : ""
    }
    FNR == NR { kind[$1, $2] = $3; name[$1, $2] = $4; next }
    {
      n = split($5, at, " ")
      is_old = 0
      for (i = 1; i <= n; i++) if (at[i] < before) is_old = 1
      if (!is_old || $7 != "" || " " $6 " " !~ / "kube-root-ca[.]crt" /) next
      k = $3; of = $4
      if (k == "\"ReplicaSet\"") { of = name[$1, $4]; k = kind[$1, $4] }
      if (k !~ /^"(Deployment|StatefulSet|DaemonSet)"$/ || plain(of) == "") { k = "\"none\""; of = $2 }
      if (plain($1) == "" || plain(of) == "") next
      line = substr(k, 2, length(k) - 2) " " plain($1) " " plain(of)
      if (!(line in seen)) { seen[line]; print line }
    }' "$stage/sets" "$stage/pods"
}

# unrestarted NAMESPACE WORKLOAD: why its controller would not restart its pods; nothing if it would.
unrestarted() {
  strategy=$(kubectl_ -n "$1" get "$2" -o 'jsonpath={.spec.updateStrategy.type}|{.spec.paused}|{.spec.updateStrategy.rollingUpdate.partition}' \
    2>"$stage/message") || {
    echo "it cannot be read: $(tail -n 1 "$stage/message")"
    return 0
  }
  case $strategy in
  OnDelete*) echo 'its update strategy is OnDelete: delete its pods' ;;
  *'|true|'*) echo 'its rollout is paused' ;;
  *'|' | *'|0') ;;
  *) echo "its partition leaves pods below ${strategy##*|} as they are: delete these" ;;
  esac
}

# left WHAT WHY: is printed for the reader, once.
left() {
  ! grep -Fxq "$1" "$stage/left" || return 0
  printf '%s\n' "$1" >>"$stage/left"
  printf 'left: %s: %s\n' "$1" "$2"
}

# restarted: waits until the workload has restarted, for as long as it gets on.
restarted() {
  reached=none
  while ! message=$(kubectl --kubeconfig "$administrator" -n "$namespace" rollout status "$kind/$name" \
    --timeout="${KSCERT_WAIT_SECONDS}s" 2>&1 </dev/null); do
    now=$(kubectl_ -n "$namespace" get "$kind/$name" -o \
      'jsonpath={.status.updatedReplicas} {.status.readyReplicas} {.status.updatedNumberScheduled} {.status.numberReady}') || now=$reached
    [ "$now" != "$reached" ] ||
      fail "$kind $namespace/$name does not get on within $KSCERT_WAIT_SECONDS seconds, so the former CA is not dropped:" \
        "$(printf '%s\n' "$message" | tail -n 1). Mend it, or go without: --restart-workloads none"
    reached=$now
  done
}

: >"$stage/left"
old >"$stage/workloads"
while read -r kind namespace name; do
  if [ "$kind" = none ]; then
    left "pod $namespace/$name" 'no Deployment, StatefulSet or DaemonSet restarts it: delete it and make it again'
    continue
  fi
  why=$(unrestarted "$namespace" "$kind/$name")
  if [ -n "$why" ]; then
    left "$kind $namespace/$name" "$why"
    continue
  fi
  ! checking "restart $kind $namespace/$name" || continue
  asked_at=$(kubectl_ -n "$namespace" get "$kind/$name" \
    -o 'jsonpath={.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt}') || asked_at=
  # Its time has the zone of the machine on which it was restarted last.
  asked_at=$(date -u -d "${asked_at:-1970-01-01}" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null) || asked_at=
  if [ "$(printf '%s\n%s\n' "$before" "$asked_at" | sort | head -n 1)" != "$before" ]; then
    quietly kubectl_ -n "$namespace" rollout restart "$kind/$name"
    changed "restarted $kind $namespace/$name"
  fi
  restarted
done <"$stage/workloads"
[ "$KSCERT_CHECK" != True ] || exit 0
# What has not restarted after all.
old | while read -r kind namespace name; do
  case $kind in none) continue ;; esac
  left "$kind $namespace/$name" 'a pod of it still runs since before: delete that'
done
