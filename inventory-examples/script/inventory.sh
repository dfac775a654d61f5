#!/bin/sh
# A dynamic inventory: Ansible calls it with --list and reads the JSON that it prints.
#
# This one makes it of a table, where others ask a database. It must be executable.
#
#   kscertctl diagnose -i inventory-examples/script/inventory.sh
set -eu

[ "${1-}" = --list ] || {
	echo '{}' # of --host NAME: all variables are in --list
	exit 0
}

awk '
	$1 ~ /^#|^$/ { next }
	{
		hosts[$2] = hosts[$2] separator[$2] "\"" $1 "\""
		separator[$2] = ", "
		vars = vars comma "\"" $1 "\": {\"ansible_host\": \"" $3 "\", \"ip\": \"" $3 "\", \"access_ip\": \"" $4 "\"}"
		comma = ", "
	}
	END {
		printf "{\"_meta\": {\"hostvars\": {%s}}, ", vars
		printf "\"kube_control_plane\": {\"hosts\": [%s]}, ", hosts["control-plane"]
		printf "\"etcd\": {\"children\": [\"kube_control_plane\"]}, "
		printf "\"kube_node\": {\"hosts\": [%s]}, ", hosts["worker"]
		printf "\"all\": {\"vars\": {\"ansible_user\": \"kubespray\", \"ansible_become\": true}}}\n"
	}' "$(dirname "$0")/machines.txt"
