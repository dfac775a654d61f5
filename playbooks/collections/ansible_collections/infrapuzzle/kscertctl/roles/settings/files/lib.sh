# Shared by the scripts of the roles; the task puts it before each of them.
# shellcheck shell=sh disable=SC2034,SC2154,SC2317
set -eu
umask 077
LC_ALL=C
PATH=$PATH:$KSCERT_BIN_DIR:/usr/local/bin:/opt/bin:/usr/sbin:/sbin
# Programs read the output, though it may go through a terminal.
TERM=dumb NO_COLOR=1 SYSTEMD_COLORS=0 SYSTEMD_PAGER=
export LC_ALL PATH TERM NO_COLOR SYSTEMD_COLORS SYSTEMD_PAGER

tab=$(printf '\t')
seconds=$KSCERT_RENEW_BEFORE
placed=

fail() {
  printf 'kscertctl: %s\n' "$*" >&2
  exit 1
}

find_kubelet
# All of it is backed up, and what a run leaves there is removed.
case $kubelet in /*) ;; *) fail "$kubelet, the --cert-dir of the kubelet, is no absolute path" ;; esac
case $kubelet_home/ in
"${kubelet%/}"/*) fail "$kubelet, the --cert-dir of the kubelet, holds more than its certificates" ;;
esac

# No one types here, although the raw module may have a terminal.
exec </dev/null
setsid=$(command -v setsid || :)

# openssl: without the system's CAs: reading all of them each time takes five times as long as the
# request, and nothing here is verified with them. And without a terminal, on which it would ask for
# a passphrase and wait.
openssl() { SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null ${setsid:-command} openssl "$@"; }

# client SECONDS OPTION...: openssl s_client, in the same way, with a timeout.
client() {
  limit=$1
  shift
  SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null timeout "$limit" openssl s_client "$@"
}

# seconds_of_duration: the whole seconds of each duration on stdin, as Go writes it (time.ParseDuration),
# such as 8760h0m0s or 1.5h.
seconds_of_duration() {
  awk '
    {
      for (s = 0; match($0, /^[0-9.]+(h|m|s|ms|us|ns)/); $0 = substr($0, RLENGTH + 1)) {
        unit = substr($0, 1, RLENGTH)
        sub(/^[0-9.]+/, "", unit)
        s += substr($0, 1, RLENGTH - length(unit)) * (unit == "h" ? 3600 : unit == "m" ? 60 : unit == "s" ? 1 : 0)
      }
      printf "%.0f\n", s
    }'
}

# seconds_of_date: seconds since 1970 of each date on stdin, as openssl prints it: "notAfter=Nov  8
# 19:17:43 2027 GMT". Not with date -d: that of uutils ends one day before RFC 5280's date for a
# certificate that never expires.
seconds_of_date() {
  awk '
    /^not[A-Za-z]*=[A-Z][a-z][a-z] +[0-9]+ [0-9:.]+ [0-9]+ GMT$/ {
      sub(/^[^=]*=/, "")
      month = (index("JanFebMarAprMayJunJulAugSepOctNovDec", $1) + 2) / 3
      split($3, time, ":")
      year = $4 - (month < 3) # that begins in March, so that the leap day is its last
      days = 365 * year + int(year / 4) - int(year / 100) + int(year / 400) + \
        int((153 * (month + (month < 3 ? 9 : -3)) + 2) / 5) + $2 - 719469
      printf "%.0f\n", ((days * 24 + time[1]) * 60 + time[2]) * 60 + time[3]
    }'
}

# changed WHAT: prints for Ansible and the reader what was changed.
changed() { printf 'changed: %s\n' "$*"; }

# noted WHAT: prints for the reader of the run what is not as it was.
noted() { printf 'noted: %s\n' "$*"; }

# refuse FILE: prints that FILE was not changed, for the reason in $refused.
refuse() { printf 'refused: %s stays as it is: %s\n' "$1" "$refused"; }

# checking WHAT: true in check mode, after it has printed what would be done.
checking() {
  [ "$KSCERT_CHECK" = True ] || return 1
  printf 'changed: would %s\n' "$*"
}

# would_renew FILE: the same for a certificate or kubeconfig, with its expiry.
would_renew() {
  case $1 in
  *.pem | *.crt) end=$(openssl x509 -in "$1" -noout -enddate) ;;
  *)
    due_in "$1"
    end=$ends
    ;;
  esac
  checking "renew $1, which expires ${end#notAfter=}"
}

# need_tools: the tools that do more here than POSIX asks for can do that. Others would fail in the
# middle of a change, or be wrong about times.
need_tools() {
  lacking=$(
    exec 2>/dev/null
    [ "$(date -u -d @2111604495 +%Y%m%d%H%M%SZ)" = 20361129204815Z ] || printf ' date'
    find / -maxdepth 0 -printf '' || printf ' find'
    cp -aT --parents --preserve=all --attributes-only --help >/dev/null || printf ' cp'
    mv -fT --help >/dev/null || printf ' mv'
    printf '/dev/null\0' | du -sck --exclude x --files0-from=- >/dev/null || printf ' du'
    df -k --output=avail / >/dev/null || printf ' df'
  )
  [ -z "$lacking" ] || fail "these tools of this node cannot do what is needed:$lacking. Nothing was changed." \
    'Those of GNU can, and uutils coreutils 0.12'
}

# Nothing is changed on a node before a verified backup of it exists.
need_backup() {
  [ -f "$KSCERT_BACKUP_DIR/COMPLETE" ] || [ "$KSCERT_CHECK" = True ] ||
    fail "there is no verified backup in $KSCERT_BACKUP_DIR: run the backup role first"
}

# kind_of LEAF: its row in kinds.sh, as kind_ca, kind_setting and kind_with.
kind_of() {
  for kind in $leaves; do
    [ "${kind%%|*}" = "$1" ] || continue
    kind=${kind#*|}
    kind_ca=${kind%%|*} kind=${kind#*|}
    kind_setting=${kind%%|*} kind_with=${kind#*|}
    return 0
  done
  fail "no kind of certificate is called $1"
}

# pki_dir: the real path of kubeadm's certificatesDir, which must exist.
pki_dir() {
  named_dir=$(certificates_dir) || exit 1
  [ -d "$named_dir" ] || fail "$named_dir, the certificatesDir of $config, does not exist"
  printf '%s\n' "$named_dir"
}

# certificates_dir: the same, but it need not exist: a restore makes it.
certificates_dir() {
  [ -f "$config" ] || fail "$config does not exist: without it kubeadm would lose SANs, directories and external etcd"
  ! refused=$(not_plain "$config") || fail "$refused"
  find_pki
  readlink -f "$value" || fail "$value, the certificatesDir of $config, does not exist"
}

# pki_or_default: the same, also on a node without kubeadm's configuration.
pki_or_default() {
  if [ -f "$config" ]; then
    certificates_dir
  else
    find_pki
    readlink -f "$value" || printf '%s\n' "$value"
  fi
}

# covered: the places that a change of ours, of kubeadm or of Kubespray may touch, one per line, and
# their targets if they are links. None is below another. A place is listed whether or not it
# exists.
covered() {
  for path in "$conf" "${kubelet_conf##"$conf"/*}" "$(pki_or_default)" "$kubelet" "$kubelet_home/config.yaml" \
    "$kubelet_home/kubeadm-flags.env" "$KSCERT_ETCD_DIR" "${KSCERT_ETCD_DIR%/*}/openssl.conf" $(env_files) \
    "$calico" "$cilium" "$home"; do
    [ -n "$path" ] || continue
    printf '%s\n' "$path"
    readlink -f "$path" || :
  done | LC_ALL=C sort -u |
    awk '{for (i = 1; i <= n; i++) if (index($0 "/", kept[i] "/") == 1) next; kept[++n] = $0; print}'
}

# named POD FLAG: the value of a static pod's flag, a file by its name on the host; nothing if the
# flag is not given.
named() {
  [ ! -f "$conf/manifests/$1.yaml" ] || awk -v pod="$1" -v flag="$2" "$reader$static_pod"'
    function leaf(path, value) { of_pod(path, value) }
    FNR == 1 { new_file() }
    FNR <= 5000 { read_line($0) }
    END { given(pod); if (flags[flag] != "") print flags[flag] }' "$conf/manifests/$1.yaml"
}

# same A B: both are one file, whatever their names.
# shellcheck disable=SC3013 # in every sh that a node may have
same() { [ "$1" -ef "$2" ]; }

# other FILE NAMED: NAMED is another file, so no one uses FILE (orchestrator/snapshot,
# Snapshot.Unused).
other() { [ -n "$2" ] && ! same "$1" "$2"; }

# of_etcd FLAG [CLUSTER]: what a member here has for a flag, as a static pod of the main cluster or as a
# unit.
of_etcd() {
  file=
  [ "${2:-etcd}" != etcd ] || file=$(named etcd "$1")
  [ -n "$file" ] || file=$(etcd_env "${2:-etcd}" "$1")
  printf '%s\n' "$file"
}

# of_members FLAG: the same of each cluster's member here, one per line.
of_members() { for cluster in $etcd_clusters; do of_etcd "$1" "${cluster%|*}"; done | sed '/^$/d'; }

# etcd_env CLUSTER FLAG: the same of a unit: of several the last, without the quotes and blanks that
# systemd removes.
etcd_env() {
  sed -n "s/^[[:space:]]*ETCD_$(printf '%s' "$2" | tr 'a-z-' 'A-Z_')=//p" "$root/etc/$1.env" 2>/dev/null | tail -n 1 |
    sed "s/[[:space:]]*\$//; s/^\"\(.*\)\"\$/\1/; s/^'\(.*\)'\$/\1/"
}

# ends_within FILE SECONDS: a certificate of a PEM file expires so soon, or is not valid yet, as
# after issuing with a wrong clock.
ends_within() { ! lasts "$2" <"$1"; }

# from_outside: certificates come from CAs whose keys are elsewhere, and no others are placed:
# KSCERT_SIGNED has a line for each, its public key and it with the CAs after it, in base64.
from_outside() { [ -n "${KSCERT_SIGNED:-}" ]; }

# signed_for: what was signed for the key of the certificate on standard input; nothing if there is
# none, or the certificate is that one already.
signed_for() {
  present=$(openssl x509 2>/dev/null) || return 0
  half=$(printf '%s\n' "$present" | openssl x509 -noout -pubkey | public_half)
  signed=$(printf '%s\n' "$KSCERT_SIGNED" | sed -n "s#^$half|##p" | head -n 1 | base64 -d)
  [ -n "$signed" ] || return 0
  [ "$(printf '%s\n' "$signed" | openssl x509)" = "$present" ] || printf '%s\n' "$signed"
}

# issues NAME: the files of the CA that signs now, without their suffix. While CAs are rotated, clients
# get certificates of the next one before servers do.
issues() {
  if [ "${KSCERT_CA_STAGE:-}" = clients ] && [ -n "$(next_ca "$1")" ]; then
    printf '%s\n' "$pki/$1-next"
  else
    printf '%s\n' "$pki/$1"
  fi
}

# next_ca NAME: the next certificate of a CA that is rotated: KSCERT_NEXT has a line for each, its name,
# and the certificate in base64.
next_ca() {
  printf '%s\n' "${KSCERT_NEXT:-}" | sed -n "s/^$(called "$1")|\([^|]*\).*/\1/p" | base64 -d
}

