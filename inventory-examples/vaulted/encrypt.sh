#!/bin/sh
# Makes the vaulted files of this inventory. PASSWORD_FILE holds the vault's password,
# BECOME_PASSWORD_FILE what sudo asks for on the nodes.
#
#   encrypt.sh PASSWORD_FILE BECOME_PASSWORD_FILE
set -eu

vault=$(realpath "${1:?a file with the password of the vault}")
become=$(cat "${2:?a file with the become password}")
cd "$(dirname "$0")"

mkdir -p host_vars
printf "vault_become_password: '%s'\n" "$become" |
	ansible-vault encrypt --vault-password-file "$vault" --output group_vars/all/vault.yml
{
	echo 'ansible_host: 192.0.2.231'
	printf 192.0.2.232 | ansible-vault encrypt_string --vault-password-file "$vault" --stdin-name ip
} >host_vars/cp1.yml
