# Takes the certificates that another node has signed (sign.sh).
need_backup
open_stage "$dir"
printf '%s\n' "$KSCERT_ISSUED" >"$stage/issued"
while IFS='|' read -r name data; do
  printf '%s' "$data" | base64 -d >"$stage/new.pem"
  take "$(readlink -f "$name")" "${name%.pem}-key.pem"
done <"$stage/issued"
