# A snapshot of etcd through its JSON gateway, which needs nothing but openssl.
# The stream is what "etcdctl snapshot save" writes: the database, then its
# SHA-256 (etcd, server/etcdserver/api/v3rpc/maintenance.go). It is an addition to
# the backup: where it cannot be had, the backup says why and is complete without.
# shellcheck shell=sh disable=SC2034,SC2154

# etcd_post PATH SECONDS: etcd's answer, without its headers.
etcd_post() {
  printf 'POST %s HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}' "$1" |
    client "$2" -quiet -verify_return_error -CAfile "$etcd_ca" \
      -cert "$etcd_cert" -key "$etcd_key" -connect 127.0.0.1:2379 2>/dev/null |
    sed -n '/^{/p'
}

# etcd_client: finds this node's client certificate for its own etcd.
etcd_client() {
  pki=$(pki_or_default)
  etcd_ca=$KSCERT_ETCD_DIR/ca.pem
  for etcd_cert in "$KSCERT_ETCD_DIR"/admin-*.pem; do
    etcd_key=${etcd_cert%.pem}-key.pem
    [ ! -f "$etcd_cert" ] || [ ! -f "$etcd_key" ] || return 0
  done
  etcd_ca=$pki/etcd/ca.crt etcd_cert=$pki/etcd/healthcheck-client.crt etcd_key=$pki/etcd/healthcheck-client.key
  [ -f "$etcd_cert" ]
}

# etcd_snapshot FILE: saves it. $why says what was in the way, and is empty where
# there is no etcd.
etcd_snapshot() {
  why=
  [ "$KSCERT_ETCD_SNAPSHOT_SECONDS" -gt 0 ] && etcd_client || return 0
  # A member without a quorum keeps silent for as long as one listens.
  bytes=$(etcd_post /v3/maintenance/status 10 | sed -n 's/.*"dbSize":"\([0-9]*\)".*/\1/p')
  if [ -z "$bytes" ]; then
    why='no snapshot: etcd does not answer on 127.0.0.1:2379'
    return 0
  fi
  room=$(df -Pk "${1%/*}" | awk 'NR == 2 {print $4}')
  # Not into the last of it: what comes after the backup needs room, too.
  if [ "$room" -lt $((bytes / 1024 + 262144)) ]; then
    why="no snapshot: $((bytes / 1024)) KiB would leave less than 256 MiB of $room KiB free"
    return 0
  fi
  # A group in the expression would take sed ten times as long.
  etcd_post /v3/maintenance/snapshot "$KSCERT_ETCD_SNAPSHOT_SECONDS" |
    sed -n '/"blob":"/{s/.*"blob":"//;s/".*//p;}' | base64 -d >"$1.new" || :
  if [ "$(head -c -32 "$1.new" | sha256sum | cut -d ' ' -f 1)" = "$(tail -c 32 "$1.new" | od -An -v -tx1 | tr -d ' \n')" ]; then
    mv "$1.new" "$1"
  else
    rm -f "$1.new"
    why="no snapshot: etcd's was cut off, or took longer than $KSCERT_ETCD_SNAPSHOT_SECONDS seconds"
  fi
}
