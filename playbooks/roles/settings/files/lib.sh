# Shared by the scripts of the roles; the task puts it before each of them.
# shellcheck shell=sh disable=SC2034,SC2154
set -eu
umask 077
LC_ALL=C
PATH=$PATH:$KSCERT_BIN_DIR:/usr/local/bin:/opt/bin:/usr/sbin:/sbin
# What scripts print is read by programs, though it may go through a terminal.
TERM=dumb NO_COLOR=1 SYSTEMD_COLORS=0 SYSTEMD_PAGER=
export LC_ALL PATH TERM NO_COLOR SYSTEMD_COLORS SYSTEMD_PAGER

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

# Nobody types here, although raw has a terminal.
exec </dev/null
setsid=$(command -v setsid || :)

# openssl: without the system's authorities. It would read all of them each time, which
# takes five times as long as what it is asked for, and nothing here is verified by them.
# And without a terminal, on which it would ask for a passphrase and wait.
openssl() { SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null ${setsid:-command} openssl "$@"; }

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

# ends_within FILE SECONDS: the first certificate of a PEM file ends so soon, or has not
# begun, as one that was issued while a clock was wrong.
ends_within() { ! lasts "$2" <"$1"; }

# lasts SECONDS: the certificate on standard input is valid now, and for so long.
lasts() {
  begins=$(openssl x509 -noout -startdate -checkend "$1" 2>/dev/null) || return 1
  begins=$(printf '%s\n' "$begins" | sed -n 's/^notBefore=//p')
  [ "$(date -d "$begins" +%s)" -le "$(date +%s)" ]
}

# client_due FILE: the kubelet's client certificate is due, which a running kubelet renews
# by itself, unless it is told not to: when 70 to 90 % of its life have passed. In the last
# tenth it has failed to (orchestrator/snapshot, Node.Window).
client_due() {
  within=$seconds
  if ! grep -Eqs '^rotateCertificates: *.?false' "$conf/kubelet-config.yaml" "${kubelet%/*}/config.yaml"; then
    tenth=$((($(date_of "$1" enddate) - $(date_of "$1" startdate)) / 10))
    [ "$tenth" -ge "$within" ] || within=$tenth
  fi
  ends_within "$1" "$within"
}

# kubelet_due: what the kubelet logs in with is due: $current, or else what $kubeletconf holds.
kubelet_due() {
  if [ -f "$current" ]; then client_due "$current"; else kubeconfig_ends_within "$kubeletconf" "$seconds"; fi
}

fingerprint() { openssl x509 -in "$1" -noout -fingerprint -sha256; }

# one_line: standard input as base64 in one line.
one_line() { base64 | tr -d '\n'; }

# date_of FILE startdate|enddate: seconds since 1970.
date_of() { date -d "$(openssl x509 -in "$1" -noout "-$2" | cut -d= -f2)" +%s; }

# fields FILE: of a certificate or a certification request, what its DER says (RFC 5280,
# 4.1; RFC 2986, 4), one a line: "rdn OID:TAG:VALUE+..." of the subject, "san TAG VALUE",
# "extension OID VALUE"; all of it hexadecimal. A printout cannot be taken apart: a name
# may hold a line break. Nothing, and failure, where the structure is another.
fields() {
  case $(sed -n '/^-----BEGIN/{p;q;}' "$1") in
  *REQUEST*) openssl req -in "$1" -outform DER ;;
  *) openssl x509 -in "$1" -outform DER ;;
  esac | od -An -v -tx1 | awk '
    function number(h) { return (index("0123456789abcdef", substr(h, 1, 1)) - 1) * 16 + index("0123456789abcdef", substr(h, 2, 1)) - 1 }
    # open P: reads the head at P, leaves its tag in T, its content from V up to before E.
    function open(p, size, i) {
      if (p + 1 >= n) wrong()
      T = b[p]; size = number(b[p + 1]); V = p + 2
      if (size > 127) {
        i = size - 128; size = 0
        if (i < 1 || i > 3) wrong()
        for (; i > 0; i--) size = size * 256 + number(b[V++])
      }
      E = V + size
      if (E > n) wrong()
    }
    function wrong() { exit 1 }
    function put(line) { said = said line "\n" }
    function hex(from, to, out) { for (out = ""; from < to; from++) out = out b[from]; return out }
    function subject(p, end, set, atv, out, oid) {
      for (; p < end; p = set) {
        open(p); set = E; if (T != "31") wrong()
        out = ""
        for (p = V; p < set; p = atv) {
          open(p); atv = E; if (T != "30") wrong()
          open(V); oid = hex(V, E); open(E)
          out = out (out == "" ? "" : "+") oid ":" T ":" hex(V, E)
        }
        put("rdn " out)
      }
    }
    function extensions(p, end, next_, oid) {
      for (; p < end; p = next_) {
        open(p); next_ = E; if (T != "30") wrong()
        open(V); oid = hex(V, E)
        open(E); if (T == "01") open(E)
        if (T != "04") wrong()
        put("extension " oid " " hex(V, E))
        if (oid == "551d11") names(V)
      }
    }
    function names(p, end) {
      open(p); end = E; if (T != "30") wrong()
      for (p = V; p < end; p = E) { open(p); put("san " T " " hex(V, E)) }
    }
    function attributes(p, end, next_, oid) {
      for (; p < end; p = next_) {
        open(p); next_ = E; open(V); oid = hex(V, E); open(E)
        if (oid == "2a864886f70d01090e") { open(V); extensions(V, E) } # extensionRequest, RFC 2985, 5.4.2
      }
    }
    { for (i = 1; i <= NF; i++) b[n++] = $i }
    END {
      open(0); open(V); end = E; p = V
      open(p)
      if (T == "a0") { # a certificate: version, serialNumber, signature, issuer, validity
        for (i = 0; i < 5; i++) { open(p); p = E }
      } else p = E # a request: version
      open(p); subject(V, E); open(p); p = E
      open(p); p = E # subjectPublicKeyInfo
      for (; p < end; p = at) {
        open(p); at = E
        if (T == "a0") attributes(V, E)
        if (T == "a3") { open(V); extensions(V, E) }
      }
      printf "%s", said
    }'
}

