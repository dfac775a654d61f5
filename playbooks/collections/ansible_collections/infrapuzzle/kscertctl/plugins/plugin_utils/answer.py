"""What the collector prints of a node, as facts.

The names are those of a node of kscertctl's snapshot (docs/reference/schemas/snapshot-v1.json), which holds more.
orchestrator/snapshot and orchestrator/certs parse the same text for kscertctl; a test holds both to the same result.
"""
from __future__ import absolute_import, division, print_function

__metaclass__ = type

import base64
import binascii
import datetime
import hashlib
import json
import posixpath
import re

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.backends import default_backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ansible_collections.infrapuzzle.kscertctl.plugins.plugin_utils.kinds import KINDS

VERSION = '3'

# Many times what a node has: reading more would take long.
MAX_LENGTH = 4 << 20
MAX_RECORDS = 1000  # of one kind, if MOST has no other number
MAX_VALUE = 1 << 14  # bytes of a fact or setting
MAX_KUBECONFIGS = 1 << 18  # characters of all
MAX_FIELDS = 100000  # of one kubeconfig, with those that merge keys repeat
MAX_ENCODED = 16 << 20  # characters of certificates in kubeconfigs, with those that aliases repeat
MAX_CERTIFICATES = 2000
MAX_CHAIN = 100
MAX_SIGNATURES = 5000
MAX_RSA_BITS = 8192
MAX_RSA_EXPONENT = 1 << 24

# Into how many fields the line of a record is split, how many it must have, and which of them no two records share.
RECORDS = {
    'KSCERT': (2, 2, 0), 'FACT': (2, 1, 0), 'SETTINGS': (1, 1, 0), 'USE': (2, 2, 0), 'DISK': (4, 4, None),
    'UNIT': (5, 5, 0), 'TIMER': (2, 2, 0), 'PROCESS': (3, 3, 1), 'FILE': (6, 6, 5), 'KUBECONFIG': (6, 6, 5),
    'UNREADABLE': (1, 1, None), 'KEY': (2, 2, None), 'TLS': (3, 3, 0), 'RESULT': (2, 2, 0),
    # What is no fact.
    'DIGEST': (2, 2, 1), 'WATCH': (2, 2, 1), 'POD': (2, 2, 1), 'WORK': (3, 3, 0), 'RESOLVED': (1, 1, 0),
    'HTTP': (3, 3, 0), 'TRUST': (2, 2, None), 'SECRET': (1, 1, None),
}

MOST = {'TIMER': 1, 'RESOLVED': 1, 'TLS': 50, 'HTTP': 50, 'WORK': 100, 'RESULT': 100, 'KUBECONFIG': 100, 'TRUST': 500}

FAREWELL = re.compile(r'\s*((Connection|Shared connection) to \S+ closed\.)?\s*\Z')
NUMBER = re.compile(r'[-+]?[0-9]{1,19}\Z')
SURROGATE = re.compile(u'[\ud800-\udfff]')
MODE = re.compile(r'[0-7]{1,10}\Z')
MARK = re.compile(r'-----(BEGIN|END) ([^-]+)-----\s*\Z')
BEGIN = '-----BEGIN CERTIFICATE-----'
RELEASE = re.compile(r'v?[0-9]+\.[0-9]+\.[0-9]+')
LOOPBACK, LOOPBACK_NAME, ENDPOINT = 'kube-apiserver-loopback', 'apiserver-loopback-client', 'endpoint'

# The facts that have the directories which paths of kinds are relative to, by their base. Of the base SETTING, facts
# have the file itself.
DIRECTORIES = {'pki': 'pki', 'config': 'config-dir', 'kubelet': 'kubelet-dir', 'etcd': 'etcd-dir', 'home': 'home-dir',
               'calico': 'calico-dir', 'cilium': 'cilium-dir'}
SETTING, NAMED = 'setting', 'named'

# What Go verifies and reads (crypto/x509).
CURVES = ('secp224r1', 'secp256r1', 'secp384r1', 'secp521r1')
HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
USAGES = {'2.5.29.37.0': 'any', '1.3.6.1.5.5.7.3.1': 'server auth', '1.3.6.1.5.5.7.3.2': 'client auth'}
for _number in range(3, 10):
    USAGES['1.3.6.1.5.5.7.3.%d' % _number] = 'usage %d' % _number
