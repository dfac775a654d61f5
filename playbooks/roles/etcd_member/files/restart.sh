# Restarts an etcd member on a machine of its own that does not take up its renewed
# certificate by itself, and waits until it serves it.
etcd_back() {
  etcd_serves && return 0
  echo "etcd does not serve $etcd_file on 127.0.0.1:2379"
  return 1
}
restart_etcd
wait_for etcd_back
