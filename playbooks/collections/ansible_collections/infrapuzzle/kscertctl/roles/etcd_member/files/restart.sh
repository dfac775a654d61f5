# Restarts an etcd member on a machine of its own that does not take up its renewed
# certificate by itself, and waits until it serves it.
restart_etcd
wait_for etcd_back
