# Where things of a node are: one set of rules for the collector and for the scripts of the roles.
# The task puts it after kinds.sh and kubeconfig.sh, and before them. For tests: KSCERT_ROOT is a
# prefix of the paths that no setting names.
# shellcheck shell=sh disable=SC2034,SC2154
root=${KSCERT_ROOT-}

# Times are computed in seconds, in 64 bits as in POSIX's long. With those of mksh, nothing that
# expires after 2038 would be right.
[ $((2147483647 + 1)) -gt 0 ] || {
  echo "kscertctl: the sh of this node computes with 32 bits: use another for it, such as dash or bash" >&2
  exit 1
}

# tidy PATH: leaves in $value the same name without double and trailing slashes and dots, as Go and
# Ansible write it (path.Clean): names of one file are compared.
tidy() {
  value=$1
  while :; do
    case $value in
    *//*) value=${value%%//*}/${value#*//} ;;
    */./*) value=${value%%/./*}/${value#*/./} ;;
    */.) value=${value%.} ;;
    ?*/) value=${value%/} ;;
    /../*) value=${value#/..} ;;
    /*/../* | /*/..)
      tidied=$value/ tidied=${tidied%%/../*}
      value=${tidied%/*}${value#"$tidied"/..}
      value=${value:-/}
      ;;
    *) break ;;
    esac
  done
  # Through a link to a directory it may be another place.
  # shellcheck disable=SC3013 # in every sh that a node may have
  case $1/ in */../*) [ "$value" -ef "$1" ] || value=$1 ;; esac
}

tidy "$KSCERT_CONFIG_DIR"
conf=$value
tidy "$KSCERT_ETCD_DIR"
KSCERT_ETCD_DIR=$value
config=$conf/kubeadm-config.yaml
kubelet_home=$root/var/lib/kubelet
home=$root/root/.kube/config
calico=$root/etc/calico/certs
cilium=$root/etc/cilium/certs

# The kubeconfig of the cluster's administrator: super-admin.conf, where admin.conf is empty, as a
# full disk leaves it, or missing.
administrator=$conf/admin.conf
[ -s "$administrator" ] || [ ! -s "$conf/super-admin.conf" ] || administrator=$conf/super-admin.conf

# top_level FIELD: the value of a top-level field of the cluster in kubeadm's configuration.
top_level() {
  awk -v field="$1" "$reader$of_kubeadm"'
    function leaf(path, value) { of_document(path, value) }
    function cluster_setting(path, value) { if (path == field && !found++) print value }
    FNR == 1 { new_file() }
    { read_document($0) }
    END { document_ended() }' "$config"
}

# find_pki: leaves in $value the certificate directory by the node's own name for it: kubeadm's
# certificatesDir or its default, unless only that of Kubespray exists. Without a configuration of
# kubeadm, as on a worker, that of Kubespray or else of kubeadm.
find_pki() {
  if [ -f "$config" ]; then
    tidy "$(top_level certificatesDir)"
    if [ -z "$value" ]; then
      value=$root/etc/kubernetes/pki
      [ -d "$value" ] || [ ! -d "$conf/ssl" ] || value=$conf/ssl
    fi
  else
    value=$conf/ssl
    [ -d "$value" ] || value=$conf/pki
  fi
}

# find_kubelet: leaves the kubelet's flags in $words, the files of its configuration in
# $kubelet_configs, the directory of its certificates in $kubelet, and its kubeconfig in
# $kubelet_conf.
find_kubelet() {
  kubelet_words "$kubelet_home/kubeadm-flags.env" "$conf/kubelet.env"
  kubelet_configs=$(kubelet_configs)
  flag kubeconfig "$conf/kubelet.conf"
  tidy "$value"
  kubelet_conf=$value
  flag cert-dir "$kubelet_home/pki"
  tidy "$value"
  kubelet=$value
}

# kubelet_words FILE...: leaves in $words what environment files give the kubelet, each word between
# blanks (systemd.exec(5), EnvironmentFile).
kubelet_words() {
  words=' ' odd=$(printf '\t\r"')
  for of_words; do
    [ -f "$of_words" ] || continue
    while read -r line || [ -n "$line" ]; do
      case $line in '#'* | ';'*) continue ;; [A-Za-z_]*=*) line=${line#*=} ;; esac
      while :; do
        case $line in *["$odd"\'\\]*) line="${line%%["$odd"\'\\]*} ${line#*["$odd"\'\\]}" ;; *) break ;; esac
      done
      words="$words$line "
    done <"$of_words"
  done
}

# flag NAME DEFAULT: the kubelet's flag in $words, of several the last, in $value. One without a
# value is true.
flag() {
  value=$2
  case $words in *" --$1="* | *" --$1 "*) value=${words##*" --$1"} ;; *) return ;; esac
  case $value in =*) value=${value#=} ;; *) value=${value#"${value%%[! ]*}"} ;; esac
  case $value in '' | --*) value=true ;; *) value=${value%% *} ;; esac
}

# kubelet_configs: the existing files of the kubelet's configuration, one per line; of a setting in
# two of them the last counts. The file that $words name, or else kubeadm's and Kubespray's, then
# the drop-ins of --config-dir (kubelet, cmd/kubelet/app: mergeKubeletConfigurations).
kubelet_configs() {
  flag config ''
  if [ -n "$value" ]; then set -- "$value"; else set -- "$kubelet_home/config.yaml" "$conf/kubelet-config.yaml"; fi
  for of_kubelet_file; do [ ! -f "$of_kubelet_file" ] || printf '%s\n' "$of_kubelet_file"; done
  flag config-dir ''
  [ -z "$value" ] || find "$value" -name '*.conf' ! -type d 2>/dev/null | sort
}

# kubelet_flags: those that count before a setting of its configuration, as FLAG:SETTING.
kubelet_flags='tls-cert-file:tlsCertFile tls-private-key-file:tlsPrivateKeyFile client-ca-file:clientCAFile
rotate-certificates:rotateCertificates rotate-server-certificates:serverTLSBootstrap
authorization-mode:authorization.mode container-runtime-endpoint:containerRuntimeEndpoint'

# own_host ADDRESS: where to reach a server that is bound to it, in $value.
own_host() {
  case $1 in '' | 0.0.0.0 | :: | '[::]') value=127.0.0.1 ;; \[*) value=$1 ;; *:*) value="[$1]" ;; *) value=$1 ;; esac
}

# url LIST: the host:port of a URL in a list, preferably one of this machine.
url() {
  value=
  list=$1,
  while [ -n "$list" ]; do
    u=${list%%,*} list=${list#*,}
    u=${u#*://} u=${u%%/*}
    [ -n "$value" ] || value=$u
    case $u in 127.0.0.1:* | localhost:* | '[::1]:'*) value=$u ;; esac
  done
  port=${value##*:}
  own_host "${value%:*}"
  [ -z "$1" ] && value= || value=$value:$port
}

# api_at ADVERTISED PORT: where to reach this node's own API server, from its --advertise-address
# and --secure-port or nothing, in $value.
api_at() {
  own_host "$1"
  value=$value:${2:-6443}
}

# etcd_at URLS PORT: where to reach this node's own member, from its listen-client-urls or nothing, in
# $value.
etcd_at() { url "${1:-https://127.0.0.1:$2}"; }

# env_files: the environment files of the units of etcd, one per line.
env_files() { for name in $etcd_clusters; do printf '%s\n' "$root/etc/${name%|*}.env"; done; }
