# Prints the state of a node's certificates and control plane, for Go to parse
# (orchestrator/snapshot). POSIX sh without Python, so that a broken node can still be inspected. It
# changes nothing and never prints a private key: of PEM files only CERTIFICATE blocks, of a key
# only the digest of its public half, of kubeconfigs their structure, certificates, addresses and
# the names of what they refer to. The task puts kinds.sh, kubeconfig.sh and places.sh before it.
#
# Settings: KSCERT_CONFIG_DIR, KSCERT_BIN_DIR, KSCERT_ETCD_DIR, KSCERT_BACKUP_ROOT, KSCERT_ROLES;
# KSCERT_ROOT is a prefix of the places that no setting names (tests).
#
# Version 3 of the output. "@@TAG fields" opens a record, "|text" belongs to the record above,
# "@@END" closes the output: without it the output was cut off.
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
# shellcheck disable=SC2154 # of what is before it
set -u
umask 077
LC_ALL=C
PATH=$PATH:$KSCERT_BIN_DIR:/usr/local/bin:/opt/bin:/usr/sbin:/sbin
TERM=dumb NO_COLOR=1 SYSTEMD_COLORS=0 SYSTEMD_PAGER=
export LC_ALL PATH TERM NO_COLOR SYSTEMD_COLORS SYSTEMD_PAGER

etcd=$KSCERT_ETCD_DIR
limit=4194304
nl='
'
tab=$(printf '\t')

has_role() { case " $KSCERT_ROLES " in *" $1 "*) ;; *) return 1 ;; esac }

# record FIELDS [TEXT]: prints a record. A line break in a field (a file name, a setting) cannot
# begin another record.
record() {
  fields=$1
  case $1 in *[[:cntrl:]]*) fields=$(printf '%s' "$1" | tr '[:cntrl:]' '?') ;; esac
  printf '@@%s\n%s' "$fields" "${2:+|$2$nl}"
}
fact() { [ -z "$2" ] || record "FACT $1 $2"; }

# awk: a failure inside a pipe is recorded; otherwise a truncated result would pass for a complete
# one. 141 is SIGPIPE, when its output is cut off.
awk() { command awk "$@" || [ $? = 141 ] || : >"$tmp/failed"; }

bars() { cut -c1-4000 | sed 's/^/|/'; }

