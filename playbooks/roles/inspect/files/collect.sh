# Prints what a node's certificates and control plane look like, for Go to parse
# (orchestrator/snapshot). POSIX sh without Python, so that a broken node can
# still be looked at. It changes nothing and never prints a private key: of PEM
# files only CERTIFICATE blocks, of kubeconfigs only four public fields.
#
# Settings: KSCERT_CONFIG_DIR, KSCERT_BIN_DIR, KSCERT_ETCD_DIR, KSCERT_ROLES.
#
# Lines: "@@TAG fields" opens a record, "|text" belongs to the record above,
# "@@END" closes the output: without it the output was cut off.
set -u
LC_ALL=C
PATH=$PATH:$KSCERT_BIN_DIR:/usr/local/bin:/opt/bin:/usr/sbin:/sbin
export LC_ALL PATH

conf=$KSCERT_CONFIG_DIR
etcd=$KSCERT_ETCD_DIR
kubelet=/var/lib/kubelet/pki
manifest=$conf/manifests/kube-apiserver.yaml

fact() { printf '@@FACT %s %s\n' "$1" "$2"; }
bars() { cut -c1-4000 | sed 's/^/|/'; }

# show NAME COMMAND...: exit status and output of a command, with a deadline.
# The status is left in $status.
show() {
  name=$1
  shift
  text=$(timeout 12 "$@" 2>&1 </dev/null)
  status=$?
  printf '@@RESULT %s %s\n' "$name" "$status"
  [ -z "$text" ] || printf '%s\n' "$text" | head -c 400000 | bars
}

certificates() { awk '/-----BEGIN CERTIFICATE-----/{p=1} p{print "|" $0} /-----END CERTIFICATE-----/{p=0}' "$1"; }

# pem BASE DIR PATTERN...: certificates of files, with owner, mode, size and time.
pem() {
  base=$1 dir=$2
  shift 2
  for rel in "$@"; do
    for f in "$dir"/$rel; do
      case $f in *-key.pem) continue ;; esac
      [ -e "$f" ] || continue
      printf '@@FILE %s %s %s\n' "$base" "$(stat -L -c '%a %U %G %s %Y' "$f")" "${f#"$dir"/}"
      certificates "$f"
    done
  done
}

# kubeconfig BASE DIR NAME...: the public fields of kubeconfigs.
kubeconfig() {
  base=$1 dir=$2
  shift 2
  for rel in "$@"; do
    f=$dir/$rel
    [ -e "$f" ] || continue
    printf '@@KUBECONFIG %s %s %s\n' "$base" "$(stat -L -c '%a %U %G %s %Y' "$f")" "$rel"
    awk '$1=="server:"||$1=="certificate-authority-data:"||$1=="client-certificate-data:"||$1=="client-certificate:"{print "|" $1 " " $2}' "$f"
  done
}

# served NAME ADDRESS: the certificate that a port presents, or why it does not.
served() {
  answer=$(timeout 6 openssl s_client -connect "$2" </dev/null 2>&1)
  printf '@@SERVED %s %s\n' "$1" "$2"
  case $answer in
  *-----BEGIN*) printf '%s\n' "$answer" | awk '/-----BEGIN CERTIFICATE-----/{p=1} p{print "|" $0} /-----END CERTIFICATE-----/{exit}' ;;
  *) printf '%s\n' "$answer" | grep -iE 'errno|error|refused|timed out|not found' | head -n 3 | bars ;;
  esac
}

digest() {
  for f in "$@"; do
    [ -f "$f" ] && printf '@@DIGEST %s\n' "$(sha256sum "$f" | sed 's/  */ /')"
  done
}

# unit NAME: state of a loaded systemd unit, its restarts, seconds it is active.
unit() {
  systemctl show "$1" -p LoadState -p ActiveState -p SubState -p NRestarts -p ActiveEnterTimestampMonotonic 2>/dev/null |
    awk -F= -v name="$1" -v up="$(cut -d. -f1 /proc/uptime)" '{v[$1]=$2} END{
      if (v["LoadState"]!="loaded") exit
      age=v["ActiveState"]=="active" ? up-v["ActiveEnterTimestampMonotonic"]/1000000 : 0
      printf "@@UNIT %s %s %s %d %d\n", name, v["ActiveState"], v["SubState"], v["NRestarts"], age}'
}

printf '@@KSCERT 1 %s\n' "$(date +%s)"

pki=$(sed -n 's/^certificatesDir: *"\{0,1\}\([^" ]*\).*/\1/p' "$conf/kubeadm-config.yaml" 2>/dev/null | head -n 1)
[ -n "$pki" ] || { [ -d "$conf/ssl" ] && pki=$conf/ssl; } || pki=$conf/pki
real=$(readlink -f "$pki" 2>/dev/null || printf '%s' "$pki")
fact hostname "$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
fact pki "$pki"
fact pki-real "$real"
fact config-dir "$conf"
fact etcd-dir "$etcd"
[ -f "$conf/kubeadm-config.yaml" ] && fact kubeadm-config "$conf/kubeadm-config.yaml"
fact kubeadm "$(command -v kubeadm)"
fact kubectl "$(command -v kubectl)"
fact openssl "$(command -v openssl)"
df -Pk "$conf" /var/lib/kubelet /var/lib/etcd /var 2>/dev/null | awk 'NR>1{print "@@DISK " $4 " " $2 " -1 " $6}' | sort -u
for u in kubelet etcd containerd crio docker; do unit "$u"; done