# former_ca NAME: the same for the certificate that it replaces.
former_ca() {
  printf '%s\n' "${KSCERT_NEXT:-}" | sed -n "s/^$(called "$1")|[^|]*|\([^|]*\).*/\1/p" | base64 -d
}

# called NAME: a CA's name in a rotation.
called() {
  case $1 in ca) echo kubernetes-ca ;; etcd/ca) echo etcd-ca ;; *) printf '%s\n' "$1" ;; esac
}

# superseded NAME: certificates of the next CA are issued, and the one on standard input is not one.
superseded() {
  case ${KSCERT_CA_STAGE:-} in clients | servers | replace | enroll) ;; *) return 1 ;; esac
  next_one=$(next_ca "$1")
  [ -n "$next_one" ] || return 1
  ! openssl verify -partial_chain -no_check_time -CAfile /dev/fd/3 >/dev/null 2>&1 3<<CA
$next_one
CA
}

# unidentified FILE: while CAs are renewed, it lacks an identifier of its CA's key, without which
# strict clients refuse it; a new one has it, once the CA itself has an identifier.
unidentified() { [ "${KSCERT_CA_RENEWAL:-}" = yes ] && [ -z "$(fields "$1" | sed -n '/^extension 551d23 /p')" ]; }

# certificates [FILE]: those of a PEM file, without the text around them.
certificates() { sed -n '/^-----BEGIN CERTIFICATE-----/,/^-----END CERTIFICATE-----/p' "$@"; }

# lasts SECONDS: the certificates on standard input are valid now, and for so long.
lasts() {
  blocks=$(certificates) first=yes
  while :; do
    if begins=$(printf '%s\n' "$blocks" | openssl x509 -noout -startdate -checkend "$1" 2>/dev/null); then
      [ "$(printf '%s\n' "$begins" | seconds_of_date)" -le "$(date +%s)" ] || return 1
    elif [ -n "$first" ] || printf '%s\n' "$blocks" | openssl x509 -noout 2>/dev/null; then
      return 1
    fi
    first='' blocks=${blocks#*-----END CERTIFICATE-----}
    case $blocks in *-----BEGIN*) ;; *) return 0 ;; esac
  done
}

# chain OLD NEW CA: appends to NEW the certificates after the first one in OLD that still lead from
# NEW's to its CAs. A CA that is in the file CA, too, is taken from there, but not the same key as another
# CA has signed it (ca_rotation).
chain() {
  [ "$(grep -c '^-----BEGIN CERTIFICATE-----' "$1")" -gt 1 ] || return 0
  openssl x509 -in "$2" -out "$2.chain"
  wanted=$(openssl x509 -in "$2" -noout -issuer_hash)
  blocks=$(certificates "$1")
  while :; do
    blocks=${blocks#*-----END CERTIFICATE-----}
    case $blocks in *-----BEGIN*) ;; *) break ;; esac
    printf '%s\n' "$blocks" | openssl x509 -out "$2.next" 2>/dev/null || continue
    [ "$(openssl x509 -in "$2.next" -noout -subject_hash)" = "$wanted" ] || continue
    wanted_key=$(openssl x509 -in "$2.next" -noout -pubkey)
    wanted_issuer=$(openssl x509 -in "$2.next" -noout -issuer_hash)
    ! with_each "$3" has_key_and_issuer || printf '%s\n' "$one" >"$2.next"
    openssl x509 -in "$2.next" -noout -checkend 0 >/dev/null || break
    cat "$2.next" >>"$2.chain"
    wanted=$(openssl x509 -in "$2.next" -noout -issuer_hash)
  done
  rm -f "$2.next"
  mv -f "$2.chain" "$2"
}

# with_each FILE COMMAND...: runs COMMAND for each certificate of a file, in $one, until it
# succeeds. A CA file may hold several; openssl reads only the first, and among several with the
# same name it takes one, no matter which has signed.
with_each() {
  cas=$(certificates "$1")
  shift
  while :; do
    if one=$(printf '%s\n' "$cas" | openssl x509 2>/dev/null) && "$@"; then return 0; fi
    cas=${cas#*-----END CERTIFICATE-----}
    case $cas in *-----BEGIN*) ;; *) return 1 ;; esac
  done
}

# has_key: $one has the public key in $wanted_key.
has_key() { [ "$(printf '%s\n' "$one" | openssl x509 -noout -pubkey)" = "$wanted_key" ]; }

