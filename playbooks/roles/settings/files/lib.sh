# Shared by the scripts of the roles; the task puts it before each of them.
# shellcheck shell=sh disable=SC2034,SC2154
set -eu
umask 077
LC_ALL=C
PATH=$PATH:$KSCERT_BIN_DIR:/usr/local/bin:/opt/bin:/usr/sbin:/sbin
export LC_ALL PATH

conf=$KSCERT_CONFIG_DIR
config=$conf/kubeadm-config.yaml
# For tests: what lies before the paths that no setting names.
root=${KSCERT_ROOT:-}
kubelet=$root/var/lib/kubelet/pki
home=$root/root/.kube/config
tab=$(printf '\t')
seconds=$KSCERT_RENEW_BEFORE

fail() {
  printf 'kscertctl: %s\n' "$*" >&2
  exit 1
}

# openssl: without the system's authorities. It would read all of them each time, which
# takes five times as long as what it is asked for, and nothing here is verified by them.
openssl() { SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null command openssl "$@"; }

# client SECONDS OPTION...: openssl s_client, likewise, for so long.
client() {
  limit=$1
  shift
  SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null timeout "$limit" openssl s_client "$@"
}

# changed WHAT: a line that tells Ansible, and the reader, what was changed.
changed() { printf 'changed: %s\n' "$*"; }

# checking WHAT: true in check mode, having said what would be done.
checking() {
  [ "$KSCERT_CHECK" = True ] || return 1
  printf 'changed: would %s\n' "$*"
}

# would_renew FILE: likewise of a certificate or kubeconfig, with the time it ends.
would_renew() {
  case $1 in
  *.pem | *.crt) end=$(openssl x509 -in "$1" -noout -enddate) ;;
  *) end=$(kubeconfig_certificate "$1" | openssl x509 -noout -enddate) ;;
  esac
  checking "renew $1, which ends ${end#notAfter=}"
}

# Nothing is changed on a node before a verified backup of it exists.
need_backup() {
  [ -f "$KSCERT_BACKUP_DIR/COMPLETE" ] || [ "$KSCERT_CHECK" = True ] ||
    fail "there is no verified backup in $KSCERT_BACKUP_DIR: run the backup role first"
}

# pki_dir: the real folder of kubeadm's certificatesDir.
pki_dir() {
  [ -f "$config" ] || fail "$config does not exist: without it SANs, folders and external etcd would be forgotten"
  dir=$(sed -n 's/^certificatesDir: *"\{0,1\}\([^" ]*\).*/\1/p' "$config" | head -n 1)
  readlink -f "${dir:-/etc/kubernetes/pki}"
}

# pki_or_default: likewise, on a node without kubeadm's configuration, too.
pki_or_default() { if [ -f "$config" ]; then pki_dir; else readlink -f "$conf/ssl" || printf '%s\n' "$conf/ssl"; fi; }

# covered: the places that a change of ours, of kubeadm or of Kubespray may touch,
# one a line, and what they lead to if they are links. None lies below another.
# A place is listed whether or not something is there.
covered() {
  for path in "$conf" "$(pki_or_default)" "$kubelet" "${kubelet%/*}/config.yaml" "${kubelet%/*}/kubeadm-flags.env" \
    "$KSCERT_ETCD_DIR" "${KSCERT_ETCD_DIR%/*}/openssl.conf" "$root/etc/etcd.env" "$root/etc/calico/certs" "$root/etc/cilium/certs" "$home"; do
    printf '%s\n' "$path"
    readlink -f "$path" || :
  done | LC_ALL=C sort -u | awk '{for (i = 1; i <= n; i++) if (index($0 "/", kept[i] "/") == 1) next; kept[++n] = $0; print}'
}

# ends_within FILE SECONDS: the first certificate of a PEM file ends so soon.
ends_within() { ! openssl x509 -in "$1" -noout -checkend "$2" >/dev/null; }

fingerprint() { openssl x509 -in "$1" -noout -fingerprint -sha256; }

# names FILE: the subject of a certificate, then its SANs with their types, one a line.
names() {
  openssl x509 -in "$1" -noout -subject -text | awk '
    /^subject=/ {print}
    /Subject Alternative Name/ {getline; gsub(/ /, ""); n = split($0, san, ","); for (i = 1; i <= n; i++) print san[i]}'
}

# pair CERTIFICATE KEY: the key belongs to the certificate.
pair() { [ "$(openssl x509 -in "$1" -noout -pubkey)" = "$(openssl pkey -in "$2" -pubout)" ]; }

