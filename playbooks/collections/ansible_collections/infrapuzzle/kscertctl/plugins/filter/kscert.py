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
import os
import re
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


def line(script, mark):
    """A script as one line, behind what it is known by in a list of processes."""
    pack = zlib.compressobj(6, zlib.DEFLATED, 31)  # with gzip's header
    packed = pack.compress(script.encode('utf-8')) + pack.flush()
    return mark + ';' + UNPACK % base64.b64encode(packed).decode('ascii')


def of_run(run):
    return 'export KSCERT_RUN=' + (run if NAME.match(run) else '')


def hand_over(printed):
    """Runs the script and codes what it prints, or prints it, too. By hand, and why it failed, is only printed."""
    if not os.environ.get('KSCERT_EVENTS'):
        return RUN_IT
    if printed:
        return CAPTURE + PRINT + ';' + OK + '&&' + PACK + END
    return CAPTURE + 'if ' + OK + ';then ' + PACK + ';else ' + PRINT + ';fi' + END


# A filter takes one value: ansible-lint has others in their place that take no more.

def kscert_command(script_and_run):
    """What raw runs for a task of a run."""
    script, run = script_and_run
    return line(script, of_run(run)) + RUN_IT


def kscert_payload(script_and_run):
    """Likewise for a task that hands over what it prints."""
    script, run = script_and_run
    return line(script, of_run(run)) + hand_over(printed=True)


def kscert_look(script):
    """What raw runs to look: no work on a node, by its mark."""
    return line(script, 'KSCERT_ROLES=') + hand_over(printed=False)


def kscert_lock(script):
    """Likewise for a lock, of which the task reads what is printed."""
    return line(script, 'KSCERT_LOCK_ACTION=') + hand_over(printed=True)


class FilterModule(object):
    def filters(self):
        return {'kscert_command': kscert_command, 'kscert_payload': kscert_payload, 'kscert_look': kscert_look, 'kscert_lock': kscert_lock}