# plain FILE: it is lines of PEM from its first one on, without headers: nothing for which
# openssl would ask for a passphrase.
plain() {
  case $(head -n 1 "$1" | tr -d '\0') in '-----BEGIN '*) ;; *) return 1 ;; esac
  ! grep -aEvq '^(-----(BEGIN|END) (NEW )?CERTIFICATE( REQUEST)?-----|[A-Za-z0-9+/=]*)$' "$1"
}

# alone req|x509 FILE: FILE becomes the request or certificate that openssl finds in it,
# and nothing else. In a text with several blocks, or with long lines, sed, openssl and
# Go find different ones: what was checked would not be what is used.
alone() { plain "$2" && openssl "$1" -in "$2" -out "$2.alone" 2>/dev/null </dev/null && mv -fT "$2.alone" "$2"; }

# names FILE: likewise for people: the subject, then the SANs with their types, one a
# line. What is not plain text is escaped as in URLs, so that a line is one name. Nothing
# where FILE is no certificate and no request.
names() {
  fields "$1" | awk '
    function text(h, tag, keep, out, i, c) {
      for (i = 1; i < length(h); i += 2) {
        c = (index("0123456789abcdef", substr(h, i, 1)) - 1) * 16 + index("0123456789abcdef", substr(h, i + 1, 1)) - 1
        c = c > 31 && c < 127 ? sprintf("%c", c) : ""
        out = out (c != "" && tag ~ /^(0c|13|16|81|82|86)$/ && c ~ keep ? c : "%" toupper(substr(h, i, 2)))
      }
      return out
    }
    function address(h, i, out) {
      if (length(h) == 8) for (i = 1; i < 9; i += 2) out = out (i > 1 ? "." : "") (index("0123456789abcdef", substr(h, i, 1)) - 1) * 16 + index("0123456789abcdef", substr(h, i + 1, 1)) - 1
      else for (i = 1; i < length(h); i += 4) { g = substr(h, i, 4); sub(/^0+/, "", g); out = out (i > 1 ? ":" : "") (g == "" ? "0" : toupper(g)) }
      return out
    }
    BEGIN {
      split("550403 CN 55040a O 55040b OU 550406 C 550408 ST 550407 L 550405 serialNumber", word, " ")
      for (i = 1; i in word; i += 2) short[word[i]] = word[i + 1]
      type["81"] = "email:"; type["82"] = "DNS:"; type["86"] = "URI:"; type["87"] = "IPAddress:"
    }
    $1 == "rdn" {
      parts = split(substr($0, 5), part, "+")
      for (i = 1; i <= parts; i++) {
        split(part[i], f, ":")
        subject = subject (i > 1 ? "+" : subject == "" ? "" : ",") (f[1] in short ? short[f[1]] : f[1]) "=" text(f[3], f[2], "[^,+=%]")
      }
      next
    }
    $1 == "san" { san[++n] = ($2 in type ? type[$2] : "other" $2 ":") ($2 == "87" ? address($3) : text($3, $2, "[A-Za-z0-9._:@/*?#&=~-]")) }
    END {
      if (!NR) exit
      print "subject=" subject
      for (i = 1; i <= n; i++) print san[i]
    }'
}

