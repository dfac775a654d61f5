# Tells whether the kubelet of this node needs a bootstrap, and clears the way.
need_backup
current=$kubelet/kubelet-client-current.pem
kubeletconf=$conf/kubelet.conf
[ -f "$kubeletconf" ] || fail "$kubeletconf does not exist: join the node again instead"
server=$(awk '$1=="server:"{print $2; exit}' "$kubeletconf")
[ -n "$server" ] || fail "$kubeletconf names no server"

# What an interrupted run left: a token that may still be good.
sweep
bootstrap_gone

renew_serving_pair
# Removed, and the kubelet not restarted since: it still serves the old one.
if [ ! -f "$kubelet/kubelet.crt" ] && [ ! -e "$kubelet/kubelet-server-current.pem" ] &&
  ! grep -Eqs '^(tlsCertFile|serverTLSBootstrap): *[^f ]|--tls-cert-file' "$conf/kubelet-config.yaml" "${kubelet%/*}/config.yaml" "$conf/kubelet.env"; then
  checking 'restart the kubelet' || changed 'the kubelet has no serving certificate until it is restarted'
fi
if [ -f "$current" ]; then
  ends_within "$current" 0 || exit 0
else
  kubeconfig_certificate "$kubeletconf" | openssl x509 -noout -checkend "$seconds" >/dev/null && exit 0
fi
checking 'give the kubelet a new client certificate' && exit 0
echo 'bootstrap: needed'
