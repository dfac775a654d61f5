# The lock of a cluster: a file that exists while a run is at work. It holds the owner as one line
# of JSON, and its time is the owner's last heartbeat. Of two runs that try to take it at the same
# moment one succeeds.
#
# Prints "@@LOCK STATE AGE JSON" and "@@END"; see docs/reference/lock.md.
set -u
umask 077
LC_ALL=C
export LC_ALL

fail() {
  printf 'kscertctl: %s\n' "$*" >&2
  exit 1
}

# run_of FILE: the run that a lock names.
run_of() { sed -n 's/.*"run": *"\([^"]*\)".*/\1/p' "$1" 2>/dev/null | head -n 1; }

# tell STATE [FILE]: prints the state, and the lock if there is one.
tell() {
  age=0 text=-
  if [ -n "${2:-}" ] && text=$(head -n 1 "$2" 2>/dev/null); then
    age=$(($(date +%s) - $(stat -c %Y "$2" 2>/dev/null || date +%s)))
  fi
  printf '@@LOCK %s %s %s\n@@END\n' "$1" "$age" "${text:--}"
  exit 0
}

cluster=$KSCERT_LOCK_CLUSTER
if [ -z "$cluster" ]; then
  for ca in "$KSCERT_CONFIG_DIR/ssl/ca.crt" "$KSCERT_CONFIG_DIR/pki/ca.crt"; do
    [ ! -f "$ca" ] || break
  done
  # Its public key, which a re-issued CA keeps: ClusterID of orchestrator/run.
  if key=$(openssl x509 -in "$ca" -noout -pubkey 2>/dev/null); then
    cluster=$(printf '%s\n' "$key" | openssl pkey -pubin -outform DER 2>/dev/null | sha256sum | cut -c1-16)
  fi
fi
case $cluster in
'' | *[!0-9a-f]*) fail "the cluster is not known by its ca.crt: name it with kscert_lock_cluster" ;;
esac
lock=$KSCERT_STATE_DIR/lock-$cluster

# take: creates the lock with its content in one step; fails if there is one.
take() {
  new=$(mktemp "$KSCERT_STATE_DIR/.lock-XXXXXX") || fail "cannot write below $KSCERT_STATE_DIR"
  trap 'rm -f "$new"' EXIT
  { printf '%s\n' "$KSCERT_LOCK_OWNER" >"$new" && sync "$new"; } || fail "cannot write below $KSCERT_STATE_DIR"
  if ln -T "$new" "$lock" 2>/dev/null; then return 0; fi
  [ -e "$lock" ] || fail "cannot write $lock"
  return 1
}

# remove RUN: removes the lock if it names the run (any, if empty).
remove() {
  [ -e "$lock" ] || return 1
  [ -z "$1" ] || [ "$(run_of "$lock")" = "$1" ] || return 1
  was=$(head -n 1 "$lock")
  rm -f "$lock"
}

# ours: the lock names the run and, if kscertctl holds it, this owner: another machine may have
# resumed the run.
ours() {
  [ "$(run_of "$lock")" = "$KSCERT_LOCK_RUN" ] || return 1
  case $KSCERT_LOCK_OWNER in *'"pid"'*) [ "$(head -n 1 "$lock")" = "$KSCERT_LOCK_OWNER" ] ;; esac
}

# seen: the lock is still the one that was seen. So of two machines that resume a run, one gets it.
seen() {
  [ -z "$KSCERT_LOCK_SEEN" ] ||
    [ "$(head -n 1 "$lock" 2>/dev/null | sha256sum | cut -c1-64)" = "$KSCERT_LOCK_SEEN" ]
}

case $KSCERT_LOCK_ACTION in
acquire | release | break)
  # Reading and changing the lock happen under a mutex.
  mkdir -p "$KSCERT_STATE_DIR" || fail "cannot make $KSCERT_STATE_DIR"
  exec 9>"$KSCERT_STATE_DIR/.mutex" || fail "cannot write below $KSCERT_STATE_DIR"
  flock -w 10 9 || fail "another command handles the lock in $KSCERT_STATE_DIR at this moment"
  rm -f "$KSCERT_STATE_DIR"/.lock-*
  ;;
esac
case $KSCERT_LOCK_ACTION in
acquire)
  [ -n "$KSCERT_LOCK_RUN" ] || fail 'acquire needs kscert_lock_run'
  if [ -n "$KSCERT_LOCK_REPLACE" ] && seen; then remove "$KSCERT_LOCK_REPLACE" || :; fi
  if take; then tell acquired "$lock"; fi
  tell held "$lock"
  ;;
heartbeat)
  if [ -n "$KSCERT_LOCK_RUN" ] && ours && touch -c "$lock"; then
    tell beaten "$lock"
  fi
  tell lost "$lock"
  ;;
release | break)
  [ "$KSCERT_LOCK_ACTION" = break ] || [ -n "$KSCERT_LOCK_RUN" ] || fail 'release needs kscert_lock_run'
  [ -e "$lock" ] || tell absent
  if { [ "$KSCERT_LOCK_ACTION" = break ] || ours; } && remove "$KSCERT_LOCK_RUN"; then
    state=released
    [ "$KSCERT_LOCK_ACTION" = release ] || state=broken
    printf '@@LOCK %s 0 %s\n@@END\n' "$state" "$was"
    exit 0
  fi
  [ -e "$lock" ] || tell absent
  tell held "$lock"
  ;;
show)
  [ -e "$lock" ] || tell absent
  tell held "$lock"
  ;;
*) fail "kscert_lock_action is $KSCERT_LOCK_ACTION: use acquire, heartbeat, release, show or break" ;;
esac
