# Refuses what cannot be restored: a backup that is missing, incomplete or changed, or one whose
# manifest is not the one that was recorded elsewhere.
case $KSCERT_RESTORE_RUN in
'' | */* | .*) fail "kscert_restore_run is '$KSCERT_RESTORE_RUN': name the run whose backup is to be restored" ;;
esac
from=$KSCERT_BACKUP_ROOT/$KSCERT_RESTORE_RUN
state=$(backup_state "$from")
[ "$state" = complete ] ||
  fail "the backup in $from is $state: nothing is restored from it (kscert_hosts names the nodes that have one)"
wrong=$(wrong_with "$from" 2>&1)
[ -z "$wrong" ] || fail "the backup in $from is damaged, nothing is restored from it: $wrong"
[ -z "$KSCERT_RESTORE_MANIFEST" ] || [ "$KSCERT_RESTORE_MANIFEST" = "$(sha256 "$from/MANIFEST")" ] ||
  fail "$from/MANIFEST differs from the one recorded when the backup was taken: nothing is restored from it"
