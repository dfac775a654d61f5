# Runs on a control plane: prints the next and the former certificate of each CA that is rotated, for
# all nodes.
for name in $KSCERT_CAS; do
  rotated "$name"
  # After a rollback there are none.
  [ "${KSCERT_CA_STAGE:-}" != repair ] || [ -s "$base-next.crt" ] || continue
  { [ -s "$base-next.crt" ] && [ -s "$base-former.crt" ]; } ||
    fail "$base-next.crt does not exist: run the stage \"make\" first"
  cross=
  [ ! -f "$base-cross.crt" ] || cross=$(one_line <"$base-cross.crt")
  printf 'rotated: %s|%s|%s|%s\n' "$name" "$(one_line <"$base-next.crt")" "$(one_line <"$base-former.crt")" "$cross"
done
