"""Filters that make a script one line for raw.

What a user's login shell gets has no line break, no single quote, no backslash and no
exclamation mark, which fish and tcsh read in another way than sh does. What a task hands
to kscertctl (payload) comes back compressed, with a tab after every three characters: since
2.22 ansible-core puts a placeholder for each vaulted value and each password of four
characters and more, wherever they occur in what callbacks get. internal/payload reads it.
"""
from __future__ import absolute_import, division, print_function

__metaclass__ = type

import base64
import io
import os
import re
import shlex
import struct
import zlib

# A name of a run that needs no quotes (orchestrator/run).
NAME = re.compile(r'[A-Za-z0-9._-]{1,64}\Z')

UNPACK = ('kscert_text=$(echo %s|base64 -d|gzip -dc)||'
          '{ echo kscertctl: this node has no base64, or no gzip >&2;exit 127;};')
RUN_IT = 'eval "$kscert_text"'
CAPTURE = 'kscert_out=$(eval "$kscert_text");kscert_code=$?;'
PRINT = '{ printf %s "$kscert_out";echo;}'
PACK = '{ echo "@@<";' + PRINT + '|gzip -c|base64|sed "s/.../&\t/g";echo "@@>";}'
OK = '[ $kscert_code = 0 ]'
END = ';(exit $kscert_code)'


ROLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), 'roles')
# What inspects a node.
COLLECTOR = ('settings/files/kinds.sh', 'settings/files/kubeconfig.sh', 'settings/files/places.sh', 'inspect/files/collect.sh')
COLLECTED = []
# The roles of a node for the collector, by the groups that give them.
OF_GROUPS = (('control-plane', ('kube_control_plane',)), ('worker', ('kube_node', 'calico_rr')), ('etcd', ('etcd',)))


def deflate(flush, data):
    pack = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return pack.compress(data) + pack.flush(flush)


def packed(script):
    """A script as gzipped() takes it: itself, and compressed."""
    data = script.encode('utf-8')
    return data, deflate(zlib.Z_FINISH, data)


def gzipped(first, rest):
    """A text and a packed script behind it as one file of gzip (RFC 1952)."""
    first, (data, stream) = first.encode('utf-8'), rest
    checksum = zlib.crc32(data, zlib.crc32(first)) & 0xffffffff
    return (b'\x1f\x8b\x08' + 6 * b'\0' + b'\xff' + deflate(zlib.Z_SYNC_FLUSH, first) + stream +
            struct.pack('<LL', checksum, len(first) + len(data)))


def line(mark, first, rest):
    """A script, in two parts, as one line, behind what it is known by in a list of processes."""
    return mark + ';' + UNPACK % base64.b64encode(gzipped(first, rest)).decode('ascii')


def of_run(run):
    return 'export KSCERT_RUN=' + (run if NAME.match(run) else '')


def hand_over(printed):
    """Runs the script and codes what it prints, or prints it, too. By hand, and why it failed, is only printed."""
    if not os.environ.get('KSCERT_EVENTS'):
        return RUN_IT
    if printed:
        return CAPTURE + PRINT + ';' + OK + '&&' + PACK + END
    return CAPTURE + 'if ' + OK + ';then ' + PACK + ';else ' + PRINT + ';fi' + END


# A filter takes one value: ansible-lint replaces the others with stubs that take no more.

def kscert_command(script_and_run):
    """What raw runs for a task of a run."""
    script, run = script_and_run
    return line(of_run(run), '', packed(script)) + RUN_IT


def kscert_payload(script_and_run):
    """The same for a task that hands over what it prints."""
    script, run = script_and_run
    return line(of_run(run), '', packed(script)) + hand_over(printed=True)


def collector():
    """The packed collector: made once for all hosts where it is made before there are processes of them."""
    if not COLLECTED:
        texts = []
        for path in COLLECTOR:
            with io.open(os.path.join(ROLES, path), encoding='utf-8') as script:
                texts.append(script.read())
        COLLECTED.append(packed(''.join(texts)))
    return COLLECTED[0]


LOOK = 'KSCERT_ROLES='


def collect(node):
    """The collector for a node, from its directories, groups and name, and those that ask the API what it trusts, and
    for certificates in Secrets.

    It is put together here, since each template costs a node's worker more than this.
    """
    config_dir, bin_dir, etcd_dir, backup_root, groups, name, trust = node[:7]
    secrets = node[7] if len(node) > 7 else []
    settings = {
        'CONFIG_DIR': config_dir, 'BIN_DIR': bin_dir, 'ETCD_DIR': etcd_dir, 'BACKUP_ROOT': backup_root,
        # Every node has pods; the API of one node is asked for what it trusts.
        'TRUST': 'no' if trust is False else 'cluster' if name in trust else 'pods',
        'SECRETS': 'yes' if name in secrets else 'no',
        'ROLES': ' '.join(role for role, names in OF_GROUPS if set(names) & set(groups)),
    }
    first = ''.join('KSCERT_%s=%s\n' % (name, shlex.quote(str(value))) for name, value in sorted(settings.items()))
    return first, collector()


def look(first, rest):
    """What raw runs to inspect a node: no work on it, by its mark."""
    return line(LOOK, first, rest) + hand_over(printed=False)


def kscert_look(node):
    """The same for the collector."""
    return look(*collect(node))


def kscert_lock(script):
    """The same for a lock, of which the task reads what is printed."""
    return line('KSCERT_LOCK_ACTION=', '', packed(script)) + hand_over(printed=True)


# Linux has no argument of 128 KiB (MAX_ARG_STRLEN).
LONGEST = 120000
TOO_LONG = 'echo "noted: the record of the run is not kept here: it is too long"'


def kscert_keep(script_run_and_files):
    """What raw runs to keep files of the control node on a node, each as the script's function "put" takes it.

    They are read here: no template is looked for in them.
    """
    script, run, paths = script_run_and_files
    names = [os.path.basename(path) for path in paths]
    for name, path in zip(names, paths):
        with io.open(path, encoding='utf-8') as text:
            script += '\nput %s %s' % (shlex.quote(name), shlex.quote(text.read().rstrip('\n')))
    # The journal makes a record.
    out = kscert_payload((script + ('\nkeep\n' if 'journal.jsonl' in names else '\n'), run))
    return out if len(out) < LONGEST else kscert_payload((TOO_LONG, run))


def kscert_recall(script):
    """What raw runs to read records on a node: no work on it."""
    return look('', packed(script))


class FilterModule(object):
    def filters(self):
        return {'kscert_command': kscert_command, 'kscert_payload': kscert_payload, 'kscert_look': kscert_look, 'kscert_lock': kscert_lock,
                'kscert_keep': kscert_keep, 'kscert_recall': kscert_recall}
