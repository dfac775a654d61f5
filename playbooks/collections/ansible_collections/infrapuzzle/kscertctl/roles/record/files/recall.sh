# Prints what this node keeps of the newest runs and of the named one, the newest first: the journals, and
# of the named run and those after it, or of the newest, everything. Of a rollback, also the run that it
# undoes.
#
# Prints locks as lock.sh does, "@@KEPT RUN FILE" with the file in base64, and "@@END"; see
# docs/reference/run-directory.md.
set -u
LC_ALL=C
export LC_ALL

runs=$KSCERT_STATE_DIR/runs
named=$KSCERT_RECORD_RUN
whole=''

# ours FILE: whether kscertctl can have written it, by its length, which it leaves in $size.
ours() { [ -f "$1" ] && size=$(wc -c <"$1") && [ "$size" -le 2097152 ]; }

# left is how many bytes may still be printed: runs keep some thousand each.
left=16777216

# file RUN NAME: prints a file, or that it cannot be used.
file() {
  [ -f "$runs/$1/$2" ] || return 0
  printf '@@KEPT %s %s\n' "$1" "$2"
  ours "$runs/$1/$2" || return 0
  left=$((left - size))
  [ "$left" -lt 0 ] || base64 <"$runs/$1/$2"
}

# all RUN: prints all but the journal, once, and that of the run that it undoes.
all() {
  case " $whole " in *" $1 "*) return 0 ;; esac
  whole="$whole $1"
  for name in plan.json.gz backups.json authorities.json; do file "$1" "$name"; done
  ours "$runs/$1/journal.jsonl" || return 0
  of=$(sed -n '1s/.*"of":"\([0-9TZa-f-]*\)".*/\1/p' "$runs/$1/journal.jsonl")
  [ -z "$of" ] || all "$of"
}

# from RUN: the named run or a later one; without a name, the newest.
from() {
  if [ -z "$named" ]; then [ -z "$whole" ]; else
    [ "$(printf '%s\n' "$named" "$1" | sort | head -n 1)" = "$named" ]
  fi
}

# names BEGINNING: the names of runs here that begin so. Others may have put other things in the
# directory, and where a disk was full is a run without a journal.
names() {
  cd "$runs" 2>/dev/null || return 0
  d='[0-9]' h='[0-9a-f]'
  for name in $d$d$d$d$d$d$d${d}T$d$d$d$d$d${d}Z-$h$h$h$h$h$h; do
    case $name in "$1"*) [ ! -e "$name/journal.jsonl" ] || printf '%s\n' "$name" ;; esac
  done
}

for lock in "$KSCERT_STATE_DIR"/lock-*; do
  [ ! -f "$lock" ] ||
    printf '@@LOCK held %s %s\n' "$(($(date +%s) - $(stat -c %Y "$lock")))" "$(head -n 1 "$lock")"
done
for run in $({ names '' | sort -r | head -n 50; [ -z "$named" ] || names "$named"; } | sort -ru); do
  file "$run" journal.jsonl
  ! from "$run" || all "$run"
done
echo '@@END'
