# The control plane's containers: which run, since when, with which credentials; stopping those with
# an old one, and waiting for them to come back.
# shellcheck shell=sh disable=SC2034,SC2154
pki=$(pki_or_default)
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
ticks=$(getconf CLK_TCK)
# When the node booted, to a hundredth of a second: btime in /proc/stat has whole seconds.
boot=$(awk -v now="$(date +%s.%N)" '{printf "%.2f", now - $1}' /proc/uptime)

# cri COMMAND...: crictl at the kubelet's own endpoint: crictl's configuration may name a runtime
# that is gone.
endpoint=$(kubelet_says containerRuntimeEndpoint)
cri() { crictl ${endpoint:+"--runtime-endpoint=$endpoint" "--image-endpoint=$endpoint"} "$@"; }

# containers NAME: full IDs of the component's running containers.
containers() {
  if command -v crictl >/dev/null; then
    cri ps --quiet --no-trunc --state Running --label io.kubernetes.pod.namespace=kube-system \
      --label "io.kubernetes.container.name=$1"
  else
    docker ps --quiet --no-trunc --filter status=running --filter label=io.kubernetes.pod.namespace=kube-system \
      --filter "label=io.kubernetes.container.name=$1"
  fi
}

# need_runtime: asked once by itself, because a runtime that does not answer would look like a
# component that does not run.
need_runtime() {
  containers kube-apiserver >/dev/null || fail 'the container runtime cannot be asked for its containers'
}

# stop ID [SECONDS]: a component gets few seconds: an API server with open watches would use all
# that it is given without answering anyone. Before them, it may need some to serve on.
stop() {
  set -- "$1" $((3 + ${2:-0}))
  if command -v crictl >/dev/null; then quietly cri stop --timeout "$2" "$1"; else quietly docker stop --time "$2" "$1"; fi
}

# drains NAME: for how many seconds a component serves on after SIGTERM while it reports that it
# is not ready, so that load balancers turn to others first: an API server that works, with its flag
# shutdown-delay-duration.
drains() {
  delay=0
  if [ "$1" = kube-apiserver ] && [ "$KSCERT_WAIT_SECONDS" -gt 0 ] && works; then
    delay=$(named kube-apiserver shutdown-delay-duration | seconds_of_duration)
  fi
  if [ "${delay:-0}" -le 120 ]; then echo "${delay:-0}"; else echo 120; fi
}

# works: clients can use the API server. A renewal knows it; a restore, which may come at any time,
# sees whether the certificate that is served has expired.
works() {
  case ${KSCERT_API_RELOADS:-} in
  '') client 6 -connect "$api" </dev/null 2>/dev/null | openssl x509 -noout -checkend 0 >/dev/null 2>&1 ;;
  *) [ "$KSCERT_API_RELOADS" = True ] ;;
  esac
}

# started ID: when the first process of the container, or unit, started, in seconds since 1970.
started() {
  grep -ls -e "$1" /proc/[0-9]*/cgroup | while IFS= read -r cgroup; do
    # The fields after the name, which may hold blanks: field 20 is starttime.
    sed 's/.*) //' "${cgroup%/cgroup}/stat" 2>/dev/null |
      awk -v boot="$boot" -v ticks="$ticks" '{printf "%.2f\n", boot + $20 / ticks}'
  done | sort -n | head -n 1
}

# older FILE...: one of $running started before a file was written.
older() {
  written=$(newest "$@")
  [ -n "$written" ] || return 1
  for id in $running; do
    awk -v started="$(started "$id")" -v written="$written" 'BEGIN {exit !(started <= written + 0.05)}' && return 0
  done
  return 1
}

# newest FILE...: when the last of them was written; nothing if none was. A restored file, or link,
# keeps its old time: after a restore the change time counts, for what has changed since the backup
# before it.
newest() {
  for f in "$@"; do
    [ -e "$f" ] || continue
    if [ "${KSCERT_CREDENTIAL_TIME:-modified}" = modified ]; then
      stat -L -c %.2Y "$f"
    else
      stat -L -c %.2Z "$f"
      stat -c %.2Z "$f"
    fi
  done | awk -v since="$since" '$1 >= since' | sort -rn | head -n 1
}
since=0
[ "${KSCERT_CREDENTIAL_TIME:-modified}" = modified ] ||
  since=$(stat -c %.2Y "$KSCERT_BACKUP_DIR/COMPLETE" 2>/dev/null || echo 0)

