# Keeps the record of a run, so that another machine can continue it: what follows calls put for
# each file. A copy that cannot be written is reported, and stops nothing. If another machine has
# continued the run, nothing else of this step is done.
set -u
umask 077
LC_ALL=C
export LC_ALL

dir=$KSCERT_STATE_DIR/runs/$KSCERT_RECORD_RUN
plan=plan.json.gz
# The journal comes last: what it names is there.
files="$plan backups.json authorities.json journal.jsonl"

# missed WHY: there is no copy here of what is about to happen.
missed() {
  printf 'noted: the record of the run is not kept here: %s\n' "$*"
  exit 0
}

case $KSCERT_RECORD_RUN in '' | *[!0-9TZa-f-]*) missed 'it has no name of a run' ;; esac
mkdir -p "$dir" 2>/dev/null || missed "cannot make $dir"
{ exec 9>"$KSCERT_STATE_DIR/.mutex" && timeout 10 flock 9; } 2>/dev/null || missed "another command works in $KSCERT_STATE_DIR"

# put NAME TEXT: a file of the record, or as plan-NN a piece of its plan, in base64.
put() {
  case $1 in
  plan-*)
    [ "$1" != plan-00 ] || rm -f "$dir/.$plan"
    printf '%s\n' "$2" | base64 -d >>"$dir/.$plan"
    ;;
  *) printf '%s\n' "$2" >"$dir/.$1" ;;
  esac 2>/dev/null || missed "cannot write below $dir"
}

digest() { [ ! -f "$dir/$1" ] || sha256sum <"$dir/$1" | cut -d ' ' -f 1; }

# continues: the new journal begins with the one that is there.
continues() {
  [ ! -f "$dir/journal.jsonl" ] ||
    head -c "$(wc -c <"$dir/journal.jsonl")" "$dir/.journal.jsonl" | cmp -s - "$dir/journal.jsonl"
}

# keep: replaces the old files.
keep() {
  [ "$KSCERT_RECORD_REPLACE" = True ] || continues || {
    printf 'kscertctl: another machine has continued run %s: its record in %s does not begin like the one of this run\n' \
      "$KSCERT_RECORD_RUN" "$dir" >&2
    exit 1
  }
  if [ "$(digest ".$plan")" != "$KSCERT_RECORD_PLAN" ]; then
    rm -f "$dir/.$plan"
    [ "$(digest "$plan")" = "$KSCERT_RECORD_PLAN" ] || missed "its plan has not arrived in $dir"
  fi
  for file in $files; do
    [ ! -f "$dir/.$file" ] || { sync "$dir/.$file" && mv -f "$dir/.$file" "$dir/$file"; } || missed "cannot write below $dir"
  done 2>/dev/null
  sync "$dir" "${dir%/*}"
  printf 'recorded: %s\n' "$dir"
}
