# Runs on each node that has a key of a CA when nothing trusts the former CA: removes the files of the
# rotation.
need_backup
open_own_stage
given
for name in $rotating; do
  rotated "$name"
  [ -e "$ca_next" ] || continue
  ! checking "remove $ca_former" || continue
  { pair "$ca" "$ca_key" && [ "$(fingerprint "$ca")" = "$(fingerprint "$stage/next.$name")" ]; } ||
    fail "$ca is not the next $name with its key"
  rm -f "$ca_cross" "$ca_former" "$ca_next_key" "$ca_next" "$trusted_since"
  changed "$ca_next"
done