# has_key_and_issuer: the same, and the issuer in $wanted_issuer.
has_key_and_issuer() {
  has_key && [ "$(printf '%s\n' "$one" | openssl x509 -noout -issuer_hash)" = "$wanted_issuer" ]
}

# later: $one has the key, and expires later than the one in $issuer. It fails, so that all are
# tried.
later() {
  has_key || return 1
  end=$(printf '%s\n' "$one" | openssl x509 -noout -enddate | seconds_of_date)
  [ -n "$issuer" ] && [ "$end" -le "$issuer_ends" ] || issuer=$one issuer_ends=$end
  return 1
}

# issuing CA KEY: the certificate in CA that belongs to KEY, of several the one that expires last;
# fails if there is none.
issuing() {
  wanted_key=$(openssl pkey -in "$2" -pubout) || return 1
  issuer='' issuer_ends=''
  with_each "$1" later || :
  [ -n "$issuer" ] && printf '%s\n' "$issuer"
}

# check_issuer CA KEY: a certificate in CA belongs to KEY, and is valid.
check_issuer() {
  issuer=$(issuing "$1" "$2") || fail "$2 does not belong to $1"
  printf '%s\n' "$issuer" | lasts 0 || fail "$1 has expired: what it signs is not trusted"
}

# kubelet_says SETTING: the kubelet's value of a setting: from a flag, which counts first, or from
# its configuration.
kubelet_says() {
  field=$1
  for of_kubelet_flag in $kubelet_flags; do
    [ "${of_kubelet_flag#*:}" = "$field" ] || continue
    flag "${of_kubelet_flag%:*}" ''
    [ -z "$value" ] || { printf '%s\n' "$value" && return; }
  done
  # shellcheck disable=SC2016 # $0 is awk's
  printf '%s' "$kubelet_configs" | tr '\n' '\0' | xargs -0 -r awk -v field="$field" "$reader$of_kubelet"'
    function leaf(path, value) { if (setting_of_kubelet(path) == field) message = from_there(field, value) }
    FNR == 1 { new_file() }
    FNR <= 5000 { read_line($0) }
    END { if (message != "") print message }'
}

# of_setting COMPONENT.SETTING: its value on this node, as the table of kinds names settings; nothing for
# an empty one.
of_setting() {
  case $1 in
  '') ;;
  kubelet.*) kubelet_says "${1#*.}" ;;
  etcd.* | etcd-*.*) of_etcd "${1#*.}" "${1%%.*}" ;;
  *) named "${1%%.*}" "${1#*.}" ;;
  esac
}

# is_false WORD: it means false to the kubelet, as a flag (Go, strconv.ParseBool) or in YAML 1.1
# (orchestrator/snapshot, isFalse).
is_false() {
  case $(printf '%s' "$1" | tr '[:upper:]' '[:lower:]') in
  false | f | no | n | off | 0 | null | '~') ;;
  *) return 1 ;;
  esac
}

# rotates: the kubelet renews its client certificate by itself, or that is unknown: a setting that
# is missing from a configuration that was read is off (orchestrator/snapshot, Node.Rotates).
rotates() {
  message=$(kubelet_says rotateCertificates)
  if [ -z "$message" ]; then
    [ "$(kubelet_says kind)" != KubeletConfiguration ]
  else
    ! is_false "$message" || return 1
  fi
}

# client_due FILE: the kubelet's client certificate is due. A running kubelet renews it after 70 to
# 90 % of its lifetime: in the last tenth it has failed to (orchestrator/snapshot, Node.Window).
client_due() {
  within=$seconds
  if rotates; then
    tenth=$((($(date_of "$1" enddate) - $(date_of "$1" startdate)) / 10))
    [ "$tenth" -ge "$within" ] || within=$tenth
  fi
  ends_within "$1" "$within"
}

fingerprint() { openssl x509 -in "$1" -noout -fingerprint -sha256; }

# one_line: standard input as base64 in one line.
one_line() { base64 | tr -d '\n'; }

# date_of FILE startdate|enddate: seconds since 1970.
date_of() { openssl x509 -in "$1" -noout "-$2" | seconds_of_date; }

# derly: awk for DER (X.690) in hexadecimal, whose bytes are b[0] to b[n - 1]. open(P) reads the header at
# P; it leaves its tag in T, and its content from V up to before E. der() is an element with this content.
derly='
  function number(h) {
    return (index("0123456789abcdef", substr(h, 1, 1)) - 1) * 16 + index("0123456789abcdef", substr(h, 2, 1)) - 1
  }
  function wrong() { exit 1 }
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
  function hex(from, to, out) { for (out = ""; from < to; from++) out = out b[from]; return out }
  function der(tag, content, size) {
    size = length(content) / 2
    if (size < 128) return tag sprintf("%02x", size) content
    if (size < 256) return tag "81" sprintf("%02x", size) content
    return tag "82" sprintf("%04x", size) content
  }
'

# fields FILE: the content of a certificate or certification request from its DER (RFC 5280, 4.1;
# RFC 2986, 4), one field per line: "rdn OID:TAG:VALUE+..." of the subject, "san TAG VALUE",
# "extension OID VALUE", all hexadecimal. Printed text cannot be parsed, because a name may hold a
# line break. Prints nothing and fails for any other structure.
fields() {
  case $(sed -n '/^-----BEGIN/{p;q;}' "$1") in *REQUEST*) form=req ;; *) form=x509 ;; esac
  openssl "$form" -in "$1" -outform DER | od -An -v -tx1 | awk -v form="$form" "$derly"'
    function put(line) { message = message line "\n" }
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
      # Of a certificate version, unless it is 1, serialNumber, signature, issuer, validity; of a request version.
      for (i = form == "req" ? 1 : T == "a0" ? 5 : 4; i > 0; i--) { open(p); p = E }
      open(p); subject(V, E); open(p); p = E
      open(p); p = E # subjectPublicKeyInfo
      for (; p < end; p = at) {
        open(p); at = E
        if (T == "a0") attributes(V, E)
        if (T == "a3") { open(V); extensions(V, E) }
      }
      printf "%s", message
    }'
}

# plain FILE: it is lines of PEM from the first one on, without headers: nothing for which openssl
# would ask for a passphrase.
plain() {
  case $(head -n 1 "$1" | tr -d '\0') in '-----BEGIN '*) ;; *) return 1 ;; esac
  ! grep -aEvq '^(-----(BEGIN|END) (NEW )?CERTIFICATE( REQUEST)?-----|[A-Za-z0-9+/=]*)$' "$1"
}

# alone req|x509 FILE: reduces FILE to the request or certificate that openssl finds in it. In a
# text with several blocks, or with long lines, sed, openssl and Go find different ones: what was
# checked would not be what is used.
alone() { plain "$2" && openssl "$1" -in "$2" -out "$2.alone" 2>/dev/null </dev/null && mv -fT "$2.alone" "$2"; }

