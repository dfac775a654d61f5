# The control plane's containers: which run, since when, with which credentials;
# stopping those that hold an old one, and waiting for them to come back.
# shellcheck shell=sh disable=SC2034,SC2154
pki=$(pki_or_default)
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
ticks=$(getconf CLK_TCK)
# When the node booted, to a hundredth of a second: btime in /proc/stat is whole.
boot=$(awk -v now="$(date +%s.%N)" '{printf "%.2f", now - $1}' /proc/uptime)

# containers NAME: full IDs of the component's running containers.
containers() {
  if command -v crictl >/dev/null; then
    crictl ps --quiet --no-trunc --state Running --label io.kubernetes.pod.namespace=kube-system --label "io.kubernetes.container.name=$1"
  else
    docker ps --quiet --no-trunc --filter status=running --filter label=io.kubernetes.pod.namespace=kube-system --filter "label=io.kubernetes.container.name=$1"
  fi
}

# stop ID: a component gets few seconds: an API server with open watches would
# use up all it is given, answering nobody.
stop() {
  if command -v crictl >/dev/null; then quietly crictl stop --timeout 3 "$1"; else quietly docker stop --time 3 "$1"; fi
}

# started ID: when the container's first process started, seconds since 1970.
started() {
  for dir in /proc/[0-9]*; do
    grep -qs "$1" "$dir/cgroup" || continue
    # The fields behind the name, which may hold blanks: field 20 is starttime.
    sed 's/.*) //' "$dir/stat" 2>/dev/null | awk -v boot="$boot" -v ticks="$ticks" '{printf "%.2f\n", boot + $20 / ticks}'
  done | sort -n | head -n 1
}

# newest FILE...: when the last of them was written; nothing if none was. A restored
# file, or link, is as old as it was: after a restore the change time counts, of
# what changed since the backup before it.
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
[ "${KSCERT_CREDENTIAL_TIME:-modified}" = modified ] || since=$(stat -c %.2Y "$KSCERT_BACKUP_DIR/COMPLETE" 2>/dev/null || echo 0)

served() { timeout 6 openssl s_client -connect "$1" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 2>/dev/null || true; }

# of_credentials COMMAND NAME: the command, for the files that a component reads.
of_credentials() {
  case $2 in
  kube-apiserver) "$1" "$pki"/apiserver.crt "$pki"/apiserver-kubelet-client.crt "$pki"/apiserver-etcd-client.crt "$pki"/front-proxy-client.crt "$KSCERT_ETCD_DIR"/node-*.pem ;;
  kube-controller-manager | kube-scheduler) "$1" "$conf/${2#kube-}.conf" ;;
  kube-vip) "$1" "$conf/admin.conf" "$conf/super-admin.conf" ;;
  esac
}

# would_be_new FILE...: in check mode, a role before this one would have renewed one.
# KSCERT_WOULD is what those said.
would_be_new() {
  for f in "$@"; do
    case ${KSCERT_WOULD:-} in *"would renew $f, "*) return 0 ;; esac
  done
  return 1
}

# stale NAME: it runs since before its credentials were written, or would.
stale() {
  if of_credentials would_be_new "$1" && [ -n "$(containers "$1")" ]; then return 0; fi
  written=$(of_credentials newest "$1")
  [ -n "$written" ] || return 1
  for id in $(containers "$1"); do
    awk -v started="$(started "$id")" -v written="$written" 'BEGIN {exit !(started <= written + 0.05)}' && return 0
  done
  return 1
}

# back NAME: it runs, and not as one of the containers that were stopped.
stopped=
back() {
  running=$(containers "$1")
  [ -n "$running" ] || return 1
  for id in $running; do
    case $stopped in *"$id"*) return 1 ;; esac
  done
}

# etcd reads its certificates at every handshake: it is restarted only when what
# it serves shows that this one does not.
etcd_file=$pki/etcd/server.crt
if systemctl cat etcd >/dev/null 2>&1; then etcd_file=$(sed -n 's/^ETCD_CERT_FILE=//p' "$root/etc/etcd.env" 2>/dev/null || true); fi
etcd_serves() { [ ! -f "$etcd_file" ] || [ "$(served 127.0.0.1:2379)" = "$(fingerprint "$etcd_file")" ]; }

# restart_etcd: unless it serves what lies on disk.
restart_etcd() {
  if etcd_serves || checking "restart etcd"; then return 0; fi
  if systemctl cat etcd >/dev/null 2>&1; then
    systemctl restart --no-block etcd
    changed "restarted etcd"
    return 0
  fi
  for id in $(containers etcd); do
    stop "$id"
    changed "restarted etcd"
  done
}

# restart NAME: unless it has its new credentials already.
restart() {
  stale "$1" || return 0
  checking "restart $1" && return 0
  for id in $(containers "$1"); do
    stopped="$stopped $id"
    stop "$id"
  done
  changed "restarted $1"
}

# Where this node's own API server listens.
manifest=$conf/manifests/kube-apiserver.yaml
port=$(sed -n 's/.*--secure-port=\([0-9]*\).*/\1/p' "$manifest" 2>/dev/null | head -n 1)
host=$(sed -n 's/.*--advertise-address=\([^ ",]*\).*/\1/p' "$manifest" 2>/dev/null | head -n 1)
case $host in *:*) host="[$host]" ;; esac
api=${host:-127.0.0.1}:${port:-6443}

# wait_for CONDITION: the function prints what is missing and fails, or succeeds.
# With no time to wait, a later step does: several control planes may need each
# other to come back.
wait_for() {
  [ "$KSCERT_CHECK" != True ] && [ "$KSCERT_WAIT_SECONDS" -gt 0 ] || return 0
  patience=$(($(date +%s) + 20))
  while ! missing=$("$1"); do
    # A kubelet waits longer before each restart of what was restarted often, up to
    # five minutes, and forgets it when it is restarted itself.
    case $missing in
    *' does not run')
      if [ "$patience" -gt 0 ] && [ "$(date +%s)" -ge "$patience" ]; then
        patience=0
        systemctl restart kubelet
        changed 'restarted the kubelet, which held a component back'
      fi
      ;;
    esac
    if [ "$(date +%s)" -ge "$deadline" ]; then
      log=$(find /var/log/pods -path '*kube-system_kube-apiserver-*/kube-apiserver/*.log' -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p')
      [ -z "$log" ] || tail -n 5 "$log" >&2
      fail "after $KSCERT_WAIT_SECONDS seconds: $missing"
    fi
    sleep 0.3
  done
}

# api_ready: verified TLS, the administrator's new credential, the new certificate.
api_ready() {
  if ! etcd_serves; then
    echo "etcd does not serve $etcd_file on 127.0.0.1:2379"
  elif ! back kube-apiserver; then
    echo 'kube-apiserver does not run'
  elif [ "$(served "$api")" != "$(fingerprint "$pki/apiserver.crt")" ]; then
    echo "the API server does not serve $pki/apiserver.crt on $api"
  elif ! kubectl --kubeconfig "$conf/admin.conf" --server "https://$api" --request-timeout=5s get --raw /readyz 2>&1 </dev/null; then
    echo ' (the answer of /readyz)'
  else
    return 0
  fi
  return 1
}

components_back() {
  for name in kube-controller-manager kube-scheduler; do
    back "$name" || {
      echo "$name does not run"
      return 1
    }
  done
}