# kubeconfig_certificate FILE: the client certificate embedded in a kubeconfig.
kubeconfig_certificate() { awk '$1=="client-certificate-data:"{print $2; exit}' "$1" | base64 -d; }

# accepted_loss NAME: somebody has said that a certificate may lose this name, with
# or without the type that openssl writes before it.
accepted_loss() { printf '%s\n' "${KSCERT_ACCEPT_SAN_LOSS:-}" | tr ' ' '\n' | grep -Fxiq -e "$1" -e "${1#*:}"; }

# check_successor OLD NEW CA: the new certificate may take the old one's place:
# issued by the same authority, valid now, same subject, no name lost but those that
# may be. kubeadm keeps DNS names and addresses, and no others; and in a kubeconfig none.
check_successor() {
  openssl verify -CAfile "$3" "$2" >/dev/null 2>&1 || fail "the new $1 is not valid under $3: $(openssl verify -CAfile "$3" "$2" 2>&1 | tail -n 1)"
  names "$1" >"$stage/names-old"
  [ -s "$stage/names-old" ] || fail "$1 cannot be read: what the new one must have is not known"
  names "$2" >"$stage/names-new"
  lost='' accepted='' flags=''
  while IFS= read -r name; do
    case $name in
    '') continue ;;
    subject=*) fail "the new $1 would have another subject: $(grep '^subject=' "$stage/names-new") instead of $name" ;;
    esac
    if accepted_loss "$name"; then accepted="$accepted $name"; else lost="$lost $name" flags="$flags --accept-san-loss $name"; fi
  done <<END
$(grep -Fxv -f "$stage/names-new" "$stage/names-old")
END
  [ -z "$lost" ] || fail "the new $1 would lose these SANs:$lost. It stays as it is. Where nobody needs them, let them go with:$flags" \
    "(by hand: -e kscert_accept_san_loss=NAME). To keep them, have a certificate with these names issued where this one came from" \
    "and put it in its place: what is not due is left alone"
  [ -z "$accepted" ] || changed "$1 loses$accepted, as was accepted"
}

# restart_kubelet: also one that systemd has given up.
restart_kubelet() {
  systemctl reset-failed kubelet 2>/dev/null || true
  systemctl restart kubelet || fail "the kubelet does not start: $(journalctl -u kubelet -n 5 -o cat --no-pager)"
}

# beside PATH: where PATH's successor is made. The kubelet takes no file whose
# name begins with a dot for a manifest.
beside() { printf '%s/.kscertctl.%s\n' "${1%/*}" "${1##*/}"; }

# settle NEW OLD: NEW, made beside OLD, takes OLD's place, on the disk first.
settle() {
  { [ -L "$1" ] || sync "$1"; } && mv -fT "$1" "$2" && sync "${2%/*}" && return 0
  rm -f "$1"
  fail "$2 cannot be written; it is as it was"
}

# place NEW OLD: NEW's content takes OLD's place in one step, with OLD's owner,
# mode, attributes and context.
place() {
  next=$(beside "$2")
  rm -f "$next"
  { cp --preserve=all --attributes-only "$2" "$next" && cat "$1" >"$next"; } || {
    rm -f "$next"
    fail "$2 cannot be written; it is as it was"
  }
  settle "$next" "$2"
}

# kubeconfig_ends_within FILE SECONDS: likewise for an embedded certificate.
kubeconfig_ends_within() { ! kubeconfig_certificate "$1" | openssl x509 -noout -checkend "$2" >/dev/null; }

# sweep: removes what an interrupted run may have left beside what it was making:
# stages and successors that never took their place. Some of it holds keys.
sweep() {
  [ "$KSCERT_CHECK" != True ] || return 0
  # The pair of a kubelet that was made, but that nothing refers to yet.
  left=$(readlink "$kubelet/.kscertctl.link" || :)
  case $left in
  "$kubelet"/kubelet-client-*.pem) [ "$(readlink "$kubelet/kubelet-client-current.pem")" = "$left" ] || rm -f "$left" ;;
  esac
  covered | while IFS= read -r path; do
    [ ! -d "$path" ] || find "$path" -name '.kscertctl.*' -prune -exec rm -rf {} +
    rm -f "$(beside "$path")"
  done
}

