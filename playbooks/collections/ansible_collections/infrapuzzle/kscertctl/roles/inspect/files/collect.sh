# Prints what a node's certificates and control plane look like, for Go to parse
# (orchestrator/snapshot). POSIX sh without Python, so that a broken node can
# still be looked at. It changes nothing and never prints a private key: of PEM
# files only CERTIFICATE blocks, of a key only the digest of its public half, of
# kubeconfigs their structure, certificates, addresses and the names of what they
# refer to. The task puts kubeconfig.sh before it.
#
# Settings: KSCERT_CONFIG_DIR, KSCERT_BIN_DIR, KSCERT_ETCD_DIR, KSCERT_BACKUP_ROOT, KSCERT_ROLES;
# KSCERT_ROOT is put before the places that no setting names (tests).
#
# Version 3 of the output. "@@TAG fields" opens a record, "|text" belongs to the
# record above, "@@END" closes the output: without it the output was cut off.
#
#   KSCERT version clock            seconds since 1970
#   FACT name value
#   SETTINGS                        text: "name value" of the node's own settings
#   USE name path                   the file of a setting that is called otherwise here
#   DISK freeKiB sizeKiB freeInodes mount
#   UNIT name active sub restarts activeSeconds
#   TIMER on|held|off next          Kubespray's renewal; seconds since 1970, or 0
#   PROCESS name pid started        seconds since 1970; in the node's own network
#   FILE mode user group size mtime path         text: certificates
#   KUBECONFIG mode user group size mtime path   text: itself, each other word replaced
#   UNREADABLE path                 text: why there is no certificate
#   DIGEST sha256 path
#   WATCH sha256 path               of what a plan relies on and a change may touch
#   WORK pid seconds what           of a change at work on the node, and for how long
#   KEY sha256|unreadable path      digest of the public key, DER
#   RESOLVED host                   text: as getent prints addresses
#   TLS name exit address           text: CONNECTED, certificates, "!words"
#   HTTP name exit address          text: responses, "!words"
#   RESULT name exit                text: what a command printed
set -u
umask 077
LC_ALL=C
PATH=$PATH:$KSCERT_BIN_DIR:/usr/local/bin:/opt/bin:/usr/sbin:/sbin
TERM=dumb NO_COLOR=1 SYSTEMD_COLORS=0 SYSTEMD_PAGER=
export LC_ALL PATH TERM NO_COLOR SYSTEMD_COLORS SYSTEMD_PAGER

root=${KSCERT_ROOT-}
conf=$KSCERT_CONFIG_DIR
etcd=$KSCERT_ETCD_DIR
kubeadm=$conf/kubeadm-config.yaml
limit=4194304
nl='
'
tab=$(printf '\t')

has_role() { case " $KSCERT_ROLES " in *" $1 "*) ;; *) return 1 ;; esac }

# record FIELDS [TEXT]: prints a record. A line break in a field (of a file's name,
# a setting) begins no other one.
record() {
  fields=$1
  case $1 in *[[:cntrl:]]*) fields=$(printf '%s' "$1" | tr '[:cntrl:]' '?') ;; esac
  printf '@@%s\n%s' "$fields" "${2:+|$2$nl}"
}
fact() { [ -z "$2" ] || record "FACT $1 $2"; }
bars() { cut -c1-4000 | sed 's/^/|/'; }

# flag NAME DEFAULT: what the kubelet's environment file sets, in $value.
flag() {
  value=$2
  case $words in *"--$1="*) value=${words#*"--$1="} value=${value%%[\"\' ]*} ;; esac
}

# setting NAME DEFAULT: a setting of the node, in $value.
setting() {
  value=${settings#*"$nl|$1 "}
  if [ "$value" = "$settings" ]; then value=$2; else value=${value%%"$nl"*}; fi
}

# host ADDRESS: where a server that is bound there is reached, in $value.
host() {
  case $1 in '' | 0.0.0.0 | :: | '[::]') value=127.0.0.1 ;; \[*) value=$1 ;; *:*) value="[$1]" ;; *) value=$1 ;; esac
}

# url LIST: the host:port of a URL in a list, of this machine's own before others.
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
  host "${value%:*}"
  [ -z "$1" ] && value= || value=$value:$port
}

