# Restarts the kubelet, which asks for a new client certificate with the
# bootstrap kubeconfig, and waits until it has one.
current=$kubelet/kubelet-client-current.pem
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
restart_kubelet
if [ "$(head -n 1 "$bootstrap" 2>/dev/null)" = "$mark" ]; then
  until [ -f "$current" ] && ! ends_within "$current" 0; do
    if [ "$(date +%s)" -ge "$deadline" ]; then
      journalctl -u kubelet -n 40 -o cat --no-pager | grep -E '^E|rror' | tail -n 5 >&2
      fail "after $KSCERT_WAIT_SECONDS seconds the kubelet has no new client certificate in $current"
    fi
    sleep 0.3
  done
  changed "$current"
fi
changed 'restarted the kubelet'
