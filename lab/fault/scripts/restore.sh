# Puts back what differs from the kept copies, with mode, owner and times, and
# removes what is new. What is as it was is not touched: a kubelet takes a
# manifest that goes and comes back for another pod.
kept=/var/lib/lab-fault
[ -d "$kept" ] || exit 0
cd "$kept" || exit
find . -mindepth 1 \( -type f -o -type l \) -print0 | while IFS= read -r -d '' f; do
  if [ -L "$f" ]; then
    [ "$(readlink "$f")" = "$(readlink "/$f" || true)" ] || cp -a --remove-destination "$f" "/$f"
  elif ! cmp -s "$f" "/$f" || [ "$(stat -c '%a %u:%g %Y' "$f")" != "$(stat -c '%a %u:%g %Y' "/$f")" ]; then
    case $f in
    # At once: a kubelet complains of half a manifest.
    */manifests/*) cp -a "$f" "/${f%/*}/.restored" && mv "/${f%/*}/.restored" "/$f" ;;
    # In place: the API server watches the file that it has, and may need a
    # minute to notice another one of its name.
    *) cp -a "$f" "/$f" ;;
    esac
  fi
done
for d in etc/kubernetes etc/ssl/etcd etc/sudoers.d etc/cni/net.d var/lib/kubelet/pki root etc/calico; do
  [ -d "/$d" ] || continue
  find "/$d" -path /root/.kube/cache -prune -o \( -type f -o -type l \) -print | while IFS= read -r f; do
    [ -e ".$f" ] || [ -L ".$f" ] || rm -f "$f"
  done
done
# Times of directories last: writing into them has changed them.
find . -mindepth 1 -type d -print0 | while IFS= read -r -d '' d; do
  [ ! -d "/$d" ] || touch -r "$d" "/$d"
done
cd /
rm -rf "$kept"
