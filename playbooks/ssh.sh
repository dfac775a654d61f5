#!/bin/sh
# ssh for inspections: of a node's answer at most the first 5 MiB count. Ansible keeps an answer in
# memory several times over, however long it is. The rest is read and dropped, so that ssh exits
# normally; after 1 GiB the node is given up.
#
# The first pieces are passed on as they come, because Ansible waits for a prompt of sudo; head
# keeps what it reads until a block is full.
#
# KSCERT_SSH_ATTEMPTS is how often ssh tries to connect, whatever Ansible's configuration sets: of
# an option that is given twice, ssh takes the first.
[ -z "${KSCERT_SSH_ATTEMPTS-}" ] || set -- -o "ConnectionAttempts=$KSCERT_SSH_ATTEMPTS" "$@"
exec 3>&1
status=$({
  { ssh "$@" 3>&- 4>&-; echo $? >&4; } |
    { { dd bs=512 count=16 2>/dev/null; head -c 5234688; } >&3 && exec head -c 1073741824 >/dev/null; }
} 4>&1)
exit "$status"