USAGES.update({'1.3.6.1.4.1.311.10.3.3': 'usage 10', '2.16.840.1.113730.4.1': 'usage 11', '1.3.6.1.4.1.311.2.1.22': 'usage 12',
               '1.3.6.1.4.1.311.61.1.1': 'usage 13'})

NO_CERTIFICATE = 'its user logs in without a certificate, so its expiry is not known'


class AnswerError(ValueError):
    """The text is not what the collector prints of a node."""


def moment(seconds):
    """A time, in seconds since 1970, as JSON has it."""
    try:
        at = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=round(float(seconds) * 1000))
    except (ValueError, OverflowError):
        raise AnswerError('%.40r is not a time' % seconds)
    return rfc3339(at)


def number(text):
    """A whole number as Go parses it: no other digits, and no underscores between them."""
    if not NUMBER.match(text) or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError('%.40r is not a number' % text)
    return int(text)


def utf8(text):
    """A text with replacements for what is no UTF-8: a cache of facts with that can never be read again."""
    return SURROGATE.sub(u'\ufffd', text)


def named(name):
    """A name that becomes a key of a fact. Ansible takes some for its own: a cache of facts with the key
    __ansible_type cannot be read again. The collector prints none that begins with an underscore."""
    if name.startswith('_'):
        raise ValueError('%.40r is not a name' % name)
    return name


def bounded(value):
    if len(value.encode('utf-8')) > MAX_VALUE:
        raise ValueError('a value of more than %d bytes' % MAX_VALUE)
    return value


def rfc3339(at):
    text = at.strftime('%H:%M:%S')
    if at.microsecond:
        text += ('.%06d' % at.microsecond).rstrip('0')
    return '%04d-%02d-%02dT%sZ' % (at.year, at.month, at.day, text)


def records(text):
    """The records of the text, each as its tag, its fields and the lines that follow it."""
    found, started, ended = [], False, False
    for line in text.split('\n'):
        line = line.rstrip('\r')
        if ended:
            if not FAREWELL.match(line):
                raise AnswerError('%.100r after the end' % line)
        elif line.startswith('@@'):
            tag, _blank, fields = line[2:].partition(' ')
            if not started and tag != 'KSCERT':
                continue
            if started and tag == 'KSCERT':
                raise AnswerError('a second header')
            started, ended = True, tag == 'END'
            if not ended:
                found.append((tag, fields.strip(), []))
        elif started and line.startswith('|'):
            found[-1][2].append(line[1:] + '\n')
    if not started:
        raise AnswerError("not the collector's output")
    if not ended:
        raise AnswerError("the collector's output is cut off")
    return [(tag, fields, ''.join(lines)) for tag, fields, lines in found]


def elements(der):
    """The elements of a sequence or set of DER, each with its header."""
    def header(at):
        length, begin = der[at + 1], at + 2
        if length & 0x80:
            begin += length & 0x7f
            length = int(binascii.hexlify(der[at + 2:begin]), 16)
        return begin, begin + length
    at, end = header(0)
    while at < end:
        following = header(at)[1]
        if following > end:
            raise ValueError('an element is longer than its sequence')
        yield der[at:following]
        at = following


def content(element):
    """The content of an element of DER."""
    return element[2 + (element[1] & 0x7f if element[1] & 0x80 else 0):]


# The kinds of text that a name may have, by their tag: those that Go reads. cryptography reads others.
PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?*&-]*\Z")
COMMON_NAME, ORGANIZATION = b'\x55\x04\x03', b'\x55\x04\x0a'
TEXTS = {0x0c: 'utf-8', 0x12: 'ascii', 0x13: 'ascii', 0x14: 'latin-1', 0x16: 'ascii', 0x1e: 'utf-16-be'}


def attributes(name):
    """The attributes of a name in DER, each as its type and its value."""
    for together in elements(name):
        for attribute in elements(together):
            kind, value = list(elements(attribute))
            if value[0] not in TEXTS:
                raise ValueError('a name has a value of type %d' % value[0])
            text = content(value).decode(TEXTS[value[0]])
            if value[0] == 0x13 and not PRINTABLE.match(text) or value[0] == 0x12 and text.strip(' 0123456789'):
                raise ValueError('a name has a letter that its type does not have')
            yield content(kind), text


