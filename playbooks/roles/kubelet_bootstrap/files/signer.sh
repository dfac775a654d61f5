# Waits until kube-controller-manager, which signs what a kubelet asks for, leads. One
# that has come back lets its predecessor's lease run out first, for 15 seconds; a kubelet
# that asks meanwhile tries less and less often, to renew its own lease, too. A leader
# renews its lease every 2 seconds. Where there is none, or none comes, the bootstrap says
# what is wrong.
[ "$KSCERT_CHECK" != True ] || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do
  renewed=$(kubectl --kubeconfig "$conf/admin.conf" --request-timeout=5s -n kube-system \
    get lease kube-controller-manager -o 'jsonpath={.spec.renewTime}' 2>/dev/null) && [ -n "$renewed" ] || exit 0
  [ $(($(date +%s) - $(date -d "$renewed" +%s))) -gt 5 ] || exit 0
  sleep 1
done
