# Starts the kubelet of a control plane node, and with it the stopped static pods.
checking "restart the kubelet" && exit 0
begin_again

# An etcd member that starts asks each of the others for up to 7 seconds whether its data are the
# same (etcd, server/etcdserver/corrupt.go: InitialCheck; kubeadm and Kubespray enable it). Members
# that start together all wait for each other without success, so the next one starts when this one
# talks to others.
[ "$KSCERT_TOGETHER" = True ] || exit 0
peer=$(named etcd listen-peer-urls | sed -n 's#^https://\([^,]*\).*#\1#p')
[ -n "$peer" ] || exit 0
deadline=$(($(date +%s) + 15))
until [ -n "$(served "$peer")" ] || [ "$(date +%s)" -ge "$deadline" ]; do sleep 0.2; done
