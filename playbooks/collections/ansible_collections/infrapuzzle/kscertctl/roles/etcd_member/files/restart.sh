# Restarts an etcd member on a separate machine that does not reload its renewed certificate, and
# waits until it serves it.
restart_etcd
wait_for etcd_back
