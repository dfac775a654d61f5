# Describes the content of some places, and compares it with an earlier description: shared by
# backups, their verification and rollbacks. The format is in docs/reference/backup-format.md.
# shellcheck shell=sh disable=SC2034,SC2154
format=1
header=kscertctl-backup$tab$format

# describe PREFIX: one line for each entry in the places that standard input names, searched below
# PREFIX and sorted by path. It fails if something cannot be read or has a name that no manifest can
# hold, and prints a line for that, too.
describe() {
  prefix=$1
  context=-
  [ ! -e /sys/fs/selinux/enforce ] || context=%Z
  set --
  place=
  while IFS= read -r line; do
    place=$line
    if [ -e "$prefix$place" ] || [ -L "$prefix$place" ]; then set -- "$@" "$prefix$place"; fi
  done
  # An empty list is not an empty node: the command that should name the places has failed.
  [ -n "$place" ] || { printf 'unreadable\tthe places\n' && return 1; }
  [ $# -gt 0 ] || return 0
  {
    # Our own leftovers are not part of a node, nor are kubeadm's copies. A pipe loses errors, so
    # each becomes a line that is not understood.
    { find "$@" \( -name '.kscertctl.*' -o -path "$prefix$conf/tmp" \) -prune -o \
      -printf "E\t%y\t%m\t%U\t%G\t%s\t%T@\t%l\t$context\t%p\n" ||
      echo 'not all files were found'; } | sort -t "$tab" -k 10
    { find "$@" \( -name '.kscertctl.*' -o -path "$prefix$conf/tmp" \) -prune -o -type f -exec sha256sum {} + ||
      echo 'not all files were read'; } | sed "s/^\([0-9a-f]*\)  /D$tab\1$tab/"
    if command -v getfattr >/dev/null; then
      getfattr -R -P -h -d -m - -e hex --absolute-names "$@" | sed "s/^/A$tab/"
    else
      printf 'A\t?\n'
    fi
    printf 'END\n'
  } | awk -F '\t' -v OFS='\t' -v cut="${#prefix}" '
    $1 == "E" && NF == 10 {path[++n] = $10; for (i = 2; i <= 9; i++) field[n, i] = $i; next}
    $1 == "D" && NF == 3 {digest[$3] = $2; next}
    $1 == "A" && $2 == "?" {unknown = 1; next}
    $1 == "A" && index($2, "# file: ") == 1 {of = substr($2, 9); next}
    # Contexts have their own column; attributes that the kernel sets differ for each copy.
    $1 == "A" && ($2 == "" || $2 ~ /^security\.(selinux|ima|evm)=/) {next}
    $1 == "A" {names = attributes[of]; attributes[of] = names (names == "" ? "" : ",") $2; next}
    $1 == "END" {whole = 1; next}
    {bad[++faults] = $0}
    END {
      for (i = 1; i <= n; i++) {
        type = field[i, 2]; content = type == "l" ? field[i, 8] : "-"
        if (type == "f") {
          if (!(path[i] in digest)) {bad[++faults] = path[i]; continue}
          content = digest[path[i]]
        }
        print type, field[i, 3], field[i, 4], field[i, 5], (type == "f" ? field[i, 6] : "-"), field[i, 7], content,
          field[i, 9], (unknown ? "?" : path[i] in attributes ? attributes[path[i]] : "-"), substr(path[i], cut + 1)
      }
      if (!whole || !n) bad[++faults] = "the end"
      for (i = 1; i <= faults; i++) print "unreadable", bad[i]
      exit faults > 0
    }'
}

# differences MANIFEST: how the description on standard input differs from MANIFEST, one line each:
# missing, extra, differs or unreadable; the path; what differs.
differences() {
  awk -F '\t' -v OFS='\t' '
    BEGIN {split("type mode owner group size time content context attributes", name, " ")}
    NR == FNR {if (NF == 10) {line[$10] = $0; order[++n] = $10} next}
    NF != 10 {print "unreadable", $2, "-"; next}
    !($10 in line) {print "extra", $10, "-"; next}
    {
      seen[$10] = 1
      split(line[$10], was, FS)
      what = ""
      for (i = 1; i <= 9; i++) {
        if ($i == was[i] || (i == 9 && ($i == "?" || was[i] == "?"))) continue
        what = what (what == "" ? "" : ", ") (i == 7 && was[1] == "l" ? "target" : name[i])
      }
      if (what != "") print "differs", $10, what
    }
    END {for (i = 1; i <= n; i++) if (!(order[i] in seen)) print "missing", order[i], "-"}' "$1" -
}

# in_words: differences for people.
in_words() { awk -F '\t' '{print $1 " " $2 ($3 == "-" ? "" : " (" $3 ")")}'; }

# roots MANIFEST: the places it covers.
roots() { sed -n "s/^root$tab//p" "$1"; }

sha256() { sha256sum "$1" | cut -d ' ' -f 1; }

# value KEY DIR: a value in the COMPLETE file of the backup in DIR.
value() { sed -n "s/^$1 //p" "$2/COMPLETE"; }

# ours DIR: a directory that was begun as a backup.
ours() { [ "$(head -n 1 "$1/MANIFEST" 2>/dev/null | cut -f 1)" = kscertctl-backup ]; }

# backup_state DIR: missing, incomplete, unknown (of another format), or complete, which does not
# mean verified.
backup_state() {
  if [ ! -d "$1" ] || ! ours "$1"; then
    echo missing
  elif [ ! -f "$1/COMPLETE" ]; then
    echo incomplete
  elif [ "$(head -n 1 "$1/MANIFEST")" != "$header" ]; then
    echo unknown
  else
    echo complete
  fi
}

# wrong_with DIR: in words, what has changed since the backup was taken; nothing for an intact
# backup.
wrong_with() {
  [ "$(sha256 "$1/MANIFEST")" = "$(value manifest "$1")" ] || echo "differs $1/MANIFEST (content)"
  roots "$1/MANIFEST" | describe "$1/files" | differences "$1/MANIFEST" | in_words
  saved=$(value etcd-snapshot "$1")
  case $saved in
  '- '*) ;;
  *)
    [ -f "$1/etcd-snapshot.db" ] && [ "$(sha256 "$1/etcd-snapshot.db")" = "${saved% *}" ] ||
      echo "differs $1/etcd-snapshot.db (content)"
    ;;
  esac
}