served() {
  client 6 -connect "$1" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 2>/dev/null || true
}

# reads FLAG FILE: the file that the API server uses in place of FILE: that, or another.
reads() {
  file=$(named kube-apiserver "$1")
  if other "$2" "$file" && [ -f "$file" ]; then printf '%s\n' "$file"; else printf '%s\n' "$2"; fi
}
api_file=$(reads tls-cert-file "$pki/apiserver.crt")

# of_credentials COMMAND NAME: runs the command for the files that a component reads.
of_credentials() {
  check=$1 component=$2
  set --
  for kind in $leaves; do
    leaf=${kind%%|*} kind=${kind#*|*|}
    case $kind in "$component".*) kind=${kind%|*} && set -- "$@" "$(reads "${kind#*.}" "$pki/$leaf.crt")" ;; esac
  done
  for kind in $kubeconfigs; do
    case "|${kind#*|}|" in *"|$component.kubeconfig|"* | *"|$component|"*) set -- "$@" "$conf/${kind%%|*}.conf" ;; esac
  done
  for kind in $etcd_leaves; do
    case $kind in *"|$component") set -- "$@" "$KSCERT_ETCD_DIR/${kind%%|*}"-*.pem ;; esac
  done
  "$check" "$@"
}

# distrusts NAME: while CAs are renewed, it started before the write of a CA certificate that it
# reads only once: for the API server and etcd that of etcd's CA, for others what their kubeconfigs
# trust and, for kube-controller-manager, what it publishes.
distrusts() {
  [ -n "${KSCERT_CA_RENEWAL:-}" ] || return 1
  # Of a rotation, this stage changes the order in the file of etcd's CA alone.
  case ${KSCERT_CA_STAGE:-}/$1 in servers/etcd | servers/kube-apiserver) return 1 ;; esac
  case $1 in
  etcd)
    older "$(of_etcd trusted-ca-file "$etcd")" "$(of_etcd peer-trusted-ca-file "$etcd")"
    ;;
  kube-apiserver) older "$(named kube-apiserver etcd-cafile)" ;;
  kube-controller-manager) older "$(named kube-controller-manager root-ca-file)" ;;
  *) return 1 ;;
  esac
}

# reloads: this API server reloads renewed files: its serving certificate and its client
# certificates for etcd, kubelets and aggregated servers. All do since Kubernetes 1.20
# (kubernetes/kubernetes#92791 was the last). The image's tag counts, because the files on disk may
# be newer than the running process.
reloads() {
  [ "${KSCERT_API_RELOADS:-False}" = True ] || return 1
  minor=$(sed -n 's#.*image: .*/kube-apiserver:v1\.\([0-9]*\).*#\1#p' "$manifest" 2>/dev/null | head -n 1)
  [ "${minor:-0}" -ge 20 ]
}

# serves_new: the API server serves the certificate on disk. It reloads at once, or after a minute
# if it was not notified of the change (apiserver, server/dynamiccertificates).
serves_new() {
  patience=70
  [ "$KSCERT_WAIT_SECONDS" -ge "$patience" ] || patience=$KSCERT_WAIT_SECONDS
  until [ "$(served "$api")" = "$(fingerprint "$api_file")" ]; do
    [ "$patience" -gt 0 ] || return 1
    patience=$((patience - 1))
    sleep 1
  done
}

# loopback_ends: the certificate that the API server makes for itself when it starts, for a year or
# 14 months, expires soon; only a restart makes a new one (kubernetes/kubernetes#86552).
loopback_ends() {
  own=$(client 6 -connect "$api" -servername apiserver-loopback-client </dev/null 2>/dev/null |
    openssl x509 2>/dev/null) || return 1
  case $(printf '%s\n' "$own" | openssl x509 -noout -subject) in
  *apiserver-loopback-client*) ! printf '%s\n' "$own" | openssl x509 -noout -checkend "$seconds" >/dev/null ;;
  *) return 1 ;;
  esac
}

