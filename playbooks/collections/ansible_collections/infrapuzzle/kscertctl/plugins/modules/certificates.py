#!/usr/bin/python
"""Documents the action of the same name, which runs on the control node. Nothing runs on the node but a shell."""
from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r'''
---
module: certificates
short_description: reads a node's certificates as facts
version_added: 0.1.0
author:
  - The kscertctl maintainers (@infrapuzzle)
description:
  - Inspects a node as C(kscertctl check-expiration) does, in one round trip, and sets the fact C(kscertctl),
    which is C(ansible_facts.kscertctl).
  - Changes nothing, also in check mode. The node needs no Python. No private key, token or password leaves it.
  - Directories are those of the variables C(kscert_config_dir), C(kscert_bin_dir) and C(kscert_etcd_cert_dir), by default
    the inventory's C(kube_config_dir), C(bin_dir) and C(etcd_cert_dir), as in the role C(infrapuzzle.kscertctl.settings).
    Which components a node has follows from its groups C(kube_control_plane), C(kube_node) and C(etcd).
notes:
  - Set C(become), since certificates and kubeconfigs are readable by root only. Without root, the action fails if it can read
    no certificate, and warns otherwise.
  - Set C(timeout) on the task to give up a node that hangs.
  - Fails if a node cannot be inspected, or if its answer is not what the collector prints.
options: {}
'''

EXAMPLES = r'''
- name: Read the certificates
  infrapuzzle.kscertctl.certificates:
  become: true

- name: Stop if a certificate expires within 30 days
  ansible.builtin.assert:
    that: item.notAfter > limit
    fail_msg: "{{ item.path }} expires at {{ item.notAfter }}"
  loop: "{{ ansible_facts.kscertctl.certificates }}"
  loop_control:
    label: "{{ item.path }}"
  vars:
    limit: "{{ '%Y-%m-%dT%H:%M:%SZ' | strftime(now(utc=true).timestamp() + 30 * 86400) }}"
'''

RETURN = r'''
ansible_facts:
  description:
    - What is known of the node. Names are those of a node in the document C(snapshot-v1), which has more.
    - A name without a value is absent.
  returned: success
  type: dict
  contains:
    kscertctl:
      description: The fact.
      type: dict
      returned: success
      contains:
        clock:
          description: The node's time, RFC 3339 in UTC.
          type: str
          returned: success
          sample: "2026-03-01T12:00:00Z"
        facts:
          description: Directories, programs, versions and settings of components, by name.
          type: dict
          returned: success
          sample: {"hostname": "cp1", "pki": "/etc/kubernetes/ssl"}
        certificates:
          description:
            - The certificates in files, in kubeconfigs and on ports, each with C(kind), C(path), C(served), C(position),
              C(commonName), C(organizations), C(serialNumber), C(sans), C(notBefore), C(notAfter), C(isCA), C(chain),
              C(chainNotAfter), C(fingerprint), C(publicKey), C(usages), C(subjectKeyID), C(authorityKeyID),
              C(signedBy), C(key) and C(file).
            - C(notAfter) is in UTC, so that two of them compare as text. Of a certificate with others behind it,
              C(chainNotAfter) is when the first of these expires, if that is earlier.
            - C(key) is C(matches), C(mismatch), C(missing) or C(unreadable).
          type: list
          elements: dict
          returned: success
          sample:
            - kind: apiserver
              path: /etc/kubernetes/ssl/apiserver.crt
              commonName: kube-apiserver
              notAfter: "2027-03-01T12:00:00Z"
              signedBy: kubernetes-ca
              key: matches
        unreadable:
          description: Files that should have a certificate and have none, each with C(path) and C(reason).
          type: list
          elements: dict
          returned: success
        kubeconfigs:
          description:
            - Kubeconfigs, each with C(path), C(server), C(caFingerprint), C(caNotAfter), C(clientFingerprint) and
              C(clientCertificateFile).
          type: list
          elements: dict
          returned: success
        processes:
          description: The control plane's, etcd's and the kubelet's, each with C(name), C(pid) and C(started).
          type: list
          elements: dict
          returned: success
        units:
          description: Units of systemd by name, each with C(active), C(sub), C(restarts) and C(activeSeconds).
          type: dict
          returned: success
        disks:
          description: File systems by mount point, each with C(freeKiB), C(sizeKiB) and C(freeInodes).
          type: dict
          returned: success
        renewalTimer:
          description: Kubespray's renewal timer, with C(state) and C(next).
          type: dict
          returned: if it is installed
'''
