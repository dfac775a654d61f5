# Lists, verifies or prunes the backups of this node.
newest_first() { # by the time they were begun
  for manifest in "$KSCERT_BACKUP_ROOT"/*/MANIFEST; do
    [ ! -f "$manifest" ] || stat -c '%Y %n' "$manifest"
  done | sort -k 1,1rn -k 2,2r | sed 's|^[0-9]* \(.*\)/MANIFEST$|\1|'
}

# read_back DIR: reads back a complete backup.
read_back() {
  state=$(backup_state "$1")
  [ "$state" = complete ] || {
    record "$1" "$state"
    return 0
  }
  wrong=$(wrong_with "$1" 2>&1)
  if [ -n "$wrong" ]; then
    record "$1" damaged
    printf '%s\n' "$wrong" | bars
  else
    record "$1" verified
  fi
}

# prune: counts complete backups and keeps the first.
prune() {
  kept=0
  newest_first | while IFS= read -r dir; do
    verdict=pruned
    case $(backup_state "$dir") in
    complete)
      kept=$((kept + 1))
      [ "$kept" -gt "$KSCERT_BACKUP_KEEP" ] || verdict=kept
      ;;
    incomplete) [ -n "$(find "$dir/MANIFEST" -mmin +60)" ] || verdict=kept ;;
    *) verdict=kept ;;
    esac
    case " $KSCERT_BACKUP_PROTECT " in *" ${dir##*/} "*) verdict=kept ;; esac
    if [ "$verdict" = pruned ] && checking "remove $dir"; then verdict=kept; fi
    record "$dir" "$verdict"
    [ "$verdict" = pruned ] || continue
    # It stops being a backup before its files are removed.
    rm -f "$dir/COMPLETE"
    rm -rf "$dir"
    changed "removed $dir"
  done
}

# prune_records: what is kept here of runs, by the same rule: also as long as the backup.
prune_records() {
  kept=0
  find "$KSCERT_STATE_DIR/runs" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort -r | while IFS= read -r dir; do
    kept=$((kept + 1))
    [ "$kept" -gt "$KSCERT_BACKUP_KEEP" ] || continue
    [ ! -e "$KSCERT_BACKUP_ROOT/${dir##*/}" ] || continue
    case " $KSCERT_BACKUP_PROTECT " in *" ${dir##*/} "*) continue ;; esac
    checking "remove $dir" || { rm -rf "$dir" && changed "removed $dir"; }
  done
}

case $KSCERT_BACKUP_RUN in */* | .*) fail "kscert_backup_run is $KSCERT_BACKUP_RUN: it is the name of a run" ;; esac
case $KSCERT_BACKUP_ACTION in
list | verify)
  if [ -n "$KSCERT_BACKUP_RUN" ]; then printf '%s\n' "$KSCERT_BACKUP_ROOT/$KSCERT_BACKUP_RUN"; else newest_first; fi |
    while IFS= read -r dir; do
      if [ "$KSCERT_BACKUP_ACTION" = list ]; then record "$dir" "$(backup_state "$dir")"; else read_back "$dir"; fi
    done
  ;;
prune)
  case $KSCERT_BACKUP_KEEP in '' | *[!0-9]*) fail "kscert_backup_keep is $KSCERT_BACKUP_KEEP: it is a number" ;; esac
  prune
  prune_records
  ;;
*) fail "kscert_backup_action is $KSCERT_BACKUP_ACTION: use list, verify or prune" ;;
esac
echo '@@END'