# names FILE: the same for people: the subject, then the SANs with their types, one per line. All
# but plain text is escaped as in URLs, so that a line is one name. Nothing if FILE is neither a
# certificate nor a request.
names() {
  fields "$1" | awk "$derly"'
    function text(h, tag, keep, out, i, c) {
      for (i = 1; i < length(h); i += 2) {
        c = number(substr(h, i, 2))
        c = c > 31 && c < 127 ? sprintf("%c", c) : ""
        out = out (c != "" && tag ~ /^(0c|13|16|81|82|86)$/ && c ~ keep ? c : "%" toupper(substr(h, i, 2)))
      }
      return out
    }
    function address(h, i, out) {
      if (length(h) == 8) {
        for (i = 1; i < 9; i += 2) out = out (i > 1 ? "." : "") number(substr(h, i, 2))
      } else {
        for (i = 1; i < length(h); i += 4) {
          g = substr(h, i, 4)
          sub(/^0+/, "", g)
          out = out (i > 1 ? ":" : "") (g == "" ? "0" : toupper(g))
        }
      }
      return out
    }
    BEGIN {
      split("550403 CN 55040a O 55040b OU 550406 C 550408 ST 550407 L 550405 serialNumber 550409 street " \
        "550411 postalCode 2a864886f70d010901 emailAddress 0992268993f22c640119 DC", word, " ")
      for (i = 1; i in word; i += 2) short[word[i]] = word[i + 1]
      type["81"] = "email:"; type["82"] = "DNS:"; type["86"] = "URI:"; type["87"] = "IPAddress:"
    }
    $1 == "rdn" {
      parts = split(substr($0, 5), part, "+")
      for (i = 1; i <= parts; i++) {
        split(part[i], f, ":")
        subject = subject (i > 1 ? "+" : subject == "" ? "" : ",") \
          (f[1] in short ? short[f[1]] : f[1]) "=" text(f[3], f[2], "[^,+=%]")
      }
      next
    }
    $1 == "san" {
      san[++n] = ($2 in type ? type[$2] : "other" $2 ":") \
        ($2 == "87" ? address($3) : text($3, $2, "[A-Za-z0-9._:@/*?#&=~-]"))
    }
    END {
      if (!NR) exit
      print "subject=" subject
      for (i = 1; i <= n; i++) print san[i]
    }'
}

# attributes: the attributes of the subject in the output of names(), one per line: Kubernetes
# ignores their order and grouping.
attributes() { awk 'NR == 1 {sub(/^subject=/, ""); gsub(/[,+]/, "\n"); print}' | sort -u; }

# unread: attributes of a subject that no component reads. A user is the CN, its groups are the Os.
unread='^(C|ST|L|OU|DC|street|postalCode|serialNumber|emailAddress)='

# sign_dated KEY FROM UNTIL OPTION...: signs $stage/request to $stage/new.pem with the extensions in
# $stage/extensions and the serial number in $stage/serial; times in seconds since 1970.
sign_dated() {
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
  with_key=$1
  from_date=$(date -u -d "@$2" +%Y%m%d%H%M%SZ) to_date=$(date -u -d "@$3" +%Y%m%d%H%M%SZ)
  shift 3
  quietly openssl ca -batch -notext -preserveDN -config "$stage/ca.cnf" -keyfile "$with_key" \
    -in "$stage/request" -out "$stage/new.pem" -startdate "$from_date" -enddate "$to_date" \
    -extfile "$stage/extensions" "$@"
}

# sign_request CA KEY SECONDS [SUBJECT]: signs $stage/request to $stage/new.pem with
# $stage/extensions. Of the request only the key counts, and its subject if SUBJECT is missing.
# Valid from five minutes ago, like kubeadm and kube-controller-manager, for clocks that are slow; a
# lifetime below 8 hours does not include them (Kubernetes, "pkg/controller/certificates/authority").
# It never expires after the CA.
sign_request() {
  issuing "$1" "$2" >"$stage/issuer.pem" || fail "$2 does not belong to $1"
  openssl rand -hex 15 >"$stage/serial"
  start=$(($(date +%s) - 300))
  last=$((start + $3))
  [ "$3" -ge 28800 ] || last=$((last + 300))
  ends=$(date_of "$stage/issuer.pem" enddate)
  [ "$last" -le "$ends" ] || last=$ends
  for_key=$2 for_subject=${4:-}
  set -- -cert "$stage/issuer.pem"
  [ -z "$for_subject" ] || set -- "$@" -subj "$for_subject"
  sign_dated "$for_key" "$start" "$last" "$@"
}

# pair CERTIFICATE KEY: the key belongs to the certificate.
pair() { public=$(openssl x509 -in "$1" -noout -pubkey) && [ "$public" = "$(openssl pkey -in "$2" -pubout)" ]; }

# accepted_loss NAME: the operator accepts the loss of this name, with or without the type that
# openssl prints before it.
accepted_loss() { printf '%s\n' "${KSCERT_ACCEPT_SAN_LOSS:-}" | tr ' ' '\n' | grep -Fxiq -e "$1" -e "${1#*:}"; }

# verify CA FILE [OPTION...]: verifies the certificate in FILE, with those after it, against a CA.
# An intermediate CA is trusted as such. Several in CA are tried one by one; the printed error of
# openssl is that of the one that got furthest.
verify() {
  tried=$1 message=''
  shift
  if with_each "$tried" verify_one "$@"; then return 0; fi
  printf '%s\n' "${message:-there is no certificate in $tried}"
  return 1
}

# verify_one FILE [OPTION...]: the same, against the CA in $one.
verify_one() {
  of=$1
  shift
  if words=$(openssl verify -partial_chain "$@" -CAfile /dev/fd/3 -untrusted "$of" "$of" 2>&1 3<<CA
$one
CA
  ); then return 0; fi
  case $message in '' | *'error 20 at '*) message=$words ;; esac
  return 1
}

# invalid CA FILE [OPTION...]: a certificate is not valid under a CA. Leaves openssl's error in $why,
# without the lines before and after it, which name the certificate and the failure.
invalid() {
  why=$(verify "$@" 2>&1) && return 1
  error=$(printf '%s\n' "$why" | grep '^error [0-9]* at ' | head -n 1)
  why=${error:-$why}
}

# check_successor OLD NEW CA [WHAT]: the new certificate may replace the old one, of WHAT: issued by
# the same CA, valid now, for the same user in the same groups, without losing a name except
# accepted ones. kubeadm keeps CN and O, DNS names and addresses, and no others; in a kubeconfig CN
# and O alone.
check_successor() {
  what=${4:-$1}
  ! invalid "$3" "$2" || fail "the new $what is not valid under $3: $why"
  names "$1" >"$stage/names-old"
  [ -s "$stage/names-old" ] || fail "$what cannot be read: what the new one must have is not known"
  names "$2" >"$stage/names-new"
  attributes <"$stage/names-old" >"$stage/subject-old"
  attributes <"$stage/names-new" >"$stage/subject-new"
  if { grep -Fxv -f "$stage/subject-new" "$stage/subject-old" | grep -Ev "$unread" ||
    grep -Fxv -f "$stage/subject-old" "$stage/subject-new"; } >/dev/null; then
    other_subject="another subject: $(head -n 1 "$stage/names-new") instead of"
    other_subject="$other_subject $(sed -n '1s/^subject=//p' "$stage/names-old")"
    case " ${KSCERT_ACCEPT_SUBJECT_CHANGE:-} " in
    *" $what "*) noted "$what has $other_subject, as was accepted" ;;
    *)
      fail "the new $what would have $other_subject. It stays as it is." \
        "Where this subject is right: --accept-subject-change $what" \
        "(by hand: -e kscert_accept_subject_change=FILE). To keep it, have a certificate issued" \
        "where this one came from and put it in its place"
      ;;
    esac
  fi
  lost=$(grep -Fxv -f "$stage/subject-new" "$stage/subject-old" | grep -E "$unread" | tr '\n' ',')
  [ -z "$lost" ] || noted "$what loses ${lost%,} of its subject, which kubeadm does not keep and nothing reads"
  lost='' accepted='' flags=''
  while IFS= read -r name; do
    [ -n "$name" ] || continue
    case $name in *[!A-Za-z0-9._:@/%-]*) flag="'$name'" ;; *) flag=$name ;; esac # it contains no apostrophe
    if accepted_loss "$name"; then
      accepted="$accepted $name"
    else
      lost="$lost $name" flags="$flags --accept-san-loss $flag"
    fi
  done <<END
$(sed 1d "$stage/names-old" | grep -Fxv -f "$stage/names-new")
END
  [ -z "$lost" ] || fail "the new $what would lose these SANs:$lost. It stays unchanged." \
    "If they are not needed, accept the loss with:$flags" \
    "(by hand: -e kscert_accept_san_loss=NAME). To keep them, have a certificate with these names issued" \
    "where this one came from and put it in its place: what is not due is left alone"
  [ -z "$accepted" ] || changed "$what loses$accepted, as was accepted"
}

