"""Ansible callback that writes a run's events as JSON lines for kscertctl.

One object a line, appended to the file named by KSCERT_EVENTS; without that
variable the plugin stays silent. Ansible's own output is left alone. The event
fields are documented in docs/reference/run-directory.md.

Works with ansible-core 2.11 and later: host, task and result of a task result
were private attributes before 2.19 and are public since.
"""
from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r'''
    name: kscert_events
    type: aggregate
    author: The kscertctl maintainers (@infrapuzzle)
    version_added: 0.1.0
    short_description: writes run events as JSON lines
    description:
      - Appends one JSON object a line to the file that the environment variable C(KSCERT_EVENTS) names, and does
        nothing without it. The program kscertctl sets it; docs/reference/run-directory.md describes the fields.
      - Output of successful tasks is left out, since it may hold tokens; results of tasks with C(no_log) are censored.
      - Puts groups of the inventory into other ones before the first play, if the environment variable
        C(KSCERT_GROUPS) names pairs, as in C(kube-master:kube_control_plane,kube-node:kube_node).
      - Writes the inventory, too, if the environment variable C(KSCERT_VARIABLES) names host variables, separated by
        commas; of those alone.
    requirements:
      - the environment variable C(KSCERT_EVENTS)
      - enabled in C(callbacks_enabled), or its directory in C(callback_plugins)
'''

import gc
import json
import os
import time

from ansible import constants
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar
from ansible.vars.hostvars import HostVars

SCHEMA = 1

# A task with this tag passes its whole standard output to kscertctl.
PAYLOAD_TAG = 'kscert_payload'

# The beginning of coded output (internal/payload), which cannot contain any of the secrets that
# ansible-core masks since 2.22.
CODED = '@@<'

# A play with this tag makes groups: the inventory is reported once they are there.
GROUPS_TAG = 'kscert_groups'

# How long Ansible sleeps between two checks whether a host has answered, in seconds. With Ansible's
# own millisecond each check costs ten times as much.
POLL = 0.01

# Plugins by kind and name that Ansible would load again in the process of each host: the largest
# part of an inspection's cost.
LOADED_ONCE = (('action', 'ansible.builtin.raw'), ('connection', 'ansible.builtin.ssh'), ('shell', 'ansible.builtin.sh'),
               ('become', 'ansible.builtin.sudo'), ('filter', 'infrapuzzle.kscertctl.kscert_look'))

# The fields of a failed result that show why it failed.
EVIDENCE = ('msg', 'rc', 'stdout', 'stderr', 'module_stdout', 'module_stderr', 'reason')

# Longest evidence text kept; the middle is cut out.
CLIP = 8192

# The longest payload, in bytes of the event's line. A longer one is cut off, and its size reported:
# half an answer is none.
PAYLOAD_LIMIT = 4 << 20


def clip(value):
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = str(text)
    if len(text) <= CLIP:
        return text
    half = CLIP // 2
    return '%s\n[... %d characters cut ...]\n%s' % (text[:half], len(text) - 2 * half, text[-half:])


def oversize(text):
    """How many bytes text has when it is too long for an event, else None."""
    if len(text) <= PAYLOAD_LIMIT and len(json.dumps(text)) <= PAYLOAD_LIMIT:
        return None
    return len(text.encode('utf-8', 'replace'))


