# Replaces CA certificates in every file and kubeconfig of this node. The script before it has
# renewed FILE, which leaves in $stage/renewed the new content of a file, and in $followed the names of
# the CAs whose certificates it replaces; or fails if there is nothing to replace.
# shellcheck shell=sh disable=SC2154

# in_kubeconfig FILE: renewed for certificates embedded in a kubeconfig, or in kubectl's JSON of
# one.
in_kubeconfig() {
  found=$(runs "$1") || return 1
  rm -f "$stage"/run.*
  n=0 all=''
  while read -r from length run; do
    text_of "$run" >"$stage/text" || continue
    renewed "$stage/text" || continue
    n=$((n + 1)) all="$all$followed"
    one_line <"$stage/renewed" >"$stage/run.$n"
    printf '%s %s run.%s\n' "$from" "$length" "$n" >>"$stage/run.list"
  done <<END
$found
END
  [ "$n" -gt 0 ] || return 1
  splice "$1" "$stage" <"$stage/run.list" >"$stage/kubeconfig" || return 1
  followed=$all
}

# reads_alike FILE: kubectl reads $stage/kubeconfig like FILE, except for these certificates.
reads_alike() {
  ! as_kubeadm_writes "$1" || return 0
  mv "$stage/kubeconfig" "$stage/written"
  {
    as_kubectl "$1" >"$stage/reads" && in_kubeconfig "$stage/reads" &&
      as_kubectl "$stage/written" | cmp -s - "$stage/kubeconfig"
  } || return 1
  mv "$stage/written" "$stage/kubeconfig"
}

left() { printf 'left: %s: %s\n' "$1" "$2"; }

# take NEW FILE: NEW replaces FILE. The kubelet reads the CA of the API server only once: the mark
# requests a restart and stays until then.
take() {
  ! checking "put the new certificate of$followed into $2" || return 0
  case "$followed " in *' kubernetes-ca '*) [ ! -f "$kubelet_conf" ] || : >"$kubelet/.kscertctl.restart" ;; esac
  place "$1" "$2"
  changed "$2"
}

certificate_files | while IFS= read -r file; do
  [ ! -f "$file" ] || readlink -f "$file"
done | sort -u >"$stage/files"
places=$(covered)
while IFS= read -r file; do
  renewed "$file" || continue
  if printf '%s\n' "$places" |
    awk -v file="$file" 'index(file, $0 "/") == 1 || file == $0 {found = 1} END {exit !found}'; then
    take "$stage/renewed" "$file"
  else
    left "$file" "it holds the old certificate of$followed, and no backup covers it: replace it there"
  fi
done <"$stage/files"

for file in "$conf"/*.conf "$home"; do
  { [ -f "$file" ] && in_kubeconfig "$file"; } || continue
  if led_astray "$file"; then
    left "$file" "$refused"
  elif reads_alike "$file"; then
    take "$stage/kubeconfig" "$file"
  else
    left "$file" 'it holds the old certificate of a CA, and is written in a way that is not edited here'
  fi
done

{ [ -f "$kubelet_conf" ] && restart_due; } || exit 0
# It gets a certificate of the new CA first, and is restarted with that.
[ "${KSCERT_CA_STAGE:-}" != replace ] || exit 0
! checking 'restart the kubelet' || exit 0
begin_again