# would_not_start: kubelet.conf holds, or names, a certificate that has expired. A kubelet runs on
# with what it has rotated, but does not start so (Kubernetes, pkg/kubelet/certificate/bootstrap).
would_not_start() {
  current=$kubelet/kubelet-client-current.pem
  [ -f "$kubelet_conf" ] || return 1
  if elsewhere; then
    [ -f "$own_crt" ] && ! lasts 0 <"$own_crt"
    return
  fi
  embedded=$(embedded_pair "$kubelet_conf")
  [ -n "$embedded" ] && ! printf '%s\n' "$embedded" | lasts 0
}

# restart_kubelet: also one that systemd has given up.
restart_kubelet() {
  systemctl reset-failed kubelet 2>/dev/null || true
  systemctl restart kubelet || fail "the kubelet does not start: $(journalctl -u kubelet -n 5 -o cat --no-pager)"
  rm -f "$kubelet/.kscertctl.restart"
}

# begin_again: restarts the kubelet, but none that runs and would not start.
begin_again() {
  if systemctl is-active --quiet kubelet && would_not_start; then
    rm -f "$kubelet/.kscertctl.restart"
    noted "the kubelet is not restarted: with the expired certificate of $kubelet_conf it would not start"
  else
    restart_kubelet
    changed 'restarted the kubelet'
  fi
}

# safe_dir DIR: DIR, or its nearest parent in which only root can create entries: no one else may
# place a link where a successor is made.
safe_dir() {
  safe=$(readlink -f "$1")
  while [ "$safe" != / ] && [ "$(id -u)" = 0 ]; do
    others=$(find "$safe" -prune \( ! -user 0 -o -perm /022 \)) ||
      fail "cannot find out who can write in $safe: nothing is placed there"
    [ -n "$others" ] || break
    safe=$(dirname "$safe")
  done
  if ! device=$(stat -c %d "$1") || [ "$(stat -c %d "$safe")" != "$device" ]; then
    fail "$1 is a file system of its own in which others than root can write: nothing is placed there"
  fi
  printf '%s\n' "${safe%/}"
}

# successor_path PATH: where PATH's successor is made. The kubelet does not read a file whose name
# begins with a dot as a manifest.
successor_path() {
  safe_place=$(safe_dir "${1%/*}") || exit 1
  printf '%s/.kscertctl.%s\n' "$safe_place" "${1##*/}"
}

# led_astray FILE: it is a link that leads out of what backups cover, with the reason in $refused.
# Other links are followed, as by kubeadm.
led_astray() {
  [ -L "$1" ] || return 1
  leads_to=$(readlink -f "$1") || leads_to='nothing that is there'
  ! covered | awk -v file="$leads_to" 'index(file, $0 "/") == 1 || file == $0 {found = 1} END {exit !found}' ||
    return 1
  refused="it leads to $leads_to, of which there is no backup"
}

# successor NEW OLD: leaves in $next, next to OLD, a file with NEW's content and OLD's owner, mode,
# attributes and context. On failure the reason is in $message.
successor() {
  next=$(successor_path "$2") || exit 1
  rm -f "$next"
  message=$({ cp --preserve=all --attributes-only "$2" "$next" && cat "$1" >"$next"; } 2>&1) && return 0
  rm -f "$next"
  return 1
}

# settled NEW OLD: NEW, made next to OLD, has replaced OLD, and is synced first. On failure the
# reason is in $message.
settled() { message=$({ { [ -L "$1" ] || sync "$1"; } && mv -fT "$1" "$2" && sync "${2%/*}"; } 2>&1); }

# settle NEW OLD: the same, or stops the script.
settle() {
  if settled "$1" "$2"; then
    placed="$placed $2"
    return 0
  fi
  rm -f "$1"
  unwritten "$2"
}

# unwritten FILE [WITH]: stops because FILE, and what belongs to it, could not be replaced, with the
# reason in $message, and what has been replaced so far in $placed.
unwritten() {
  fail "$1 cannot be written; it is as it was${2:+, and so is $2}${message:+ ($message)}." \
    "${placed:+Replaced before it:}${placed:-No file was replaced before it}"
}

# place NEW OLD: NEW's content replaces OLD's in one step. If OLD is a link, its target is replaced.
place() {
  ! led_astray "$2" || fail "$2 stays as it is: $refused"
  real=$(readlink -f "$2")
  successor "$1" "$real" || unwritten "$real"
  settle "$next" "$real"
}

# place_pair NEW CRT KEY: the same with NEW.crt and NEW.key, both or neither.
place_pair() {
  for f in "$2" "$3"; do ! led_astray "$f" || fail "$f stays as it is: $refused"; done
  crt=$(readlink -f "$2") key=$(readlink -f "$3")
  wrong=
  successor "$1.key" "$key" || unwritten "$key" "its certificate $crt"
  next_key=$next
  if ! successor "$1.crt" "$crt" || ! message=$(cp -a "$crt" "$next.old" 2>&1) || ! settled "$next" "$crt"; then
    wrong=$crt
  elif ! settled "$next_key" "$key"; then
    wrong=$key why=$message
    if settled "$next.old" "$crt"; then message=$why; else wrong=both; fi
  fi
  rm -f "$next_key" "$next" "$next.old"
  case $wrong in
  '') placed="$placed $crt $key" ;;
  both) fail "$key cannot be written ($why), and does not belong to the new $crt: kscertctl rollback restores that" ;;
  "$crt") unwritten "$crt" "its key $key" ;;
  *) unwritten "$key" "its certificate $crt" ;;
  esac
}

# restart_due: the kubelet still has to be restarted for the current files. The mark stays until
# then; the times of files do not show it.
restart_due() { [ -e "$kubelet/.kscertctl.restart" ]; }

# sweep: removes what an interrupted run may have left in addition to what it was making: stages and
# successors that were not placed. Some of it holds keys.
sweep() {
  [ "$KSCERT_CHECK" != True ] || return 0
  sweep_memory
  # A kubelet's new pair to which nothing refers yet.
  left=$(readlink "$kubelet/.kscertctl.link" || :)
  case $left in
  "$kubelet"/kubelet-client-*.pem) [ "$(readlink "$kubelet/kubelet-client-current.pem")" = "$left" ] || rm -f "$left" ;;
  esac
  covered | while IFS= read -r path; do
    [ ! -d "$path" ] || {
      find "$path" -name '.kscertctl.*' ! -name .kscertctl.restart -prune -exec rm -rf {} +
      find "$(safe_dir "$path")/" -maxdepth 1 -name '.kscertctl.*' ! -name .kscertctl.restart -exec rm -rf {} +
    }
    [ ! -d "${path%/*}" ] || rm -f "$(successor_path "$path")"
  done
}

# sweep_memory: removes stages in memory (external_ca, private_stage) whose processes are gone.
sweep_memory() {
  for left in "$root"/run/.kscertctl.*; do
    of_process=${left##*/.kscertctl.}
    of_process=${of_process%%.*}
    case $of_process in '' | *[!0-9]*) continue ;; esac
    [ -d "/proc/$of_process" ] || rm -rf "$left"
  done
}

# place_kubelet_pair FILE: certificate and key in FILE become the kubelet's client pair, under the
# name that the kubelet would give it.
place_kubelet_pair() {
  target=$kubelet/kubelet-client-$(date -u +%Y-%m-%d-%H-%M-%S).pem
  # The link names the pair before it exists: through it, sweep finds a pair of an interrupted run
  # to which nothing refers.
  ln -s "$target" "$kubelet/.kscertctl.link"
  cat "$1" >"$target"
  pair "$target" "$target" || fail "the new client certificate of the kubelet does not belong to its key"
  sync "$target"
  # As a container runtime makes where a file to mount is missing.
  [ -L "$current" ] || [ ! -d "$current" ] || rmdir "$current" 2>/dev/null || :
  settled "$kubelet/.kscertctl.link" "$current" || {
    rm -f "$kubelet/.kscertctl.link" "$target"
    unwritten "$current"
  }
  placed="$placed $current"
  changed "$current"
}

