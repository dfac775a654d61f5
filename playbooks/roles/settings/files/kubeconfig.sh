# What kubeconfigs are read and edited by, whatever their YAML or JSON looks like. No
# parser of YAML is on a node, so their text is taken apart by its characters alone, and
# whose an embedded certificate or key is, is told by what it says, not by where it stands.
# shellcheck shell=sh disable=SC2034

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
      # A line that goes on within double quotes ends with a backslash.
      b = substr(w, length(w)) == "\\" ? substr(w, 1, length(w) - 1) : w
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
