# Reads and edits kubeconfigs in any style of YAML or JSON. Nodes have no YAML parser, so the text
# is split by its characters alone. The owner of an embedded certificate or key is recognized by its
# content, not by its position.
# shellcheck shell=sh disable=SC2034

# structure: awk that separates the structure in a line of YAML or JSON from text. structured()
# returns the line without its comment; in quoted and block texts everything is masked that could
# pass for a key, an anchor or an indicator: a secret may look like any of them. The caller sets
# quote to "" and block to -1 at the beginning of a file.
# shellcheck disable=SC2016 # $ is awk's
structure='
  function structured(line, message, part, c, before) {
    if (block >= 0) {
      match(line, /^ */)
      if (line ~ /^[ \t\r]*$/ || RLENGTH > block) return masked(line)
      block = -1
    }
    while (match(line, quote == "" ? "[\"\047#]" : quote)) {
      part = substr(line, 1, RSTART - 1)
      c = substr(line, RSTART, 1)
      if (part != "") before = substr(part, length(part))
      line = substr(line, RSTART + 1)
      if (quote == "\047" && substr(line, 1, 1) == quote) { # an apostrophe inside the text
        message = message masked(part) "_"
        line = substr(line, 2)
        continue
      }
      if (quote != "") {
        message = message masked(part) c
        quote = ""
      } else if (c == "#" && before ~ /^[ \t]?$/) {
        message = message part
        line = ""
        break
      } else {
        message = message part c
        if (c != "#" && opens(message, before)) quote = c
      }
      before = c
    }
    message = message (quote == "" ? line : masked(line))
    if (quote == "" && message ~ /(^|[ \t])[|>][-+1-9]*[ \t\r]*$/) {
      match(message, message ~ /^[ -]*[|>]/ ? "^ *" : "^[ -]*")
      block = RLENGTH
    }
    return message
  }
  # opens TEXT BEFORE: a quote there may begin a text: within plain text it is a character.
  function opens(message, before) {
    message = substr(message, 1, length(message) - 1)
    sub(/[ \t]+$/, "", message)
    if (before !~ /^[ \t]$/) return before ~ /^[][{},:]?$/
    return message ~ /(^|[][{},:?-])$/ || message ~ /(^|[ \t])[!&][^ \t]*$/
  }
  function masked(text) {
    gsub(/:+[ \t]/, "\003 ", text)
    sub(/:+\r?$/, "\003", text)
    gsub(/[ \t][&*#!:?|>~<-]+/, " \003", text)
    sub(/^[&*#!:?|>~<-]+/, "\003", text)
    return text
  }
  # public_server, public_file VALUE: it may be printed, because it looks like nothing else.
  function public_server(w) {
    return w ~ /^https?:\/\/[A-Za-z0-9._-]*(\[[0-9A-Fa-f:.]*\])?(:[0-9]*)?[\/A-Za-z0-9._-]*$/
  }
  # there FILE DIRECTORY: a file with an unusual name exists, so the name is not a secret. It is not
  # passed to the shell as an argument, which others see. The caller sets tmp to a directory.
  function there(w, dir, command, said) {
    if (length(w) > 255 || w !~ /[.\/]/) return 0
    command = "IFS= read -r f; [ -f \"$f\" ]; echo $? >" tmp "/there"
    printf "%s\n", (w ~ /^\// ? "" : dir) w | command
    close(command)
    getline said <(tmp "/there")
    close(tmp "/there")
    return said == "0"
  }
  function public_file(w) { return length(w) < 256 && w ~ /^[A-Za-z0-9.\/_~-]+[.](pem|crt|cer|cert|key)$/ }
'

# plainly: awk that reads a line of kubeadm's configuration as kubeadm writes it. plain() removes a
# byte order mark, a carriage return and the indentation of a whole document. of_cluster(): the line
# begins the settings of the cluster.
plainly='
  function plain(line) {
    if (FNR == 1) {
      margin = -1
      sub(/^\357\273\277/, "", line)
    }
    sub(/\r$/, "", line)
    match(line, /^ */)
    if (line ~ /^---/) margin = -1
    else if (margin < 0 && line !~ /^ *(#|$)/) margin = RLENGTH
    return margin > 0 && RLENGTH >= margin ? substr(line, margin + 1) : line
  }
  function of_cluster(line) {
    return line ~ /^["\047]?kind["\047]?[ \t]*:[ \t]+["\047]?ClusterConfiguration["\047]?[ \t]*(#.*)?$/
  }
'
# of_kubeadm: awk that finds the settings of the cluster among the documents of a kubeadm configuration,
# read with reader: kubeadm.k8s.io/v1beta1 to v1beta4 and v1 have those that are read here by the same
# names (kubernetes, cmd/kubeadm/app/apis/kubeadm). The caller passes each line to read_document(), each
# leaf to of_document(), and defines cluster_setting(path, value).
of_kubeadm='
  function of_document(path, value) { paths[++documented] = path; scalars[documented] = value }
  function read_document(line) { if (line ~ /^---/) document_ended(); read_line(line) }
  function document_ended(i, kind, version) {
    for (i = 1; i <= documented; i++) {
      if (paths[i] == "kind") kind = scalars[i]
      if (paths[i] == "apiVersion") version = scalars[i]
    }
    if (kind ~ /^(ClusterConfiguration)?$/ && version ~ /^(kubeadm[.]k8s[.]io\/.*)?$/)
      for (i = 1; i <= documented; i++) cluster_setting(paths[i], scalars[i])
    documented = 0
  }
'

# not_plain FILE: why a configuration is not understood. YAML can have a value on the next line, in
# a block, with an anchor or a tag: for a directory, none of these is taken for a path.
not_plain() {
  # shellcheck disable=SC2016 # $0 is awk's
  not_said=$(awk "$plainly"'
    { $0 = plain($0) }
    of_cluster($0) {found = 1}
    /^["\047]?certificatesDir["\047]?[ \t]*:/ && !/:[ \t]+["\047]?\// {odd = 1}
    END {if (!found) print "kind: ClusterConfiguration"; else if (odd) print "certificatesDir: and a path"}' "$1")
  if [ -n "$not_said" ]; then
    printf '%s %s\n' "no line of $1 says $not_said. Written as kubeadm does it is with:" \
      "kubeadm config migrate --old-config $1 --new-config NEW"
    return
  fi
  not_said=$(top_level apiVersion)
  case $not_said in
  '' | kubeadm.k8s.io/v1beta[1-4] | kubeadm.k8s.io/v1) return 1 ;;
  esac
  printf '%s %s\n' "$1 is of $not_said, which is not read here, but kubeadm.k8s.io/v1beta1 to v1beta4 and v1 are." \
    "With a kubeadm that reads both: kubeadm config migrate --old-config $1 --new-config NEW"
}

# misspelt: awk that finds in a line of a kubeconfig what is not read as it is meant: characters of
# base64, or of a field's name, written by their numbers, which no tool does, and the escaped slash
# of JSON, for which kubectl and the components have no escape (YAML 1.1). misspelt() returns which
# of the two: "number", "slash", or "".
misspelt='
  function misspelt(line) {
    if (line ~ /"([^"\\]|\\.)*\\\/([^"\\]|\\.)*"/) return "slash"
    return numbered(line) ? "number" : ""
  }
  function numbered(line, h) {
    if (line !~ /\\[xuU][0-9A-Fa-f]/) return 0
    if (line ~ /"[^"]*\\[xuU][0-9A-Fa-f][^"]*"[ \t]*:/ || line ~ /^[ \t-]*[?][ \t]/) return 1
    h = "[0-9A-Fa-f]"
    gsub("\\\\(x" h h "|u" h h h h "|U" h h h h h h h h ")", "\001", line)
    for (; match(line, /[A-Za-z0-9+\/\001]+/); line = substr(line, RSTART + RLENGTH))
      if (RLENGTH > 99 && index(substr(line, RSTART, RLENGTH), "\001")) return 1
    return 0
  }
'

# how_misspelt HOW: the same in words.
how_misspelt() {
  case $1 in
  slash) printf '%s\n' 'a slash is written as \/, which kubectl and the components cannot read' ;;
  number) printf '%s %s\n' 'characters of its base64, or of a field, are written by their numbers (\x.., \u....),' \
    'which is not read here; kubectl config view --raw --kubeconfig FILE writes it as usual' ;;
  esac
}

# reader: awk that reads YAML and JSON of any style, as far as settings of components need it:
# read_line() gets the lines of a file and calls leaf(path, value) for each scalar, as in
# leaf("spec/containers/0/command/1", "--secure-port=6443"), and once per line for a text with
# several. Aliases stay unresolved. The caller defines leaf(), and calls new_file() before a file.
reader='
  function new_file() { depth = 0; flow = "" }
  function read_line(line, at, key, rest) {
    sub(/\r$/, "", line)
    if (FNR == 1) sub(/^\357\273\277/, "", line)
    match(line, /^ */)
    at = RLENGTH
    line = unremarked(substr(line, at + 1))
    if (flow != "") { in_flow(line); return }
    if (line ~ /^[ \t]*$/ || at == 0 && line ~ /^%/) return
    if (at == 0 && line ~ /^(---|[.][.][.])([ \t]|$)/) {
      depth = 0
      line = substr(line, 4)
      match(line, /^[ \t]*/)
      at = 3 + RLENGTH
      line = substr(line, RLENGTH + 1)
      if (line == "") return
    }
    while (match(line, /^-([ \t]+|$)/)) {
      while (depth && at_depth[depth] > at) depth--
      if (depth && in_list[depth] && at_depth[depth] == at) keys[depth]++
      else deeper(at, 1, 0)
      line = substr(line, RLENGTH + 1)
      at += RLENGTH
      if (line == "") return
    }
    if (match(line, /^("([^"\\]|\\.)*"|\047[^\047]*\047|[A-Za-z0-9_.\/-]+)[ \t]*:([ \t]+|$)/)) {
      rest = substr(line, RLENGTH + 1)
      key = substr(line, 1, RLENGTH)
      sub(/[ \t]*:[ \t]*$/, "", key)
      while (depth && (at_depth[depth] > at || at_depth[depth] == at && in_list[depth])) depth--
      if (depth && at_depth[depth] == at) keys[depth] = plain_text(key)
      else deeper(at, 0, plain_text(key))
      line = rest
      if (line == "") return
    }
    while (match(line, /^[!&][^ \t]*[ \t]+/)) line = substr(line, RLENGTH + 1)
    if (line ~ /^[[{]/) in_flow(line)
    else if (line !~ /^[|>][-+1-9]*[ \t]*$/) leaf(path_of(depth), plain_text(line))
  }
  function deeper(at, is_list, key) { depth++; at_depth[depth] = at; in_list[depth] = is_list; keys[depth] = key }
  function path_of(n, i, out) { for (i = 1; i <= n; i++) out = out (i > 1 ? "/" : "") keys[i]; return out }
  function trimmed(t) { sub(/^[ \t]+/, "", t); sub(/[ \t\r]+$/, "", t); return t }
  function plain_text(t) {
    t = trimmed(t)
    if (t ~ /^\047.*\047$/) { t = substr(t, 2, length(t) - 2); gsub(/\047\047/, "\047", t) }
    else if (t ~ /^".*"$/) { t = substr(t, 2, length(t) - 2); gsub(/\\\//, "/", t); gsub(/\\"/, "\"", t) }
    return t
  }
  function unremarked(line, out) {
    while (match(line, /"([^"\\]|\\.)*"|\047[^\047]*\047|(^|[ \t])#/)) {
      if (substr(line, RSTART, 1) ~ /[# \t]/) return out substr(line, 1, RSTART - 1)
      out = out substr(line, 1, RSTART + RLENGTH - 1)
      line = substr(line, RSTART + RLENGTH)
    }
    return out line
  }
  # in_flow LINE: a bracketed collection is read once its last bracket is there.
  function in_flow(line, bare, base, c) {
    flow = flow line " "
    bare = flow
    gsub(/"([^"\\]|\\.)*"|\047[^\047]*\047/, "", bare)
    if (length(flow) > 40000) { flow = ""; return }
    if (gsub(/[[{]/, "", bare) > gsub(/[]}]/, "", bare)) return
    line = flow
    flow = ""
    base = depth
    while ((line = trimmed(line)) != "") {
      c = substr(line, 1, 1)
      if (c ~ /[]{},:[]/) {
        line = substr(line, 2)
        if (c == "{" || c == "[") { deeper(9999, c == "[", c == "[" ? 0 : ""); named[depth] = 0 }
        else if (c == ",") { if (in_list[depth]) keys[depth]++; named[depth] = 0 }
        else if (c != ":" && --depth <= base) break
        continue
      }
      if (!match(line, /^("([^"\\]|\\.)*"|\047[^\047]*\047)/) && !match(line, /^([^][{},:]|:[^] \t,}])+/)) break
      c = plain_text(substr(line, 1, RLENGTH))
      line = substr(line, RLENGTH + 1)
      if (in_list[depth] || named[depth]) leaf(path_of(depth), c)
      else { keys[depth] = c; named[depth] = 1 }
    }
    depth = base
  }
'

# static_pod: awk that finds the arguments of a static pod in a manifest of any style. of_pod() gets
# its leaves. given(COMPONENT) leaves in flags those of the container with that name, whatever is
# next to it, or of the first one: of a repeated flag the last, and files by their name on the host.
static_pod='
  function of_pod(path, value, part) {
    if (split(path, part, "/") < 4 || part[1] != "spec") return
    if (part[2] == "volumes") {
      if (part[4] == "name") volume[part[3]] = value
      if (part[4] "/" part[5] == "hostPath/path") on_disk[part[3]] = value
    }
    if (part[2] != "containers") return
    if (part[3] + 0 > last) last = part[3] + 0
    if (part[4] == "name") called[part[3]] = value
    else if (part[4] ~ /^(command|args)$/) argument[part[3], part[4], ++arguments[part[3], part[4]]] = value
    else if (part[4] == "volumeMounts") {
      mount[part[3], part[5], part[6]] = value
      mounts[part[3]] = part[5] + 1
    }
  }
  function given(component, c, i, n, at, name, snis) {
    split("", flags)
    c = 0
    for (i = 1; i <= last; i++) if (called[i] == component && called[0] != component) c = i
    for (i in on_disk) host_path[volume[i]] = on_disk[i]
    n = words_of(c, "args", words_of(c, "command", 0))
    for (i = 1; i <= n; i++) {
      if (word_of[i] !~ /^--[a-z]/) continue
      at = index(word_of[i] "=", "=")
      name = substr(word_of[i], 3, at - 3)
      gsub(/_/, "-", name)
      if (at <= length(word_of[i])) flags[name] = on_host(c, substr(word_of[i], at + 1))
      else if (i < n && word_of[i + 1] !~ /^-/) flags[name] = on_host(c, word_of[i + 1])
      # CERTIFICATE,KEY or CERTIFICATE,KEY:NAMES, each counts.
      if (name == "tls-sni-cert-key" && (at = index(flags[name], ","))) {
        sub(/:.*/, "", flags[name])
        flags["sni-cert-file" (++snis > 1 ? "-" snis : "")] = substr(flags[name], 1, at - 1)
        flags["sni-private-key-file" (snis > 1 ? "-" snis : "")] = on_host(c, substr(flags[name], at + 1))
      }
    }
    split("", volume); split("", on_disk); split("", host_path); split("", called)
    split("", argument); split("", arguments); split("", mount); split("", mounts)
    last = 0
  }
  # words_of CONTAINER PART N: puts the words of its command or arguments into word_of, after N
  # others; a line for a shell has several.
  function words_of(c, part, n, i, j, m, line) {
    for (i = 1; i <= arguments[c, part]; i++) {
      word_of[++n] = argument[c, part, i]
      if (word_of[n] !~ /^[^-].*[ \t]--[a-z]/) continue
      m = split(word_of[n], line, /[ \t\n]+/)
      for (j = 1; j <= m; j++) word_of[n++] = line[j]
      n--
    }
    return n
  }
  # on_host CONTAINER FILE: its name on the host; anything else stays as it is.
  function on_host(c, file, i, at, best, below) {
    if (file !~ /^\//) return file
    for (i = 0; i < mounts[c]; i++) {
      at = mount[c, i, "mountPath"]
      sub(/\/+$/, "", at)
      if (at == "" || !(mount[c, i, "name"] in host_path)) continue
      if (index(file "/", at "/") != 1 || length(at) <= length(best)) continue
      best = at
      below = host_path[mount[c, i, "name"]]
      sub(/\/+$/, "", below)
      if (mount[c, i, "subPath"] != "") below = below "/" mount[c, i, "subPath"]
    }
    return best != "" ? below substr(file, length(best) + 1) : file
  }
'

# of_kubelet: awk that finds a setting of the kubelet by its leaf, and the place of a file that it
# names: relative to the configuration (kubelet, kubeletconfig/configfiles).
of_kubelet='
  function from_there(setting, value, dir) {
    if (setting !~ /File$/ || value !~ /^[^\/]/) return value
    dir = FILENAME
    sub(/[^\/]*$/, "", dir)
    return dir value
  }
  function setting_of_kubelet(path) {
    if (path == "authentication/x509/clientCAFile") return "clientCAFile"
    if (path == "authorization/mode") return "authorization.mode"
    if (path ~ /^(address|port|tlsCertFile|tlsPrivateKeyFile)$/) return path
    return path ~ /^(kind|rotateCertificates|serverTLSBootstrap|containerRuntimeEndpoint)$/ ? path : ""
  }
'

# apart: awk that passes a line of text on in order, every byte once: word() gets what may be a key
# or a value, gap() the text between. Words of base64 with only white space between them may be one
# value on several lines: begins() is called before the first of them, part() for each, and ran()
# with all of them joined. The caller defines these five.
apart='
  function apart(line, g, w, b) {
    while (match(line, /[^][ \t\r"\047{},]+/)) {
      g = substr(line, 1, RSTART - 1)
      # After a quoted key the colon may follow without a blank.
      if (RLENGTH > 1 && g ~ /["\047]$/ && substr(line, RSTART, 1) == ":") RLENGTH = 1
      w = substr(line, RSTART, RLENGTH)
      line = substr(line, RSTART + RLENGTH)
      between(g)
      # A line that continues within double quotes ends with a backslash; a line break there is
      # written with one. The base64 of PEM has no slash, which JSON may escape.
      b = substr(w, length(w)) == "\\" ? substr(w, 1, length(w) - 1) : w
      if (index(b, "\\")) gsub(/\\[nr]/, "", b)
      if (b !~ /^[A-Za-z0-9+\/]+=*$/) { ended(); word(w); if (w ~ /^#/) remark = 1; continue }
      if (run == "") begins()
      part(w)
      run = run b
    }
    between(line)
    if (remark) ended() # its words do not belong to the next line
    remark = 0
  }
  function between(g) { if (g ~ /[^ \t\r]/) ended(); gap(g) }
  function ended() { if (run != "") ran(run); run = "" }
'
