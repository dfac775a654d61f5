# Makes the kubelet, the control plane and etcd use the restored files: whatever started earlier is
# restarted. Restored certificates may have expired; then the kubelet does not start, and nothing is
# stopped that it would have to start again.
if ! systemctl cat kubelet >/dev/null 2>&1; then # a node of etcd's own
  restart_etcd
  wait_for etcd_back
  exit 0
fi

property() { systemctl show kubelet -p "$1" | cut -d = -f 2; }
# shellcheck disable=SC2086 # words
of_kubelet=$(newest "$kubelet_conf" "$kubelet/kubelet-client-current.pem" "$kubelet/kubelet-server-current.pem" \
  "$kubelet/kubelet.crt" "$conf/kubelet.env" $kubelet_configs)
of_others=$(newest "$conf"/*.conf "$pki"/*.crt "$pki"/etcd/*.crt "$KSCERT_ETCD_DIR"/*.pem)
[ -n "$of_kubelet$of_others" ] || exit 0 # nothing was restored

started=$(property ActiveEnterTimestampMonotonic)
if ! systemctl is-active --quiet kubelet ||
  awk -v boot="$boot" -v started="${started:-0}" -v put="${of_kubelet:-0}" '
    BEGIN {exit !(boot + started / 1000000 <= put + 0.05)}'; then
  checking 'restart the kubelet' || {
    restart_kubelet
    changed 'restarted the kubelet'
  }
fi

# With an expired certificate it exits within a moment, again and again.
restarts=$(property NRestarts)
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if ! systemctl is-active --quiet kubelet || [ "$(property NRestarts)" != "$restarts" ]; then
    echo 'the kubelet is not running with what was restored: no component is stopped'
    exit 0
  fi
  sleep 0.5
done

[ -f "$manifest" ] || exit 0
need_runtime
restart_etcd
restart kube-apiserver
wait_for api_ready
for name in kube-controller-manager kube-scheduler kube-vip; do restart "$name"; done
wait_for components_back
