# shellcheck shell=bash disable=SC2034 # the faults' scripts, which follow, use them
# What the faults' scripts share.
conf=/etc/kubernetes
ssl=$conf/ssl
manifests=$conf/manifests
kubelet=/var/lib/kubelet
apiserver=$manifests/kube-apiserver.yaml

# api: the readiness that the node's API server reports to its administrator.
api() { kubectl --kubeconfig "$conf/admin.conf" --cache-dir /run/kubectl --request-timeout 3s get --raw /readyz 2>&1; }

# api_says, journal_says UNIT, log_says COMPONENT: the words are in what it answers
# or has logged lately.
api_says() { { api || true; } | grep -E "$1" >/dev/null; }
journal_says() { journalctl -u "$1" --since -1min | grep -e "$2" >/dev/null; }
log_says() {
  log=$(find /var/log/pods -path "*kube-system_$1-*/$1/*.log" -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')
  grep -e "$2" "$log" >/dev/null
}

# again NAME: ends the component's container; kubelet starts another one.
again() {
  ids=$(crictl ps -q --name "^$1$")
  # shellcheck disable=SC2086 # one word each
  [ -z "$ids" ] || crictl stop -t 2 $ids >/dev/null
}

# stranger NAME DIR: a CA that the cluster does not know.
stranger() {
  openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=$1" -days 3650 -addext keyUsage=critical,keyCertSign \
    -keyout "$2/stranger.key" -out "$2/stranger.crt" 2>/dev/null
}

# signed_by CERTIFICATE KEY: the CA's certificate on standard input, for its own key in
# KEY_OF, as another one signs it.
signed_by() {
  openssl x509 -x509toreq -signkey "$KEY_OF" 2>/dev/null |
    openssl x509 -req -CA "$1" -CAkey "$2" -days 7300 2>/dev/null \
      -extfile <(printf '%s\n' basicConstraints=critical,CA:TRUE keyUsage=critical,keyCertSign,digitalSignature \
        subjectKeyIdentifier=hash authorityKeyIdentifier=keyid)
}

# trusts FILE...: the CAs in these become ca.crt, and what administrators trust.
trusts() {
  cat "$@" | overwrite "$ssl/ca.crt"
  data=$(base64 -w0 <"$ssl/ca.crt")
  for f in "$conf"/*admin.conf /root/.kube/config; do
    [ ! -f "$f" ] || sed "s|\(certificate-authority-data: \).*|\1$data|" "$f" | overwrite "$f"
  done
}

# overwrite FILE: standard input takes the place of what is in the file; its
# owner and mode stay.
overwrite() { cat >"$1.new" && cat "$1.new" >"$1" && rm -f "$1.new"; }

# fingerprint FILE, served PORT [text]: of a certificate in a file, and of the
# one that a port of the node's own address presents.
fingerprint() { openssl x509 -noout -fingerprint -sha256 -in "$1"; }
served() {
  address=$(sed -n 's/.*--node-ip=\([^"]*\).*/\1/p' "$conf/kubelet.env")
  if [ "${2:-}" = text ]; then set -- "$1" -text; else set -- "$1" -fingerprint -sha256; fi
  port=$1
  shift
  openssl s_client -connect "$address:$port" </dev/null 2>/dev/null | openssl x509 -noout "$@"
}
