# Prints whether this node's kubelet has to request its serving certificate (serverTLSBootstrap),
# and has none that stays valid for long.
current=$kubelet/kubelet-server-current.pem
asks_to_serve || exit 0
[ ! -f "$current" ] || ends_within "$current" "$seconds" || exit 0
checking "approve the serving certificate that the kubelet asks for" && exit 0
echo 'serving: needed'