# sign_request CA KEY SECONDS [SUBJECT]: $stage/request, signed to $stage/new.pem with
# what $stage/extensions says and nothing that the request asks for beside its key and,
# without SUBJECT, its own. From five minutes ago, as kubeadm and kube-controller-manager
# have it, for clocks that are behind; of less than 8 hours, these minutes are no part
# (Kubernetes, pkg/controller/certificates/authority). Never beyond the authority's end.
sign_request() {
  cat >"$stage/ca.cnf" <<CONF
[ca]
default_ca = one
[one]
database = $stage/index
serial = $stage/serial
new_certs_dir = $stage
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = optional
CONF
  : >"$stage/index"
  openssl rand -hex 15 >"$stage/serial"
  start=$(($(date +%s) - 300))
  last=$((start + $3))
  [ "$3" -ge 28800 ] || last=$((last + 300))
  ends=$(date_of "$1" enddate)
  [ "$last" -le "$ends" ] || last=$ends
  for_subject=${4:-}
  set -- openssl ca -batch -notext -preserveDN -config "$stage/ca.cnf" -cert "$1" -keyfile "$2" -in "$stage/request" -out "$stage/new.pem" \
    -startdate "$(date -u -d "@$start" +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "@$last" +%Y%m%d%H%M%SZ)" -extfile "$stage/extensions"
  [ -z "$for_subject" ] || set -- "$@" -subj "$for_subject"
  quietly "$@"
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
  openssl verify -CAfile "$3" "$2" >/dev/null 2>&1 ||
    fail "the new $1 is not valid under $3: $(openssl verify -CAfile "$3" "$2" 2>&1 | grep '^error' | head -n 1)"
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
  rm -f "$kubelet/.kscertctl.restart"
}

# safe_dir DIR: DIR, or the nearest one above it in which only root can put something:
# where a successor is made, nobody else may place a link meanwhile.
safe_dir() {
  safe=$(readlink -f "$1")
  while [ "$safe" != / ] && [ -n "$(find "$safe" -prune \( ! -user 0 -o -perm /022 \))" ] && [ "$(id -u)" = 0 ]; do safe=$(dirname "$safe"); done
  [ "$(stat -c %d "$safe")" = "$(stat -c %d "$1")" ] || fail "$1 is a file system of its own in which others than root can write: nothing is placed there"
  printf '%s\n' "${safe%/}"
}

# beside PATH: where PATH's successor is made. The kubelet takes no file whose
# name begins with a dot for a manifest.
beside() { printf '%s/.kscertctl.%s\n' "$(safe_dir "${1%/*}")" "${1##*/}"; }

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
kubeconfig_ends_within() { ! kubeconfig_certificate "$1" | lasts "$2"; }

# restart_due: the kubelet has to be restarted for what lies there now, and is not yet; the
# mark stays until it was. No file that is there at another time tells.
restart_due() { [ -e "$kubelet/.kscertctl.restart" ]; }

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
    [ ! -d "$path" ] || {
      find "$path" -name '.kscertctl.*' ! -name .kscertctl.restart -prune -exec rm -rf {} +
      find "$(safe_dir "$path")/" -maxdepth 1 -name '.kscertctl.*' ! -name .kscertctl.restart -exec rm -rf {} +
    }
    [ ! -d "${path%/*}" ] || rm -f "$(beside "$path")"
  done
}

# place_kubelet_pair FILE: certificate and key in FILE become the pair that the kubelet
# logs in with, under the name that the kubelet would give them.
place_kubelet_pair() {
  target=$kubelet/kubelet-client-$(date -u +%Y-%m-%d-%H-%M-%S).pem
  # The link names the pair before it exists: by it, sweep finds a pair that an
  # interrupted run made and nothing refers to.
  ln -s "$target" "$kubelet/.kscertctl.link"
  cat "$1" >"$target"
  pair "$target" "$target" || fail "the new client certificate of the kubelet does not belong to its key"
  sync "$target"
  settle "$kubelet/.kscertctl.link" "$current"
  changed "$current"
}

# refer_to_current: kubelet.conf holds no credential of its own, which would not be
# rotated, but refers to the rotating file. Needs $stage.
refer_to_current() {
  awk -v f="$current" '
    $1=="client-certificate-data:" {sub(/client-certificate-data:.*/, "client-certificate: " f)}
    $1=="client-key-data:" {sub(/client-key-data:.*/, "client-key: " f)}
    {print}' "$kubeletconf" >"$stage/kubelet.conf"
  place "$stage/kubelet.conf" "$kubeletconf"
  changed "$kubeletconf"
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
  names "$1" >"$stage/names-old"
  subject=$(sed -n '1s/^subject=//p' "$stage/names-old")
  case $subject in *%* | *+*) fail "the subject of $2 cannot be asked of kubeadm: $subject" ;; esac
  set -- "$1" "$2" "$3" --client-name="$(printf '%s\n' "$subject" | tr , '\n' | sed -n 's/^CN=//p')"
  while IFS= read -r org; do
    [ -z "$org" ] || set -- "$@" "--org=$org"
  done <<END
$(printf '%s\n' "$subject" | tr , '\n' | sed -n 's/^O=//p')
END
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