class X509(object):
    """A certificate, with what is compared byte for byte (RFC 5280, 4.1)."""

    def __init__(self, der):
        self.der = der
        self.parsed = x509.load_der_x509_certificate(der, default_backend())
        parts = list(elements(self.parsed.tbs_certificate_bytes))
        versioned = parts[0][0] == 0xa0
        self.version = parts[0][-1] + 1 if versioned else 1
        # In their order: serial number, algorithm, issuer, validity, subject, public key.
        _serial, _algorithm, self.issuer, _validity, self.subject, self.spki = parts[versioned:versioned + 6]
        self.constraints = self.extension(x509.BasicConstraints)
        self.is_ca = bool(self.constraints and self.constraints.ca)
        self.subject_key_id = self.identifier(x509.SubjectKeyIdentifier, 'digest')
        self.authority_key_id = self.identifier(x509.AuthorityKeyIdentifier, 'key_identifier')
        if self.parsed.serial_number < 0:
            raise ValueError('the serial number is negative')
        try:
            self.public_key = self.parsed.public_key()
        except UnsupportedAlgorithm:
            self.public_key = None
        if isinstance(self.public_key, ec.EllipticCurvePublicKey) and self.public_key.curve.name not in CURVES:
            raise ValueError('the curve %s is not supported' % self.public_key.curve.name)
        self.description = self.describe()  # here, since names and times are parsed no earlier, and may be wrong

    def extension(self, kind):
        try:
            return self.parsed.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    def identifier(self, kind, attribute):
        found = getattr(self.extension(kind), attribute, None)
        return binascii.hexlify(found).decode() if found else ''

    def moments(self):
        """From when and until when it is valid."""
        for name in ('not_valid_before', 'not_valid_after'):
            at = getattr(self.parsed, name + '_utc', None)  # since cryptography 42
            yield (at.replace(tzinfo=None) if at else getattr(self.parsed, name))

    def sans(self):
        names = self.extension(x509.SubjectAlternativeName)
        if names is None:
            return []
        if any(not hasattr(ip, 'packed') for ip in names.get_values_for_type(x509.IPAddress)):
            raise ValueError('an address has a mask')
        addresses = [getattr(ip, 'ipv4_mapped', None) or ip for ip in names.get_values_for_type(x509.IPAddress)]
        texts = [names.get_values_for_type(kind) for kind in (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)]
        for name in sum(texts, []):
            name.encode('ascii')
        return texts[0] + [str(ip) for ip in addresses] + texts[1] + texts[2]

    def usages(self):
        oids = [usage.dotted_string for usage in self.extension(x509.ExtendedKeyUsage) or []]
        return [USAGES[oid] for oid in oids if oid in USAGES] + [oid for oid in oids if oid not in USAGES]

    def described(self):
        return dict(self.description)

    def describe(self):
        begins, ends = self.moments()
        list(attributes(self.issuer))
        named = list(attributes(self.subject))
        out = {
            'commonName': ([''] + [value for kind, value in named if kind == COMMON_NAME])[-1],
            'organizations': [value for kind, value in named if kind == ORGANIZATION],
            'serialNumber': '%x' % self.parsed.serial_number,
            'sans': self.sans(),
            'notBefore': rfc3339(begins),
            'notAfter': rfc3339(ends),
            'isCA': self.is_ca,
            'fingerprint': hashlib.sha256(self.der).hexdigest(),
            'publicKey': hashlib.sha256(self.spki).hexdigest(),
            'usages': self.usages(),
            'subjectKeyID': self.subject_key_id,
            'authorityKeyID': self.authority_key_id,
        }
        return dict((name, value) for name, value in out.items() if value)

    def key(self):
        """Its public key, if a verification with it takes little time."""
        key = self.public_key
        if isinstance(key, rsa.RSAPublicKey) and (key.key_size > MAX_RSA_BITS or key.public_numbers().e > MAX_RSA_EXPONENT):
            return None
        return key

    def verifies(self, other):
        """Whether its key made the signature of a certificate. Of another one, SHA-1 proves nothing."""
        key, signature, signed = self.key(), other.parsed.signature, other.parsed.tbs_certificate_bytes
        try:
            algorithm = other.parsed.signature_hash_algorithm
            if algorithm is not None and not isinstance(algorithm, HASHES + ((hashes.SHA1,) if other is self else ())):
                return False
            if isinstance(key, rsa.RSAPublicKey):
                scheme = getattr(other.parsed, 'signature_algorithm_parameters', padding.PKCS1v15())  # since cryptography 41
                key.verify(signature, signed, scheme, algorithm)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, signed, ec.ECDSA(algorithm))
            elif isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(signature, signed)
            else:
                return False
        except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
            return False
        return True

    def may_sign(self):
        usage = self.extension(x509.KeyUsage)
        return (self.is_ca or self.version < 3 and self.constraints is None) and (usage is None or usage.key_cert_sign)

    def same_ca(self, other):
        return self.spki == other.spki and self.subject == other.subject