# renew_serving_pair: removes the kubelet's self-signed serving pair when it is due
# or no pair at all: the kubelet makes it anew when it starts and finds neither file.
# With one of them, or an empty one that a full disk leaves, it would not start.
renew_serving_pair() {
  certificate=$kubelet/kubelet.crt
  key=$kubelet/kubelet.key
  [ -e "$certificate" ] || [ -e "$key" ] || return 0
  if [ -s "$certificate" ] && [ -s "$key" ]; then
    ends_within "$certificate" "$seconds" || ! pair "$certificate" "$key" || return 0
  fi
  ! checking "renew $certificate" || return 0
  rm -f "$certificate" "$key"
  changed "$certificate"
}

# open_stage DIR: a private folder for what is being made, gone at the end.
open_stage() {
  stage=$(mktemp -d "$1/.kscertctl.XXXXXX")
  trap 'rm -rf "$stage"' EXIT
  trap 'exit 130' INT TERM HUP
}

# stage_config: a copy of the node's own kubeadm configuration whose folder of
# certificates is in the stage, with the authorities linked, not copied. Needs
# $pki and $stage.
stage_config() {
  mkdir -p "$stage/pki/etcd" "$stage/conf"
  for f in ca front-proxy-ca etcd/ca; do
    [ ! -f "$pki/$f.crt" ] || ln -s "$pki/$f.crt" "$stage/pki/$f.crt"
    [ ! -f "$pki/$f.key" ] || ln -s "$pki/$f.key" "$stage/pki/$f.key"
  done
  awk -v dir="$stage/pki" '
    /^certificatesDir:/ {next}
    {print}
    /^kind: *ClusterConfiguration/ {print "certificatesDir: " dir}' "$config" >"$stage/kubeadm.yaml"
  grep -q '^certificatesDir: ' "$stage/kubeadm.yaml" || fail "$config holds no ClusterConfiguration"
  # Both commands that are used here were "alpha" before Kubernetes v1.20.
  alpha=
  kubeadm certs --help >/dev/null 2>&1 || alpha=alpha
}

# check_authority NAME: certificate and key are there, belong together, valid. Asked once.
sound=
check_authority() {
  case " $sound " in *" $1 "*) return 0 ;; esac
  [ -f "$pki/$1.crt" ] || fail "$pki/$1.crt does not exist; a new authority is never made here"
  [ -f "$pki/$1.key" ] || fail "$pki/$1.key does not exist: certificates must be issued where the authority's key is"
  pair "$pki/$1.crt" "$pki/$1.key" || fail "$pki/$1.key does not belong to $pki/$1.crt"
  ! ends_within "$pki/$1.crt" 0 || fail "$pki/$1.crt has expired: what it signs is worth nothing"
  sound="$sound $1"
}

# quietly COMMAND...: its output is shown only when it fails.
quietly() {
  said=$("$@" 2>&1 </dev/null) || fail "$* failed: $said"
}

# issue_kubeconfig OLD-CERTIFICATE OLD NEW: a copy of the kubeconfig OLD whose
# client certificate is a new one with the same subject, and a new key. Server,
# contexts and authority stay as they are. Keys go from file to file only.
issue_kubeconfig() {
  fields=$(openssl x509 -in "$1" -noout -subject -nameopt multiline)
  set -- "$1" "$2" "$3" --client-name="$(printf '%s\n' "$fields" | sed -n 's/^ *commonName *= //p')"
  for org in $(printf '%s\n' "$fields" | sed -n 's/^ *organizationName *= //p'); do
    set -- "$@" "--org=$org"
  done
  old_certificate=$1 old=$2 new=$3
  shift 3
  # shellcheck disable=SC2086 # none or one word
  timeout 60 kubeadm $alpha kubeconfig user "$@" --config "$stage/kubeadm.yaml" >"$stage/user.conf" 2>"$stage/said" </dev/null ||
    fail "kubeadm kubeconfig user $* failed: $(cat "$stage/said")"
  kubeconfig_certificate "$stage/user.conf" >"$stage/new.crt"
  check_successor "$old_certificate" "$stage/new.crt" "$pki/ca.crt"
  awk '
    NR==FNR {if ($1=="client-certificate-data:") crt=$2; if ($1=="client-key-data:") key=$2; next}
    $1=="client-certificate-data:" {sub(/client-certificate-data:.*/, "client-certificate-data: " crt)}
    $1=="client-key-data:" {sub(/client-key-data:.*/, "client-key-data: " key)}
    {print}' "$stage/user.conf" "$old" >"$new"
}