# would_be_new FILE...: in check mode, an earlier role would have renewed one of them. KSCERT_WOULD
# is the output of those roles.
would_be_new() {
  for f in "$@"; do
    case ${KSCERT_WOULD:-} in *"would renew $f, "*) return 0 ;; esac
  done
  return 1
}

# stale NAME: it holds an old credential, or would. A component that reads files once does if it
# started before they were written.
stale() {
  running=$(containers "$1")
  [ -n "$running" ] || return 1
  if distrusts "$1"; then return 0; fi
  if [ "$1" = kube-apiserver ]; then
    ! loopback_ends || return 0
    if reloads; then
      ! serves_new
      return
    fi
  fi
  if of_credentials would_be_new "$1"; then return 0; fi
  of_credentials older "$1"
}

# back NAME: it runs, and not in one of the containers that were stopped.
stopped=
back() {
  running=$(containers "$1")
  [ -n "$running" ] || return 1
  for id in $running; do
    case $stopped in *"$id"*) return 1 ;; esac
  done
}

# each_member COMMAND: for each cluster of etcd with a member here, until one fails: with its name in
# $etcd, its unit, unless it is a static pod, in $etcd_unit, its certificate in $etcd_file and its
# address in $etcd_address.
each_member() {
  for cluster in $etcd_clusters; do
    etcd=${cluster%|*} etcd_unit=
    etcd_file=$(of_etcd cert-file "$etcd")
    if systemctl cat "$etcd" >/dev/null 2>&1; then
      etcd_unit=$etcd.service
      etcd_file=$(etcd_env "$etcd" cert-file)
    elif [ "$etcd" != etcd ]; then
      continue
    fi
    [ -n "$etcd_unit" ] || [ -f "$etcd_file" ] || etcd_file=$pki/etcd/server.crt
    etcd_at "$(of_etcd listen-client-urls "$etcd")" "${cluster#*|}"
    etcd_address=$value
    "$1" || return 1
  done
}

# etcd reads its certificates at every handshake: it is restarted only if what it serves shows that
# this one does not.
#
# member_older: it started before its certificate was written, or the unit does not run. A member
# without a quorum yet does not answer when asked what it serves.
member_older() {
  running=${etcd_unit:-$(containers "$etcd")}
  older "$etcd_file"
}
member_distrusts() {
  running=${etcd_unit:-$(containers "$etcd")}
  [ -n "$running" ] && distrusts etcd
}
member_serves() { [ ! -f "$etcd_file" ] || [ "$(served "$etcd_address")" = "$(fingerprint "$etcd_file")" ]; }
member_trusts() { ! member_distrusts; }
etcd_distrusts() { ! each_member member_trusts; }

# member_back: it serves the certificate on disk, and trusts it. Whether another cluster than the main
# one has its quorum, without which a member serves nothing, a gate waits for.
member_back() {
  if member_distrusts; then
    echo "$etcd has not been restarted since its CA was renewed"
    return 1
  fi
  [ "$etcd" = etcd ] && ! member_serves || return 0
  echo "$etcd does not serve $etcd_file on $etcd_address"
  return 1
}
etcd_back() { each_member member_back; }

# restart_member: unless it serves the certificate on disk, or will.
restart_member() {
  member_distrusts || { member_older && ! member_serves; } || return 0
  ! checking "restart $etcd" || return 0
  if [ -n "$etcd_unit" ]; then
    systemctl restart --no-block "$etcd"
    changed "restarted $etcd"
    return 0
  fi
  for id in $(containers "$etcd"); do
    stop "$id"
    changed "restarted $etcd"
  done
}
restart_etcd() { each_member restart_member; }