class Checks(object):
    """The signatures that may still be verified."""

    def __init__(self):
        self.left = MAX_SIGNATURES

    def take(self):
        self.left -= 1
        if self.left < 0:
            raise AnswerError('more than %d signatures to verify' % MAX_SIGNATURES)

    def signed(self, cert, by):
        if cert.issuer != by.subject or by.key() is None:
            return False
        self.take()
        return by.may_sign() and by.verifies(cert)

    def itself(self, cert):
        if cert.issuer != cert.subject or cert.key() is None:
            return False
        self.take()
        return cert.verifies(cert)

    def signer(self, cert, issuers):
        """Which of the CAs signed it, and its name: those with its key identifier first."""
        def keyed(by):
            return bool(cert.authority_key_id) and cert.authority_key_id == by.subject_key_id
        for same_key in (True, False):
            for name, by in issuers:
                if keyed(by) == same_key and cert.der != by.der and self.signed(cert, by):
                    return by, name
        return None, ''

    def signed_by(self, cert, chain, issuers):
        """The name of the first CA that leads from a certificate."""
        by, rest = '', list(chain)
        while True:
            if self.itself(cert):
                return by or 'self-signed'
            signer, name = self.signer(cert, issuers)
            if signer is None:
                signer = next((c for c in rest if self.signed(cert, c)), None)
                along = signer
            else:
                along = next((c for c in rest if c.same_ca(signer)), None)
            by = by or name
            if along is None:
                return by
            rest.remove(along)
            cert = along


def blocks(text):
    """The blocks of a PEM text (RFC 7468), each as its label and its content."""
    label, lines = None, []
    for line in text.split('\n'):
        mark = MARK.match(line)
        if not mark:
            lines.append(line)
        elif mark.group(1) == 'BEGIN':
            label, lines = mark.group(2), []
        elif mark.group(2) == label:
            yield label, ''.join(lines)
            label = None


def certificates(text):
    """The certificates of a PEM text, at least one; what is no X.509 behind the first one is skipped."""
    found = []
    for label, body in blocks(text):
        if label != 'CERTIFICATE':
            continue
        try:
            der = base64.b64decode(re.sub('[ \t\r]', '', body).encode('ascii'), validate=True)
        except ValueError:  # no block, then
            continue
        try:
            found.append(X509(der))
        except Exception as error:  # whatever a node has in the place of a certificate
            if not found:
                raise ValueError('parsing X.509: %s' % error)
    if not found:
        raise ValueError('no PEM certificate block')
    return found


class Loader(yaml.SafeLoader):
    """Reads every word but null as text: kubeconfigs have no numbers, and a name such as "on" is one.

    CSafeLoader is faster, but its composer, which rejects an anchor that occurs twice, cannot be changed.
    """

    yaml_implicit_resolvers = {'<': [('tag:yaml.org,2002:merge', re.compile('<<'))]}
    for _first in '~nN':
        yaml_implicit_resolvers[_first] = [('tag:yaml.org,2002:null', re.compile(r'(~|null|Null|NULL)\Z'))]
    fields = 0

    def flatten_mapping(self, node):
        super(Loader, self).flatten_mapping(node)
        self.fields += len(node.value)
        if self.fields > MAX_FIELDS:
            raise AnswerError('a kubeconfig with more than %d fields' % MAX_FIELDS)

    def compose_node(self, parent, index):
        """Takes an anchor again that occurred before, as YAML allows (1.2.2, 7.1) and PyYAML does not."""
        event = self.peek_event()
        if not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(getattr(event, 'anchor', None), None)
        return super(Loader, self).compose_node(parent, index)