# usable FILE: it has a certificate and its key.
usable() { [ -s "$1" ] && pair "$1" "$1" 2>/dev/null; }

# elsewhere: kubelet.conf names other files than the rotating one, $own_crt and $own_key.
elsewhere() {
  own_crt=$(in_kubelet_conf client-certificate) own_key=$(in_kubelet_conf client-key)
  [ -n "$own_crt$own_key" ] && [ "$own_crt $own_key" != "$current $current" ]
}

# in_kubelet_conf FIELD: the file in this field of kubelet.conf.
in_kubelet_conf() {
  awk -v field="$1" "$reader"'
    function leaf(path, value) { if (file == "" && path ~ "^users/[0-9]+/user/" field "$") file = value }
    FNR == 1 { new_file() }
    FNR <= 5000 { read_line($0) }
    END { if (file != "") print file }' "$kubelet_conf" | sed "s|^[^/]|${kubelet_conf%/*}/&|"
}

# kubelet_pair: the client pair of this node's kubelet, expired or not: from its own files, the
# rotating file, kubelet.conf, or the newest rotated file. Nothing if none is left.
kubelet_pair() {
  if elsewhere && pair "$own_crt" "$own_key" 2>/dev/null; then
    certificates "$own_crt"
    cat "$own_key"
    return 0
  fi
  if usable "$current"; then
    cat "$current"
    return 0
  fi
  embedded=$(embedded_pair "$kubelet_conf")
  if [ -n "$embedded" ]; then
    printf '%s\n' "$embedded"
    return 0
  fi
  last=
  for f in "$kubelet"/kubelet-client-2*.pem; do
    ! usable "$f" || last=$f
  done
  [ -z "$last" ] || cat "$last"
}

# kubelet_due: the kubelet needs a client certificate that it cannot request. The one in the
# rotating file, or in the files that kubelet.conf names instead, has expired or is invalid, and the
# kubelet does not start with it; or the file is missing, and kubelet.conf has none to begin with. A
# dangling link is fixed, too.
kubelet_due() {
  if from_outside; then
    [ -n "$(kubelet_pair | signed_for)" ]
  elif elsewhere; then
    own_due && ! { usable "$current" && ! client_due "$current" && ! superseded ca <"$current"; }
  elif [ -f "$current" ]; then
    ! usable "$current" || client_due "$current" || superseded ca <"$current"
  elif [ ! -L "$current" ] && embedded_pair "$kubelet_conf" | lasts "$seconds"; then
    return 1
  fi
}

# own_due: the files that kubelet.conf names instead are due, or are no pair.
own_due() {
  elsewhere && { ! pair "$own_crt" "$own_key" 2>/dev/null || client_due "$own_crt" || superseded ca <"$own_crt"; }
}

# would_renew_kubelet: would_renew for the kubelet's current certificate.
would_renew_kubelet() {
  if usable "$current"; then would_renew "$current"; else checking 'give the kubelet a new client certificate'; fi
}

# refer_due: kubelet.conf holds, or names, a certificate of its own that is due, which the kubelet
# does not rotate there.
refer_due() {
  ! own_due || return 0
  embedded=$(embedded_pair "$kubelet_conf")
  [ -n "$embedded" ] && {
    ! printf '%s\n' "$embedded" | lasts "$seconds" || printf '%s\n' "$embedded" | superseded ca
  }
}

# refers_elsewhere: with a new pair in the rotating file, kubelet.conf must be changed to refer to
# it.
refers_elsewhere() { elsewhere || [ -n "$(embedded_pair "$kubelet_conf")" ]; }

# refer_to_current: kubelet.conf refers to the rotating file instead. Needs $stage.
refer_to_current() {
  if led_astray "$kubelet_conf"; then
    refuse "$kubelet_conf"
    return 0
  fi
  awk -v f="$current" '
    /^ +client-(certificate|key)(-data: [A-Za-z0-9+\/]+=*|: [^ ]+)( +#.*)?\r?$/ {
      if (/^ +client-certificate/) n++; else m++
      sub(/(-data)?: [^ \r]*/, ": " f)
    }
    {print}
    END { exit n != 1 || m != 1 }' "$kubelet_conf" >"$stage/kubelet.conf" || {
    refused="it is to refer to $current, and its user and the one key in it are not where kubeadm writes them"
    refuse "$kubelet_conf"
    return 0
  }
  place "$stage/kubelet.conf" "$kubelet_conf"
  changed "$kubelet_conf"
}

# asks_to_serve: the kubelet requests its serving certificate.
asks_to_serve() {
  message=$(kubelet_says serverTLSBootstrap)
  [ -n "$message" ] && ! is_false "$message"
}

# serves_other: the kubelet is given another serving certificate, or requests one.
serves_other() { [ -n "$(kubelet_says tlsCertFile)" ] || asks_to_serve; }

# renew_serving_pair: removes the kubelet's self-signed serving pair if it is due or not a pair: a
# kubelet that starts without both files makes them again. With only one of them, or an empty one
# after a full disk, it would not start.
renew_serving_pair() {
  certificate=$kubelet/kubelet.crt
  key=$kubelet/kubelet.key
  ! serves_other || return 0
  [ -e "$certificate" ] || [ -e "$key" ] || return 0
  if [ -s "$certificate" ] && [ -s "$key" ]; then
    ends_within "$certificate" "$seconds" || ! pair "$certificate" "$key" || return 0
  fi
  ! checking "renew $certificate" || return 0
  old=$(successor_path "$certificate") || exit 1
  message=$({ [ ! -e "$certificate" ] || mv -fT "$certificate" "$old"; } 2>&1) ||
    unwritten "$certificate" "its key $key"
  message=$(rm -f "$key" 2>&1) || {
    [ ! -e "$old" ] || mv -fT "$old" "$certificate"
    unwritten "$key" "its certificate $certificate"
  }
  rm -f "$old"
  changed "$certificate"
}

# open_stage DIR [PID]: a private directory for what is being made, removed at exit.
open_stage() {
  stage=$(mktemp -d "$1/.kscertctl.${2:+$2.}XXXXXX")
  # shellcheck disable=SC2086 # words
  trap '[ -z "$at_work" ] || kill $at_work; rm -rf "$stage"' EXIT
  trap 'exit 130' INT TERM HUP
}

# in_stage DIR COMMAND...: runs the command in a process of its own whose $stage is DIR.
in_stage() {
  stage=$1
  shift
  "$@"
}

