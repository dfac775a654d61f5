#!/bin/sh
# Ansible: "throttle: 1" around a restart and its check restarts all hosts before any check.
#
# Versions  ansible-core 2.14.18 (Debian 12, 2.14.18-0+deb12u2)
# Guess     Members of etcd are restarted one by one: a block with throttle: 1 restarts a
#           member, waits until it is healthy, and notifies a handler. One host at a time
#           passes the block, as each does with serial: 1. If not with the default strategy,
#           then with free or host_pinned, where a host does not wait for others. What the
#           block notifies runs with its throttle.
# Seen      Of three hosts, restarted before the first check, and handlers at the same time:
#             throttle: 1 on the block   3            several
#             throttle: 1 on the play    3            1
#             the same, free             2 or 3       1
#             the same, host_pinned      2 or 3       1
#             serial: 1                  1            1
#           The limit is per task: one host restarts at a time, and the next one does when the
#           first has restarted, not when it is healthy. A handler has none but the play's.
# So        A cluster of three loses its quorum with it. Only serial: 1 is one host at a time,
#           or one task that restarts and waits.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

for p in ansible-core=2.14.18-0+deb12u2 python3-cryptography=38.0.4-3+deb12u1 python3-cffi-backend=1.15.1-5+b1 \
	python3-jinja2=3.1.2-1+deb12u3 python3-markupsafe=2.1.2-1+b1 python3-packaging=23.0-1 \
	python3-resolvelib=0.9.0-2 python3-yaml=6.0-3+b2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
for p in *.deb; do dpkg -x "$p" root; done
export PYTHONPATH="$t/root/usr/lib/python3/dist-packages" LC_ALL=C.UTF-8
export ANSIBLE_CONFIG="$t/ansible.cfg" ANSIBLE_HOME="$t/home"
: >ansible.cfg
cat >inventory <<'EOF'
etcd1
etcd2
etcd3
[all:vars]
ansible_connection=local
ansible_python_interpreter=/usr/bin/python3
EOF

# play STRATEGY PLAY BLOCK: restarts until the first check, and whether handlers ran at the same time
play() {
	cat >play.yml <<EOF
- hosts: all
  gather_facts: false
  strategy: $1
  $2
  tasks:
    - name: restart one by one
      $3
      block:
        - ansible.builtin.shell: echo restart >>$t/log; sleep 1
          notify: reload
        - ansible.builtin.shell: echo check >>$t/log; sleep 1
  handlers:
    - name: reload
      ansible.builtin.shell: echo begin >>$t/log; sleep 3; echo end >>$t/log
EOF
	: >log
	/usr/bin/python3 root/usr/bin/ansible-playbook -i inventory play.yml >out 2>&1 || { cat out; exit 1; }
	awk '/restart/ && !checks { n++ }
		/check/ { checks++ }
		/begin/ && ++now > most { most = now }
		/end/ { now-- }
		END { print n, "restarted,", (most > 1 ? "several handlers" : "one handler") }' log
}

# is WHAT WANT GOT: WANT is a pattern
is() {
	printf '%s: %s\n' "$1" "$3"
	# shellcheck disable=SC2254 # a pattern
	case $3 in
	$2) ;;
	*)
		printf 'CHANGED, it was: %s\n' "$2"
		exit 1
		;;
	esac
}

is 'throttle on the block' '3 restarted, several handlers' "$(play linear 'order: inventory' 'throttle: 1')"
is 'throttle on the play' '3 restarted, one handler' "$(play linear 'throttle: 1' 'vars: {}')"
is 'throttle, free' '[23] restarted, one handler' "$(play free 'throttle: 1' 'vars: {}')"
is 'throttle, host_pinned' '[23] restarted, one handler' "$(play ansible.builtin.host_pinned 'throttle: 1' 'vars: {}')"
is 'serial' '1 restarted, one handler' "$(play linear 'serial: 1' 'vars: {}')"