def document(text):
    """A kubeconfig in YAML or JSON; PyYAML rejects JSON with tabs."""
    text = text.lstrip(u'\ufeff')
    if text.lstrip().startswith('{'):
        try:
            return json.loads(text)
        except ValueError:
            pass  # flow style
    return Loader(text).get_data()  # of several documents the first


def part(value, kind):
    """A part of a kubeconfig, which may be missing."""
    if value is None or value == '':
        return kind()
    if not isinstance(value, kind):
        raise ValueError('a %s is not a %s' % (type(value).__name__, kind.__name__))
    return value


def word(value):
    if isinstance(value, bytes):
        return value.decode('utf-8', 'replace')
    if isinstance(value, (bool, int, float)):  # of JSON
        return json.dumps(value)
    return utf8(part(value, str))


class Login(object):
    """What a user of a kubeconfig logs in with: a certificate in it, or in a file."""

    def __init__(self, certificate, path, key, current):
        self.certificate, self.path, self.key, self.current = certificate, path, key, current


class Reading(object):
    """A node while its records are read."""

    def __init__(self):
        self.node = {'facts': {}, 'units': {}, 'disks': {}, 'processes': [], 'kubeconfigs': [], 'certificates': [], 'unreadable': []}
        self.chains, self.trusted, self.keys = [], [], {}
        self.logins, self.misread, self.without = {}, {}, {}
        self.reasons, self.referred = set(), {}
        self.count = self.length = self.encoded = 0

    # --- records ---

    def read(self, text):
        seen, counts = set(), dict.fromkeys(RECORDS, 0)
        for tag, line, lines in records(text):
            if tag not in RECORDS:
                raise AnswerError('unknown record %r of the collector' % tag)
            counts[tag] += 1
            if counts[tag] > MOST.get(tag, MAX_RECORDS):
                raise AnswerError('more than %d records %r' % (MOST.get(tag, MAX_RECORDS), tag))
            most, least, key = RECORDS[tag]
            fields = line.split(' ', most - 1)
            if len(fields) < least:
                raise AnswerError('record %r of the collector has %d fields, want %d' % (tag, len(fields), least))
            if key is not None:
                if (tag, fields[key]) in seen:
                    raise AnswerError('a second record %r of %.100r' % (tag, fields[key]))
                seen.add((tag, fields[key]))
            handler = getattr(self, 'read_' + tag.lower(), None)
            if handler:
                try:
                    handler(fields, lines)
                except ValueError as error:
                    raise AnswerError('record %r of the collector: %s' % (tag, error))
        self.identify()
        return self.node

    def read_kscert(self, fields, _lines):
        if fields[0] != VERSION:
            raise AnswerError('version %s, this plugin reads version %s' % (fields[0], VERSION))
        self.node['clock'] = moment(fields[1])

    def read_fact(self, fields, _lines):
        if len(fields) == 2 and fields[1]:
            self.node['facts'][named(fields[0])] = bounded(fields[1])

    read_use = read_fact

    def read_settings(self, _fields, lines):
        for line in lines.split('\n')[:-1]:
            name, _blank, value = line.strip().partition(' ')
            bounded(value)
            if not name.startswith('kubeadm.'):
                self.node['facts'][named(name)] = self.node['facts'].get(name) or value

    def read_result(self, fields, lines):
        number(fields[1])
        release = RELEASE.search(lines)
        if fields[0] in ('kubelet-version', 'runtime-version') and release:
            self.node['facts'][fields[0]] = release.group()

    def read_disk(self, fields, _lines):
        free, size, inodes = [number(f) for f in fields[:3]]
        self.node['disks'][named(fields[3])] = {'freeKiB': free, 'sizeKiB': size, 'freeInodes': inodes}

    def read_unit(self, fields, _lines):
        self.node['units'][named(fields[0])] = {'active': fields[1], 'sub': fields[2], 'restarts': number(fields[3]), 'activeSeconds': number(fields[4])}

    def read_timer(self, fields, _lines):
        if fields[0] not in ('on', 'held', 'off'):
            raise AnswerError('not a state of a timer: %.40r' % fields[0])
        self.node['renewalTimer'] = {'state': fields[0]}
        if float(fields[1]):
            self.node['renewalTimer']['next'] = moment(fields[1])

    def read_process(self, fields, _lines):
        self.node['processes'].append({'name': fields[0], 'pid': number(fields[1]), 'started': moment(fields[2])})

    @staticmethod
    def read_work(fields, _lines):
        number(fields[0]), number(fields[1])

    def read_key(self, fields, _lines):
        self.keys.setdefault(fields[1], []).append(fields[0])

    def read_unreadable(self, fields, lines):
        self.unreadable(fields[0], lines.strip())

    def read_file(self, fields, lines):
        path, meta = fields[5], self.metadata(fields)
        try:
            chain = self.chain(lines)
        except AnswerError:
            raise
        except ValueError as error:
            self.unreadable(path, str(error))
            return
        if not chain[0].is_ca or len(chain) == 1:
            self.add(chain, path, file=meta)
            return
        for i, cert in enumerate(chain):
            self.add([cert], path, file=meta, position=i + 1)

    def read_tls(self, fields, lines):
        name, _exit, address = fields
        try:
            chain = self.chain('\n'.join(line for line in lines.split('\n') if not line.startswith('!')))
        except AnswerError:
            raise
        except ValueError:
            return
        own = chain[0].described().get('commonName', '').startswith(LOOPBACK_NAME)
        if name != ENDPOINT and (own or name != LOOPBACK):
            self.add(chain, address, kind=name, served=True)

    def read_kubeconfig(self, fields, lines):
        path, meta = fields[5], self.metadata(fields)
        config = {'path': path, 'server': ''}
        self.node['kubeconfigs'].append(config)
        self.length += len(lines)
        if self.length > MAX_KUBECONFIGS:
            raise AnswerError('kubeconfigs of more than %d characters' % MAX_KUBECONFIGS)
        if not meta['size']:
            self.misread[path] = 'it is empty'
            return
        try:
            server, trusted, users, unused = self.parts(document(lines))
        except AnswerError:
            raise
        except Exception:  # whatever a node has there
            self.misread[path] = 'it is not a kubeconfig: neither YAML nor JSON that can be parsed'
            return
        config['server'] = server
        self.trust(config, trusted)
        logins = self.logins.setdefault(path, [])
        for current, user in users:
            self.user(config, meta, current, user, logins)
        if path not in self.without and not users:
            self.without[path] = 'it names no user'
        elif path not in self.without and not logins:
            self.without[path] = NO_CERTIFICATE
        elif path not in self.without and unused:
            self.without[path] = unused

    # --- parts of records ---

    @staticmethod
    def metadata(fields):
        if not MODE.match(fields[0]):
            raise ValueError('%.40r is not a mode' % fields[0])
        return {'mode': '%04o' % int(fields[0], 8), 'owner': fields[1], 'group': fields[2], 'size': number(fields[3]),
                'modified': moment(fields[4])}

    def unreadable(self, path, reason):
        if not self.reported(path):
            self.reasons.add(path)
            self.node['unreadable'].append({'path': path, 'reason': reason})

    def reported(self, path):
        return path in self.reasons

    def chain(self, text):
        count = text.count(BEGIN)
        self.count += count
        if count > MAX_CHAIN or self.count > MAX_CERTIFICATES:
            raise AnswerError('more certificates than a node has')
        return certificates(text)

    def from_base64(self, text):
        self.encoded += len(text)
        if self.encoded > MAX_ENCODED:
            raise AnswerError('more than %d characters of certificates in kubeconfigs' % MAX_ENCODED)
        if BEGIN in text:
            return self.chain(text)
        try:
            text = base64.b64decode(text.strip().replace('\n', '').replace('\r', '').encode('ascii'), validate=True).decode('utf-8', 'replace')
        except ValueError as error:
            raise ValueError('decoding base64: %s' % error)
        return self.chain(text)

    def add(self, chain, path, **more):
        found = dict(chain[0].described(), path=path, **more)
        behind = [] if chain[0].is_ca else chain[1:]
        if behind:
            found['chain'] = len(behind)
            first = min(rfc3339(list(c.moments())[1]) for c in behind)
            if first < found['notAfter']:
                found['chainNotAfter'] = first
        self.node['certificates'].append(found)
        self.chains.append(chain)

    @staticmethod
    def parts(config):
        """The server, the CAs and the users of a kubeconfig, that of the current context first, and why that is not used."""
        config = part(config, dict)
        lists = dict((name, [part(entry, dict) for entry in part(config.get(name), list)]) for name in ('clusters', 'contexts', 'users'))

        def inner(entry, name):
            return part(entry.get(name), dict)
        entries, users = lists['clusters'], lists['users']
        named, unused, current = word(config.get('current-context')), '', ''
        context = next((inner(c, 'context') for c in lists['contexts'] if word(c.get('name')) == named), None)
        if context is not None:
            current = word(context.get('user'))
            of = next((c for c in entries if word(c.get('name')) == word(context.get('cluster'))), {})
            if all(word(u.get('name')) != current for u in users):
                unused = 'the user of its current context does not exist'
        else:
            of = entries[0] if entries else {}
            unused = 'its current context does not exist, so none of its users is used'
            if not named:
                unused = 'it names no current context, so none of its users is used'
        if unused and not current and users:
            current = word(users[0].get('name'))
        of = inner(of, 'cluster')
        ranked = [(word(u.get('name')) == current, dict((k, word(v) if k.startswith('client-') else v) for k, v in inner(u, 'user').items()))
                  for u in users]
        ranked.sort(key=lambda user: not user[0])
        return word(of.get('server')), word(of.get('certificate-authority-data')), ranked, unused

    def trust(self, config, trusted):
        if not trusted:
            return
        try:
            chain = self.from_base64(trusted)
        except AnswerError:
            raise
        except ValueError as error:
            self.without[config['path']] = 'certificate-authority-data: %s' % error
            return
        self.trusted += chain
        first = chain[0].described()
        config['caFingerprint'], config['caNotAfter'] = first['fingerprint'], first['notAfter']

    def user(self, config, meta, current, user, logins):
        path = config['path']

        def of(name):
            named = user.get(name) or ''
            file = posixpath.normpath(posixpath.join(posixpath.dirname(path), named)) if named else ''
            return file[1:] if file.startswith('//') else file  # which POSIX permits
        login = Login(None, of('client-certificate'), '' if user.get('client-key-data') else of('client-key'), current)
        embedded = user.get('client-certificate-data')
        if current and not embedded and login.path and 'clientCertificateFile' not in config:
            config['clientCertificateFile'] = login.path
        if embedded:
            try:
                chain = self.from_base64(embedded)
            except AnswerError:
                raise
            except ValueError as error:
                if current:
                    self.without[path] = 'client-certificate-data: %s' % error
                return
            if current:
                config.setdefault('clientFingerprint', chain[0].described()['fingerprint'])
            if any(c['path'] == path and self.chains[i][0].der == chain[0].der for i, c in enumerate(self.node['certificates'])):
                return
            login.certificate, login.path = len(self.chains), ''
            self.add(chain, path, file=meta)
        if login.certificate is not None or login.path:
            logins.append(login)

    # --- what is known when all records are read ---

    def row(self, path):
        """The row of the table for a file, and the file of its key."""
        facts = self.node['facts']
        if path == (facts.get('kubelet-conf') or posixpath.join(facts.get('config-dir', ''), 'kubelet.conf')):
            return next(r for r in KINDS if r['kind'] == 'kubelet.conf'), path
        for row in KINDS:
            if row['base'] == SETTING:
                if facts.get(row['path']) == path:
                    return row, facts.get(row['key']) or path
                continue
            directory = facts.get(DIRECTORIES.get(row['base'], ''))
            if not directory or not path.startswith(directory + '/'):
                continue
            before, star, after = row['path'].partition('*')
            rel = path[len(directory) + 1:]
            if star:
                if not (rel.startswith(before) and rel.endswith(after) and len(rel) >= len(before + after)):
                    continue
                matched = rel[len(before):len(rel) - len(after)]
                if '/' in matched:
                    continue
            elif rel != row['path']:
                continue
            key = row['key'].replace('*', matched) if star else row['key']
            return row, posixpath.join(directory, key) if key else path
        login = self.refers(path)[1]
        if login:
            return next(r for r in KINDS if r['base'] == NAMED), login.key or path
        return {}, ''

    def refers(self, path):
        return self.referred.get(path, ('', None))

    def check_kubeconfigs(self):
        for config in self.node['kubeconfigs']:
            for login in self.logins.get(config['path'], ()):
                self.referred.setdefault(login.path, (config['path'], login))
        names = set(posixpath.basename(c['path']) for c in self.node['certificates'])
        for config in self.node['kubeconfigs']:
            path = config['path']
            row = self.row(path)[0]
            if not row:  # another file, read only to see what it is
                self.reasons.discard(path)
                self.node['unreadable'] = [u for u in self.node['unreadable'] if u['path'] != path]
                continue
            others = row['base'] == 'home' or row['copy']
            if path in self.misread:
                self.unreadable(path, self.misread[path])
            elif others:
                continue
            elif path in self.without:
                self.unreadable(path, self.without[path])
            elif row['kind'] != 'kubelet.conf':
                for login in self.logins.get(path, ()):
                    if login.path and login.current and posixpath.basename(login.path) not in names and not self.reported(login.path):
                        self.unreadable(path, 'it refers to %s, in which no certificate was found' % login.path)

    def key_state(self, cert, path):
        sums = self.keys.get(path, ())
        if not path or not self.node['facts'].get('openssl'):
            return ''
        if not sums:
            return 'missing'
        if cert['publicKey'] in sums:
            return 'matches'
        return 'unreadable' if 'unreadable' in sums else 'mismatch'

    def identify(self):
        self.check_kubeconfigs()
        issuers, listed, rows = [], {}, []

        def issuer(name, cert):
            if cert.der not in listed or name and name != listed[cert.der]:
                listed[cert.der] = name
                issuers.append((name, cert))
        for i, cert in enumerate(self.node['certificates']):
            row, key = ({}, '') if cert.get('served') else self.row(cert['path'])
            rows.append(row)
            if cert.get('served'):
                continue
            cert['kind'] = row.get('kind', 'unknown')
            for login in self.logins.get(cert['path'], ()):
                if login.certificate == i and login.key:
                    key = login.key
            state = self.key_state(cert, key)
            if state:
                cert['key'] = state
            if row.get('authority'):
                issuer(row['authority'], self.chains[i][0])
        self.settle_keys()
        compared = bool(issuers)
        for i, cert in enumerate(self.node['certificates']):
            if cert.get('isCA') and not cert.get('served') and not rows[i].get('authority'):
                issuer('', self.chains[i][0])
        for ca in self.trusted:
            issuer('', ca)
        checks = Checks()
        for cert, chain, row in zip(self.node['certificates'], self.chains, rows):
            mine = sorted(issuers, key=lambda one: not (one[0] and one[0] == row.get('signer', '')))  # pylint: disable=cell-var-from-loop
            by = checks.signed_by(chain[0], chain[1:], mine)
            if by:
                cert['signedBy'] = by
        self.drop_others(compared)

    def settle_keys(self):
        """The key next to several CAs in a file is that of one of them."""
        settled = set(c['path'] for c in self.node['certificates'] if c.get('position') and c.get('key') == 'matches')
        for cert in self.node['certificates']:
            position = cert.get('position', 0)
            if cert.get('key') == 'mismatch' and (position and cert['path'] in settled or position > 1):
                del cert['key']

    def drop_others(self, compared):
        """Drops what kubeconfigs have of other clusters."""
        others = set()
        for config in self.node['kubeconfigs']:
            home = self.row(config['path'])[0].get('base') == 'home'
            others.update(login.certificate for login in self.logins.get(config['path'], ()) if not login.current or home)
        kept = []
        for i, cert in enumerate(self.node['certificates']):
            path, login = self.refers(cert['path'])
            other = i in others
            if login and cert['kind'] == 'kubeconfig-client-file':
                other = not login.current or self.row(path)[0].get('base') == 'home'
            if not compared or not other or cert.get('signedBy', 'self-signed') != 'self-signed':
                kept.append(cert)
        self.node['certificates'] = kept
        for config in self.node['kubeconfigs']:
            path, logins = config['path'], self.logins.get(config['path'], ())
            row = self.row(path)[0]
            if (row and row['base'] != 'home' and not row['copy'] and logins and not any(one.current or one.path for one in logins) and
                    not any(c['path'] == path for c in kept)):
                self.unreadable(path, NO_CERTIFICATE)


def read(text):
    """The facts of a node, from what the collector has printed of it; AnswerError if it cannot have printed that."""
    if len(text) > MAX_LENGTH:
        raise AnswerError('%d characters are more than a node has' % len(text))
    return Reading().read(utf8(text))