def expression(value):
    """Whether a variable is, or holds, an expression of Jinja."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return '{{' in text or '{%' in text


def attribute(obj, name):
    """The public attribute of newer ansible-core, or its private ancestor."""
    value = getattr(obj, name, None)
    return value if value is not None else getattr(obj, '_' + name, None)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'aggregate'
    CALLBACK_NAME = 'kscert_events'

    def __init__(self, *args, **kwargs):
        super(CallbackModule, self).__init__(*args, **kwargs)
        self._fd = None
        self._started = {}
        self._groups = [pair.split(':') for pair in os.environ.get('KSCERT_GROUPS', '').split(',') if pair]
        self._variables = [v for v in os.environ.get('KSCERT_VARIABLES', '').split(',') if v]
        path = os.environ.get('KSCERT_EVENTS')
        if not path:
            self.disabled = True
            return
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            self.disabled = True
            self._display.warning('kscert_events: %s' % error)
            return
        from ansible.release import __version__ as core
        self._emit('hello', core=core, pid=os.getpid())

    def _emit(self, event, **fields):
        if self._fd is None:
            return
        record = {'v': SCHEMA, 'time': round(time.time(), 3), 'event': event}
        record.update((k, v) for k, v in fields.items() if v is not None)
        try:
            line = memoryview((json.dumps(record, default=str) + '\n').encode('utf-8', 'replace'))
            while line:
                line = line[os.write(self._fd, line):]
        except Exception as error:  # reporting a play must never disturb it
            self._fd = None
            self._display.warning('kscert_events stopped: %s' % error)

    def _task(self, task):
        # The name is the same wherever a role comes from.
        fields = {'name': task.get_name(include_role_fqcn=False), 'action': task.action}
        try:
            fields['path'] = task.get_path()
        except Exception:
            pass
        return fields

    def _result(self, result, status, ignored=None):
        host, task = attribute(result, 'host'), attribute(result, 'task')
        data = attribute(result, 'result') or {}
        evidence, payload, coded, size = {}, None, None, None
        if data.get('_ansible_no_log') or getattr(task, 'no_log', False) is True:
            evidence['censored'] = 'no_log'
        elif status in ('failed', 'unreachable', 'retry'):
            evidence = dict((k, clip(data[k])) for k in EVIDENCE if data.get(k) not in (None, ''))
            # Since 2.22 a failed item is marked by its exception alone.
            items = [i for i in data.get('results') or [] if isinstance(i, dict) and (i.get('failed') or 'exception' in i)]
            if items and not any(i.get('_ansible_no_log') for i in items):
                evidence['items'] = [clip(i.get('msg', '')) for i in items[:20]]
        elif PAYLOAD_TAG in (getattr(task, 'tags', None) or ()):
            payload = str(data.get('stdout', ''))
            if CODED in payload:
                payload, coded = None, ''.join(payload[payload.index(CODED):].split())
            size = oversize(coded or payload)
            if size is not None:
                payload = coded = None
        started = self._started.get((host.get_name(), str(task._uuid)))
        self._emit('result', status=status, host=host.get_name(), task=self._task(task),
                   seconds=round(time.time() - started, 3) if started else None,
                   ignored=ignored, evidence=evidence or None, payload=payload, coded=coded, payload_size=size)

    def _load(self):
        """Loads plugins before there are processes of hosts, which then have them."""
        for kind, name in LOADED_ONCE:
            try:
                getattr(loader, kind + '_loader').get(name, class_only=True)
            except Exception:
                pass  # a host that needs it reports why
        try:
            from ansible_collections.infrapuzzle.kscertctl.plugins.filter import kscert
            kscert.collector()
        except Exception:
            pass  # as above

    def _group(self, inventory):
        """Does what groups.yml does by hand, without a task, and without a play to be read."""
        for group, into in self._groups:
            inventory.add_group(into)
            if group in inventory.groups and set(inventory.groups[group].get_hosts()) - set(inventory.groups[into].get_hosts()):
                inventory._inventory.add_child(into, group)
        inventory.clear_caches()

    def v2_playbook_on_start(self, playbook):
        if self._groups:  # a playbook of ours
            self._load()
            constants.DEFAULT_INTERNAL_POLL_INTERVAL = max(POLL, constants.DEFAULT_INTERNAL_POLL_INTERVAL)
            try:
                self._group(playbook.get_plays()[0].get_variable_manager()._inventory)
            except Exception as error:  # without them, group_vars are not read
                raise SystemExit('kscert_events: the groups of KSCERT_GROUPS: %s' % error)
        self._emit('playbook_start', path=getattr(playbook, '_file_name', None))

    def _render(self, values, templar):
        """Renders expressions; one that needs more than the inventory stays as it is."""
        for name, value in values.items():
            try:
                values[name] = templar.template(value)
            except Exception:
                pass  # facts, for example, which no one has gathered

    def _inventory(self, play):
        """The inventory in the form of "ansible-inventory --list", with expressions rendered."""
        variables = play.get_variable_manager()
        inventory = variables._inventory
        reported = dict((name, {'hosts': [h.name for h in group.hosts], 'children': [g.name for g in group.child_groups]})
                    for name, group in inventory.groups.items())
        hostvars = {}
        for host in inventory.get_hosts('all', ignore_limits=True, ignore_restrictions=True):
            known = variables.get_vars(host=host, include_hostvars=False, stage='all')
            hostvars[host.name] = dict((name, known[name]) for name in self._variables if name in known)
            if any(expression(value) for value in hostvars[host.name].values()):
                # For a play without hosts, Ansible has made no hostvars.
                known = dict(variables.get_vars(play=play, host=host), hostvars=HostVars(inventory, variables, variables._loader))
                self._render(hostvars[host.name], Templar(loader=variables._loader, variables=known))
        reported['_meta'] = {'hostvars': hostvars}
        return reported

    def v2_playbook_on_play_start(self, play):
        self._emit('play_start', name=play.get_name())
        if self._variables and GROUPS_TAG not in (play.tags or ()):
            try:
                self._emit('inventory', inventory=self._inventory(play))
            except Exception as error:  # ansible-inventory reports it, too
                self._display.warning('kscert_events: %s' % error)
            self._variables = []

    def v2_playbook_on_no_hosts_matched(self):
        self._emit('no_hosts_matched')

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._emit('task_start', task=self._task(task))

    def v2_playbook_on_handler_task_start(self, task):
        self._emit('task_start', task=self._task(task))

    def v2_runner_on_start(self, host, task):
        self._started[(host.get_name(), str(task._uuid))] = time.time()

    def v2_runner_on_ok(self, result):
        data = attribute(result, 'result') or {}
        self._result(result, 'changed' if data.get('changed') else 'ok')

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._result(result, 'failed', ignored=True if ignore_errors else None)

    def v2_runner_on_unreachable(self, result):
        ignored = getattr(attribute(result, 'task'), 'ignore_unreachable', None)
        self._result(result, 'unreachable', ignored=True if ignored is True else None)

    def v2_runner_on_skipped(self, result):
        self._result(result, 'skipped')

    def v2_runner_retry(self, result):
        self._result(result, 'retry')

    def v2_playbook_on_stats(self, stats):
        self._emit('stats', hosts=dict((h, stats.summarize(h)) for h in stats.processed))
        # Ansible is about to exit. Python would search all its memory for garbage several times,
        # which is a tenth of an inspection's time.
        if hasattr(gc, 'freeze'):  # since Python 3.7
            gc.freeze()
