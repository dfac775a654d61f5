# Runs on nodes that get the next CA from another one (make.sh), those with a key of a CA that is made
# there, or, where the key may be lost (KSCERT_CA_OFFLINE), with its certificate: makes a one-off pair to which the key is encrypted on its way, and prints its public part. Its
# private part is removed when the key has arrived (take.sh), or by the next run.
need_backup
sweep
holds=
for name in $KSCERT_CAS; do
  rotated "$name"
  if [ -f "$ca_key" ] || { [ "${KSCERT_CA_OFFLINE:-}" = True ] && [ -f "$ca" ]; }; then holds="$holds,$name"; fi
done
[ -n "$holds" ] || exit 0
! checking 'receive the next CA' || exit 0
mkdir "$received"
quietly openssl req -x509 -newkey rsa:3072 -nodes -keyout "$received/key" -out "$received/crt" -subj /CN=receiver -days 2
printf 'receiver: %s|%s\n' "$(one_line <"$received/crt")" "${holds#,}"
