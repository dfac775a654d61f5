# What kubeconfigs are read and edited by, whatever their YAML or JSON looks like. No
# parser of YAML is on a node, so their text is taken apart by its characters alone, and
# whose an embedded certificate or key is, is told by what it says, not by where it stands.
# shellcheck shell=sh disable=SC2034

# structure: awk that tells what may be structure in a line of YAML or JSON from what is
# text. structured() gives the line without its remark, and with nothing in its quoted and
# block texts that could be taken for a key, an anchor or an indicator: a secret may look
# like any of them. The caller sets quote to "" and block to -1 where a file begins.
structure='
  function structured(line, said, part, c, before) {
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
      if (quote == "\047" && substr(line, 1, 1) == quote) { # an apostrophe within
        said = said masked(part) "_"
        line = substr(line, 2)
        continue
      }
      if (quote != "") {
        said = said masked(part) c
        quote = ""
      } else if (c == "#" && before ~ /^[ \t]?$/) {
        said = said part
        line = ""
        break
      } else {
        said = said part c
        if (c != "#" && before ~ /^[] \t[{},:]?$/) quote = c
      }
      before = c
    }
    said = said (quote == "" ? line : masked(line))
    if (quote == "" && said ~ /(^|[ \t])[|>][-+1-9]*[ \t\r]*$/) {
      match(said, said ~ /^[ -]*[|>]/ ? "^ *" : "^[ -]*")
      block = RLENGTH
    }
    return said
  }
  function masked(text) {
    gsub(/:+[ \t]/, "\003 ", text)
    sub(/:+\r?$/, "\003", text)
    gsub(/[ \t][&*#!:?|>~<-]+/, " \003", text)
    sub(/^[&*#!:?|>~<-]+/, "\003", text)
    return text
  }
  # public_server, public_file VALUE: it may be told: it looks like nothing else.
  function public_server(w) { return w ~ /^https?:\/\/[A-Za-z0-9._-]*(\[[0-9A-Fa-f:.]*\])?(:[0-9]*)?[\/A-Za-z0-9._-]*$/ }
  function public_file(w) { return length(w) < 256 && w ~ /^[A-Za-z0-9.\/_~-]+[.](pem|crt|cer|cert|key)$/ }
'

# plainly: awk that gives a line of kubeadm's configuration as kubeadm writes it: plain()
# without a byte order mark, a carriage return and the blanks that a whole document is
# indented by. of_cluster(): the line begins the settings of the cluster.
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
  function of_cluster(line) { return line ~ /^["\047]?kind["\047]?[ \t]*:[ \t]+["\047]?ClusterConfiguration["\047]?[ \t]*(#.*)?$/ }
'
# not_plain FILE: why a configuration is not understood. YAML can have a value on the next
# line, in a block, with an anchor or a tag: of a directory that is not taken for a path.
not_plain() {
  # shellcheck disable=SC2016 # $0 is awk's
  not_said=$(awk "$plainly"'
    { $0 = plain($0) }
    of_cluster($0) {found = 1}
    /^["\047]?certificatesDir["\047]?[ \t]*:/ && !/:[ \t]+["\047]?\// {odd = 1}
    END {if (!found) print "kind: ClusterConfiguration"; else if (odd) print "certificatesDir: and a path"}' "$1")
  [ -n "$not_said" ] &&
    printf '%s\n' "no line of $1 says $not_said. Written as kubeadm does it is with: kubeadm config migrate --old-config $1 --new-config NEW"
}

# numbered: base64 of which characters are written by their numbers, which nobody does: it
# is not read.
base64='[A-Za-z0-9+/]{20}'
numbered="${base64}[A-Za-z0-9+/]*\\\\[xuU][0-9A-Fa-f]|\\\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})$base64"
how_numbered='characters of its base64 are written by their numbers (\x.., \u....), which is not read here; kubectl config view --raw --kubeconfig FILE writes it as usual'

# static_pod: awk that tells where on the host a file lies that a static pod's manifest
# names: noted() gets its lines, on_host() the name that its container has for a file.
static_pod='
  function noted(line, key, value, at) {
    if (line ~ /^ *#/ || line !~ /[^ \r]/) return
    match(line, /^ */)
    at = RLENGTH
    if (at < level || at == level && line !~ /^ *-/) { item(); part = "" }
    if (line ~ /^ *(volumeMounts|volumes):[ \r]*$/) { part = line ~ /Mounts/ ? "mount" : "volume"; level = at; return }
    if (part == "") return
    if (line ~ /^ *- /) { item(); field = at + 2; sub(/- /, "  ", line); match(line, /^ */); at = RLENGTH }
    key = value = line
    sub(/^ */, "", key); sub(/:.*/, "", key)
    sub(/^[^:]*: */, "", value); gsub(/["\047\r]| +$/, "", value)
    if (at == field && key == "name") item_name = value
    else if (part == "mount" && key ~ /^(mountPath|subPath)$/) item_path[key] = value
    else if (part == "volume" && at > field && key == "path") item_path["host"] = value
  }
  function item() {
    if (item_path["mountPath"] != "") {
      mounts[++mounted] = item_path["mountPath"]
      volume[mounted] = item_name
      below[mounted] = item_path["subPath"] == "" ? "" : "/" item_path["subPath"]
    }
    if (item_path["host"] != "") host_path[item_name] = item_path["host"]
    item_name = item_path["mountPath"] = item_path["subPath"] = item_path["host"] = ""
  }
  function on_host(file, i, best) {
    item()
    for (i = 1; i <= mounted; i++)
      if (volume[i] in host_path && index(file "/", mounts[i] "/") == 1 && length(mounts[i]) > length(mounts[best])) best = i
    return best ? host_path[volume[best]] below[best] substr(file, length(mounts[best]) + 1) : file
  }
  # next_pod: forgets the one before.
  function next_pod() { split("", mounts); split("", volume); split("", below); split("", host_path); mounted = 0; part = item_name = ""; split("", item_path) }
'

# apart: awk that hands on a line of text in order, every byte once: word() is what may be
# a key or a value, gap() what stands between. Words of base64 with nothing but white space
# between them may be one value on several lines: begins() comes before the first of them,
# part() for each, and ran() gets them joined. The caller writes these five.
apart='
  function apart(line, g, w, b) {
    while (match(line, /[^][ \t\r"\047{},]+/)) {
      g = substr(line, 1, RSTART - 1)
      w = substr(line, RSTART, RLENGTH)
      line = substr(line, RSTART + RLENGTH)
      between(g)
      # A line that goes on within double quotes ends with a backslash; there, line breaks
      # and slashes may have one.
      b = substr(w, length(w)) == "\\" ? substr(w, 1, length(w) - 1) : w
      if (index(b, "\\")) {
        gsub(/\\[nr]/, "", b)
        gsub(/\\\//, "/", b)
      }
      if (b !~ /^[A-Za-z0-9+\/]+=*$/) { ended(); word(w); continue }
      if (run == "") begins()
      part(w)
      run = run b
    }
    between(line)
  }
  function between(g) { if (g ~ /[^ \t\r]/) ended(); gap(g) }
  function ended() { if (run != "") ran(run); run = "" }
'
