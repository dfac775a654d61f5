# Renews the leaves of Kubespray's host etcd that are due: same key, subject,
# names and usages, signed by etcd's own authority, for as long as before. Where the
# authority's key is not, as on a control plane without an etcd member, it prints
# requests for the node that has it (sign.sh).
[ -f "$dir/ca.pem" ] || exit 0
need_backup
sweep

# A name may lead to another, as that of the first control plane's client
# certificate does on those that joined; each file once.
due=
seen=
for name in "$dir"/member-*.pem "$dir"/admin-*.pem "$dir"/node-*.pem; do
  case $name in *-key.pem) continue ;; esac
  [ -f "$name" ] || continue
  cert=$(readlink -f "$name")
  case "$seen " in *" $cert "*) continue ;; esac
  seen="$seen $cert"
  ends_within "$cert" "$seconds" && due="$due $name"
done
[ -n "$due" ] || exit 0

here=
if [ -f "$dir/ca-key.pem" ]; then
  here=yes
  check_etcd_authority
fi
for name in $due; do would_renew "$(readlink -f "$name")" || break; done
[ "$KSCERT_CHECK" != True ] || exit 0
open_stage "$dir"

for name in $due; do
  cert=$(readlink -f "$name")
  key=${name%.pem}-key.pem
  [ -f "$key" ] || fail "$key does not exist"
  pair "$cert" "$key" || fail "$key does not belong to $cert"
  request "$cert" "$key"
  if [ -n "$here" ]; then
    sign
    take "$cert" "$key"
  else
    printf 'request: %s|%s|%s|%s|%s\n' "$name" "$days" "$usage" "$names" "$(base64 <"$stage/request" | tr -d '\n')"
  fi
done
