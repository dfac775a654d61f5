# The kubeconfig of a bootstrap, which holds a token. One of ours says so in its
# first line.
# shellcheck shell=sh disable=SC2034,SC2154
bootstrap=$conf/bootstrap-kubelet.conf
mark='# written by kscertctl for one bootstrap'

# bootstrap_gone: removes ours. One of somebody else's, whose place ours took, lies
# in the backup and is put back.
bootstrap_gone() {
  [ "$(head -n 1 "$bootstrap" 2>/dev/null)" = "$mark" ] || return 0
  ! checking "remove $bootstrap" || return 0
  theirs=$KSCERT_BACKUP_DIR/files$bootstrap
  if [ -f "$theirs" ] && [ "$(head -n 1 "$theirs")" != "$mark" ]; then
    cp -aT "$theirs" "$(beside "$bootstrap")"
    settle "$(beside "$bootstrap")" "$bootstrap"
  else
    rm -f "$bootstrap"
  fi
  changed "removed the kubeconfig of a bootstrap"
}
