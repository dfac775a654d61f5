# A snapshot of etcd through its JSON gateway, with openssl alone. The stream is what "etcdctl
# snapshot save" writes: the database, then its SHA-256 (etcd,
# server/etcdserver/api/v3rpc/maintenance.go). The snapshot is optional: unless it was required, the
# backup is complete without it, and reports why.
# shellcheck shell=sh disable=SC2034,SC2154

# etcd_post PATH SECONDS: etcd's answer, without its headers.
etcd_post() {
  printf 'POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}' "$1" |
    client "$2" -quiet -verify_return_error -CAfile "$etcd_ca" \
      -cert "$etcd_cert" -key "$etcd_key" -connect "$etcd_address" 2>/dev/null |
    sed -n '/^{/p'
}

# etcd_client: finds this node's client certificate for its own etcd.
etcd_client() {
  pki=$(pki_or_default)
  etcd_at "$(of_etcd listen-client-urls)" 2379
  etcd_address=$value
  etcd_ca=$KSCERT_ETCD_DIR/ca.pem
  for etcd_cert in "$KSCERT_ETCD_DIR"/admin-*.pem; do
    etcd_key=${etcd_cert%.pem}-key.pem
    [ ! -f "$etcd_cert" ] || [ ! -f "$etcd_key" ] || return 0
  done
  etcd_ca=$pki/etcd/ca.crt etcd_cert=$pki/etcd/healthcheck-client.crt etcd_key=$pki/etcd/healthcheck-client.key
  [ -f "$etcd_cert" ]
}

# A plan uses the same numbers (orchestrator/plan/etcdsnapshot.go): MiB saved per second, an
# estimate, and MiB that stay free for what comes after.
etcd_pace=20
etcd_spare=256

# etcd_choose NEED FREE: whether a snapshot is saved, when files need so many KiB of those that are
# free. Leaves its size in $bytes, empty for none, and in $why what prevented it; both are empty if
# there is no etcd.
etcd_choose() {
  why='' bytes='' mib=0 took=0
  case $KSCERT_ETCD_SNAPSHOT in
  auto | always | never) ;;
  *) fail "kscert_etcd_snapshot is $KSCERT_ETCD_SNAPSHOT: use auto, always or never" ;;
  esac
  etcd_client || return 0
  if [ "$KSCERT_ETCD_SNAPSHOT" = never ]; then
    why='no snapshot: none was asked for'
    return 0
  fi
  # A member without a quorum does not answer at all.
  bytes=$(etcd_post /v3/maintenance/status 10 | sed -n 's/.*"dbSize":"\([1-9][0-9]\{0,14\}\)".*/\1/p')
  if [ -z "$bytes" ]; then
    etcd_without "$(etcd_silence)"
    return 0
  fi
  mib=$(((bytes + 1048575) / 1048576))
  took=$(((mib + etcd_pace - 1) / etcd_pace))
  all=$(($1 / 1024 + 1 + mib + etcd_spare))
  if [ "$all" -gt $(($2 / 1024)) ]; then
    has="but $KSCERT_BACKUP_ROOT has $(($2 / 1024)) MiB"
    etcd_without "with the files it needs $all MiB, of which $etcd_spare stay free, $has"
  elif [ "$KSCERT_ETCD_SNAPSHOT" = auto ] && [ "$took" -gt "$KSCERT_ETCD_SNAPSHOT_SECONDS" ]; then
    etcd_without "$mib MiB would take about $took s, longer than $KSCERT_ETCD_SNAPSHOT_SECONDS s"
  fi
}

# etcd_silence: why etcd does not report its size.
etcd_silence() {
  message=$(cat "$root/etc/etcd.env" "$conf/manifests/etcd.yaml" 2>/dev/null || :)
  if printf '%s\n' "$message" | grep -Eq '^ETCD_LISTEN_CLIENT_HTTP_URLS=.|--listen-client-http-urls=.'; then
    echo 'etcd has another port for HTTP (listen-client-http-urls)'
  elif printf '%s\n' "$message" | grep -Eq '^ETCD_ENABLE_GRPC_GATEWAY=.?false|--enable-grpc-gateway=false'; then
    echo "etcd's JSON gateway is switched off (enable-grpc-gateway)"
  else
    echo "etcd does not answer on $etcd_address"
  fi
}

# etcd_without WHY: continues without a snapshot, unless one is required.
etcd_without() {
  bytes='' why="no snapshot: $1"
  [ "$KSCERT_ETCD_SNAPSHOT" != always ] || fail "no backup without a snapshot of etcd: $1." \
    "Fix that, or allow skipping it with --etcd-snapshot auto (by hand: -e kscert_etcd_snapshot=auto)"
}

# etcd_save FILE: saves the snapshot that was chosen. A required one may take four times as long as
# estimated, on top of the limit for any.
etcd_save() {
  [ -n "$bytes" ] || return 0
  limit=$KSCERT_ETCD_SNAPSHOT_SECONDS
  [ "$KSCERT_ETCD_SNAPSHOT" != always ] || limit=$((limit + 4 * took))
  # A group in the expression would make sed ten times slower. etcd may have grown, but not into all
  # of the space that stays free.
  etcd_post /v3/maintenance/snapshot "$limit" | sed -n '/"blob":"/{s/.*"blob":"//;s/".*//p;}' | base64 -d 2>/dev/null |
    head -c $((bytes + etcd_spare * 524288)) >"$1.new" || :
  if [ "$(head -c -32 "$1.new" | sha256sum | cut -d ' ' -f 1)" = \
    "$(tail -c 32 "$1.new" | od -An -v -tx1 | tr -d ' \n')" ]; then
    mv "$1.new" "$1"
  else
    rm -f "$1.new"
    etcd_without "etcd's was cut off, or took longer than $limit s"
  fi
}
