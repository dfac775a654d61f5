# Copies what may be changed into the backup folder, reads it back, and only
# then gives the folder its name: a folder without ".partial" is verified.
dir=$KSCERT_BACKUP_DIR
sums=SHA256SUMS

if [ -f "$dir/$sums" ]; then
  (cd "$dir/files" && sha256sum -c --quiet "../$sums") || fail "the backup in $dir is damaged"
  echo "kept: $dir is there and verified"
  exit 0
fi
checking "back up to $dir" && exit 0

pki=$conf/ssl
[ ! -f "$config" ] || pki=$(pki_dir)
set -- "$conf" "$pki" "$kubelet" /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env \
  /etc/ssl/etcd "$KSCERT_ETCD_DIR" /etc/etcd.env /root/.kube/config

need=0
for path in "$@"; do
  [ -e "$path" ] || continue
  need=$((need + $(du -sk "$path" | cut -f1)))
done
mkdir -p "$dir.partial"
chmod 700 "$KSCERT_BACKUP_ROOT" "$dir.partial"
free=$(df -Pk "$dir.partial" | awk 'NR==2{print $4}')
[ "$free" -gt $((need + 10240)) ] || fail "not enough room for a backup below $KSCERT_BACKUP_ROOT: $((need + 10240)) KiB needed, $free KiB free"

attempt=0
while :; do
  attempt=$((attempt + 1))
  cd /
  rm -rf "$dir.partial/files"
  mkdir "$dir.partial/files"
  for path in "$@"; do
    [ -e "$path" ] || continue
    into=$dir.partial/files$(dirname "$path")
    mkdir -p "$into"
    # -a keeps owner, mode, times, links, extended attributes and contexts.
    cp -a "$path" "$into/"
  done
  cd "$dir.partial/files"
  find . -type f -exec sha256sum {} + | sort -k2 >"../$sums"
  find . -printf '%y %m %u:%g %T@ %p -> %l\n' | sort -k5 >../METADATA
  # The copy is what the files are now: not read while something wrote to them.
  if (cd / && sha256sum -c --quiet "$dir.partial/$sums" >/dev/null 2>&1); then break; fi
  [ "$attempt" -lt 3 ] || fail "files below $conf change while they are being backed up"
done
sync
sha256sum -c --quiet "../$sums" || fail "the backup reads back differently from what was written"
cd /
mv "$dir.partial" "$dir"
changed "backed up $(wc -l <"$dir/$sums") files to $dir"