pem pki "$real" ca.crt front-proxy-ca.crt apiserver.crt apiserver-kubelet-client.crt apiserver-etcd-client.crt front-proxy-client.crt etcd/ca.crt etcd/server.crt etcd/peer.crt etcd/healthcheck-client.crt
pem kubelet "$kubelet" kubelet-client-current.pem kubelet-server-current.pem kubelet.crt
pem etcd "$etcd" ca.pem 'member-*.pem' 'admin-*.pem' 'node-*.pem'
kubeconfig config "$conf" admin.conf super-admin.conf controller-manager.conf scheduler.conf kubelet.conf bootstrap-kubelet.conf
kubeconfig home /root/.kube config
digest "$real"/ca.crt "$real"/ca.key "$real"/sa.key "$real"/sa.pub "$real"/front-proxy-ca.crt "$real"/front-proxy-ca.key "$real"/etcd/ca.crt "$real"/etcd/ca.key "$real"/secrets_encryption.yaml "$etcd"/ca.pem "$etcd"/ca-key.pem

address=$(sed -n 's/.*--node-ip=\([^ ",]*\).*/\1/p' "$conf/kubelet.env" 2>/dev/null | head -n 1)
case $address in *:*) address="[$address]" ;; esac
served kubelet "${address:-127.0.0.1}:10250"

case " $KSCERT_ROLES " in *' etcd '*)
  # Kubespray's host etcd listens on 127.0.0.1 too, and so does kubeadm's.
  served etcd 127.0.0.1:2379
  ;;
esac

status=0
case " $KSCERT_ROLES " in *' control-plane '*)
  [ -n "$(command -v kubeadm)" ] && show kubeadm-version kubeadm version -o short
  fact manifest "$([ -f "$manifest" ] && echo present || echo missing)"
  port=$(sed -n 's/.*--secure-port=\([0-9]*\).*/\1/p' "$manifest" 2>/dev/null | head -n 1)
  host=$(sed -n 's/.*--advertise-address=\([^ ",]*\).*/\1/p' "$manifest" 2>/dev/null | head -n 1)
  case $host in *:*) host="[$host]" ;; esac
  api=${host:-127.0.0.1}:${port:-6443}
  served kube-apiserver "$api"
  served kube-controller-manager 127.0.0.1:10257
  served kube-scheduler 127.0.0.1:10259
  # This node's own API server, as its administrator, with TLS verified.
  # Its cache is not left in root's home: looking changes nothing.
  cache=$(mktemp -d)
  trap 'rm -rf "$cache"' EXIT
  set -- kubectl --cache-dir="$cache" --kubeconfig="$conf/admin.conf" --server="https://$api" --request-timeout=8s
  tab='{"\t"}' nl='{"\n"}'
  show readyz "$@" get --raw '/readyz?verbose'
  if [ "$status" = 0 ]; then
    show nodes "$@" get nodes -o "jsonpath={range .items[*]}{.metadata.name}$tab{.status.conditions[?(@.type==\"Ready\")].status}$nl{end}"
    show node-leases "$@" -n kube-node-lease get leases -o "jsonpath={range .items[*]}{.metadata.name}$tab{.spec.renewTime}$nl{end}"
    show component-leases "$@" -n kube-system get leases kube-controller-manager kube-scheduler --ignore-not-found -o "jsonpath={range .items[*]}{.metadata.name}$tab{.spec.renewTime}$nl{end}"
    show static-pods "$@" -n kube-system get pods -l tier=control-plane -o "jsonpath={range .items[*]}{.metadata.labels.component}$tab{.spec.nodeName}$tab{.status.conditions[?(@.type==\"Ready\")].status}$nl{end}"
    status=0
  else
    # Why it does not answer: the last words of the API server and the kubelet.
    log=$(find /var/log/pods -path '*kube-system_kube-apiserver-*/kube-apiserver/*.log' -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p')
    # The runtime's prefix (time, stream, flag) is cut off; errors before the rest.
    # shellcheck disable=SC2016 # $1 is the inner shell's
    [ -z "$log" ] || show apiserver-log sh -c 'words=$(tail -n 300 "$1" | cut -d" " -f4-)
      printf "%s\n" "$words" | grep -E "^([EF][0-9]{4} |Error|panic|fatal)" | tail -n 4 | grep . || printf "%s\n" "$words" | tail -n 3' sh "$log"
    status=1
  fi
  ;;
esac
if [ "$status" != 0 ] || ! systemctl is-active --quiet kubelet; then
  # What follows from the missing API server is left out: it says nothing new.
  # shellcheck disable=SC2016 # $0 is awk's
  show kubelet-log sh -c 'journalctl -u kubelet --since -10min -o cat --no-pager | grep -E "^[EF][0-9]{4} |expired" |
    grep -vE "connection refused|update node status|event.go|CrashLoopBackOff|eviction manager|OOM events" |
    cut -d"]" -f2- | tail -n 100 | awk "!seen[\$0]++" | tail -n 5'
fi
printf '@@END\n'
