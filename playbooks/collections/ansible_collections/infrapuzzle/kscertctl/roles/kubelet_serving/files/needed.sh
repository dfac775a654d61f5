# Tells whether the kubelet of this node has to ask for its serving certificate
# (serverTLSBootstrap), and has none that is good for long.
current=$kubelet/kubelet-server-current.pem
asks_to_serve || exit 0
[ ! -f "$current" ] || ends_within "$current" "$seconds" || exit 0
checking "approve the serving certificate that the kubelet asks for" && exit 0
echo 'serving: needed'
