# Copies everything that may be changed into the run's backup directory and reads it back. A
# directory without COMPLETE is no backup.
dir=$KSCERT_BACKUP_DIR

need_tools
pki_or_default >/dev/null # an unknown certificate directory cannot be backed up
sweep
case $(backup_state "$dir") in
complete)
  wrong=$(wrong_with "$dir")
  [ -z "$wrong" ] || fail "the backup in $dir is damaged: $wrong"
  record "$dir" kept
  echo '@@END'
  echo "kept: $dir is there and verified"
  exit 0
  ;;
unknown) fail "the backup in $dir has another format: $(head -n 1 "$dir/MANIFEST")" ;;
missing) [ ! -e "$dir" ] || rmdir "$dir" || fail "$dir is there and is no backup of kscertctl" ;;
esac

# An unfinished backup is worthless and takes space.
discard() {
  cd /
  rm -rf "$dir"
}
[ "$KSCERT_CHECK" = True ] || [ ! -e "$dir" ] || discard

# The space for all of it, checked before anything is written: whole blocks for the files, and some
# for metadata.
need=$(covered | tr '\n' '\0' | du -sck --exclude "$conf/tmp" --files0-from=- 2>/dev/null |
  awk 'END {print $1 * 2 + 4096}')
place=$KSCERT_BACKUP_ROOT
until [ -e "${place:=/}" ]; do
  case $place in */*) place=${place%/*} ;; *) place=/ ;; esac
done
free=$(df -Pk "$place" | awk 'NR == 2 {print $4}')
[ "$free" -ge "$need" ] ||
  fail "not enough space for a backup: it needs $((need / 1024 + 1)) MiB," \
    "and $KSCERT_BACKUP_ROOT has $((free / 1024)) MiB. Free some there (kscertctl backup prune)," \
    "or name another directory with --backup-root (by hand: -e kscert_backup_root=DIRECTORY)"
etcd_choose "$need" "$free"

if checking "back up to $dir"; then
  if [ -n "$bytes" ]; then
    checking "save a snapshot of etcd, $mib MiB, in about $took s"
  elif [ -n "$why" ]; then
    checking "leave a snapshot of etcd out: ${why#no snapshot: }"
  fi
  exit 0
fi

mkdir -p "$KSCERT_BACKUP_ROOT"
mkdir "$dir"
trap discard EXIT
trap 'exit 130' INT TERM HUP
printf '%s\n' "$header" >"$dir/MANIFEST"

# copy: what the manifest lists, with owner, mode, times, links, attributes and contexts.
# Directories come first, and get their times last.
copy() {
  mkdir "$dir/files" || return 1
  awk -F '\t' '$1 == "d" {print $10}' "$dir/MANIFEST.new" | while IFS= read -r path; do
    mkdir -p "$dir/files$path"
  done || return 1
  awk -F '\t' 'NF == 10 && $1 != "d" {print $10}' "$dir/MANIFEST.new" | tr '\n' '\0' |
    (cd / && xargs -0 -r cp -a --parents -t "$dir/files") || return 1
  awk -F '\t' '$1 == "d" {print $10}' "$dir/MANIFEST.new" | sort -r | while IFS= read -r path; do
    like "$path" "$dir/files$path"
  done
}

attempt=1
while :; do
  {
    printf '%s\n' "$header"
    covered | sed "s/^/root$tab/"
  } >"$dir/MANIFEST.new"
  if ! covered | describe '' >"$dir/now"; then
    [ "$attempt" -lt 3 ] || fail 'nothing was backed up'
    attempt=$((attempt + 1))
    continue
  fi
  cat "$dir/now" >>"$dir/MANIFEST.new"
  # Nothing was written while it was read: the same before and after.
  if copy && [ -z "$(covered | describe '' | differences "$dir/MANIFEST.new")" ]; then break; fi
  [ "$attempt" -lt 3 ] || fail "files below $conf change while they are being backed up, or cannot be copied"
  attempt=$((attempt + 1))
  rm -rf "$dir/files"
done
rm "$dir/now"
wrong=$(roots "$dir/MANIFEST.new" | describe "$dir/files" | differences "$dir/MANIFEST.new" | in_words)
[ -z "$wrong" ] || fail "the backup reads back differently from what was written: $wrong"
mv "$dir/MANIFEST.new" "$dir/MANIFEST"

etcd_save "$dir/etcd-snapshot.db"

{
  printf 'kscertctl-backup %s\nrun %s\nmade %s\n' "$format" "${dir##*/}" "$(date +%s)"
  printf 'entries %s\n' "$(awk -F '\t' 'NF == 10' "$dir/MANIFEST" | wc -l)"
  printf 'kib %s\n' "$(du -sk "$dir" | cut -f 1)"
  printf 'manifest %s\n' "$(sha256 "$dir/MANIFEST")"
  if [ -f "$dir/etcd-snapshot.db" ]; then
    printf 'etcd-snapshot %s %s\n' "$(sha256 "$dir/etcd-snapshot.db")" "$(stat -c %s "$dir/etcd-snapshot.db")"
  else
    echo 'etcd-snapshot - 0'
  fi
} >"$dir/COMPLETE.new"
to_disk "$dir"
mv "$dir/COMPLETE.new" "$dir/COMPLETE"
sync "$dir"
trap - EXIT
record "$dir" made
[ -z "$why" ] || printf '|etcd: %s\n' "$why"
echo '@@END'
changed "backed up $(value entries "$dir") entries to $dir"
