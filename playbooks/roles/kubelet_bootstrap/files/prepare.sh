# Tells whether the kubelet of this node needs a bootstrap, and clears the way.
need_backup
current=$kubelet/kubelet-client-current.pem
kubeletconf=$conf/kubelet.conf
[ -f "$kubeletconf" ] || fail "$kubeletconf does not exist: join the node again instead"
server=$(awk '$1=="server:"{print $2; exit}' "$kubeletconf")
[ -n "$server" ] || fail "$kubeletconf names no server"

# Its self-signed serving pair is made anew by the kubelet where it is missing.
if [ -f "$kubelet/kubelet.crt" ] && ends_within "$kubelet/kubelet.crt" "$seconds" && ! checking "renew $kubelet/kubelet.crt"; then
  rm -f "$kubelet/kubelet.crt" "$kubelet/kubelet.key"
  changed "$kubelet/kubelet.crt"
fi
if [ -f "$current" ]; then
  ends_within "$current" 0 || exit 0
else
  kubeconfig_certificate "$kubeletconf" | openssl x509 -noout -checkend "$seconds" >/dev/null && exit 0
fi
checking 'give the kubelet a new client certificate' && exit 0
echo 'bootstrap: needed'