# together COMMAND ITEM...: runs COMMAND for each item, as many at a time as the node has
# processors, each with a $stage of its own. Stops after a failure.
at_work=
together() {
  command=$1 common=$stage most=$(nproc) || most=1
  [ "$most" -le 4 ] || most=4 # each may take the memory of a kubeadm
  shift
  while [ $# -gt 0 ]; do
    begun=0 failed=
    while [ $# -gt 0 ] && [ "$begun" -lt "$most" ]; do
      begun=$((begun + 1))
      mkdir "$common/$begun"
      in_stage "$common/$begun" "$command" "$1" >"$common/$begun.message" 2>"$common/$begun.wrong" &
      at_work="$at_work $!"
      shift
    done
    for process in $at_work; do wait "$process" || failed=yes; done
    at_work=
    for i in $(seq "$begun"); do
      cat "$common/$i.message"
      cat "$common/$i.wrong" >&2
      rm -rf "${common:?}/$i" "$common/$i.message" "$common/$i.wrong"
    done
    [ -z "$failed" ] || exit 1
  done
}

# stage_config: a copy of the node's own kubeadm configuration whose certificate directory is in the
# stage, with the CAs linked, not copied. Needs $pki and $stage, which becomes $staged.
stage_config() {
  staged=$stage
  mkdir -p "$stage/pki/etcd" "$stage/conf"
  for f in ca front-proxy-ca etcd/ca; do
    with=$(issues "$f")
    [ ! -f "$with.key" ] || ln -s "$with.key" "$stage/pki/$f.key"
    # kubeadm signs with the first of several, which may not match the key.
    if [ ! -f "$with.key" ] || ! issuing "$with.crt" "$with.key" >"$stage/pki/$f.crt"; then
      rm -f "$stage/pki/$f.crt"
      [ ! -f "$with.crt" ] || ln -s "$with.crt" "$stage/pki/$f.crt"
    fi
  done
  awk -v dir="$stage/pki" "$plainly"'
    { $0 = plain($0) }
    /^["\047]?certificatesDir["\047]?[ \t]*:/ {next}
    {print}
    of_cluster($0) {print "certificatesDir: " dir}' "$config" >"$stage/kubeadm.yaml"
  # Both commands that are used here were "alpha" before Kubernetes v1.20.
  alpha=
  kubeadm certs --help >/dev/null 2>&1 || alpha=alpha
}

# check_authority NAME: certificate and key exist, belong together, and are valid. Checked once.
sound=
check_authority() {
  case " $sound " in *" $1 "*) return 0 ;; esac
  with=$(issues "$1")
  [ -f "$with.crt" ] || fail "$with.crt does not exist; a new CA is never created here"
  [ -f "$with.key" ] || fail "$with.key does not exist: certificates must be issued where the CA key is"
  check_issuer "$with.crt" "$with.key"
  sound="$sound $1"
}

# quietly COMMAND...: shows its output only if it fails.
quietly() {
  message=$("$@" 2>&1 </dev/null) || fail "$* failed: $message"
}

# issuable NAMES: kubeadm can issue this client certificate, printed by names() into the file,
# again: for one user, in any groups, without SANs. It takes groups as CSV.
issuable() {
  attributes <"$1" >"$stage/subject"
  [ "$(wc -l <"$1")" = 1 ] && [ "$(grep -c '^CN=' "$stage/subject")" = 1 ] &&
    ! grep -Ev "$unread" "$stage/subject" | grep -Evq '^(CN|O)=[^%"]+$'
}

# issue_client NAME [GROUPS]: a client certificate and a new key, from kubeadm, as PEM in
# $stage/new.crt and in a kubeconfig's form in $stage/new.crt.64 and $stage/new.key.64. GROUPS are
# one per line. Keys go from file to file only.
issue_client() {
  for_name=$1 groups=${2:-}
  set --
  while IFS= read -r group; do
    [ -z "$group" ] || set -- "$@" "--org=$group"
  done <<END
$groups
END
  # shellcheck disable=SC2086 # none or one word
  timeout 60 kubeadm $alpha kubeconfig user --client-name="$for_name" "$@" --config "$staged/kubeadm.yaml" \
    >"$stage/user.conf" 2>"$stage/message" </dev/null ||
    fail "kubeadm kubeconfig user for $for_name failed: $(cat "$stage/message")"
  awk '$1=="client-certificate-data:" {printf "%s", $2}' "$stage/user.conf" >"$stage/new.crt.64"
  awk '$1=="client-key-data:" {printf "%s", $2}' "$stage/user.conf" >"$stage/new.key.64"
  rm -f "$stage/user.conf"
  base64 -d "$stage/new.crt.64" >"$stage/new.crt"
}

# issue_successor OLD-CERTIFICATE WHAT: the same for the same user in the same groups.
issue_successor() {
  names "$1" >"$stage/names-old"
  issuable "$stage/names-old" || fail "kubeadm makes no certificate for $(tr '\n' ' ' <"$stage/names-old")"
  issue_client "$(sed -n 's/^CN=//p' "$stage/subject")" "$(sed -n 's/^O=//p' "$stage/subject")"
  check_successor "$1" "$stage/new.crt" "$pki/ca.crt" "$2"
}

# --- kubeconfigs, with the functions of kubeconfig.sh --------------------------------

# runs FILE: offset and length of what may be a certificate or a key in a kubeconfig, and its base64
# in one word.
runs() {
  awk "$apart"'
    function begins() { from = at }
    function part(w) { at += length(w); to = at }
    function word(w) { at += length(w) }
    function gap(g) { at += length(g) }
    function ran(run) { if (length(run) > 99) print from, to - from, run }
    /^[ \t]*#/ { ended(); at += length($0) + 1; next }
    { apart($0); at++ }
    END { ended() }' "$1"
}

# text_of BASE64: decodes it. printf is built into the shell: no process gets it as an argument.
text_of() { printf '%s' "$1" | base64 -d 2>/dev/null; }

# public_half: the public key in openssl's output, in one word.
public_half() { awk '/^-----END PUBLIC/ {exit} on {printf "%s", $0} /^-----BEGIN PUBLIC/ {on = 1}'; }

# parts FILE: the certificates and keys in a kubeconfig, one per line: offset, length, public half,
# fingerprint, base64; a key has "key" instead of a fingerprint.
parts() {
  all=$(runs "$1") || fail "$1 cannot be read"
  while read -r from length run; do
    text=$(text_of "$run") || continue
    case $text in
    *'-----BEGIN '*'CERTIFICATE-----'*)
      message=$(printf '%s\n' "$text" | openssl x509 -noout -fingerprint -sha256 -pubkey 2>/dev/null) || continue
      of=$(printf '%s\n' "$message" | sed -n 's/.*Fingerprint=//p')
      ;;
    *'PRIVATE KEY-----'*)
      message=$(printf '%s\n' "$text" | openssl pkey -pubout 2>/dev/null) || continue
      of=key
      ;;
    *) continue ;;
    esac
    printf '%s %s %s %s %s\n' "$from" "$length" "$(printf '%s\n' "$message" | public_half)" "$of" "$run"
  done <<END
$all
END
}

# ours_and_due TEXT: a client certificate, with those after it, that this cluster's CA has signed
# and of which one is due. Certificates of others are never changed.
ours_and_due() {
  if from_outside; then
    [ -n "$(printf '%s\n' "$1" | signed_for)" ]
    return
  fi
  ! { printf '%s\n' "$1" | lasts "$seconds" && ! printf '%s\n' "$1" | superseded ca; } &&
    { with_each "$pki/ca.crt" signed_here "$1" || formerly_signed "$1"; } &&
    ! printf '%s\n' "$1" | openssl x509 -noout -text | grep -q 'CA:TRUE'
}

# signed_here TEXT: the same, with the CA in $one alone.
signed_here() {
  openssl verify -partial_chain -no_check_time -CAfile /dev/fd/4 -untrusted /dev/fd/3 \
    >/dev/null 2>&1 4<<CA 3<<CHAIN <<CERTIFICATE
$one
CA
$1
CHAIN
$1
CERTIFICATE
}

# formerly_signed TEXT: the same, with the CA that this run replaces at once.
formerly_signed() {
  [ "${KSCERT_CA_STAGE:-}" = replace ] || return 1
  one=$(former_ca ca)
  [ -n "$one" ] && signed_here "$1"
}

# due_in FILE: leaves in $known the parts of a kubeconfig, in $due_users the fingerprints of such
# certificates, each once, and in $ends when the first of them expires.
due_in() {
  due_users='' ends='' before=''
  known=$(parts "$1") || exit 1
  while read -r _ _ _ of run; do
    case "key $before" in *"$of"*) continue ;; esac
    before="$before $of"
    found=$(text_of "$run")
    ours_and_due "$found" || continue
    due_users="$due_users $of"
    end_of_one=$(printf '%s\n' "$found" | openssl x509 -noout -enddate)
    end_at=$(printf '%s\n' "$end_of_one" | seconds_of_date)
    [ -n "$ends" ] && [ "$end_at" -ge "$first_end" ] || ends=$end_of_one first_end=$end_at
  done <<END
$known
END
}

