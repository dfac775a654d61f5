# Restarts the control plane components that still use an old credential, through the container
# runtime, and waits until they serve the files on disk and the API server is ready. A component
# that has the new credential already is left alone.
pki_dir >/dev/null
need_runtime
case ${KSCERT_WOULD:-} in
*'would restart the kubelet'*) ;;
*)
  systemctl is-active --quiet kubelet ||
    fail "the kubelet is not running: a component that is stopped would not come back"
  ;;
esac

# An API server without its etcd member answers with errors; a stopped one sends its clients to
# another API server. So it goes first.
! etcd_distrusts || restart kube-apiserver
restart_etcd

# The API server first: the others exit if they find none, and back off longer each time.
restart kube-apiserver
wait_for api_ready
note_leases
ask_kubelet
for name in kube-controller-manager kube-scheduler kube-vip; do restart "$name"; done
# New components find no lease to wait for.
release_leases gone
wait_for components_back
release_leases silent
