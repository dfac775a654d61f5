# Runs on one node that has the key of a CA: prints the next and the former certificate of each CA that is rotated, for
# all nodes.
for name in $KSCERT_CAS; do
  rotated "$name"
  # After a rollback there are none.
  [ "${KSCERT_CA_STAGE:-}" != repair ] || [ -s "$ca_next" ] || continue
  { [ -s "$ca_next" ] && [ -s "$ca_former" ]; } || fail "$ca_next does not exist: run the stage \"make\" first"
  cross=
  [ ! -f "$ca_cross" ] || cross=$(one_line <"$ca_cross")
  printf 'rotated: %s|%s|%s|%s\n' "$name" "$(one_line <"$ca_next")" "$(one_line <"$ca_former")" "$cross"
done