# sift FILE: the same, and in $refused why they cannot be replaced there. Keeps in $sifted the file
# and its parts, and in $users the file and those that are due.
sifted='' users=''
sift() {
  due_in "$1"
  refused=''
  how=$(awk "$misspelt"'how = misspelt($0) { print how; exit }' "$1")
  # What is due may be hidden by numbers, but not by a slash.
  case $how,$due_users in number, | slash,?*) refused=$(how_misspelt "$how") ;; esac
  for user in $due_users; do
    [ -n "$refused" ] || refused=$(unfit "$user")
  done
  if [ -z "$due_users" ] || [ -n "$refused" ] || led_astray "$1"; then return 0; fi
  if ! as_kubeadm_writes "$1"; then
    if [ -z "$(command -v kubectl)" ]; then
      refused='it is written in another way than kubeadm writes it, and there is no kubectl to tell how it reads'
    elif ! as_kubectl "$1" >/dev/null; then
      refused='kubectl cannot read it'
    fi
  fi
  sifted=$(printf '%s\n' "$sifted" && printf '%s\n' "$known" | awk -v file="$1" '{print file, $0}')
  for user in $due_users; do
    users="$users$1 $user
"
  done
}

# as_kubeadm_writes FILE: a kubeconfig of nothing but plain keys and values, which can be read in
# only one way.
as_kubeadm_writes() {
  ! grep -Evq "^ *((- )?[A-Za-z-]+:( (\{\}|[^][ &*!|>{}\"#%@\`,'][^][ &*!|>{}\"#%\`,']*))?)?\$" "$1"
}

# unfit FINGERPRINT: why that certificate and its key, in $known, cannot be distinguished from
# others. There can be more keys than certificates: those of users whose certificate is a file, or
# is written in a form that hides it here.
unfit() {
  printf '%s\n' "$known" | awk -v due="$1" '
    { public[NR] = $3; of[NR] = $4; if ($4 == due) its = $3 }
    END {
      for (i = 1; i <= NR; i++) if (public[i] == its) {
        if (of[i] == "key") keys++
        else if (of[i] == due) certificates++
        else others++
      }
      if (others) print "one key belongs to two certificates in it"
      else if (keys > certificates) print "its key is also there for another user"
      else if (!keys) print "the key of its certificate stands elsewhere"
    }'
}

# embedded_pair FILE: the first certificate in a kubeconfig whose key is in it, too, with those
# after it, and that key.
embedded_pair() {
  known=$(parts "$1") || exit 1
  runs_of_pair=$(printf '%s\n' "$known" | awk '
    { public[NR] = $3; run[NR] = $5; if ($4 == "key") key[$3] = $5; is[NR] = $4 != "key" }
    END { for (i = 1; i <= NR; i++) if (is[i] && public[i] in key) { print run[i], key[public[i]]; exit } }')
  [ -n "$runs_of_pair" ] || return 0
  text_of "${runs_of_pair% *}" | certificates
  text_of "${runs_of_pair#* }"
}

# embedded_authorities FILE: the certificates in a kubeconfig whose key is not in it.
embedded_authorities() {
  known=$(parts "$1") || exit 1
  printf '%s\n' "$known" | awk '
    { public[NR] = $3; run[NR] = $5; is[NR] = $4 != "key"; if (!is[NR]) key[$3] }
    END { for (i = 1; i <= NR; i++) if (is[i] && !(public[i] in key)) print run[i] }' |
    while read -r run; do text_of "$run"; done
}

# as_kubectl FILE: a kubeconfig as kubectl understands it. Its errors may quote a secret.
as_kubectl() { timeout 60 kubectl config view --raw -o json --kubeconfig "$1" 2>/dev/null </dev/null; }

# stage_users: turns what sift has kept into files: for each certificate that is due, once,
# $stage/users/FINGERPRINT.crt, and for those that kubeadm cannot issue the reason in
# FINGERPRINT.not.
stage_users() {
  mkdir "$stage/users"
  printf '%s\n' "$sifted" >"$stage/parts"
  printf '%s' "$users" | while read -r file user; do
    [ ! -e "$stage/users/$user.crt" ] || continue
    printf '%s\n' "$file" >"$stage/users/$user.of"
    text_of "$(awk -v user="$user" '$5 == user {print $6; exit}' "$stage/parts")" >"$stage/users/$user.whole"
    openssl x509 -in "$stage/users/$user.whole" >"$stage/users/$user.crt"
    ! from_outside || continue
    names "$stage/users/$user.crt" >"$stage/names-old"
    issuable "$stage/names-old" ||
      printf 'kubeadm makes no certificate for %s\n' "$(tr '\n' ' ' <"$stage/names-old")" >"$stage/users/$user.not"
  done
}

# issue_user FINGERPRINT: the successor of such a certificate, in a kubeconfig's form.
issue_user() {
  if from_outside; then
    signed_for <"$staged/users/$1.crt" >"$stage/new.crt"
    check_successor "$staged/users/$1.crt" "$stage/new.crt" "$pki/ca.crt" "$(cat "$staged/users/$1.of")"
  else
    issue_successor "$staged/users/$1.crt" "$(cat "$staged/users/$1.of")"
    chain "$staged/users/$1.whole" "$stage/new.crt" "$pki/ca.crt"
    mv "$stage/new.key.64" "$staged/users/$1.key.64"
  fi
  one_line <"$stage/new.crt" >"$staged/users/$1.crt.64"
}

# splice FILE DIRECTORY: FILE with some bytes replaced. Standard input lists the replacements in
# order: offset, number of bytes, and the name of the file with the new text.
splice() {
  done=0
  while read -r from length by; do
    { tail -c +$((done + 1)) "$1" | head -c $((from - done)) && cat "$2/$by"; } || return 1
    done=$((from + length))
  done
  tail -c +$((done + 1)) "$1"
}

# exchange FILE USER...: kubectl's JSON or a kubeconfig, whose parts are on standard input, with new
# pairs for these users, or with certificates from outside for their keys. Every other byte stays.
exchange() {
  exchanged=$1 keys=yes
  ! from_outside || keys=
  shift
  awk -v users="$*" -v keys="$keys" '
    BEGIN { n = split(users, list, " "); for (i = 1; i <= n; i++) due[list[i]] }
    { public[NR] = $3; of[NR] = $4; at[NR] = $1 " " $2; if ($4 in due) new[$3] = $4 }
    END {
      for (i = 1; i <= NR; i++) if (public[i] in new && (of[i] == "key" && keys || of[i] == new[public[i]]))
        print at[i], new[public[i]] (of[i] == "key" ? ".key.64" : ".crt.64")
    }' >"$stage/exchanges"
  splice "$exchanged" "$stage/users" <"$stage/exchanges"
}

# renew_kubeconfig OLD NEW: NEW is OLD with new pairs for those that are due, and kubectl reads it
# like OLD except for these. If that is impossible, $refused has the reason.
renew_kubeconfig() {
  old_file=$1 new_file=$2 refused=''
  # shellcheck disable=SC2046 # words
  set -- $(printf '%s' "$users" | awk -v file="$1" '$1 == file {print $2}')
  for user in "$@"; do
    [ ! -e "$stage/users/$user.not" ] || refused=$(cat "$stage/users/$user.not")
  done
  [ -z "$refused" ] || return 0
  awk -v file="$old_file" '$1 == file {print $2, $3, $4, $5}' "$stage/parts" | exchange "$old_file" "$@" >"$new_file" ||
    fail "$old_file cannot be copied"
  ! as_kubeadm_writes "$old_file" || return 0
  if ! as_kubectl "$old_file" >"$stage/reads" ||
    ! parts "$stage/reads" | exchange "$stage/reads" "$@" >"$stage/reads-new" ||
    ! as_kubectl "$new_file" | cmp -s - "$stage/reads-new"; then
    refused='with a new certificate it would read differently'
    rm -f "$new_file"
  fi
  rm -f "$stage/reads" "$stage/reads-new"
}
