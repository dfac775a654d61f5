# Kinds of certificates: TestKinds writes them from orchestrator/certs (UPDATE_DOCS=1 go test ./playbooks).
# cas and leaves: name, its CA, setting of the file in use, leaf it is used with; kubeconfigs: name, setting,
# another reader; etcd_leaves: name, reader; etcd_clusters: name, port for clients; settings that name
# certificates, keys and kubeconfigs elsewhere; verifiers: setting with the CAs, leaves that are verified by it
# (roles/external_ca/files/leaves.sh); file_flags: all flags of static pods and of etcd's unit among these
# settings.
# shellcheck shell=sh disable=SC2034
cas='ca
front-proxy-ca
etcd/ca
ca-next
front-proxy-ca-next
etcd/ca-next'
leaves='apiserver|ca|kube-apiserver.tls-cert-file|
apiserver-kubelet-client|ca|kube-apiserver.kubelet-client-certificate|
front-proxy-client|front-proxy-ca|kube-apiserver.proxy-client-cert-file|
apiserver-etcd-client|etcd/ca|kube-apiserver.etcd-certfile|etcd/server
etcd/server|etcd/ca|etcd.cert-file|apiserver-etcd-client
etcd/peer|etcd/ca|etcd.peer-cert-file|apiserver-etcd-client
etcd/healthcheck-client|etcd/ca||etcd/server'
kubeconfigs='admin||kube-vip
super-admin||kube-vip
controller-manager|kube-controller-manager.kubeconfig|
scheduler|kube-scheduler.kubeconfig|'
etcd_leaves='member|etcd
admin|
node|kube-apiserver'
etcd_clusters='etcd|2379
etcd-events|2381'
file_settings='kubelet.client-certificate
kubelet.tlsCertFile
kube-apiserver.tls-cert-file
kube-apiserver.sni-cert-file
kube-apiserver.kubelet-client-certificate
kube-apiserver.proxy-client-cert-file
kube-apiserver.etcd-cafile
kube-apiserver.etcd-certfile
etcd.trusted-ca-file
etcd.peer-trusted-ca-file
etcd.cert-file
etcd.peer-cert-file
etcd-events.trusted-ca-file
etcd-events.peer-trusted-ca-file
etcd-events.cert-file
etcd-events.peer-cert-file'
key_settings='kubelet.client-key
kubelet.tlsPrivateKeyFile
kube-apiserver.tls-private-key-file
kube-apiserver.sni-private-key-file
kube-apiserver.kubelet-client-key
kube-apiserver.proxy-client-key-file
kube-apiserver.etcd-keyfile
etcd.key-file
etcd.peer-key-file
etcd-events.key-file
etcd-events.peer-key-file'
login_settings='kube-vip.kubeconfig
kube-controller-manager.kubeconfig
kube-scheduler.kubeconfig'
verifiers='kube-apiserver.client-ca-file|kubeconfig,kubelet
kubelet.clientCAFile|apiserver-kubelet-client
kube-apiserver.requestheader-client-ca-file|front-proxy-client
kube-apiserver.etcd-cafile|etcd/server,etcd-host-member
etcd.peer-trusted-ca-file|etcd/peer,etcd-host-member
etcd.trusted-ca-file|apiserver-etcd-client,etcd/server,etcd/healthcheck-client,etcd-host-member,etcd-host-admin,etcd-host-node
etcd-events.peer-trusted-ca-file|etcd/peer,etcd-host-member
etcd-events.trusted-ca-file|apiserver-etcd-client,etcd/server,etcd/healthcheck-client,etcd-host-member,etcd-host-admin,etcd-host-node'
file_flags='tls-cert-file sni-cert-file kubelet-client-certificate proxy-client-cert-file etcd-cafile etcd-certfile trusted-ca-file peer-trusted-ca-file cert-file peer-cert-file tls-private-key-file sni-private-key-file kubelet-client-key proxy-client-key-file etcd-keyfile key-file peer-key-file kubeconfig client-ca-file requestheader-client-ca-file'