# record DIR STATE: a backup's line for kscertctl.
record() {
  if [ -f "$1/COMPLETE" ]; then
    etcd_snapshot=$(value etcd-snapshot "$1")
    printf '@@BACKUP %s %s %s %s %s %s %s\n' "${1##*/}" "$2" "$(value made "$1")" "$(value entries "$1")" \
      "$(value kib "$1")" "$(value manifest "$1")" "${etcd_snapshot#* }"
  else
    printf '@@BACKUP %s %s - - - - -\n' "${1##*/}" "$2"
  fi
}

# to_disk DIR: syncs the files and directories below.
to_disk() { find "$1" \( -type f -o -type d \) -exec sync {} +; }

bars() { sed 's/^/|/'; }

# like A B: the directory B gets owner, mode, attributes, context and times of A. It works from
# within B, because the owner of the parent may put a link in its place meanwhile.
like() (
  # shellcheck disable=SC3013 # in every sh that a node may have
  if ! cd "$2" || [ -L "$2" ] || ! [ . -ef "$2" ]; then fail "$2 is no directory any more"; fi
  chown --reference="$1" .
  chmod --reference="$1" .
  if command -v setfattr >/dev/null && command -v getfattr >/dev/null; then
    kept='^(user|trusted|system\.posix_acl)'
    getfattr -m "$kept" . | sed '/^#/d; /^$/d' | while IFS= read -r name; do setfattr -x "$name" .; done
    (cd "$1" && getfattr -d -m "$kept" -e hex .) | setfattr --restore=-
  fi
  [ ! -e /sys/fs/selinux/enforce ] || chcon --reference="$1" .
  touch -r "$1" .
)