# setting NAME DEFAULT: a setting of the node, in $value.
setting() {
  value=${settings#*"$nl|$1 "}
  if [ "$value" = "$settings" ]; then value=$2; else value=${value%%"$nl"*}; fi
}

# read_settings: those fields of the node's own files that name places. They are listed one by one,
# because the same files hold tokens. Of a repeated setting the last counts.
read_settings() {
  set --
  for f in "$conf"/manifests/kube-apiserver.yaml "$conf"/manifests/kube-controller-manager.yaml \
    "$conf"/manifests/kube-scheduler.yaml "$conf"/manifests/etcd.yaml "$conf"/manifests/kube-vip.y*ml \
    $(env_files) "$config" "$kubelet_conf"; do
    [ -f "$f" ] && set -- "$@" "$f"
  done
  while IFS= read -r f; do
    [ ! -f "$f" ] || set -- "$@" files=kubelet "$f"
  done <<END
$kubelet_configs
END
  [ $# = 0 ] || awk -v tmp="$tmp" -v kubeadm="$config" -v kubeconfig="$kubelet_conf" -v flags_of_files="$file_flags" \
    "$structure$reader$static_pod$of_kubelet$of_kubeadm"'
    function put(name, value) {
      gsub(/["\047\r]/, "", value)
      if (value != "") print "|" name " " value
    }
    BEGIN {
      n = split(flags_of_files " advertise-address bind-address secure-port etcd-servers etcd-servers-overrides " \
        "root-ca-file cluster-signing-cert-file listen-client-urls listen-client-http-urls enable-grpc-gateway listen-peer-urls " \
        "data-dir name sni-cert-file-2 sni-cert-file-3 sni-cert-file-4", names, " ")
      for (i = 1; i <= n; i++) wanted[names[i]] = 1
    }
    function leaf(path, value) {
      if (FILENAME == kubeadm) of_document(path, value)
      else if (files ~ /kubelet/) { if ((path = setting_of_kubelet(path)) != "") of[path] = from_there(path, value) }
      else if (file != "kube-vip") of_pod(path, value)
      else if (path ~ /\/hostPath\/path$/ && value ~ /([.]conf|config)$/) put("kube-vip.kubeconfig", value)
    }
    function cluster_setting(path, value) {
      if (path ~ /^(apiVersion|kubernetesVersion|controlPlaneEndpoint|certificatesDir|encryptionAlgorithm)$/)
        put("kubeadm." path, value)
      else if (path == "featureGates/PublicKeysECDSA" && value ~ /true/)
        put("kubeadm.encryptionAlgorithm", "ECDSA-P256")
      else if (path ~ /^apiServer\/certSANs(\/[0-9]+)?$/) put("kubeadm.certSANs", value)
      else if (path ~ /^etcd\/external\/endpoints(\/[0-9]+)?$/) put("kubeadm.endpoints", value)
    }
    # reported: prints the settings of the previous file.
    function reported(i) {
      document_ended()
      new_file()
      if (sub(/[.]env$/, "", file)) for (i = 1; i <= n; i++) put(file "." names[i], flags[names[i]])
      else if (file != "") {
        given(file)
        for (i = 1; i <= n; i++) put(file "." names[i], flags[names[i]])
      }
      split("", flags)
    }
    FNR == 1 {
      reported()
      file = quote = ""
      block = -1
      if (files == "" && FILENAME != kubeadm && FILENAME != kubeconfig) {
        file = FILENAME
        sub(/.*\//, "", file)
        sub(/[.]ya?ml$/, "", file)
      }
    }
    FNR > 5000 { next }
    files ~ /kubelet/ { read_line($0); next }
    FILENAME == kubeadm { read_document($0); next }
    FILENAME == kubeconfig {
      $0 = structured($0)
      gsub(/["\047\r]/, "")
      if ($1 == "server:" && public_server($2) ||
        $1 ~ /^client-(certificate|key):$/ && (public_file($2) || $2 ~ /^\// && there($2, "")))
        put("kubelet." substr($1, 1, length($1) - 1), $2)
      next
    }
    file ~ /[.]env$/ {
      sub(/^[ \t]+/, "")
      eq = index($0, "=")
      if ($0 !~ /^ETCD_/ || eq == 0) next
      name = tolower(substr($0, 6, eq - 6))
      gsub(/_/, "-", name)
      if (name in wanted) flags[name] = trimmed(substr($0, eq + 1))
      next
    }
    { read_line($0) }
    END {
      reported()
      for (name in of) put("kubelet." name, of[name])
    }' "$@"
}

# given_settings: the flags of the kubelet, which count before its configuration.
given_settings() {
  for name in $kubelet_flags; do
    flag "${name%:*}" ''
    [ -z "$value" ] || printf '|kubelet.%s %s\n' "${name#*:}" "$value"
  done
}

# readable FILE: FILE is a file; anything else in its place is reported.
readable() {
  [ -n "$1" ] && [ ! -f "$1" ] || return 0
  if [ -L "$1" ]; then
    record "UNREADABLE $1" 'a link to nothing'
  elif [ -e "$1" ]; then
    record "UNREADABLE $1" 'not a file'
  fi
}

# plain FILE: its name fits into a record; otherwise that is reported.
plain() {
  case $1 in *[[:cntrl:]]*) ;; *) return 0 ;; esac
  record "UNREADABLE $1" 'a line break or another control character is in its name'
  return 1
}

# as_listed FILE: it is in $files, under the name $listed.
as_listed() {
  # shellcheck disable=SC3013 # in every sh that a node may have
  for listed in $files; do [ "$1" -ef "$listed" ] && return 0; done
  return 1
}

# list FILE: adds a file to $files, once, whatever its name; beyond very many, names alone are
# compared. A name that would be split is reported instead.
list() {
  [ -f "$1" ] && plain "$1" || return 0
  case $files$nl in *"$nl$1$nl"*) return 0 ;; esac
  [ ${#files} -ge 10000 ] || ! as_listed "$1" || return 0
  files=$files$nl$1
}

# list_setting NAME: lists the file that a setting names. If it is listed already under another
# name, that name is reported.
list_setting() {
  setting "$1" ''
  readable "$value"
  # What a member of etcd has left is not used.
  case $1:$value in
  kube-apiserver.*:"$pki"/* | kube-apiserver.*:"$real"/*) ;;
  kube-apiserver.*:/* | kubelet.tlsCertFile:/*)
    [ -e "$value" ] || [ -L "$value" ] || record "UNREADABLE $value" "it does not exist, and $1 names it"
    ;;
  esac
  [ -f "$value" ] && plain "$value" || return 0
  if ! as_listed "$value"; then
    files=$files$nl$value
  elif [ "$value" != "$listed" ]; then
    record "USE $1 $listed"
  fi
}

# metadata FILE...: mode, user, group, size, time and path of each. A user or group of a directory
# service may have a blank in its name, which would end the field.
metadata() {
  stat -L -c "%a$tab%U$tab%G$tab%s$tab%Y$tab%n" "$@" 2>/dev/null |
    awk -F '\t' '{ gsub(/ /, "_", $2); gsub(/ /, "_", $3); $1 = $1; print }'
}

# only_certificates: awk that prints the certificates of a text as lines of a record, without any
# key that is next to them, or after one that was cut off.
# shellcheck disable=SC2016 # $ is awk's
only_certificates='
  /-----BEGIN/ { inside = $0 ~ /^-----BEGIN CERTIFICATE-----[ \r]*$/ }
  inside && /^([A-Za-z0-9+\/=]+|-----(BEGIN|END) CERTIFICATE-----)[ \r]*$/ { print "|" $0 }
  /-----END/ { inside = 0 }
'

# certificates: of every file that may hold one, with owner, mode, size and time.
certificates() {
  files=
  for f in "$pki"/*.crt "$pki"/etcd/*.crt "$kubelet"/*.crt "$kubelet"/*-current.pem "$etcd"/*.pem \
    "$calico"/*.crt "$cilium"/*.crt; do
    case $f in *-key.pem) ;; *) readable "$f" && list "$f" ;; esac
  done
  for name in $file_settings kube-apiserver.client-ca-file kube-apiserver.requestheader-client-ca-file \
    kube-controller-manager.root-ca-file kube-controller-manager.cluster-signing-cert-file kubelet.clientCAFile \
    kube-apiserver.sni-cert-file-2 kube-apiserver.sni-cert-file-3 kube-apiserver.sni-cert-file-4; do
    list_setting "$name"
  done
  [ ! -f "$tmp/named" ] || while read -r f; do
    case $f in 'client-certificate '*) tidy "${f#* }" && readable "$value" && list "$value" ;; esac
  done <"$tmp/named"
  # shellcheck disable=SC2086 # split at newlines
  set -- $files
  [ $# = 0 ] || metadata "$@" | awk '
    !files { path = $0; sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [^ ]+ /, "", path); meta[path] = $0; next }
    FNR == 1 { inside = 0; print "@@FILE " meta[FILENAME]; delete meta[FILENAME] }
    '"$only_certificates"'
    END { for (path in meta) print "@@FILE " meta[path] }' - files=1 "$@"
}

# kubeconfigs: their text, in which every word that is not known to be public is replaced by a
# number, equal words by the same one. So YAML and JSON of any style keep their structure and
# references, but no name, token, password or key. The public half of a key goes to a separate file;
# a key itself only from pipe to pipe. Files that are named as certificate or key are listed in
# $tmp/named.
kubeconfigs() {
  how_utf16='it is in UTF-16, which is not read here; iconv -f UTF-16 -t UTF-8 FILE writes it as usual'
  how_big='it has a line of more than 300,000 characters, or more than 100,000 lines: it is not read to its end'
  files='' n=0
  for f in "$conf"/*.conf "${kubelet_conf##"$conf"/*.conf}" "$home" "$root"/etc/cni/net.d/*kubeconfig*; do
    case $f in '' | */kubeadm-client.conf) ;; *) readable "$f" && list "$f" ;; esac
  done
  for name in $login_settings; do list_setting "$name"; done
  # shellcheck disable=SC2086 # split at newlines
  set -- $files
  [ $# = 0 ] || metadata "$@" | awk -v tmp="$tmp" -v openssl="$openssl" "$structure$apart$misspelt"'
    BEGIN {
      n = split("apiVersion v1 kind Config preferences extensions extension clusters cluster contexts context " \
        "current-context users user name server certificate-authority certificate-authority-data " \
        "insecure-skip-tls-verify tls-server-name proxy-url disable-compression namespace client-certificate " \
        "client-certificate-data client-key client-key-data token tokenFile username password exec auth-provider " \
        "as as-uid as-groups as-user-extra true false null str binary map seq", names, " ")
      for (i = 1; i <= n; i++) public[names[i]] = 1
      apart_n = split("[ ] { } , \047", apart_at, " ")
      split("\001 \002 \004 \005 \006 \007", apart_as, " ")
      apart_at[++apart_n] = " "
      apart_as[apart_n] = "\016"
      n = 0
      code = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
      for (i = 1; i <= 64; i++) digit[substr(code, i, 1)] = i - 1
      for (i = 32; i < 127; i++) char[i] = sprintf("%c", i)
      char[9] = "\t"; char[10] = "\n"; char[13] = "\r"
      for (i in char) byte[char[i]] = i
    }
    function decode(s, i, out) {
      for (i = 1; i < length(s); i += 4) {
        v = ((digit[substr(s, i, 1)] * 64 + digit[substr(s, i + 1, 1)]) * 64 + digit[substr(s, i + 2, 1)]) * 64 + \
          digit[substr(s, i + 3, 1)]
        out = out char[int(v / 65536)] char[int(v / 256) % 256] char[v % 256]
      }
      return out
    }
    function encode(s, i, out) {
      while (length(s) % 3) s = s "\n"
      for (i = 1; i <= length(s); i += 3) {
        v = (byte[substr(s, i, 1)] * 256 + byte[substr(s, i + 1, 1)]) * 256 + byte[substr(s, i + 2, 1)]
        out = out substr(code, int(v / 262144) + 1, 1) substr(code, int(v / 4096) % 64 + 1, 1) \
          substr(code, int(v / 64) % 64 + 1, 1) substr(code, v % 64 + 1, 1)
      }
      return out
    }
    # blocks TEXT: the certificates in it, and nothing else.
    function blocks(text, out, b) {
      while (b = index(text, "-----BEGIN CERTIFICATE-----")) {
        text = substr(text, b)
        if (match(text, /^-----BEGIN CERTIFICATE-----[A-Za-z0-9+\/=\r\n]*-----END CERTIFICATE-----/))
          out = out substr(text, 1, RLENGTH) "\n"
        text = substr(text, 28)
      }
      return out
    }
    # as_word TEXT: with the characters replaced that would split it; apart_again() restores them.
    function as_word(w, i) { for (i = 1; i <= apart_n; i++) w = exchanged(w, apart_at[i], apart_as[i]); return w }
    function apart_again(w, i) { for (i = 1; i <= apart_n; i++) w = exchanged(w, apart_as[i], apart_at[i]); return w }
    function exchanged(w, from, to, out, at) {
      while (at = index(w, from)) {
        out = out substr(w, 1, at - 1) to
        w = substr(w, at + 1)
      }
      return out w
    }
    # whole_files LINE: the name of an existing file becomes one word, whatever it contains.
    function whole_files(line, out, q, w) {
      while (match(line, /client-(certificate|key)["\047]?[ \t]*:[ \t]*/)) {
        out = out substr(line, 1, RSTART + RLENGTH - 1)
        line = substr(line, RSTART + RLENGTH)
        q = substr(line, 1, 1)
        if (q ~ /["\047]/) {
          out = out q
          line = substr(line, 2)
          w = index(line, q) ? substr(line, 1, index(line, q) - 1) : ""
        } else {
          w = line
          sub(/[ \t\r]+$/, "", w)
        }
        if (w !~ /[][ ,{}\047]/ || !there(w, dir)) continue
        out = out as_word(w)
        line = substr(line, length(w) + 1)
      }
      return out line
    }
    # message WORD: the replacement that is reported.
    function message(w, head, tail, kept) {
      if (w ~ /^(-|---|[.][.][.]|[|>]([-+]?[1-9]?|[1-9][-+])|<<:?|~)$/ || w == "\\") return w
      for (; w ~ /^[&*#!:?]/; w = substr(w, 2)) head = head substr(w, 1, 1)
      for (; w ~ /:$/; w = substr(w, 1, length(w) - 1)) tail = tail ":"
      if (head ~ /:/) key = last
      if (w == "") return head tail
      w = apart_again(w)
      last = w
      if (tail != "") {
        key = w
      } else {
        kept = key == "server" && public_server(w)
        if (key ~ /^client-(certificate|key)$/ && (public_file(w) || there(w, dir))) {
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
    function word(w) { out[++n] = message(w) }
    function begins() { from = n + 1 }
    function part(w) { out[++n] = w; parts[n] = 1 }
    function ran(run, text, found, i, pub, command) {
      if (length(run) > 99) text = decode(run)
      if (text ~ /PRIVATE KEY-----/ && openssl != "") {
        pub = "kubeconfig." ++pubs
        print pub " " file >(tmp "/keys.kubeconfigs")
        command = "base64 -d 2>/dev/null | openssl pkey -passin pass: -pubout -outform DER -out " tmp "/pub/" \
          pub " 2>/dev/null"
        print run | command
        close(command)
      }
      found = blocks(text)
      # A text that is only a certificate keeps its line breaks: how YAML joins the lines decides
      # whether it can be read.
      for (i = from; i <= n; i++) if (i in parts) {
        goes_on = substr(out[i], length(out[i])) == "\\" ? "\\" : ""
        if (found == "") out[i] = message(out[i]) goes_on
        else if (found != text) out[i] = (i > from ? "" : encode(found)) goes_on
        delete parts[i]
      }
    }
    function flush(i) {
      ended()
      if (n) printf "|"
      for (i = 1; i <= n; i++) {
        printf "%s", (out[i] == "\n" && i < n ? "\n|" : out[i])
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
      big = /^(\377\376|\376\377)/
      if (big) print FILENAME >(tmp "/utf16")
      quote = ""
      block = -1
    }
    big { next }
    length($0) > 300000 || FNR > 100000 { big = 1; print FILENAME >(tmp "/big"); next }
    how = misspelt($0) { print how, FILENAME >(tmp "/misspelt") }
    {
      gsub(/\\["\\]/, "_") # would look like the end of a text
      $0 = /^%[A-Z]/ && quote == "" && block < 0 ? "" : structured($0) # a directive is not content
      # The brackets of an IPv6 address are not structure.
      while (match($0, /https?:\/\/\[[0-9A-Fa-f:.]+\]/))
        $0 = substr($0, 1, RSTART - 1) as_word(substr($0, RSTART, RLENGTH)) substr($0, RSTART + RLENGTH)
      apart(whole_files($0))
      out[++n] = "\n"
    }
    END {
      flush()
      for (path in meta) print "@@KUBECONFIG " meta[path]
    }' - files=1 "$@"
  [ ! -f "$tmp/big" ] || while read -r f; do record "UNREADABLE $f" "$how_big"; done <"$tmp/big"
  [ ! -f "$tmp/utf16" ] || while read -r f; do record "UNREADABLE $f" "$how_utf16"; done <"$tmp/utf16"
  [ ! -f "$tmp/misspelt" ] || sort -u "$tmp/misspelt" | while IFS=' ' read -r how f; do
    record "UNREADABLE $f" "$(how_misspelt "$how")"
  done
  [ ! -f "$tmp/named" ] || sort -u "$tmp/named" | sed -n 's/^client-key //p' | while read -r f; do
    tidy "$f"
    f=$value
    case $f in "$kubelet"/*) continue ;; esac
    n=$((n + 1))
    printf 'named.%s %s\n' "$n" "$f" >>"$tmp/keys.named"
    [ -z "$openssl" ] ||
      openssl pkey -in "$f" -passin pass: -pubout -outform DER -out "$tmp/pub/named.$n" </dev/null >/dev/null 2>&1
  done
}

# keys: the public half of every key whose certificate has a place (orchestrator/certs, Table), each
# in a separate file: openssl is started for each.
keys() {
  files=
  for name in $cas $leaves; do
    list "$pki/${name%%|*}.key"
  done
  for name in $etcd_leaves; do
    for f in "$etcd/${name%%|*}"-*-key.pem; do list "$f"; done
  done
  for f in "$kubelet/kubelet.key" "$kubelet"/*-current.pem "$etcd"/ca-key.pem "$etcd"/ca-next-key.pem "$calico/key.pem" "$cilium/key.pem"; do
    list "$f"
  done
  for name in $key_settings; do
    setting "$name" ''
    list "$value"
  done
  n=0
  for f in $files; do
    n=$((n + 1))
    [ $n -le 1000 ] || break # no more certificates are read, either
    printf '%s %s\n' "$n" "$f"
    openssl pkey -in "$f" -passin pass: -pubout -outform DER -out "$tmp/pub/$n" </dev/null >/dev/null 2>&1
  done >"$tmp/keys.files"
}

# meant FILE: the meaning of an encryption configuration in YAML or JSON, as lines of a path and a
# value. In a sequence the path has the position, because the order of providers and keys counts;
# the order in a mapping does not. Kubespray rewrites the file in another form. Of what is not
# understood, such as an anchor, the words in their order.
meant() {
  awk '
    function put(path, value) { if (path ~ "^/resources(/|$)") line[++lines] = path "=" value }
    function blank() { while (substr(T, P, 1) ~ /[ \t]/) P++ }
    # word: the text at P of T, quoted or not.
    function word(c, w) {
      c = substr(T, P, 1)
      w = substr(T, P)
      if (c ~ /["\047]/) {
        w = substr(w, 2, index(substr(w, 2), c) - 1)
        P += length(w) + 2
        if (w ~ /\\/) odd = 1
        return w
      }
      if (c ~ /[&*!|>%@`?]/ || !match(w, /^([^][{},: \t]|:[^][{}, \t])+/)) { odd = 1; return }
      P += RLENGTH
      return substr(w, 1, RLENGTH)
    }
    # node PATH: the node that begins at P of T.
    function node(path, c, n, key) {
      blank()
      c = substr(T, P, 1)
      if (c !~ /[[{]/) { put(path, word()); return }
      for (P++; !odd; ) {
        blank()
        if (P > length(T)) odd = 1
        else if (substr(T, P, 1) == (c == "{" ? "}" : "]")) {
          if (!n && key == "") put(path, c) # an empty one still counts
          P++
          return
        }
        else if (substr(T, P, 1) == ",") P++
        else if (c == "[") node(path "/" ++n)
        else {
          key = path "/" word()
          blank()
          if (substr(T, P++, 1) != ":") odd = 1
          put(key, "")
          node(key)
        }
      }
    }
    # open_ TEXT: the number of open brackets in it, outside of quotes.
    function open_(text, n) {
      gsub(/"[^"]*"|\047[^\047]*\047/, "", text)
      if (text ~ /["\047]/) odd = 1
      n = gsub(/[[{]/, "", text)
      return n - gsub(/[]}]/, "", text)
    }
    function whole() { P = 1; node(at); blank(); if (P <= length(T)) odd = 1; T = "" }
    function push(indent, kind, path) { column[++depth] = indent; is[depth] = kind; name[depth] = path; at = path }
    FNR == 1 { sub(/^\357\273\277/, "") }
    FNR > 10000 || /\t/ { odd = 1 }
    odd { next }
    { sub(/\r$/, ""); sub(/^ *#.*/, "") }
    !/[^ ]/ || /^---$/ && !lines { next }
    {
      # A comment, unless it is in quotes.
      while (match($0, / #[^"\047]*$/)) $0 = substr($0, 1, RSTART - 1)
      sub(/ +$/, "")
      if (T != "") { T = T " " $0; if (!open_(T)) whole(); next }
      match($0, /^ */)
      indent = RLENGTH
      text = substr($0, indent + 1)
      fresh = !depth || awaited # a value may begin here
      while (text ~ /^-( |$)/) {
        while (depth && (column[depth] > indent || column[depth] == indent && is[depth] == "-")) depth--
        push(indent, "-", name[depth] "/" ++count[name[depth]])
        match(text, /^- */)
        indent += RLENGTH
        text = substr(text, RLENGTH + 1)
        fresh = 1
      }
      if (match(text, /^("[^"]*"|\047[^\047]*\047|[A-Za-z][A-Za-z0-9._-]*) *:( |$)/)) {
        key = substr(text, 1, RLENGTH)
        text = substr(text, RLENGTH + 1)
        gsub(/["\047]| *: *$/, "", key)
        while (depth && column[depth] >= indent) depth--
        push(indent, ":", name[depth] "/" key)
        put(at, "")
        fresh = 1
      }
      sub(/^ +/, "", text)
      awaited = text == ""
      if (awaited) next
      if (!fresh) { odd = 1; next }
      T = text
      if (!open_(T)) whole()
    }
    END {
      if (odd || T != "") lines = 0 # a failure would be one of awk itself
      for (i = 1; i <= lines; i++) print line[i]
    }' "$1" | LC_ALL=C sort | grep . ||
    sed 's/^[[:space:]]*#.*//; s/[[:space:]]#.*//' "$1" | tr -s "[:space:]{}[],:\"'" '\n' |
    awk '
        $0 != "" && $0 != "-" { word[++n] = $0; if ($0 == "resources" && !from) from = n }
        END { for (i = from ? from : 1; i <= n; i++) print word[i] }'
}

# digests: of what must never change, and of the public half of every key; of the encryption
# configuration that of its meaning.
digests() {
  f=$real/secrets_encryption.yaml
  if [ -s "$f" ]; then
    sum=$(meant "$f" | sha256sum)
    printf '@@DIGEST %s %s\n' "${sum%% *}" "$f"
  fi
  set --
  for f in "$real"/ca.crt "$real"/ca.key "$real"/sa.key "$real"/sa.pub "$real"/front-proxy-ca.crt \
    "$real"/front-proxy-ca.key "$real"/etcd/ca.crt "$real"/etcd/ca.key "$etcd"/ca.pem "$etcd"/ca-key.pem \
    "$tmp"/pub/*; do
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

# watched: what a plan relies on in addition to the certificates. The kubelet reads every manifest
# whose name does not begin with a dot, whatever its extension.
watched() {
  set --
  for f in "$conf"/manifests/*; do
    [ ! -f "$f" ] || ! plain "$f" || set -- "$@" "$f"
  done
  # The pod that each defines: of two with one name the kubelet runs one.
  [ $# = 0 ] || awk "$structure"'
    function reported() { if (name != "") print "@@POD " (space == "" ? "default" : space) "/" name " " file }
    FNR == 1 { reported(); file = FILENAME; name = space = quote = ""; block = -1; within = 0 }
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
    END { reported() }' "$@"
  for f in "$config" $(env_files) "$conf/kubelet.env" $kubelet_configs; do
    [ ! -f "$f" ] || ! plain "$f" || set -- "$@" "$f"
  done
  [ $# = 0 ] || sha256sum "$@" | sed -n 's/^\([0-9a-f]\{64\}\)  /@@WATCH \1 /p'
}

# own PID: a process of root in the host's own namespaces. Processes of other users or pods can
# claim anything, so they are ignored.
own() {
  grep -qs '^Uid:[[:space:]]*0[[:space:]]*0[[:space:]]' "/proc/$1/status" || return 1
  for ns in user pid mnt; do
    # shellcheck disable=SC3013 # in every sh that a node may have
    [ "/proc/$1/ns/$ns" -ef "/proc/$first/ns/$ns" ] || return 1
  done
}

# run_name FILE: the run that an environment or a command line names, in $value.
run_name() {
  value=$(tr '\0;' '[\n*]' <"$1" |
    sed -n "s/^ *\(export \)\{0,1\}KSCERT_RUN[=]'\{0,1\}\([A-Za-z0-9._-]\{1,64\}\)'\{0,1\}\$/\2/p" | head -n 1)
}

# work: what may be changing something here at this moment: tasks of a run, which carry its name;
# other tasks of Ansible, by how it starts them; kubeadm; what Kubespray's timer starts. All as
# root. Not those that only inspect or handle the lock. This script's text is in command lines, too,
# so no pattern matches itself. Arguments may be secrets.
work() {
  # In a sandbox that hides process 1, this script's own namespaces count.
  first=1
  [ -e /proc/1/ns/mnt ] || first=$$
  {
    grep -lsz '^KSCERT_RUN=' /proc/[0-9]*/environ
    grep -lsE "export KSCERT_RUN[=]|AnsiballZ[_]|BECOME-SUCCESS[-]|python[0-9.]* && sleep[ ]0" /proc/[0-9]*/cmdline
    sed -n -e 's|^\([0-9]*\) (kubeadm) .*|/proc/\1/comm|p' \
      -e 's|^\([0-9]*\) (k8s-certs-renew) .*|/proc/\1/timer|p' "$tmp/stat"
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
      case $what in
      'kubeadm version '* | 'kubeadm config validate ' | 'kubeadm certs check-expiration ') continue ;;
      esac
      ;;
    timer) what="Kubespray's renewal of certificates" ;;
    esac
    started=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d ' ' -f 20)
    [ -z "$started" ] || record "WORK $pid $((${uptime%.*} - started / 100)) $what"
  done 2>/dev/null | head -n 50
}

# disks: also the one of the backups; the first backup makes their directory.
disks() {
  backups=$KSCERT_BACKUP_ROOT
  until [ -e "${backups:=/}" ]; do
    case $backups in */*) backups=${backups%/*} ;; *) backups=/ ;; esac
  done
  set -- "$conf" "$root/var/lib/kubelet" /var/lib/containerd /var "$backups"
  for name in $etcd_clusters; do set -- "$@" "/var/lib/${name%|*}"; done
  timeout 3 df -k --output=avail,size,iavail,target "$@" 2>/dev/null |
    while read -r free size inodes mount; do
      [ "$inodes" != - ] || inodes=-1
      case $free in [0-9]*) record "DISK $free $size $inodes $mount" ;; esac
    done
}

# units: the systemd units that are loaded, their restarts and how long they have been active.
units() {
  set --
  for name in $etcd_clusters; do set -- "$@" "${name%|*}.service"; done
  timeout 5 systemctl show kubelet.service "$@" containerd.service crio.service docker.service \
    -p Id -p LoadState -p ActiveState -p SubState -p NRestarts -p ActiveEnterTimestampMonotonic 2>/dev/null |
    awk -F= -v up="$uptime" '
      function flush() {
        sub(/\.service$/, "", v["Id"])
        if (v["LoadState"] == "loaded")
          printf "@@UNIT %s %s %s %d %d\n", v["Id"], v["ActiveState"], v["SubState"], v["NRestarts"],
            (v["ActiveState"] == "active" ? up - v["ActiveEnterTimestampMonotonic"] / 1000000 : 0)
        split("", v)
      }
      $0 == "" { flush() }
      { v[$1] = $2 }
      END { flush() }'
}

# renewal_timer: Kubespray's own renewal of certificates (roles/kubernetes/control-plane,
# auto_renew_certificates, since v2.15.1): whether it is on, when it runs next, or that a run of
# ours holds it back (roles/renewal_timer).
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

# container_runtime: the unit of the runtime that the kubelet is set to use, in $runtime.
container_runtime() {
  setting kubelet.containerRuntimeEndpoint ''
  case $value in
  *containerd*) runtime=containerd ;;
  *crio*) runtime=crio ;;
  *) runtime=docker ;; # built into the kubelet before Kubernetes 1.24, or cri-dockerd
  esac
  case $units in *"UNIT $runtime "*) fact runtime "$runtime" ;; *) runtime= ;; esac
}

# processes: of the control plane, etcd and the kubelet, and when they started. Those in another
# network namespace are pods of users. The kernel's unit here is a hundredth of a second on every
# architecture (USER_HZ).
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
    # Nor does a process of a login session count, whatever its name.
    ! grep -qs '/user\.slice' "/proc/$pid/cgroup" || continue
    command=
    read -r command <"/proc/$pid/cmdline" # NULs between the words are dropped
    case $name:$command in
    *--version) continue ;; # a short query, maybe by this inspection
    # The kernel truncates names to 15 characters.
    kube-controller:*kube-controller-manager*) name=kube-controller-manager ;;
    kube-controller:*) continue ;;
    etcd:*) etcd_process "/proc/$pid" ;;
    esac
    record "PROCESS $name $pid $started"
  done 2>/dev/null | head -n 50
}

# etcd_process DIRECTORY: leaves in $name the cluster of a process of etcd: that of its unit, or of its
# data, which a unit that starts a container gives it.
etcd_process() {
  for cluster in $etcd_clusters; do
    cluster=${cluster%|*}
    setting "$cluster.data-dir" ''
    if grep -qs "/$cluster\.service" "$1/cgroup" ||
      { [ -n "$value" ] && tr '\0' '\n' 2>/dev/null <"$1/environ" | grep -qxF "ETCD_DATA_DIR=$value"; }; then
      name=$cluster
    fi
  done
}

# client OPTION...: a TLS client without trusted CAs; loading those of the system takes four times
# as long as the answer.
client() { SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null timeout 6 openssl s_client "$@"; }

# tls NAME ADDRESS [OPTION...]: asks a port for its certificates. For a silent server the output is
# lost at the timeout, but not the messages: the handshake's states show that there was a
# connection.
tls() {
  name=$1 address=$2
  shift 2
  printf '%s\n' "$address" >"$tmp/tls.$name"
  client -connect "$address" -showcerts -state "$@" </dev/null >>"$tmp/tls.$name" 2>"$tmp/tls-message.$name"
  printf '%s\n' $? >"$tmp/tls-exit.$name"
}

# http NAME ADDRESS [OPTION...]: sends the requests on stdin to a port; quietly, because the
# session's secrets are printed otherwise.
http() {
  name=$1 address=$2
  shift 2
  printf '%s\n' "$address" >"$tmp/http.$name"
  client -connect "$address" -quiet "$@" >>"$tmp/http.$name" 2>"$tmp/http-message.$name"
  printf '%s\n' $? >"$tmp/http-exit.$name"
}

# plainly NAME ADDRESS: the same to a port without TLS, if there is a bash.
plainly() {
  printf '%s\n' "$2" >"$tmp/http.$1"
  server=${2%:*} server=${server#\[}
  # shellcheck disable=SC2016 # $0 and $1 are bash's
  timeout 6 bash -c 'exec 3<>"/dev/tcp/$0/$1" && cat >&3 && cat <&3' "${server%\]}" "${2##*:}" \
    >>"$tmp/http.$1" 2>"$tmp/http-message.$1"
  printf '%s\n' $? >"$tmp/http-exit.$1"
}

# request METHOD PATH CLOSING-HEADER [BODY]
request() {
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\nContent-Length: %s\r\n\r\n%s' \
    "$1" "$2" "$3" "${#4}" "$4"
}

# api NAME ADDRESS: how the API server answers without a credential.
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

# kubelet_access KUBECTL...: whether the user of the API server's client certificate for kubelets
# may do there what the API server does. These groups may do everything.
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

# view: the cluster as this node's API server shows it to its administrator, with TLS verified. The
# client's cache is not left in root's home.
view() {
  set -- kubectl --cache-dir="$tmp/cache" --kubeconfig="$administrator" --server="https://$1" --request-timeout=8s
  column='{"\t"}' end='{"\n"}'
  show readyz 9 "$@" get --raw '/readyz?verbose' >"$tmp/result.readyz" || return 0
  kubelet_access "$@" &
  # A control plane label has no value, and jsonpath cannot distinguish that from a missing one.
  # Nodes and their leases are requested together: each kubectl takes as long as all of its
  # requests.
  # shellcheck disable=SC2016 # $label is kubectl's
  {
    nodes='{{range .items}}{{if eq .kind "Lease"}}{{.metadata.name}}{{"\t"}}{{.spec.renewTime}}{{else}}'
    nodes=$nodes'{{.metadata.name}}{{"\t"}}'
    nodes=$nodes'{{range .status.conditions}}{{if eq .type "Ready"}}{{.status}}{{end}}{{end}}{{"\t"}}'
    nodes=$nodes'{{.status.nodeInfo.kubeletVersion}}{{"\t"}}{{.status.nodeInfo.containerRuntimeVersion}}{{"\t"}}'
    nodes=$nodes'{{range $label, $_ := .metadata.labels}}{{if or (eq $label "node-role.kubernetes.io/control-plane")'
    nodes=$nodes' (eq $label "node-role.kubernetes.io/master")}}control-plane {{end}}{{end}}{{"\t"}}'
    nodes=$nodes'{{range .status.addresses}}{{.address}} {{end}}{{"\t"}}'
    nodes=$nodes'{{if .spec.unschedulable}}cordoned{{end}}{{end}}{{"\n"}}{{end}}'
  }
  show nodes 4 "$@" -n kube-node-lease get nodes,leases -o "go-template=$nodes" >"$tmp/result.nodes" &
  show component-leases 4 "$@" -n kube-system get leases kube-controller-manager kube-scheduler --ignore-not-found \
    -o "jsonpath={range .items[*]}{.metadata.name}$column{.spec.renewTime}$end{end}" >"$tmp/result.component-leases" &
  pods="{range .items[*]}{.metadata.labels.component}$column{.spec.nodeName}"
  pods="$pods$column{.status.conditions[?(@.type==\"Ready\")].status}$end{end}"
  show static-pods 4 "$@" -n kube-system get pods -l tier=control-plane -o "jsonpath=$pods" >"$tmp/result.static-pods" &
  wait
  if [ "${KSCERT_SECRETS:-no}" = yes ]; then
    { secrets "$@" >"$tmp/secrets" && mv "$tmp/secrets" "$tmp/result.secrets"; } &
  fi
  [ "${KSCERT_TRUST:-no}" != cluster ] || trust "$@" >"$tmp/result.trust"
  wait
}

# trust KUBECTL...: what the objects of the cluster trust, in nine requests, however many there are;
# the resource types are cached by now. Of Secrets with tokens, only the CA leaves kubectl.
trust() {
  # shellcheck disable=SC2016 # $ is kubectl's
  {
    roots='{{range .items}}kube-root-ca{{"\t"}}{{.metadata.namespace}}{{"\t"}}'
    roots=$roots'{{with .data}}{{with index . "ca.crt"}}{{printf "%q" .}}{{end}}{{end}}{{"\n"}}{{end}}'
    tokens='{{range .items}}service-account-token{{"\t"}}{{.metadata.namespace}}/{{.metadata.name}}{{"\t"}}'
    tokens=$tokens'{{with .data}}{{with index . "ca.crt"}}{{.}}{{end}}{{end}}{{"\n"}}{{end}}'
    info='{{with .data}}{{.kubeconfig}}{{end}}'
    proxy='{{with .data}}client-ca{{"\t"}}-{{"\t"}}{{with index . "client-ca-file"}}{{printf "%q" .}}{{end}}{{"\n"}}'
    proxy=$proxy'requestheader-client-ca{{"\t"}}-{{"\t"}}'
    proxy=$proxy'{{with index . "requestheader-client-ca-file"}}{{printf "%q" .}}{{end}}{{"\n"}}{{end}}'
    published='{{range .items}}trust-bundle{{"\t"}}{{.metadata.name}}{{"\t"}}'
    published=$published'{{printf "%q" .spec.trustBundle}}{{"\n"}}{{end}}'
    bundles='{{range .items}}{{$name := .metadata.name}}{{if eq .kind "APIService"}}'
    bundles=$bundles'{{with .spec.caBundle}}api-service{{"\t"}}{{$name}}{{"\t"}}{{.}}{{"\n"}}{{end}}'
    bundles=$bundles'{{else if eq .kind "CustomResourceDefinition"}}'
    bundles=$bundles'{{with .spec.conversion}}{{with .webhook}}{{with .clientConfig}}{{with .caBundle}}'
    bundles=$bundles'conversion{{"\t"}}{{$name}}{{"\t"}}{{.}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}'
    bundles=$bundles'{{else}}{{range .webhooks}}{{$hook := .name}}{{with .clientConfig}}{{with .caBundle}}'
    bundles=$bundles'webhook{{"\t"}}{{$name}}/{{$hook}}{{"\t"}}{{.}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}{{end}}'
  }
  asks roots "$@" get configmaps -A --chunk-size=0 --field-selector metadata.name=kube-root-ca.crt \
    -o "go-template=$roots" &
  asks tokens "$@" get secrets -A --chunk-size=0 --field-selector type=kubernetes.io/service-account-token \
    -o "go-template=$tokens" &
  asks info "$@" -n kube-public get configmap cluster-info --ignore-not-found -o "go-template=$info" &
  asks proxy "$@" -n kube-system get configmap extension-apiserver-authentication --ignore-not-found \
    -o "go-template=$proxy" &
  asks bundles "$@" get \
    validatingwebhookconfigurations,mutatingwebhookconfigurations,apiservices,customresourcedefinitions \
    --chunk-size=0 -o "go-template=$bundles" &
  asks published "$@" get clustertrustbundles --chunk-size=0 -o "go-template=$published" &
  wait
  # A kubeconfig is not a list of CAs.
  [ ! -s "$tmp/asked.info" ] ||
    sed -n "s/.*certificate-authority-data: *\([A-Za-z0-9+/=]*\).*/cluster-info$tab-$tab\1/p" "$tmp/asked.info" \
      >"$tmp/asked.cluster"
  rm -f "$tmp/asked.info"
  # Each CA once, with all objects that have it.
  cat "$tmp"/asked.* 2>/dev/null | awk -F'\t' '
    !(($1 FS $3) in at) { at[$1 FS $3] = ++n; kind[n] = $1; text[n] = $3 }
    { i = at[$1 FS $3]; if (length(names[i]) < 20000) names[i] = names[i] " " $2 }
    END {
      for (i = 1; i <= n && i <= 300; i++) print kind[i] "\t" substr(names[i], 2) "\t" text[i]
      if (n > 300) print "more"
    }' >"$tmp/trusted"
  message=$(cat "$tmp"/asked-message.* 2>/dev/null |
    grep -v -e "the server doesn't have a resource type" -e '^Warning: ' | head -c 1000)
  while IFS="$tab" read -r kind names text; do
    # Users of the cluster write these objects: too many of them must not cut off the node's answer.
    [ "$(wc -c <"$tmp/result.trust")" -lt 600000 ] || kind=more names=
    [ "$kind" != more ] || { message="$message${message:+$nl}there are more CA bundles than are read" && break; }
    record "TRUST $kind $names"
    case $text in
    \"*) text=${text#?} && printf '%b\n' "${text%?}" ;;
    *) printf '%s' "$text" | base64 -d 2>/dev/null ;;
    esac | public_only
  done <"$tmp/trusted"
  [ -z "$message" ] || { record 'RESULT trust 1' && printf '%s\n' "$message" | bars; }
}

# secrets KUBECTL...: the certificates in Secrets of type kubernetes.io/tls, and in those of Calico's
# Typha and API server, which are of no type: by the names that Kubespray's and Calico's own
# installation give them. kubectl reads Secrets in pages of 500 and prints nothing but their names
# and certificates.
secrets() {
  {
    held='{{range .items}}{{.metadata.namespace}}/{{.metadata.name}}{{"\t"}}{{with .data}}'
    held=$held'{{with index . "tls.crt"}}{{base64decode . | printf "%q"}}{{else}}'
    held=$held'{{with index . "apiserver.crt"}}{{base64decode . | printf "%q"}}{{end}}{{end}}{{end}}{{"\n"}}{{end}}'
  }
  for which in type=kubernetes.io/tls metadata.name=calico-apiserver-certs metadata.name=typha-certs \
    metadata.name=node-certs; do
    timeout 30 "$@" get secrets -A --chunk-size=500 --field-selector "$which" -o "go-template=$held" \
      >"$tmp/held.${which##*[=/]}" 2>"$tmp/held-message.${which##*[=/]}" </dev/null ||
      echo "kubectl get secrets -A --field-selector $which has failed" >>"$tmp/held-message.${which##*[=/]}" &
  done
  wait
  # Each certificate once, with all Secrets that hold it. Users of the cluster write Secrets.
  cat "$tmp"/held.* | awk -F'\t' -v limit="$tmp/held-message.more" '
    length($2) < 3 || ($1 in seen) { next }
    { seen[$1]; $2 = substr($2, 1, 50000) }
    !($2 in at) { at[$2] = ++n; text[n] = $2 }
    { i = at[$2]; if (length(names[i]) < 20000) names[i] = names[i] " " $1 }
    END {
      for (i = 1; i <= n; i++) {
        if (i > 1000 || size > 1500000) {
          print "there are more certificates in Secrets than are read" >limit
          exit
        }
        print "@@SECRET" names[i]
        inside = 0
        lines = split(substr(text[i], 2, length(text[i]) - 2), line, /\\n/)
        for (j = 1; j <= lines; j++) {
          gsub(/\\r/, "", line[j])
          if (line[j] ~ /^-----BEGIN/) inside = line[j] ~ /^-----BEGIN CERTIFICATE----- *$/
          if (inside && line[j] ~ /^([A-Za-z0-9+\/=]+|-----(BEGIN|END) CERTIFICATE-----) *$/) {
            print "|" line[j]
            size += length(line[j]) + 2
          }
          if (line[j] ~ /^-----END/) inside = 0
        }
      }
    }'
  message=$(cat "$tmp"/held-message.* | grep -v '^Warning: ' | head -c 1000)
  if [ -z "$message" ]; then record 'RESULT secrets 0'; else record 'RESULT secrets 1' && printf '%s\n' "$message" | bars; fi
}

# asks NAME KUBECTL...: keeps its output and its errors apart.
asks() {
  name=$1
  shift
  timeout 8 "$@" >"$tmp/asked.$name" 2>"$tmp/asked-message.$name" </dev/null
}

# public_only: the certificates of a text, as lines of a record.
public_only() { tr -d '\000\r' | head -c 50000 | cut -c1-200 | awk "$only_certificates"; }

# pods_trust: the CAs in the volumes of the pods on this node, and when each pod's longest running
# container was started. A pod's directories have its UID; its logs have its name, too.
pods_trust() {
  flag root-dir "$kubelet_home"
  find "$value"/pods/*/volumes/kubernetes.io~projected -mindepth 2 -maxdepth 2 \
    -path '*/kube-api-access-*/ca.crt' 2>/dev/null >"$tmp/pods"
  [ -s "$tmp/pods" ] || return 0
  {
    find "$root/var/log/pods" -mindepth 1 -maxdepth 1 -printf 'name %f\n' 2>/dev/null
    find "$value"/pods/*/containers -mindepth 2 -maxdepth 2 -printf 'start %T@ %h\n' 2>/dev/null
    tr '\n' '\0' <"$tmp/pods" | xargs -0 sha256sum 2>/dev/null
  } | awk -v dir="$value/pods/" '
    function uid(path) { path = substr(path, length(dir) + 1); sub(/\/.*/, "", path); return path }
    $1 == "name" {
      id = $2
      sub(/.*_/, "", id)
      name[id] = substr($2, 1, length($2) - length(id) - 1)
      sub(/_/, "/", name[id])
      next
    }
    $1 == "start" { if ($2 + 0 > last[$3] + 0) last[$3] = $2 + 0; next }
    {
      if (!($1 in file)) { file[$1] = $2; order[++n] = $1 }
      id = uid($2)
      if (!((id, $1) in seen)) { seen[id, $1] = 1; pods[$1] = pods[$1] " " id }
    }
    END {
      for (c in last) { id = uid(c); if (!(id in start) || last[c] < start[id]) start[id] = last[c] }
      for (i = 1; i <= n && i <= 100; i++) {
        line = ""
        k = split(pods[order[i]], ids, " ")
        for (j = 1; j <= k; j++)
          line = line " " (ids[j] in name ? name[ids[j]] : ids[j]) "@" sprintf("%d", start[ids[j]])
        print file[order[i]] "\t" substr(line, 2)
      }
    }' | while IFS="$tab" read -r file names; do
    record "TRUST pod $names"
    public_only <"$file"
  done
}

# kubeadm_config: whether kubeadm accepts the node's configuration. What "validate" rejects, such as
# an unknown field, a renewal may still accept: then a command that reads the file like a renewal,
# and changes nothing, decides.
kubeadm_config() {
  [ -f "$config" ] || return 0
  show kubeadm-config 5 kubeadm config validate --config "$config" >"$tmp/kubeadm-message"
  answer=$?
  unquoted
  if [ $answer = 1 ]; then
    alpha=
    timeout 2 kubeadm certs --help >/dev/null 2>&1 </dev/null
    [ $? != 1 ] || alpha=alpha # before v1.20; a timeout is another matter
    # shellcheck disable=SC2086 # none or one word
    show kubeadm-config 5 kubeadm $alpha certs check-expiration --config "$config" >"$tmp/kubeadm-message"
    answer=$?
    unquoted
  fi
  # A renewal may not understand what kubeadm does.
  [ $answer = 0 ] || return 0
  if says=$(not_plain "$config") ||
    { [ ! -d "$pki" ] && says="$pki, the certificatesDir of $config, does not exist"; }; then
    record 'RESULT kubeadm-config 1' "$says" >"$tmp/result.kubeadm-config"
  fi
}

# unquoted: kubeadm's messages without the values that they quote: a token or a key may be one.
unquoted() {
  sed -E 's/(Invalid value): "([^"\\]|\\.)*"/\1/g; s/(token) "([^"\\]|\\.)*"/\1/g' "$tmp/kubeadm-message" \
    >"$tmp/result.kubeadm-config"
}

# ask_control_plane: this node's own components; leaves $api.
ask_control_plane() {
  setting kube-apiserver.secure-port ''
  port=$value
  setting kube-apiserver.advertise-address ''
  api_at "$value" "$port"
  api=$value
  if [ -n "$openssl" ]; then
    api kube-apiserver "$api"
    # The certificate for its connections to itself is in no file.
    tls kube-apiserver-loopback "$api" -servername apiserver-loopback-client &
    for component in kube-controller-manager:10257 kube-scheduler:10259; do
      setting "${component%:*}.secure-port" "${component#*:}"
      port=$value
      setting "${component%:*}.bind-address" ''
      own_host "$value"
      tls "${component%:*}" "$value:$port" &
    done
  fi
  [ "${KSCERT_SECRETS:-no}" != yes ] ||
    record 'RESULT secrets 1' '|the API server of this node cannot be asked' >"$tmp/result.secrets"
  [ -z "$(command -v kubectl)" ] || view "$api" &
  [ -z "$(command -v kubeadm)" ] || {
    show kubeadm-version 8 kubeadm version -o short >"$tmp/result.kubeadm-version" &
    kubeadm_config &
  }
}

# ask_etcd NAME PORT: the member on this node, with its own serving certificate. If it has a separate
# port for HTTP, the other port does not answer HTTP. Requests that may hang without a quorum come
# last.
ask_etcd() {
  etcd_name=$1
  setting "$1.cert-file" ''
  crt=$value
  setting "$1.key-file" ''
  key=$value
  setting "$1.listen-peer-urls" ''
  url "$value"
  peer=$value
  setting "$1.listen-client-urls" ''
  if [ -n "$value" ] || { [ "$1" = etcd ] && has_role etcd; }; then etcd_at "$value" "$2"; fi
  # A client without a certificate would be answered too, but etcd's log would report it.
  set --
  [ -f "$crt" ] && [ -f "$key" ] && set -- -cert "$crt" -key "$key"
  [ -z "$peer" ] || tls "$etcd_name-peer" "$peer" "$@" &
  [ -n "$value" ] || return 0
  tls "$etcd_name" "$value" "$@" &
  client=$value
  setting "$etcd_name.listen-client-http-urls" "https://$client"
  urls=$value
  url "$urls"
  case $urls in
  http://*) set -- plainly "$etcd_name" "$value" ;;
  *)
    [ $# != 0 ] || return 0
    set -- http "$etcd_name" "$value" "$@"
    ;;
  esac
  {
    request GET /version keep-alive ''
    request POST /v3/cluster/member/list keep-alive '{}'
    request GET /health keep-alive ''
    request POST /v3/maintenance/status close '{}'
  } | "$@" &
}

# ask_kubelet: what it serves, and the API endpoint that it uses, if that is not this node's own API
# server.
ask_kubelet() {
  setting kubelet.address ''
  flag node-ip "$value"
  own_host "${value%%,*}"
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
    {
      record "RESOLVED ${endpoint%:*}" && timeout 5 getent ahosts "${endpoint%:*}" 2>&1 | bars
    } >"$tmp/result.resolved" &
    ;;
  esac
}

# answers: what the ports reported.
answers() {
  set --
  for f in "$tmp"/tls.* "$tmp"/http.*; do
    name=${f##*/} kind=${name%%.*} name=${name#*.}
    [ -f "$f" ] && set -- "$@" "$tmp/$kind-exit.$name" "$f" "$tmp/$kind-message.$name"
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
    kind ~ /-message$/ {
      if ($0 ~ /^SSL_connect:/) { if (!connected++) print "|CONNECTED"; next }
      if ($0 !~ /^depth=|^verify|^Can.t use SSL_get_servername|^DONE$|^SSL3 alert [a-z]+:warning/)
        print "|!" substr($0, 1, 1000)
      next
    }
    FNR == 1 { print "@@" toupper(kind) " " name " " code " " $0; next }
    kind == "http" { print "|" substr($0, 1, 100000); next }
    /-----BEGIN CERTIFICATE-----/ { inside = 1 }
    inside { print "|" $0 }
    /-----END CERTIFICATE-----/ { inside = 0 }' "$@"
}

# last_words NAME: log lines of a static pod's newest container, errors first.
last_words() {
  log=$(find "$root/var/log/pods" -path "*kube-system_$1-*/$1/*.log" -printf '%T@ %p\n' 2>/dev/null |
    sort -rn | sed -n '1s/^[^ ]* //p')
  # The runtime's prefix (time, stream, flag) is cut off.
  # shellcheck disable=SC2016 # $1 is the inner shell's
  [ -z "$log" ] || show "${1#kube-}-log" 3 sh -c 'words=$(tail -n 300 "$1" | cut -d" " -f4-)
    printf "%s\n" "$words" | grep -E "^([EF][0-9]{4} |Error|panic|fatal)|\"level\":\"(error|fatal|panic|warn)\"" |
      tail -n 4 | grep . || printf "%s\n" "$words" | tail -n 3' sh "$log"
}

# logs: why something does not answer, if something does not.
logs() {
  kubelet_too=
  if [ -f "$tmp/result.readyz" ] && ! grep -q '^@@RESULT readyz 0$' "$tmp/result.readyz"; then
    last_words kube-apiserver
    kubelet_too=1
  fi
  for member in $etcd_clusters; do
    member=${member%|*}
    if [ ! -f "$tmp/http.$member" ] || grep -q '"health":"true"' "$tmp/http.$member"; then
      continue
    elif [ "$member" = etcd ] && [ -f "$conf/manifests/etcd.yaml" ]; then
      last_words etcd
    else
      show "$member-log" 3 journalctl -u "$member" -n 8 -o cat --no-pager
    fi
  done
  case $units in *'UNIT kubelet active '*) ;; *'UNIT kubelet '*) kubelet_too=1 ;; esac
  [ -n "$kubelet_too" ] || return 0
  # In a healthy cluster the API reports the version, and asking the kubelet takes longer than all
  # the rest.
  [ -z "$runtime" ] || show runtime-version 5 "$runtime" --version
  [ -z "$(command -v kubelet)" ] || show kubelet-version 5 kubelet --version
  # A manifest that cannot be read is reported again every 20 s: reports from before the last change
  # of the files (the change time, which a copy with an old time does not hide) are obsolete.
  changed=$(stat -c %Z "$conf"/manifests "$conf"/manifests/* 2>/dev/null | sort -n | tail -n 1)
  minute=$((${now%.*} - 60))
  # In the second of a change the file may have been half written.
  changed=$((${changed:-0} + 1))
  [ "$changed" -gt "$minute" ] || changed=$minute
  # Consequences of the missing API server are left out: they add nothing.
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
  find_kubelet
  settings=$nl$(given_settings && read_settings)$nl
  find_pki
  pki=$value
  real=$(readlink -f "$pki" 2>/dev/null || printf '%s' "$pki")

  # The slowest first: openssl for the keys, then the network. While it answers, the other files are
  # read. Names are split at newlines and not expanded.
  IFS=$nl
  if [ -n "$openssl" ]; then keys & fi
  kubeconfigs >"$tmp/kubeconfigs" &
  named=$!
  unset IFS
  api=
  if has_role control-plane; then ask_control_plane; fi
  for member in $etcd_clusters; do
    [ -z "$openssl" ] || ask_etcd "${member%|*}" "${member#*|}"
  done
  if has_role control-plane || has_role worker; then
    ask_kubelet
    [ "${KSCERT_TRUST:-no}" = no ] || pods_trust >"$tmp/result.pods" &
  fi

  read -r hostname </proc/sys/kernel/hostname
  fact hostname "$hostname"
  fact pki "$pki"
  fact pki-real "$real"
  [ ! -f "$real/ca-trusted-since" ] || fact ca-trusted-since "$(head -c 20 "$real/ca-trusted-since" | tr -cd 0-9)"
  fact config-dir "$conf"
  fact etcd-dir "$etcd"
  fact kubelet-dir "$kubelet"
  [ "$kubelet_conf" = "$conf/kubelet.conf" ] || fact kubelet-conf "$kubelet_conf"
  fact calico-dir "$calico"
  fact cilium-dir "$cilium"
  fact home-dir "${home%/*}"
  [ -f "$config" ] && fact kubeadm-config "$config"
  fact kubeadm "$(command -v kubeadm)"
  fact kubectl "$(command -v kubectl)"
  fact openssl "$openssl"
  if has_role control-plane; then
    fact manifest "$([ -f "$conf/manifests/kube-apiserver.yaml" ] && echo present || echo missing)"
  fi
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
  [ -e "$tmp/failed" ] || printf '@@END\n'
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
[ ! -e "$tmp/failed" ] || {
  echo 'awk has failed on this node: it does not run, or a file was removed while it was read' >&2
  exit 1
}
