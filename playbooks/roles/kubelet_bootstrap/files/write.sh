# Writes bootstrap-kubelet.conf: the server and authority that kubelet.conf
# names, and the token that comes on standard input, so that it is in no
# argument list and in no environment.
kubeletconf=$conf/kubelet.conf
read -r token
server=$(awk '$1=="server:"{print $2; exit}' "$kubeletconf")
authority=$(awk '$1=="certificate-authority-data:"{print $2; exit}' "$kubeletconf")
file=$(awk '$1=="certificate-authority:"{print $2; exit}' "$kubeletconf")
if [ -z "$authority" ]; then authority=$(base64 -w0 <"${file:-$conf/ssl/ca.crt}"); fi
cat >"$(beside "$bootstrap")" <<CONF
$mark
apiVersion: v1
kind: Config
clusters:
  - name: default
    cluster:
      server: $server
      certificate-authority-data: $authority
users:
  - name: bootstrap
    user:
      token: $token
contexts:
  - name: bootstrap
    context: {cluster: default, user: bootstrap}
current-context: bootstrap
CONF
settle "$(beside "$bootstrap")" "$bootstrap"
