# Runs on control planes that get the next CA from another one (make.sh): makes a one-off pair to which
# the key is encrypted on its way, and prints its public part. Its private part is removed when the key
# has arrived (take.sh), or by the next run.
need_backup
sweep
! checking 'receive the next CA' || exit 0
mkdir "$pki/.kscertctl.receive"
quietly openssl req -x509 -newkey rsa:3072 -nodes -keyout "$pki/.kscertctl.receive/key" \
  -out "$pki/.kscertctl.receive/crt" -subj /CN=receiver -days 2
printf 'receiver: %s\n' "$(one_line <"$pki/.kscertctl.receive/crt")"
