# Restores what is missing or different on the node from the backup, and removes what has appeared
# since. After an interruption it continues with what still differs.
need_backup
from=$KSCERT_BACKUP_ROOT/$KSCERT_RESTORE_RUN
manifest=$from/MANIFEST
copy=$from/files
sweep

# differing WHAT: the paths with this difference, parents first.
differing() {
  roots "$manifest" | describe '' | differences "$manifest" |
    awk -F '\t' -v what="$1" 'index(what, $1) {print $2}' | LC_ALL=C sort
}

restore=$(differing 'missing differs')
remove=$(differing extra)
if [ -z "$restore$remove" ]; then
  printf '@@RESTORED %s unchanged 0 0\n@@END\n' "$KSCERT_RESTORE_RUN"
  exit 0
fi
checking "restore $(printf '%s\n' "$restore$remove" | wc -l) entries from $from" && exit 0

printf '%s\n' "$restore" | while IFS= read -r path; do
  [ -n "$path" ] || continue
  if [ -d "$copy$path" ] && [ ! -L "$copy$path" ]; then
    [ -d "$path" ] && [ ! -L "$path" ] && continue # its attributes come last
    rm -f "$path"
    mkdir -p "$path"
    continue
  fi
  # A directory has replaced something else here; the backup of the current state has it.
  if [ -d "$path" ] && [ ! -L "$path" ]; then rm -rf "$path"; fi
  mkdir -p "${path%/*}"
  next=$(successor_path "$path") || exit
  message=$(cp -aT "$copy$path" "$next" 2>&1) || {
    rm -f "$next"
    unwritten "$path"
  }
  settle "$next" "$path"
done
# What has appeared is searched again, because a path may now go through a restored link. The
# content of a directory goes before the directory.
differing extra | LC_ALL=C sort -r | while IFS= read -r path; do
  if [ -d "$path" ] && [ ! -L "$path" ]; then rmdir "$path"; else rm -f "$path"; fi
done
differing differs | LC_ALL=C sort -r | while IFS= read -r path; do
  if [ -d "$copy$path" ] && [ ! -L "$copy$path" ]; then like "$copy$path" "$path"; fi
done
roots "$manifest" | while IFS= read -r place; do
  [ ! -d "$place" ] || to_disk "$place"
done

wrong=$(roots "$manifest" | describe '' | differences "$manifest" | in_words)
[ -z "$wrong" ] || fail "what was restored differs from what was there: $wrong"

count() { printf '%s' "$1" | grep -c . || :; }
printf '@@RESTORED %s restored %s %s\n' "$KSCERT_RESTORE_RUN" "$(count "$restore")" "$(count "$remove")"
printf '%s\n' "$restore" | sed -n 's/^./|restored &/p'
printf '%s\n' "$remove" | sed -n 's/^./|removed &/p'
echo '@@END'
changed "restored $from"