# unread FILE...: kubectl cannot read one of these kubeconfigs, so no component can; which
# stays in $unreadable.
unread() {
  [ -n "$(command -v kubectl)" ] || return 1
  for unreadable in "$@"; do
    case $unreadable in "$conf"/*.conf) [ ! -f "$unreadable" ] || as_kubectl "$unreadable" >/dev/null || return 0 ;; esac
  done
  return 1
}

# restart NAME: unless it has its new credentials already, or would not start with what is there.
restart() {
  stale "$1" || return 0
  if of_credentials unread "$1"; then
    noted "$1 is not restarted: it would not start with $unreadable, which kubectl cannot read"
    return 0
  fi
  checking "restart $1" && return 0
  drained=$(drains "$1") deadline=$((deadline + drained))
  for id in $(containers "$1"); do
    stopped="$stopped $id"
    stop "$id" "$drained"
  done
  changed "restarted $1"
}

# The address of this node's own API server.
manifest=$conf/manifests/kube-apiserver.yaml
api_at "$(named kube-apiserver advertise-address)" "$(named kube-apiserver secure-port)"
api=$value

# wait_for CONDITION: the function prints what is missing and fails, or succeeds. Without time to
# wait, a later step waits: several control planes may need each other to come back.
wait_for() {
  [ "$KSCERT_CHECK" != True ] && [ "$KSCERT_WAIT_SECONDS" -gt 0 ] || return 0
  hurry=$(($(date +%s) + 20))
  while ! missing=$("$1"); do
    # A kubelet waits longer before each restart of a container that restarted often, up to five
    # minutes; restarting the kubelet resets that.
    case $missing in
    *' does not run')
      if [ "$hurry" -gt 0 ] && [ "$(date +%s)" -ge "$hurry" ]; then
        hurry=0
        systemctl restart kubelet
        changed 'restarted the kubelet, which held a component back'
      fi
      ;;
    esac
    if [ "$(date +%s)" -ge "$deadline" ]; then
      log=$(find /var/log/pods -path '*kube-system_kube-apiserver-*/kube-apiserver/*.log' \
        -printf '%T@ %p\n' 2>/dev/null |
        sort -rn | sed -n '1s/^[^ ]* //p')
      [ -z "$log" ] || tail -n 5 "$log" >&2
      fail "after $KSCERT_WAIT_SECONDS seconds: $missing"
    fi
    sleep 0.3
  done
}

# api_ready: verified TLS, the administrator's new credential, the new certificate.
api_ready() {
  etcd_back || return 1
  if ! back kube-apiserver; then
    echo 'kube-apiserver does not run'
  elif [ "$(served "$api")" != "$(fingerprint "$api_file")" ]; then
    echo "the API server does not serve $api_file on $api"
  elif ! kubectl --kubeconfig "$administrator" --server "https://$api" --request-timeout=5s \
    get --raw /readyz 2>&1 </dev/null; then
    echo ' (the answer of /readyz)'
  else
    return 0
  fi
  return 1
}

# over_new_connection NODE: the API server asks a kubelet, and reports that it is healthy. A request
# to upgrade gets a connection of its own, where another would use one that is open. To the kubelet
# it is a usual request: what it answers is passed on, or, by newer API servers, reported as an error
# with its code. The second request has the first connection closed.
over_new_connection() {
  certificate=$(reads kubelet-client-certificate "$pki/apiserver-kubelet-client.crt")
  key=$(reads kubelet-client-key "$pki/apiserver-kubelet-client.key")
  answer=$({
    printf 'GET /api/v1/nodes/%s/proxy/healthz HTTP/1.1\r\nHost: localhost\r\n' "$1"
    printf 'Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n'
    printf 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
  } | client 6 -quiet -cert "$certificate" -key "$key" -connect "$api" 2>/dev/null)
  case $answer in 'HTTP/1.1 200 '* | *'status code 200'*) ;; *) return 1 ;; esac
}

# ask_kubelet: makes the API server ask this node's kubelet. Once its client certificate for
# kubelets is renewed, the API server closes the first new connection to any kubelet, and all others
# with it (client-go, transport/cert_rotation.go): better under our request than under someone's
# kubectl logs. A usual request may use an open connection, with which nothing happens; it is made
# only if the API server does not accept the other. Whether kubelets can be reached is checked
# elsewhere.
ask_kubelet() {
  [ "$KSCERT_CHECK" != True ] && [ "$KSCERT_WAIT_SECONDS" -gt 0 ] || return 0
  name=$(openssl x509 -in "$kubelet/kubelet-client-current.pem" -noout -subject -nameopt multiline 2>/dev/null |
    sed -n 's/^ *commonName *= system:node://p')
  for _ in 1 2 3; do
    [ -n "$name" ] || return 0
    ! over_new_connection "$name" || return 0
    sleep 0.5
  done
  for _ in 1 2 3; do
    ! kubectl --kubeconfig "$administrator" --server "https://$api" --request-timeout=5s \
      get --raw "/api/v1/nodes/$name/proxy/healthz" >/dev/null 2>&1 </dev/null || return 0
    sleep 0.5
  done
}

components_back() {
  for name in kube-controller-manager kube-scheduler; do
    back "$name" || {
      echo "$name does not run"
      return 1
    }
  done
}

# lease NAME: version, time of renewal, lifetime in seconds and holder of the lease by which a
# component leads; nothing if no one holds it.
lease() {
  kubectl --kubeconfig "$administrator" --server "https://$api" --request-timeout=5s -n kube-system get lease "$1" \
    -o 'jsonpath={.metadata.resourceVersion} {.spec.renewTime} {.spec.leaseDurationSeconds} {.spec.holderIdentity}' \
    2>/dev/null </dev/null | awk 'NF == 4'
}

# note_leases: leaves in $noted the leases that no one renews any more: after an outage there is no
# leader, and candidates wait once more for the lifetime of a lease, 15 seconds (client-go,
# tools/leaderelection).
noted=
note_leases() {
  [ "$KSCERT_CHECK" != True ] && [ "$KSCERT_WAIT_SECONDS" -gt 0 ] || return 0
  for name in kube-controller-manager kube-scheduler; do
    held=$(lease "$name")
    [ -n "$held" ] || continue
    at=${held#* } at=${at%% *} lasts=${held% *} lasts=${lasts##* }
    case $lasts in *[!0-9]*) continue ;; esac
    age=$(($(date +%s) - $(date -d "$at" +%s)))
    [ "$age" -le "$lasts" ] || noted="$noted$name $age $lasts $at $held
"
  done
  noted_at=$(date +%s)
}

# gone NAME AT HOLDER: the holder was a process of this host (client-go's users name themselves
# HOSTNAME_UUID), and all that run here have started since its last renewal, whose time is from this
# host's own clock.
gone() {
  case $3 in "$(uname -n)_"*) ;; *) return 1 ;; esac
  running=$(containers "$1" </dev/null) || return 1
  at=$(date -d "$2" +%s.%N)
  for id in $running; do
    awk -v started="$(started "$id")" -v at="$at" 'BEGIN {exit !(started > at + 0)}' || return 1
  done
}

# silent AGE LASTS: it is overdue by a minute, by the clocks of two hosts, and has not renewed since
# the lease was noted: a live holder renews every 2 seconds, whatever the clocks show.
silent() {
  [ "$1" -gt $(($2 + 60)) ] || return 1
  while [ $(($(date +%s) - noted_at)) -lt 4 ]; do sleep 0.2; done
}

# release_leases CONDITION: of the noted leases, those that have not changed since and whose holder
# is gone, or silent. The API server refuses if one has changed after all.
release_leases() {
  printf '%s' "$noted" | while read -r name age lasts at held; do
    [ "$(lease "$name")" = "$held" ] || continue
    case $1 in
    gone) gone "$name" "$at" "${held##* }" || continue ;;
    silent) silent "$age" "$lasts" || continue ;;
    esac
    kubectl --kubeconfig "$administrator" --server "https://$api" --request-timeout=5s -n kube-system \
      patch lease "$name" --type=merge \
      -p "{\"metadata\":{\"resourceVersion\":\"${held%% *}\"},\"spec\":{\"holderIdentity\":\"\"}}" \
      >/dev/null 2>&1 </dev/null || continue
    changed "released the lease of the $name that led before the outage"
  done
}