# read_settings: the fields of the node's own files that tell where things are.
# Named one by one: the same files hold tokens.
read_settings() {
  set --
  for f in "$conf"/manifests/kube-apiserver.yaml "$conf"/manifests/kube-controller-manager.yaml "$conf"/manifests/kube-scheduler.yaml \
    "$conf"/manifests/etcd.yaml "$conf"/manifests/kube-vip.y*ml "$root/etc/etcd.env" "$kubeadm" "$kubelet_config" "$kubelet_conf"; do
    [ -f "$f" ] && set -- "$@" "$f"
  done
  # shellcheck disable=SC2154 # of kubeconfig.sh
  [ $# = 0 ] || awk -v kubeadm="$kubeadm" -v config="$kubelet_config" -v kubeconfig="$kubelet_conf" "$structure$plainly$static_pod"'
    function put(name, value) {
      gsub(/["\047\r]/, "", value)
      if (value != "") print "|" name " " value
    }
    BEGIN {
      n = split("advertise-address bind-address secure-port tls-cert-file tls-private-key-file client-ca-file " \
        "kubelet-client-certificate kubelet-client-key proxy-client-cert-file proxy-client-key-file requestheader-client-ca-file " \
        "etcd-cafile etcd-certfile etcd-keyfile etcd-servers kubeconfig cert-file key-file trusted-ca-file " \
        "peer-cert-file peer-key-file peer-trusted-ca-file root-ca-file cluster-signing-cert-file listen-client-urls listen-client-http-urls " \
        "enable-grpc-gateway listen-peer-urls data-dir name", names, " ")
      for (i = 1; i <= n; i++) wanted[names[i]] = 1
    }
    # told: what the static pod before was told, of several the last, by the names of the host.
    function told(i) {
      for (i = 1; i <= n; i++) if (names[i] in pod) put(file "." names[i], pod[names[i]] ~ /^\// ? on_host(pod[names[i]]) : pod[names[i]])
      split("", pod)
      next_pod()
    }
    FNR == 1 { told(); file = FILENAME; sub(/.*\//, "", file); sub(/\.ya?ml$/, "", file); top = list = quote = ""; block = -1 }
    FILENAME == kubeadm {
      $0 = plain($0)
      if (match($0, /^["\047]?[A-Za-z]+["\047]?[ \t]*:/)) { # kubeadm takes a key in quotes, and a blank behind it
        key = substr($0, 1, RLENGTH)
        gsub(/["\047 \t]/, "", key)
        $0 = key substr($0, RLENGTH + 1)
      }
      if ($0 ~ /^[A-Za-z-]/) top = $1
      if ($0 ~ /^(kubernetesVersion|controlPlaneEndpoint|certificatesDir|encryptionAlgorithm):/) put("kubeadm." substr($1, 1, length($1) - 1), $2)
      else if (top == "featureGates:" && $1 == "PublicKeysECDSA:" && $2 ~ /true/) put("kubeadm.encryptionAlgorithm", "ECDSA-P256")
      else if ((top == "apiServer:" && $1 == "certSANs:") || (top == "etcd:" && $1 == "endpoints:")) list = substr($1, 1, length($1) - 1)
      else if (list != "" && $1 == "-") put("kubeadm." list, $2)
      else list = ""
      next
    }
    FILENAME == config {
      if ($1 ~ /^["\047]/) gsub(/["\047]/, "", $1)
      if ($0 ~ /^[A-Za-z]/) top = $1
      if (top == "authorization:" && $1 == "mode:") put("kubelet.authorization.mode", $2)
      if ($1 ~ /^(address|port|tlsCertFile|tlsPrivateKeyFile|clientCAFile|rotateCertificates|serverTLSBootstrap|containerRuntimeEndpoint):$/)
        put("kubelet." substr($1, 1, length($1) - 1), $2)
      next
    }
    FILENAME == kubeconfig {
      $0 = structured($0)
      gsub(/["\047\r]/, "")
      if ($1 == "server:" && public_server($2) || $1 ~ /^client-(certificate|key):$/ && public_file($2))
        put("kubelet." substr($1, 1, length($1) - 1), $2)
      next
    }
    file == "kube-vip" {
      if ($1 == "path:" && $2 ~ /(\.conf|config)["\047]?$/) put("kube-vip.kubeconfig", $2)
      next
    }
    file == "etcd.env" {
      eq = index($0, "=")
      if ($0 !~ /^ETCD_/ || eq == 0) next
      name = tolower(substr($0, 6, eq - 6))
      gsub(/_/, "-", name)
      if (name in wanted) put("etcd." name, substr($0, eq + 1))
      next
    }
    { noted($0) }
    $1 == "-" && match($0, /--[a-z-]+=/) {
      name = substr($0, RSTART + 2, RLENGTH - 3)
      value = substr($0, RSTART + RLENGTH)
      gsub(/["\047\r]| +$/, "", value)
      if (name in wanted) pod[name] = value
    }
    END { told() }' "$@"
}

# given_settings: what the kubelet is given as flags, which count before its configuration.
given_settings() {
  for name in tls-cert-file:tlsCertFile tls-private-key-file:tlsPrivateKeyFile client-ca-file:clientCAFile; do
    flag "${name%:*}" ''
    [ -z "$value" ] || printf '|kubelet.%s %s\n' "${name#*:}" "$value"
  done
}

# readable FILE: a file is there; what is there instead is told.
readable() {
  [ -n "$1" ] && [ ! -f "$1" ] || return 0
  if [ -L "$1" ]; then
    record "UNREADABLE $1" 'a link to nothing'
  elif [ -e "$1" ]; then
    record "UNREADABLE $1" 'not a file'
  fi
}

# plain FILE: its name can stand in a record; else that it cannot is told.
plain() {
  case $1 in *[[:cntrl:]]*) ;; *) return 0 ;; esac
  record "UNREADABLE $1" 'a line break or another control character is in its name'
  return 1
}

# as_listed FILE: it is in $files, and is called $listed there.
as_listed() {
  # shellcheck disable=SC3013 # in every sh that a node may have
  for listed in $files; do [ "$1" -ef "$listed" ] && return 0; done
  return 1
}

# list FILE: adds a file to $files, once, however it is called; where there are very many,
# by its name alone. A name that would be split is told instead.
list() {
  [ -f "$1" ] && plain "$1" || return 0
  case $files$nl in *"$nl$1$nl"*) return 0 ;; esac
  [ ${#files} -ge 10000 ] || ! as_listed "$1" || return 0
  files=$files$nl$1
}

# list_setting NAME: lists the file that a setting names; one that is listed already, and
# called otherwise there, is told under that name.
list_setting() {
  setting "$1" ''
  [ -f "$value" ] && plain "$value" || return 0
  if ! as_listed "$value"; then
    files=$files$nl$value
  elif [ "$value" != "$listed" ]; then
    record "USE $1 $listed"
  fi
}

# metadata FILE...: mode, user, group, size, time and path of each. A user or group of a
# directory service may have a blank in its name, which would be the end of a field.
metadata() {
  stat -L -c "%a$tab%U$tab%G$tab%s$tab%Y$tab%n" "$@" 2>/dev/null | awk -F '\t' '{ gsub(/ /, "_", $2); gsub(/ /, "_", $3); $1 = $1; print }'
}

# certificates: of every file that may hold one, with owner, mode, size and time.
certificates() {
  files=
  for f in "$pki"/*.crt "$pki"/etcd/*.crt "$kubelet"/*.crt "$kubelet"/*-current.pem "$etcd"/*.pem "$calico"/*.crt "$cilium"/*.crt; do
    case $f in *-key.pem) ;; *) readable "$f" && list "$f" ;; esac
  done
  for name in kube-apiserver.tls-cert-file kube-apiserver.client-ca-file kube-apiserver.kubelet-client-certificate kube-apiserver.proxy-client-cert-file \
    kube-apiserver.requestheader-client-ca-file kube-apiserver.etcd-cafile kube-apiserver.etcd-certfile etcd.cert-file etcd.trusted-ca-file \
    etcd.peer-cert-file etcd.peer-trusted-ca-file kube-controller-manager.root-ca-file kube-controller-manager.cluster-signing-cert-file \
    kubelet.tlsCertFile kubelet.clientCAFile kubelet.client-certificate; do
    list_setting "$name"
  done
  [ ! -f "$tmp/named" ] || while read -r f; do
    case $f in 'client-certificate '*) readable "${f#* }" && list "${f#* }" ;; esac
  done <"$tmp/named"
  # shellcheck disable=SC2086 # split at newlines
  set -- $files
  [ $# = 0 ] || metadata "$@" | awk '
    !files { path = $0; sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /, "", path); meta[path] = $0; next }
    FNR == 1 { inside = 0; print "@@FILE " meta[FILENAME]; delete meta[FILENAME] }
    /-----BEGIN/ { inside = $0 ~ /^-----BEGIN CERTIFICATE-----[ \r]*$/ }
    inside && /^([A-Za-z0-9+\/=]+|-----(BEGIN|END) CERTIFICATE-----)[ \r]*$/ { print "|" $0 }
    /-----END/ { inside = 0 }
    END { for (path in meta) print "@@FILE " meta[path] }' - files=1 "$@"
}

# kubeconfigs: their text, in which every word that is not known to be public is replaced
# by a number, the same word by the same one: so YAML and JSON of any style stay what they
# are, and what refers to what, while no name, token, password or key is left. Of a key
# the public half comes into a file of its own; a key goes from pipe to pipe. The files
# that they name as certificate or key are listed in $tmp/named.
kubeconfigs() {
  files='' n=0
  for f in "$conf"/*.conf "$root/root/.kube/config" "$root"/etc/cni/net.d/*kubeconfig*; do
    case $f in */kubeadm-client.conf) ;; *) readable "$f" && list "$f" ;; esac
  done
  for name in kube-vip.kubeconfig kube-controller-manager.kubeconfig kube-scheduler.kubeconfig; do list_setting "$name"; done
  # shellcheck disable=SC2086 # split at newlines
  set -- $files
  # shellcheck disable=SC2154 # of kubeconfig.sh
  [ $# = 0 ] || metadata "$@" | awk -v tmp="$tmp" -v openssl="$openssl" "$structure$apart"'
    BEGIN {
      n = split("apiVersion v1 kind Config preferences extensions extension clusters cluster contexts context current-context users user name " \
        "server certificate-authority certificate-authority-data insecure-skip-tls-verify tls-server-name proxy-url disable-compression namespace " \
        "client-certificate client-certificate-data client-key client-key-data token tokenFile username password exec auth-provider " \
        "as as-uid as-groups as-user-extra true false null str binary map seq", names, " ")
      for (i = 1; i <= n; i++) public[names[i]] = 1
      n = 0
      for (i = 1; i <= 20; i++) hidden = hidden "[A-Za-z0-9+/]"
      hidden = hidden "[A-Za-z0-9+/]*\\\\[xu][0-9A-Fa-f]|\\\\(x[0-9A-Fa-f][0-9A-Fa-f]|u[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f])" hidden
      code = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
      for (i = 1; i <= 64; i++) digit[substr(code, i, 1)] = i - 1
      for (i = 32; i < 127; i++) char[i] = sprintf("%c", i)
      char[9] = "\t"; char[10] = "\n"; char[13] = "\r"
      for (i in char) byte[char[i]] = i
    }
    function decode(s, i, out) {
      for (i = 1; i < length(s); i += 4) {
        v = ((digit[substr(s, i, 1)] * 64 + digit[substr(s, i + 1, 1)]) * 64 + digit[substr(s, i + 2, 1)]) * 64 + digit[substr(s, i + 3, 1)]
        out = out char[int(v / 65536)] char[int(v / 256) % 256] char[v % 256]
      }
      return out
    }
    function encode(s, i, out) {
      while (length(s) % 3) s = s "\n"
      for (i = 1; i <= length(s); i += 3) {
        v = (byte[substr(s, i, 1)] * 256 + byte[substr(s, i + 1, 1)]) * 256 + byte[substr(s, i + 2, 1)]
        out = out substr(code, int(v / 262144) + 1, 1) substr(code, int(v / 4096) % 64 + 1, 1) substr(code, int(v / 64) % 64 + 1, 1) substr(code, v % 64 + 1, 1)
      }
      return out
    }
    # blocks TEXT: the certificates in it, and nothing else.
    function blocks(text, out, b) {
      while (b = index(text, "-----BEGIN CERTIFICATE-----")) {
        text = substr(text, b)
        if (match(text, /^-----BEGIN CERTIFICATE-----[A-Za-z0-9+\/=\r\n]*-----END CERTIFICATE-----/)) out = out substr(text, 1, RLENGTH) "\n"
        text = substr(text, 28)
      }
      return out
    }
    function bracketed(w) { sub(/\[/, "\001", w); sub(/\]/, "\002", w); return w }
    # said WORD: what is told of it.
    function said(w, head, tail, kept) {
      if (w ~ /^(-|---|[.][.][.]|[|>]([-+]?[1-9]?|[1-9][-+])|<<:?|~)$/ || w == "\\") return w
      for (; w ~ /^[&*#!:?]/; w = substr(w, 2)) head = head substr(w, 1, 1)
      for (; w ~ /:$/; w = substr(w, 1, length(w) - 1)) tail = tail ":"
      if (head ~ /:/) key = last
      if (w == "") return head tail
      gsub(/\001/, "[", w)
      gsub(/\002/, "]", w)
      last = w
      if (tail != "") {
        key = w
      } else {
        kept = key == "server" && public_server(w)
        if (key ~ /^client-(certificate|key)$/ && public_file(w)) {
          print key " " (w ~ /^\// ? w : dir w) >(tmp "/named")
          kept = 1
        }
        key = ""
      }
      if (kept || w in public) return head w tail
      if (!(w in number)) number[w] = "w" ++numbers
      return head number[w] tail
    }
    function gap(g) { if (g ~ /[,{}]/) key = ""; out[++n] = g }
    function word(w) { out[++n] = said(w) }
    function begins() { from = n + 1 }
    function part(w) { out[++n] = w; parts[n] = 1 }
    function ran(run, text, found, i, pub, command) {
      if (length(run) > 99) text = decode(run)
      if (text ~ /PRIVATE KEY-----/ && openssl != "") {
        pub = "kubeconfig." ++pubs
        print pub " " file >(tmp "/keys.kubeconfigs")
        command = "base64 -d 2>/dev/null | openssl pkey -passin pass: -pubout -outform DER -out " tmp "/pub/" pub " 2>/dev/null"
        print run | command
        close(command)
      }
      found = blocks(text)
      for (i = from; i <= n; i++) if (i in parts) {
        goes_on = substr(out[i], length(out[i])) == "\\" ? "\\" : ""
        out[i] = (found == "" ? said(out[i]) : i > from ? "" : found == text ? run : encode(found)) goes_on
        delete parts[i]
      }
    }
    function flush(i) {
      ended()
      if (n) printf "|"
      for (i = 1; i <= n; i++) {
        printf "%s", out[i] == "\n" && i < n ? "\n|" : out[i]
        delete out[i]
      }
      n = numbers = 0
      key = last = ""
      for (i in number) delete number[i]
    }
    !files { path = $0; sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /, "", path); meta[path] = $0; next }
    FNR == 1 {
      flush()
      print "@@KUBECONFIG " meta[FILENAME]
      delete meta[FILENAME]
      file = dir = FILENAME
      sub(/[^\/]*$/, "", dir)
      sub(/^\357\273\277/, "")
      big = 0
      quote = ""
      block = -1
    }
    length($0) > 300000 || FNR > 100000 { big = 1 }
    big { next }
    /\\[xu][0-9A-Fa-f]/ && $0 ~ hidden { print FILENAME >(tmp "/numbered") }
    {
      gsub(/\\["\\]/, "_") # would look like the end of a text
      $0 = /^%[A-Z]/ && quote == "" && block < 0 ? "" : structured($0) # a directive is no content
      # Of an address of IPv6 the brackets are no structure.
      while (match($0, /https?:\/\/\[[0-9A-Fa-f:.]+\]/))
        $0 = substr($0, 1, RSTART - 1) bracketed(substr($0, RSTART, RLENGTH)) substr($0, RSTART + RLENGTH)
      apart($0)
      out[++n] = "\n"
    }
    END {
      flush()
      for (path in meta) print "@@KUBECONFIG " meta[path]
    }' - files=1 "$@"
  # shellcheck disable=SC2154 # of kubeconfig.sh
  [ ! -f "$tmp/numbered" ] || sort -u "$tmp/numbered" | while read -r f; do record "UNREADABLE $f" "$how_numbered"; done
  [ ! -f "$tmp/named" ] || sort -u "$tmp/named" | sed -n 's/^client-key //p' | while read -r f; do
    case $f in "$kubelet"/*) continue ;; esac
    n=$((n + 1))
    printf 'named.%s %s\n' "$n" "$f" >>"$tmp/keys.named"
    [ -z "$openssl" ] || openssl pkey -in "$f" -passin pass: -pubout -outform DER -out "$tmp/pub/named.$n" </dev/null >/dev/null 2>&1
  done
}

# keys: the public half of every key, in a file of its own, whose certificate has a place
# (orchestrator/certs, Table): openssl is started for each.
keys() {
  files=
  for name in ca front-proxy-ca etcd/ca apiserver apiserver-kubelet-client front-proxy-client apiserver-etcd-client etcd/server etcd/peer etcd/healthcheck-client; do
    list "$pki/$name.key"
  done
  for f in "$kubelet/kubelet.key" "$kubelet"/*-current.pem "$etcd"/ca-key.pem "$etcd"/member-*-key.pem "$etcd"/admin-*-key.pem "$etcd"/node-*-key.pem \
    "$calico/key.pem" "$cilium/key.pem"; do
    list "$f"
  done
  for name in kube-apiserver.tls-private-key-file kube-apiserver.kubelet-client-key kube-apiserver.proxy-client-key-file kube-apiserver.etcd-keyfile \
    etcd.key-file etcd.peer-key-file kubelet.tlsPrivateKeyFile kubelet.client-key; do
    setting "$name" ''
    list "$value"
  done
  n=0
  for f in $files; do
    n=$((n + 1))
    [ $n -le 1000 ] || break # more certificates are not read, either
    printf '%s %s\n' "$n" "$f"
    openssl pkey -in "$f" -passin pass: -pubout -outform DER -out "$tmp/pub/$n" </dev/null >/dev/null 2>&1
  done >"$tmp/keys.files"
}

# digests: of what must never change, and of the public half of every key. Of the
# encryption configuration, which Kubespray writes anew in another form, those of its words:
# resources, providers, names and secrets, in their order.
digests() {
  f=$real/secrets_encryption.yaml
  if [ -s "$f" ]; then
    sum=$(sed 's/^[[:space:]]*#.*//; s/[[:space:]]#.*//' "$f" | tr -s "[:space:]{}[],:\"'" '\n' |
      awk '
        $0 != "" && $0 != "-" { word[++n] = $0; if ($0 == "resources" && !from) from = n }
        END { for (i = from ? from : 1; i <= n; i++) print word[i] }' | sha256sum)
    printf '@@DIGEST %s %s\n' "${sum%% *}" "$f"
  fi
  set --
  for f in "$real"/ca.crt "$real"/ca.key "$real"/sa.key "$real"/sa.pub "$real"/front-proxy-ca.crt "$real"/front-proxy-ca.key \
    "$real"/etcd/ca.crt "$real"/etcd/ca.key "$etcd"/ca.pem "$etcd"/ca-key.pem "$tmp"/pub/*; do
    [ ! -s "$f" ] || set -- "$@" "$f"
  done
  : >"$tmp/keys.none"
  { [ $# = 0 ] || sha256sum "$@"; } | awk -v pub="$tmp/pub/" '
    !sums { name = $1; sub(/^[^ ]+ /, ""); path[name] = $0; next }
    {
      sum = $1
      sub(/^[^ ]+ [ *]/, "")
      if (index($0, pub) != 1) { print "@@DIGEST " sum " " $0; next }
      name = substr($0, length(pub) + 1)
      print "@@KEY " sum " " path[name]
      delete path[name]
    }
    END { for (name in path) print "@@KEY unreadable " path[name] }' "$tmp"/keys.* sums=1 -
}

# watched: what a plan relies on beside the certificates. Of manifests the kubelet reads
# every file whose name does not begin with a dot, whatever it ends with.
watched() {
  set --
  for f in "$conf"/manifests/*; do
    [ ! -f "$f" ] || ! plain "$f" || set -- "$@" "$f"
  done
  # The pod that each defines: of two with one name the kubelet runs one.
  # shellcheck disable=SC2154 # of kubeconfig.sh
  [ $# = 0 ] || awk "$structure"'
    function told() { if (name != "") print "@@POD " (space == "" ? "default" : space) "/" name " " file }
    FNR == 1 { told(); file = FILENAME; name = space = quote = ""; block = -1; within = 0 }
    FNR > 5000 { next }
    { line = structured($0) }
    line ~ /^[^ \t\r]/ { within = line ~ /^["\047]?metadata["\047]?:[ \t\r]*$/; margin = 0; next }
    within && match(line, /^ +["\047]?(name|namespace)["\047]?: +["\047]?[a-z0-9][a-z0-9.-]*["\047]?[ \t\r]*$/) {
      match(line, /^ +/)
      if (margin && RLENGTH != margin) next
      value = line
      gsub(/^ +["\047]?(name|namespace)["\047]?: +|["\047 \t\r]/, "", value)
      if (line ~ /namespace["\047]?:/) space = value; else name = value
    }
    within && !margin && match(line, /^ +[^ ]/) { margin = RLENGTH - 1 }
    END { told() }' "$@"
  for f in "$kubeadm" "$root/etc/etcd.env" "$conf/kubelet.env" "$kubelet_config"; do
    [ ! -f "$f" ] || ! plain "$f" || set -- "$@" "$f"
  done
  [ $# = 0 ] || sha256sum "$@" | sed -n 's/^\([0-9a-f]\{64\}\)  /@@WATCH \1 /p'
}

# own PID: a process of root in the host's own namespaces. What another user's or a
# pod's says of itself is not believed.
own() {
  grep -qs '^Uid:[[:space:]]*0[[:space:]]*0[[:space:]]' "/proc/$1/status" || return 1
  for ns in user pid mnt; do
    # shellcheck disable=SC3013 # in every sh that a node may have
    [ "/proc/$1/ns/$ns" -ef "/proc/$first/ns/$ns" ] || return 1
  done
}

# run_name FILE: the run that an environment or a command line names, in $value.
run_name() {
  value=$(tr '\0;' '[\n*]' <"$1" | sed -n "s/^ *\(export \)\{0,1\}KSCERT_RUN[=]'\{0,1\}\([A-Za-z0-9._-]\{1,64\}\)'\{0,1\}\$/\2/p" | head -n 1)
}

# work: who may be changing something here at this moment: tasks of a run, which
# carry its name; other tasks of Ansible, by how it starts them; kubeadm; what
# Kubespray's timer starts. All as root.
# Not those that only look or handle the lock. The text of this script is in
# command lines, too: no pattern matches itself. Arguments may be secrets.
work() {
  # Where nobody may look at process 1, in a sandbox, this script's own namespaces count.
  first=1
  [ -e /proc/1/ns/mnt ] || first=$$
  {
    grep -lsz '^KSCERT_RUN=' /proc/[0-9]*/environ
    grep -lsE "export KSCERT_RUN[=]|AnsiballZ[_]|BECOME-SUCCESS[-]|python[0-9.]* && sleep[ ]0" /proc/[0-9]*/cmdline
    sed -n -e 's|^\([0-9]*\) (kubeadm) .*|/proc/\1/comm|p' -e 's|^\([0-9]*\) (k8s-certs-renew) .*|/proc/\1/timer|p' "$tmp/stat"
  } | awk -F/ '!seen[$3]++' | while IFS=/ read -r _ _ pid file; do
    own "$pid" || continue
    case $file in
    environ)
      run_name "/proc/$pid/environ"
      what="a task of run ${value:-?}"
      ;;
    cmdline)
      ! grep -qsE 'KSCERT_(ROLES|LOCK_ACTION)=' "/proc/$pid/cmdline" || continue
      run_name "/proc/$pid/cmdline"
      [ -n "$value" ] && what="a task of run $value" || what='a task of Ansible'
      ;;
    comm)
      what="kubeadm $(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n '2,3s/^[a-z][a-z-]*$/&/p' | tr '\n' ' ')"
      case $what in 'kubeadm version '* | 'kubeadm config validate ' | 'kubeadm certs check-expiration ') continue ;; esac
      ;;
    timer) what="Kubespray's renewal of certificates" ;;
    esac
    started=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d ' ' -f 20)
    [ -z "$started" ] || record "WORK $pid $((${uptime%.*} - started / 100)) $what"
  done 2>/dev/null | head -n 50
}

# disks: also the one that backups will lie on, whose folder the first one makes.
disks() {
  backups=$KSCERT_BACKUP_ROOT
  until [ -e "${backups:=/}" ]; do
    case $backups in */*) backups=${backups%/*} ;; *) backups=/ ;; esac
  done
  set -- "$conf" "$root/var/lib/kubelet" /var/lib/etcd /var/lib/containerd /var "$backups"
  timeout 3 df -k --output=avail,size,iavail,target "$@" 2>/dev/null |
    while read -r free size inodes mount; do
      [ "$inodes" != - ] || inodes=-1
      case $free in [0-9]*) record "DISK $free $size $inodes $mount" ;; esac
    done
}

# units: the systemd units that are loaded, their restarts and for how long they
# are active.
units() {
  timeout 5 systemctl show kubelet.service etcd.service containerd.service crio.service docker.service \
    -p Id -p LoadState -p ActiveState -p SubState -p NRestarts -p ActiveEnterTimestampMonotonic 2>/dev/null |
    awk -F= -v up="$uptime" '
      function flush() {
        sub(/\.service$/, "", v["Id"])
        if (v["LoadState"] == "loaded")
          printf "@@UNIT %s %s %s %d %d\n", v["Id"], v["ActiveState"], v["SubState"], v["NRestarts"], v["ActiveState"] == "active" ? up - v["ActiveEnterTimestampMonotonic"] / 1000000 : 0
        split("", v)
      }
      $0 == "" { flush() }
      { v[$1] = $2 }
      END { flush() }'
}

# renewal_timer: of Kubespray's own renewal of certificates (roles/kubernetes/control-plane,
# auto_renew_certificates, since v2.15.1): whether it is on, when it is next, or that a run
# of ours holds it back (roles/renewal_timer).
renewal_timer() {
  [ -f "$root/etc/systemd/system/k8s-certs-renew.timer" ] || return 0
  state=off next=
  case $(timeout 5 systemctl is-active k8s-certs-renew.timer kscertctl-release-timer.timer 2>/dev/null | tr '\n' ' ') in
  'active '*)
    state=on
    next=$(timeout 5 systemctl show -p NextElapseUSecRealtime k8s-certs-renew.timer 2>/dev/null | cut -d= -f2-)
    [ -z "$next" ] || next=$(date -d "$next" +%s 2>/dev/null)
    ;;
  *' active ') state=held ;;
  esac
  record "TIMER $state ${next:-0}"
}

# container_runtime: the unit of the one that the kubelet is told to use, in $runtime.
container_runtime() {
  setting kubelet.containerRuntimeEndpoint ''
  flag container-runtime-endpoint "$value"
  case $value in
  *containerd*) runtime=containerd ;;
  *crio*) runtime=crio ;;
  *) runtime=docker ;; # the kubelet's own, before Kubernetes 1.24, and cri-dockerd
  esac
  case $units in *"UNIT $runtime "*) fact runtime "$runtime" ;; *) runtime= ;; esac
}

# processes: of the control plane, etcd and the kubelet, since when. Those in
# another network namespace are pods of users. A hundredth of a second is the
# kernel's unit here on every architecture (USER_HZ).
processes() {
  cat /proc/[0-9]*/stat 2>/dev/null >"$tmp/stat"
  awk -v now="$now" -v up="$uptime" '
    match($0, /\(.*\)/) {
      name = substr($0, RSTART + 1, RLENGTH - 2)
      if (name !~ /^(kube-apiserver|kube-controller|kube-scheduler|etcd|kubelet|kube-vip)$/) next
      pid = $1
      split(substr($0, RSTART + RLENGTH + 1), field, " ")
      printf "%s %d %.2f\n", name, pid, now - up + field[20] / 100
    }' "$tmp/stat" | while read -r name pid started; do
    # shellcheck disable=SC3013 # in every sh that a node may have
    [ "/proc/$pid/ns/net" -ef /proc/1/ns/net ] || continue
    # Nor is anybody's session, whatever they call their programs.
    ! grep -qs '/user\.slice' "/proc/$pid/cgroup" || continue
    command=
    read -r command <"/proc/$pid/cmdline" # NULs between the words are left out
    case $name:$command in
    *--version) continue ;; # asked by whoever looks, now
    kube-controller:*kube-controller-manager*) name=kube-controller-manager ;; # the kernel cuts names after 15 characters
    kube-controller:*) continue ;;
    esac
    record "PROCESS $name $pid $started"
  done 2>/dev/null | head -n 50
}

# client OPTION...: a TLS client that trusts nobody; reading the authorities
# of the whole world takes it four times as long as its answer.
client() { SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null timeout 6 openssl s_client "$@"; }

# tls NAME ADDRESS [OPTION...]: asks a port for its certificates. What it reads of
# a server that stays silent is lost when its time is up, what it says is not:
# the handshake's states show that there was a connection.
tls() {
  name=$1 address=$2
  shift 2
  printf '%s\n' "$address" >"$tmp/tls.$name"
  client -connect "$address" -showcerts -state "$@" </dev/null >>"$tmp/tls.$name" 2>"$tmp/tls-said.$name"
  printf '%s\n' $? >"$tmp/tls-exit.$name"
}

# http NAME ADDRESS [OPTION...]: sends the requests on stdin to a port; quietly,
# for else the session's secrets are printed in between.
http() {
  name=$1 address=$2
  shift 2
  printf '%s\n' "$address" >"$tmp/http.$name"
  client -connect "$address" -quiet "$@" >>"$tmp/http.$name" 2>"$tmp/http-said.$name"
  printf '%s\n' $? >"$tmp/http-exit.$name"
}

# plainly NAME ADDRESS: likewise to a port without TLS, where there is a bash.
plainly() {
  printf '%s\n' "$2" >"$tmp/http.$1"
  server=${2%:*} server=${server#\[}
  # shellcheck disable=SC2016 # $0 and $1 are bash's
  timeout 6 bash -c 'exec 3<>"/dev/tcp/$0/$1" && cat >&3 && cat <&3' "${server%\]}" "${2##*:}" \
    >>"$tmp/http.$1" 2>"$tmp/http-said.$1"
  printf '%s\n' $? >"$tmp/http-exit.$1"
}

# request METHOD PATH CLOSING-HEADER [BODY]
request() { printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\nContent-Length: %s\r\n\r\n%s' "$1" "$2" "$3" "${#4}" "$4"; }

# api NAME ADDRESS: how far one comes with an API server, without a credential.
api() {
  tls "$1" "$2" &
  { request GET /livez keep-alive '' && request GET /readyz close ''; } | http "$1" "$2" &
}

# show NAME SECONDS COMMAND...: exit status and output of a command.
show() {
  name=$1 seconds=$2
  shift 2
  text=$(timeout "$seconds" "$@" 2>&1 </dev/null)
  status=$?
  record "RESULT $name $status"
  [ -z "$text" ] || printf '%s\n' "$text" | head -c 400000 | bars
  return "$status"
}

# kubelet_access KUBECTL...: whether the user of the certificate with which the API server
# goes to kubelets may do what it does there. In these groups it may do everything.
kubelet_access() {
  crt=$pki/apiserver-kubelet-client.crt
  [ -n "$openssl" ] && [ -f "$crt" ] || return 0
  subject=$(openssl x509 -in "$crt" -noout -subject -nameopt sep_multiline,sname,utf8,esc_ctrl 2>/dev/null </dev/null)
  user=
  while IFS= read -r part; do
    case $part in
    '    O=system:masters' | '    O=kubeadm:cluster-admins') return 0 ;;
    '    O='*) set -- "$@" --as-group="${part#*=}" ;;
    '    CN='*) user=${part#*=} ;;
    esac
  done <<END
$subject
END
  [ -n "$user" ] || return 0
  show kubelet-access 4 "$@" --as="$user" auth can-i get nodes --subresource=proxy >"$tmp/result.kubelet-access"
}

# view: the cluster as this node's API server tells its administrator, TLS
# verified. The client's cache is not left in root's home.
view() {
  set -- kubectl --cache-dir="$tmp/cache" --kubeconfig="$conf/admin.conf" --server="https://$1" --request-timeout=8s
  tab='{"\t"}' end='{"\n"}'
  show readyz 9 "$@" get --raw '/readyz?verbose' >"$tmp/result.readyz" || return 0
  kubelet_access "$@" &
  # A label of a control plane has no value: no jsonpath tells it from none. Nodes and their
  # leases are asked for together: each kubectl takes as long as all of it asks.
  # shellcheck disable=SC2016 # $label is kubectl's
  nodes='{{range .items}}{{if eq .kind "Lease"}}{{.metadata.name}}{{"\t"}}{{.spec.renewTime}}{{else}}{{.metadata.name}}{{"\t"}}{{range .status.conditions}}{{if eq .type "Ready"}}{{.status}}{{end}}{{end}}{{"\t"}}{{.status.nodeInfo.kubeletVersion}}{{"\t"}}{{.status.nodeInfo.containerRuntimeVersion}}{{"\t"}}{{range $label, $_ := .metadata.labels}}{{if or (eq $label "node-role.kubernetes.io/control-plane") (eq $label "node-role.kubernetes.io/master")}}control-plane {{end}}{{end}}{{"\t"}}{{range .status.addresses}}{{.address}} {{end}}{{"\t"}}{{if .spec.unschedulable}}cordoned{{end}}{{end}}{{"\n"}}{{end}}'
  show nodes 4 "$@" -n kube-node-lease get nodes,leases -o "go-template=$nodes" >"$tmp/result.nodes" &
  show component-leases 4 "$@" -n kube-system get leases kube-controller-manager kube-scheduler --ignore-not-found -o "jsonpath={range .items[*]}{.metadata.name}$tab{.spec.renewTime}$end{end}" >"$tmp/result.component-leases" &
  show static-pods 4 "$@" -n kube-system get pods -l tier=control-plane -o "jsonpath={range .items[*]}{.metadata.labels.component}$tab{.spec.nodeName}$tab{.status.conditions[?(@.type==\"Ready\")].status}$end{end}" >"$tmp/result.static-pods" &
  wait
}

# kubeadm_config: whether kubeadm takes the node's configuration. What it calls invalid it may
# use all the same, such as an unknown field: then that is asked which reads the file as a
# renewal does, and changes nothing.
kubeadm_config() {
  [ -f "$kubeadm" ] || return 0
  show kubeadm-config 5 kubeadm config validate --config "$kubeadm" >"$tmp/kubeadm-said"
  answer=$?
  unquoted
  if [ $answer = 1 ]; then
    alpha=
    timeout 2 kubeadm certs --help >/dev/null 2>&1 </dev/null
    [ $? != 1 ] || alpha=alpha # before v1.20; one that is slow is another matter
    # shellcheck disable=SC2086 # none or one word
    show kubeadm-config 5 kubeadm $alpha certs check-expiration --config "$kubeadm" >"$tmp/kubeadm-said"
    answer=$?
    unquoted
  fi
  # What kubeadm understands, a renewal may not.
  [ $answer = 0 ] || return 0
  setting kubeadm.certificatesDir /
  if says=$(not_plain "$kubeadm") || { [ ! -d "$value" ] && says="$value, the certificatesDir of $kubeadm, does not exist"; }; then
    record 'RESULT kubeadm-config 1' "$says" >"$tmp/result.kubeadm-config"
  fi
}

# unquoted: what kubeadm said, without the values that it quotes: a token or a key may be one.
unquoted() {
  sed 's/Invalid value: "[^"]*"/Invalid value/g; s/token "[^"]*"/token/g' "$tmp/kubeadm-said" >"$tmp/result.kubeadm-config"
}

# ask_control_plane: this node's own components; leaves $api.
ask_control_plane() {
  setting kube-apiserver.secure-port 6443
  port=$value
  setting kube-apiserver.advertise-address ''
  host "$value"
  api=$value:$port
  if [ -n "$openssl" ]; then
    api kube-apiserver "$api"
    # The certificate with which it talks to itself is in no file.
    tls kube-apiserver-loopback "$api" -servername apiserver-loopback-client &
    for component in kube-controller-manager:10257 kube-scheduler:10259; do
      setting "${component%:*}.secure-port" "${component#*:}"
      port=$value
      setting "${component%:*}.bind-address" ''
      host "$value"
      tls "${component%:*}" "$value:$port" &
    done
  fi
  [ -z "$(command -v kubectl)" ] || view "$api" &
  [ -z "$(command -v kubeadm)" ] || {
    show kubeadm-version 8 kubeadm version -o short >"$tmp/result.kubeadm-version" &
    kubeadm_config &
  }
}

# ask_etcd: the member on this node, with the certificate it serves itself. Where it has a
# port of its own for HTTP, the other one answers none. Last what may be kept waiting where
# there is no quorum.
ask_etcd() {
  setting etcd.cert-file ''
  crt=$value
  setting etcd.key-file ''
  key=$value
  setting etcd.listen-peer-urls ''
  url "$value"
  peer=$value
  setting etcd.listen-client-urls "$(has_role etcd && echo https://127.0.0.1:2379)"
  url "$value"
  # A client without a certificate would be answered too, and etcd's log tell of it.
  set --
  [ -f "$crt" ] && [ -f "$key" ] && set -- -cert "$crt" -key "$key"
  [ -z "$peer" ] || tls etcd-peer "$peer" "$@" &
  [ -n "$value" ] || return 0
  tls etcd "$value" "$@" &
  client=$value
  setting etcd.listen-client-http-urls "https://$client"
  urls=$value
  url "$urls"
  case $urls in
  http://*) set -- plainly etcd "$value" ;;
  *)
    [ $# != 0 ] || return 0
    set -- http etcd "$value" "$@"
    ;;
  esac
  {
    request GET /version keep-alive ''
    request POST /v3/cluster/member/list keep-alive '{}'
    request GET /health keep-alive ''
    request POST /v3/maintenance/status close '{}'
  } | "$@" &
}

# ask_kubelet: what it serves, and the API endpoint that it talks to, where that
# is not this node's own API server.
ask_kubelet() {
  setting kubelet.address ''
  flag node-ip "$value"
  host "${value%%,*}"
  address=$value
  setting kubelet.port 10250
  [ -z "$openssl" ] || tls kubelet "$address:$value" &
  setting kubelet.server ''
  endpoint=${value#*://} endpoint=${endpoint%%/*}
  [ -n "$endpoint" ] || return 0
  case $endpoint in *]:* | [!\[]*:*) ;; *) endpoint=$endpoint:443 ;; esac
  if [ -n "$api" ]; then
    case $endpoint in "$api" | "localhost:${api##*:}" | "127.0.0.1:${api##*:}" | "[::1]:${api##*:}") return 0 ;; esac
  fi
  [ -z "$openssl" ] || api endpoint "$endpoint"
  case $endpoint in
  \[*) ;;
  *[!0-9.:]*)
    { record "RESOLVED ${endpoint%:*}" && timeout 5 getent ahosts "${endpoint%:*}" 2>&1 | bars; } >"$tmp/result.resolved" &
    ;;
  esac
}

# answers: what the ports said.
answers() {
  set --
  for f in "$tmp"/tls.* "$tmp"/http.*; do
    name=${f##*/} kind=${name%%.*} name=${name#*.}
    [ -f "$f" ] && set -- "$@" "$tmp/$kind-exit.$name" "$f" "$tmp/$kind-said.$name"
  done
  [ $# = 0 ] || awk '
    FNR == 1 {
      inside = 0
      kind = name = FILENAME
      sub(/.*\//, "", kind)
      sub(/\..*/, "", kind)
      sub(/.*\/[a-z-]*\./, "", name)
    }
    kind ~ /-exit$/ { code = $0; connected = 0; next }
    kind ~ /-said$/ {
      if ($0 ~ /^SSL_connect:/) { if (!connected++) print "|CONNECTED"; next }
      if ($0 !~ /^depth=|^verify|^Can.t use SSL_get_servername|^DONE$|^SSL3 alert [a-z]+:warning/) print "|!" substr($0, 1, 1000)
      next
    }
    FNR == 1 { print "@@" toupper(kind) " " name " " code " " $0; next }
    kind == "http" { print "|" substr($0, 1, 100000); next }
    /-----BEGIN CERTIFICATE-----/ { inside = 1 }
    inside { print "|" $0 }
    /-----END CERTIFICATE-----/ { inside = 0 }' "$@"
}

# last_words NAME: of the newest container of a static pod: errors before the rest.
last_words() {
  log=$(find "$root/var/log/pods" -path "*kube-system_$1-*/$1/*.log" -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p')
  # The runtime's prefix (time, stream, flag) is cut off.
  # shellcheck disable=SC2016 # $1 is the inner shell's
  [ -z "$log" ] || show "${1#kube-}-log" 3 sh -c 'words=$(tail -n 300 "$1" | cut -d" " -f4-)
    printf "%s\n" "$words" | grep -E "^([EF][0-9]{4} |Error|panic|fatal)|\"level\":\"(error|fatal|panic|warn)\"" | tail -n 4 | grep . || printf "%s\n" "$words" | tail -n 3' sh "$log"
}

# logs: why something does not answer, where something does not.
logs() {
  kubelet_too=
  if [ -f "$tmp/result.readyz" ] && ! grep -q '^@@RESULT readyz 0$' "$tmp/result.readyz"; then
    last_words kube-apiserver
    kubelet_too=1
  fi
  if [ -f "$tmp/http.etcd" ] && ! grep -q '"health":"true"' "$tmp/http.etcd"; then
    if [ -f "$conf/manifests/etcd.yaml" ]; then
      last_words etcd
    else
      show etcd-log 3 journalctl -u etcd -n 8 -o cat --no-pager
    fi
  fi
  case $units in *'UNIT kubelet active '*) ;; *'UNIT kubelet '*) kubelet_too=1 ;; esac
  [ -n "$kubelet_too" ] || return 0
  # Where all is well the API tells, and a kubelet takes longer to tell than all the rest.
  [ -z "$runtime" ] || show runtime-version 5 "$runtime" --version
  [ -z "$(command -v kubelet)" ] || show kubelet-version 5 kubelet --version
  # A manifest that cannot be read is said again every 20 s: what was said before
  # the files last changed (which no copy with an old time hides) is over.
  changed=$(stat -c %Z "$conf"/manifests "$conf"/manifests/* 2>/dev/null | sort -n | tail -n 1)
  minute=$((${now%.*} - 60))
  # In the second of a change the file was perhaps half written.
  changed=$((${changed:-0} + 1))
  [ "$changed" -gt "$minute" ] || changed=$minute
  # What follows from the missing API server is left out: it says nothing new.
  # shellcheck disable=SC2016 # $0 is awk's, $1 the inner shell's
  show kubelet-log 4 sh -c '{
    journalctl -u kubelet --since -10min -o cat --no-pager | grep -v "parse as pod"
    journalctl -u kubelet --since "@$1" -o cat --no-pager | grep "parse as pod"
    } | grep -E "^[EF][0-9]{4} |expired" |
    grep -vE "connection refused|update node status|event.go|CrashLoopBackOff|eviction manager|OOM events" |
    cut -d"]" -f2- | tail -n 100 | awk "!seen[\$0]++" | tail -n 5' sh "$changed"
}

collect() {
  now=$(date +%s.%N)
  read -r uptime _ </proc/uptime
  printf '@@KSCERT 3 %s\n' "${now%.*}"
  openssl=$(command -v openssl)
  words=
  for f in "$root/var/lib/kubelet/kubeadm-flags.env" "$conf/kubelet.env"; do
    [ -f "$f" ] && while read -r line || [ -n "$line" ]; do words="$words $line"; done <"$f"
  done
  flag config "$conf/kubelet-config.yaml"
  kubelet_config=$value
  flag kubeconfig "$conf/kubelet.conf"
  kubelet_conf=$value
  flag cert-dir "$root/var/lib/kubelet/pki"
  kubelet=$value
  calico=$root/etc/calico/certs
  cilium=$root/etc/cilium/certs
  settings=$nl$(given_settings && read_settings)$nl
  setting kubeadm.certificatesDir "$([ -d "$conf/ssl" ] && echo "$conf/ssl" || echo "$conf/pki")"
  pki=$value
  real=$(readlink -f "$pki" 2>/dev/null || printf '%s' "$pki")

  # What takes longest first: openssl for the keys, then the network. While it answers,
  # the other files are read. Names are split at newlines and taken as they are.
  IFS=$nl
  if [ -n "$openssl" ]; then keys & fi
  kubeconfigs >"$tmp/kubeconfigs" &
  named=$!
  unset IFS
  api=
  if has_role control-plane; then ask_control_plane; fi
  if [ -n "$openssl" ]; then ask_etcd; fi
  if has_role control-plane || has_role worker; then ask_kubelet; fi

  read -r hostname </proc/sys/kernel/hostname
  fact hostname "$hostname"
  fact pki "$pki"
  fact pki-real "$real"
  fact config-dir "$conf"
  fact etcd-dir "$etcd"
  fact kubelet-dir "$kubelet"
  fact calico-dir "$calico"
  fact cilium-dir "$cilium"
  fact home-dir "$root/root/.kube"
  [ -f "$kubeadm" ] && fact kubeadm-config "$kubeadm"
  fact kubeadm "$(command -v kubeadm)"
  fact kubectl "$(command -v kubectl)"
  fact openssl "$openssl"
  if has_role control-plane; then fact manifest "$([ -f "$conf/manifests/kube-apiserver.yaml" ] && echo present || echo missing)"; fi
  printf '@@SETTINGS%s' "$settings"
  disks
  units=$(units)
  if has_role control-plane; then renewal_timer; fi
  printf '%s\n' "$units"
  container_runtime
  processes
  work
  IFS=$nl
  wait "$named" # of the files that they name, too
  certificates
  watched
  wait
  cat "$tmp/kubeconfigs"
  digests
  unset IFS
  answers
  cat "$tmp"/result.* 2>/dev/null
  logs
  printf '@@END\n'
}

for dir in /dev/shm /run /tmp; do tmp=$(mktemp -d "$dir/kscertctl.XXXXXX" 2>/dev/null) && break; done
[ -n "$tmp" ] || {
  echo 'no directory for temporary files: none of /dev/shm, /run and /tmp can be written' >&2
  exit 1
}
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
mkdir "$tmp/pub"
collect | head -c "$limit"
