# Runs on the only control plane: new CAs, all that they sign there, and all kubeconfigs, as
# "kubeadm init phase certs all" and "kubeadm init phase kubeconfig all" make them for an empty directory,
# from the node's own configuration. They are made in a stage, checked, and take the place of the present
# ones. The service account keys and the CA of etcd stay. The stage "replace" follows.
need_backup
sweep
! checking 'make new CAs, and all certificates and kubeconfigs, with kubeadm' || exit 0
open_stage "$conf"
stage_config
init() { quietly timeout 300 kubeadm init phase "$@" --config "$stage/kubeadm.yaml"; }

for file in sa.key sa.pub; do cp "$pki/$file" "$stage/pki/$file"; done
for name in ca front-proxy-ca; do rm -f "$stage/pki/$name.crt" "$stage/pki/$name.key"; done
for name in $KSCERT_CAS; do
  rotated "$name"
  own=$stage/pki/$(basename "$ca" .crt)
  if made; then # by a run that was interrupted
    cp "$ca_next" "$own.crt"
    cp "$ca_next_key" "$own.key"
    continue
  fi
  [ "$(grep -c '^-----BEGIN CERTIFICATE-----' "$ca")" = 1 ] || fail "$ca does not hold one certificate alone"
  init certs "${own##*/}"
  openssl x509 -in "$ca" -out "$stage/former"
  openssl x509 -in "$own.crt" -out "$stage/next"
  put_next "$stage/former" "$own.key" "$stage/next"
done
init certs all
init kubeconfig all --kubeconfig-dir "$stage/conf"

# All are checked before the first is placed.
due=
for leaf in $leaves; do
  leaf=${leaf%%|*}
  kind_of "$leaf"
  case $kind_ca in ca | front-proxy-ca) ;; *) continue ;; esac
  { [ -f "$pki/$leaf.crt" ] && [ -f "$stage/pki/$leaf.crt" ]; } || continue
  check_successor "$pki/$leaf.crt" "$stage/pki/$leaf.crt" "$stage/pki/$kind_ca.crt" "$pki/$leaf.crt"
  due="$due $leaf"
done
for name in $KSCERT_CAS; do
  rotated "$name"
  replace_ca "$stage/pki/$(basename "$ca" .crt)"
done
for leaf in $due; do
  place_pair "$stage/pki/$leaf" "$pki/$leaf.crt" "$pki/$leaf.key"
  changed "$pki/$leaf.crt"
done
for file in "$stage"/conf/*.conf; do
  in_place=$conf/${file##*/}
  [ -f "$in_place" ] || continue
  server=$(sed -n 's/^ *server: *//p' "$in_place" | head -n 1)
  made_with=$(sed -n 's/^ *server: *//p' "$file" | head -n 1)
  if [ -n "$server" ] && [ "$server" != "$made_with" ]; then
    sed "s|^\( *server: *\).*|\1$server|" "$file" >"$stage/kubeconfig"
    mv "$stage/kubeconfig" "$file"
    noted "$in_place keeps its server $server; kubeadm would write $made_with"
  fi
  place "$file" "$in_place"
  changed "$in_place"
done
