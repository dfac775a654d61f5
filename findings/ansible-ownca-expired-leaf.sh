#!/bin/sh
# Running the playbook again does not re-issue an expired certificate of x509_certificate.
#
# Versions  community.crypto 2.14.0 (Debian ansible 7.7.0+dfsg-3+deb12u1),
#           ansible-core 2.14.18, python3-cryptography 38.0.4
# Guess     A playbook makes a certificate with the provider ownca and a relative
#           ownca_not_after. Modules are about state: once the certificate has expired,
#           the next run of the same playbook finds that and issues a new one.
# Seen      "changed": false, also with ownca_not_after: +365d, and the expired certificate
#           stays. The module compares key, subject, extensions and issuer. It compares
#           dates only with ignore_timestamps: false and absolute dates, and does not
#           check whether the certificate is valid today. With
#           x509_certificate_info and "force" on its field "expired" it is re-issued.
# So        A scheduled run of such a playbook is green to the day of the outage, and
#           green after it.
set -eu
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
trap 'exit 1' HUP INT TERM
cd "$t"

for p in ansible=7.7.0+dfsg-3+deb12u1 ansible-core=2.14.18-0+deb12u2 \
	python3-cryptography=38.0.4-3+deb12u1 python3-cffi-backend=1.15.1-5+b1 python3-jinja2=3.1.2-1+deb12u3 \
	python3-markupsafe=2.1.2-1+b1 python3-packaging=23.0-1 python3-resolvelib=0.9.0-2 python3-yaml=6.0-3+b2; do
	apt-get -qq -o APT::Sandbox::User=root download "$p"
done
mkdir root
lib=./usr/lib/python3/dist-packages
for p in *.deb; do
	case $p in
	ansible_*) dpkg-deb --fsys-tarfile "$p" | tar -xC root "$lib/ansible_collections/community/crypto" ;;
	*) dpkg -x "$p" root ;;
	esac
done
export PYTHONPATH="$t/root/usr/lib/python3/dist-packages"
export ANSIBLE_COLLECTIONS_PATH="$t/root/usr/lib/python3/dist-packages"
export ANSIBLE_CONFIG="$t/ansible.cfg" ANSIBLE_HOME="$t/home" ANSIBLE_LOCALHOST_WARNING=0 LC_ALL=C.UTF-8

: >ansible.cfg
cat >play.yml <<'EOF'
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: /usr/bin/python3
  module_defaults:
    community.crypto.openssl_privatekey: {type: ECC, curve: secp256r1}
  tasks:
    - community.crypto.openssl_privatekey: {path: ca.key}
    - community.crypto.openssl_csr:
        path: ca.csr
        privatekey_path: ca.key
        common_name: kubernetes
        use_common_name_for_san: false
        basic_constraints: ["CA:TRUE"]
        basic_constraints_critical: true
    - community.crypto.x509_certificate:
        path: ca.crt
        csr_path: ca.csr
        privatekey_path: ca.key
        provider: selfsigned
        selfsigned_not_after: +10d
    - community.crypto.openssl_privatekey: {path: leaf.key}
    - community.crypto.openssl_csr: {path: leaf.csr, privatekey_path: leaf.key, common_name: localhost}
    - community.crypto.x509_certificate_info: {path: leaf.crt}
      register: info
      when: ask is defined
    - community.crypto.x509_certificate:
        path: leaf.crt
        csr_path: leaf.csr
        provider: ownca
        ownca_path: ca.crt
        ownca_privatekey_path: ca.key
        ownca_not_before: -2h
        ownca_not_after: "{{ after }}"
        force: "{{ info.expired | default(false) }}"
      register: leaf
    - community.crypto.x509_certificate_info: {path: leaf.crt}
      register: info
    - debug:
        msg: "changed={{ leaf.changed }} expired={{ info.expired }}"
EOF

# run WHAT WANT VARIABLE...
run() {
	what=$1 want=$2
	shift 2
	for v; do set -- "$@" -e "$v" && shift; done
	/usr/bin/python3 root/usr/bin/ansible-playbook -i localhost, "$@" play.yml >log 2>&1 || { cat log; exit 1; }
	got=$(grep -o 'changed=[TF][a-z]* expired=[TF][a-z]*' log)
	printf '%s: %s\n' "$what" "$got"
	[ "$got" = "$want" ] || { printf 'CHANGED, it was: %s\n' "$want"; exit 1; }
}

run 'issued, expired an hour ago' 'changed=True expired=True' after=-1h
run 'again, for a year' 'changed=False expired=True' after=+365d
run 'asked first' 'changed=True expired=False' after=+365d ask=1
