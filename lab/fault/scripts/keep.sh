# Copies what a fault may change to a place of its own on the node.
kept=/var/lib/lab-fault
rm -rf "$kept"
install -d -m 0700 "$kept"
for d in /etc/kubernetes /etc/ssl/etcd /etc/etcd.env /etc/sudoers.d /etc/cni/net.d /etc/hosts \
  /var/lib/kubelet/pki /root /etc/calico; do
  [ ! -e "$d" ] || cp -a --parents "$d" "$kept"
done
