"""Action that reads a node's certificates as facts (plugins/modules/certificates.py documents it)."""
from __future__ import absolute_import, division, print_function

__metaclass__ = type

import os

from ansible.plugins.action import ActionBase

from ansible_collections.infrapuzzle.kscertctl.plugins.filter import kscert
from ansible_collections.infrapuzzle.kscertctl.plugins.plugin_utils import answer

try:
    from ansible.template import trust_as_template
except ImportError:  # before 2.19 every text of a file is a template

    def trust_as_template(text):
        return text

DEFAULTS = os.path.join(kscert.ROLES, 'settings', 'defaults', 'main.yml')
SETTINGS = ('kscert_config_dir', 'kscert_bin_dir', 'kscert_etcd_cert_dir', 'kscert_backup_root')
# Prints the number of the user, before the answer.
WHO = 'id -u;'
# How much of what a node reports of a failure is repeated.
CLIP = 2000


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset()

    def run(self, tmp=None, task_vars=None):
        result = super(ActionModule, self).run(tmp, task_vars)
        del tmp
        if self._task.args:
            result.update(failed=True, msg='there are no options, but these are set: %s' % ', '.join(sorted(self._task.args)))
            return result
        node = [self._setting(name, task_vars) for name in SETTINGS]
        node += [task_vars.get('group_names', []), task_vars.get('inventory_hostname', ''), False]
        command = kscert.line(kscert.LOOK, *kscert.collect(node)) + WHO + kscert.RUN_IT
        done = self._low_level_execute_command(command, executable=False)
        if done.get('rc') != 0:
            words = '%s\n%s' % (done.get('stdout', ''), done.get('stderr', ''))
            result.update(failed=True, rc=done.get('rc'), msg='the node could not be inspected: %s' % words.strip()[-CLIP:])
            return result
        try:
            facts = answer.read(done['stdout'])
        except answer.AnswerError as error:
            result.update(failed=True, msg="the node's answer cannot be read: %.*s" % (CLIP, error))
            return result
        user = done['stdout'].partition('@@KSCERT')[0].split()[-1:]
        if user and user[0].isdigit() and user[0] != '0':
            # What only root may read is missing without a word.
            if not facts['certificates']:
                result.update(failed=True, msg='no certificate can be read without root: set become')
                return result
            result['warnings'] = ['certificates may be missing that only root can read: set become']
        result.update(changed=False, ansible_facts={'kscertctl': facts})
        return result

    def _setting(self, name, task_vars):
        """A variable of the role settings, or its default there. Only the default is a template in any case: a variable
        may be a fact, which a node chooses."""
        if name in task_vars:
            return self._templar.template(task_vars[name])
        return self._templar.template(trust_as_template(self._loader.load_from_file(DEFAULTS)[name]))
