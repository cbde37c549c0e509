"""The one point that everything printed or written passes: secrets and personal paths are masked here.

A report is masked string by string, never as JSON text, and each different string once: strings that were
equal stay equal, no quote or key of the JSON is damaged, and a redacted report is judged like the original.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from cudadoctor.facts import Facts, Machine
from cudadoctor.secrets import SECRET

USER = "user"
HOME = f"/home/{USER}"

#: User names that say nothing of a person: root's home stays /root.
_IMPERSONAL = frozenset((
    "root", "user", "ubuntu", "debian", "centos", "fedora", "rocky", "ec2-user", "azureuser", "opc", "admin",
    "nobody", "jovyan", "vscode", "runner", "app", "vagrant", "workspace", "workspaces",
))  # fmt: skip
#: Words that probes and checks put into paths themselves. A user who is called like one of them has the home
#: folder masked and nothing else, or the folders of a toolkit would be renamed.
_TECHNICAL = frozenset((
    "bin", "compat", "data", "dist-packages", "env", "envs", "etc", "flashinfer", "home", "hpc_sdk",
    "include", "jit", "lib", "lib64", "local", "mnt", "nvcc", "nvidia", "opt", "pkgs", "scratch", "share",
    "site-packages", "src", "stubs", "targets", "tmp", "torch", "triton", "usr", "var", "venv",
))  # fmt: skip
_TECHNICAL_FORM = r"(?:lib|cu|cuda|python|gcc|clang|llvm|conda|x86_64|aarch64|sbsa)[\d.-]*(?:linux.*)?"
_SYSTEM_FOLDERS = (
    "/usr/",
    "/bin/",
    "/sbin/",
    "/lib/",
    "/lib64/",
    "/etc/",
    "/proc/",
    "/sys/",
    "/dev/",
    "/nix/",
)

_END = r"(?![\w-]|\.\w)"  #: the end of a path component; a full stop that ends a sentence is one

T = TypeVar("T", bound=Struct)


class Redactor:
    """Masks one user's home folder and name, and anything that looks like a secret.

    `name` is what the user is called afterwards. An empty `home` masks secrets alone.
    """

    def __init__(self, home: str, name: str = USER) -> None:
        home = home.rstrip("/")
        user = home.rpartition("/")[2]
        personal = home.startswith("/") and user not in _IMPERSONAL and not home.startswith(_SYSTEM_FOLDERS)
        self._user, self._name = user, name
        self._pattern = _paths(home, user) if personal else None

    def text(self, text: str) -> str:
        """Return one plain text with home folder, user name and secrets masked."""
        return _without_secrets(self._impersonal(text))

    def value(self, value: T) -> T:
        """Return a report or facts with every string in it masked."""
        plain = msgspec.to_builtins(value)
        strings: dict[str, None] = {}
        _gather(plain, strings)
        changes = {}
        texts = list(strings)
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            mask = self.text if _may_hold_secrets(batch) else self._impersonal
            changes.update({text: masked for text in batch if (masked := mask(text)) != text})
        hidden = frozenset(name for name in _keys(plain, {}) if _names_a_secret(name))
        if not changes and not hidden:
            return value
        return msgspec.convert(_changed(plain, changes, hidden), type=type(value))

    def _impersonal(self, text: str) -> str:
        if self._pattern is None or self._user not in text:
            return text
        return self._pattern.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        return f"/home/{self._name}" if match["home"] else self._name


_BATCH = 32  #: texts that are asked about at once: hardly any holds a secret


def for_facts(facts: Facts, home: str = "") -> Redactor:
    """Return the redactor for what these facts were seen by.

    The user gets a name that no other path here has, so that two paths never become one.
    """
    home = home or (facts.machine.home if isinstance(facts.machine, Machine) else "")
    strings: dict[str, None] = {}
    _gather(msgspec.to_builtins(facts), strings)
    everything, name, number = "\n".join(strings), USER, 1
    while re.search(rf"/{name}{_END}", everything) and home != f"/home/{name}":
        name, number = f"{USER}{number}", number + 1
    return Redactor(home, name)


def in_shell(command: str, home: str) -> str:
    """Return a command to copy: secrets masked, the home folder as "$HOME", everything else as it is.

    A masked path would be a wrong command; `$HOME` is right on the machine it is for and names nobody.
    """
    home = home.rstrip("/")
    if home.startswith("/") and home in command:
        parts, quoted = [], False
        for index, part in enumerate(re.split(rf"({re.escape(home)}{_END})", command)):
            if index % 2:
                parts.append("'\"$HOME\"'" if quoted else '"$HOME"')
            else:
                quoted ^= part.count("'") % 2 == 1
                parts.append(part)
        command = "".join(parts).replace("''\"$HOME\"'", '"$HOME"\'')
    return _without_secrets(command)


def _paths(home: str, user: str) -> re.Pattern[str]:
    """Return the pattern of the home folder, and of the user's name as one component of any other path."""
    whole, name = re.escape(home), re.escape(user)
    if len(user) < 2 or user in _TECHNICAL or re.fullmatch(_TECHNICAL_FORM, user):
        return re.compile(rf"(?P<home>{whole}){_END}")
    return re.compile(rf"(?P<home>{whole}){_END}|(?:(?<=[/~])|(?<=/torchinductor_)){name}{_END}")


def _gather(value: Any, into: dict[str, None]) -> None:
    """Note each different string of plain data, keys included."""
    if isinstance(value, str):
        into[value] = None
    elif isinstance(value, dict):
        for key, item in value.items():
            into[key] = None
            _gather(item, into)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _gather(item, into)


def _keys(value: Any, into: dict[str, None]) -> dict[str, None]:
    """Note each different key of plain data."""
    if isinstance(value, dict):
        into.update(dict.fromkeys(value))
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return into
    for item in value:
        if isinstance(item, (dict, list, tuple)):
            _keys(item, into)
    return into


def _changed(value: Any, changes: dict[str, str], hidden: frozenset[str]) -> Any:
    """Return plain data with its strings changed, and without the values of the keys in `hidden`."""
    if isinstance(value, str):
        return changes.get(value, value)
    if isinstance(value, dict):
        return {
            changes.get(key, key): _hide(item) if key in hidden else _changed(item, changes, hidden)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_changed(item, changes, hidden) for item in value]
    return value


def _hide(value: Any) -> Any:
    """Return what belongs to a variable called TOKEN or the like, without what it holds."""
    if isinstance(value, dict):
        return {key: SECRET if key == "value" else item for key, item in value.items()}
    return SECRET if isinstance(value, str) else value


#: One of these is in every text that holds a secret. Nearly every report has none of them and is spared the
#: search with the patterns below, which would cost more than all the rest.
_MARKS = (
    "gho_", "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "nvapi-", "xox", "npm_",
    "pypi-AgE", "AIza", "AKIA", "ASIA", "eyJ", "earer", "uthorization", "UTHORIZATION",
)  # fmt: skip
#: These stand in many a harmless name (hf_transfer, disk-full): they count with what a secret has behind.
_SHORT_MARKS = ("hf_", "sk-", "GPU-", "MIG-")
_SHORT_MARKED = r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{12}|sk-[A-Za-z0-9_-]{20})|(?:GPU|MIG)-[0-9a-f]{8}-"
_NAME_ENDS = (
    "token", "secret", "secrets", "password", "passwd", "passw", "passphrase", "passcode", "pass", "pwd",
    "pw", "credential", "credentials", "creds", "auth", "key", "keys", "key_id", "key-id", "sig", "signature",
)  # fmt: skip
#: What is in every name that `named` takes for one; it is asked of the others only.
_NAME_PARTS = (
    "tok", "secr", "pass", "pwd", "pw", "key", "cred", "auth", "cookie", "dsn", "webhook", "bearer",
    "connection",
)  # fmt: skip
_OPTION = r"--[a-z0-9_.-]{0,80}(?:passw|secret|key|token|credential|passphrase)"


def _may_hold_secrets(strings: Iterable[str]) -> bool:
    """Return whether any of these texts can hold a secret; it is never wrong with False."""
    text = "\n".join(strings)
    if any(mark in text for mark in _MARKS) or ("://" in text and ("@" in text or "/t/" in text)):
        return True
    if any(mark in text for mark in _SHORT_MARKS) and re.search(_SHORT_MARKED, text):
        return True
    if "--" in text and re.search(_OPTION, text, re.IGNORECASE):
        return True
    lower = text.lower()
    return any(
        _ends_in_secret_name(part.rstrip("\\\"' \t\r\n") if sign == ":" else part)
        for sign in "=:"
        for part in lower.split(sign)[:-1]
    )


def _ends_in_secret_name(text: str) -> bool:
    return text.rstrip().rstrip("0123456789_").endswith(_NAME_ENDS)


def _names_a_secret(name: str) -> bool:
    """Return whether a key of plain data is a name whose value is a secret.

    Those of the facts themselves are in small letters: of such names only what leaves no doubt counts.
    """
    lower = name.lower()
    if len(name) > 200 or not any(part in lower for part in _NAME_PARTS):
        return False
    from cudadoctor.secrets import named

    return named(name) in (("sure", "likely") if name.isupper() else ("sure",))


class _Forms(Struct, frozen=True):
    token: re.Pattern[str]
    url: re.Pattern[str]
    channel: re.Pattern[str]
    header: re.Pattern[str]
    assigned: re.Pattern[str]
    quoted: re.Pattern[str]
    option: re.Pattern[str]
    key: re.Pattern[str]
    uuid: re.Pattern[str]


@cache
def _forms() -> _Forms:
    """Return what secrets look like; compiled when the first text has a mark of one."""
    # Small letters grown together are words more often than secrets: bypass, subtoken.
    name = r"""(?:(?<![A-Za-z])(?:token|credentials?|creds
            |(?:api|access|secret|private|account|auth|signing|encryption|subscription)[_-]?keys?(?:[_-]id)?)
        |(?-i:(?<=[A-Z_])(?<!BY)(?<!COM)(?<!SUR)(?<!TRES)PASS)|(?-i:(?<=[A-Z])(?<!SUB)TOKEN)
        |(?-i:(?<=[A-Z])(?<!OLD)PWD)|(?<=_)(?:pass|pwd|pw)|(?-i:(?<=[A-Z0-9]_)(?:KEY|AUTH))
        |(?<=[?&])(?:sig|key|signature)|(?<=x-amz-)(?:signature|credential)
        |secrets?|password|passwd|passw|passphrase|passcode|apikey)(?:_?\d+)?"""
    harmless = r"(?:[01]|true|false|none|null|yes|no|on|off)"
    return _Forms(
        # Case matters: AKIA is a mark of AWS, akia may be anything. pypi-attestations and hf_transfer are
        # packages, and so may be what begins with sk-.
        token=re.compile(
            r"""(?<![A-Za-z0-9])(?:
              hf_(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{12,} | hf_[a-z]{20,}
            | gh[opsur]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{20,}
            | glpat-[A-Za-z0-9_-]{16,} | nvapi-[A-Za-z0-9_-]{16,}
            | sk-(?=[A-Za-z_-]{0,99}\d)[A-Za-z0-9_-]{20,}
            | xox[abeoprs]-[A-Za-z0-9-]{10,} | npm_[A-Za-z0-9]{30,} | pypi-AgE[A-Za-z0-9_-]{16,}
            | AIza[A-Za-z0-9_-]{35}
            | (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])
            | eyJ[A-Za-z0-9_-]{8,999}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+
            )""",
            re.VERBOSE,
        ),
        # User and password, or a long user alone, which then is a token.
        url=re.compile(r"""://(?:[^/\s"'@:]*:[^/\s"']*|[^/\s"'@:\\]{16,})@"""),
        # conda's channels carry their token in the path.
        channel=re.compile(r"""(://[^\s"']{1,200}?/t/)[A-Za-z0-9-]{8,}(?=/)"""),
        header=re.compile(r"\b((?:[Bb]earer|(?i:authorization:\s*(?:basic|token)))\s+)[\w.~+/=-]{12,}"),
        # NAME=value where the name says so. `tiktoken==0.7` is a requirement, USE_TOKEN=1 a switch. No match
        # crosses from one JSON string into the next: it ends before a quote, a quoted one before , : } ] too.
        assigned=re.compile(
            rf"""({name}\s*=\s*)(?!=|["']?\[secret\])
            (?: "(?!{harmless}")[^"\\,:}}\]]+" | '(?!{harmless}')[^'"\\,:}}\]]+'
              | (?:\\?["'](?![}}\]:]))? (?!{harmless}(?:[\s"',;&\\]|$)) (?:[^\s"',;&\\]|\\[^\s"'])+ )""",
            re.VERBOSE | re.IGNORECASE,
        ),
        # "name": "value", also where the quotes are those of a JSON inside a string.
        quoted=re.compile(
            rf"""((?<!\\)(?P<q>\\{{0,8}}(?:(?P<double>")|'))[\w.-]{{0,80}}?(?:{name}|authorization)(?P=q)\s{{0,9}}:\s{{0,9}}(?P=q))
            (?!\[secret\])(?!{harmless}(?P=q)) (?(double)[^"\\]+|[^"'\\]+) (?=(?P=q))""",
            re.VERBOSE | re.IGNORECASE,
        ),
        # The value behind an option has a digit in it, which a word of a sentence has not.
        option=re.compile(
            r"""((?<![\w-])--(?:[a-z0-9_.]{1,40}-){0,6}(?:[a-z0-9_.]{0,40}
                (?:secret|password|passwd|passphrase|token)|(?:api|access|secret|private)-key|apikey)
                [ \t]{1,9})
            (?!\[secret\])(?![\d.]+(?:[\s"',;]|$)) (?=[^\s"',;=]{0,99}\d) [^\s"',;=\\-][^\s"',;\\]*""",
            re.VERBOSE | re.IGNORECASE,
        ),
        key=re.compile(
            r"(\b(?:(?:x-)?(?:api|auth)-(?:key|token)|private-token|(?:proxy-)?authorization):[ \t]{0,9})"
            r"(?!\[secret\])(?!(?:bearer|basic|token|digest)\b)(?=[^\s\"',]{0,99}\d)[^\s\"',\\]{6,}",
            re.IGNORECASE,
        ),
        # Of a GPU's number what CUDA_VISIBLE_DEVICES needs: too little to know a machine by.
        uuid=re.compile(r"((?:GPU|MIG)-[0-9a-f]{8})(?:-[0-9a-f]{2,12})+"),
    )


def _without_secrets(text: str) -> str:
    if not _may_hold_secrets((text,)):
        return text
    for _ in range(_PASSES):
        masked = _masked(text)
        if masked == text:
            break
        text = masked
    return text


#: What is masked can uncover what stood in its shadow: a text is gone through until nothing more is found.
_PASSES = 8


def _masked(text: str) -> str:
    forms = _forms()
    text = forms.token.sub(SECRET, text)
    text = forms.url.sub(f"://{SECRET}@", text)
    text = forms.channel.sub(rf"\1{SECRET}", text)
    text = forms.header.sub(rf"\1{SECRET}", text)
    text = forms.key.sub(rf"\1{SECRET}", text)
    text = forms.quoted.sub(rf"\1{SECRET}", text)
    text = forms.option.sub(rf"\1{SECRET}", text)
    text = forms.uuid.sub(r"\1", text)
    return forms.assigned.sub(_mask_value, text)


def _mask_value(match: re.Match[str]) -> str:
    """Mask the value of NAME=value; in a path it ends with its component, or two paths become one."""
    before, value = match.string[: match.start()], match[0][len(match[1]) :]
    inside = re.search(r"/[^/\s:\"']*$", before)
    end = re.search(r"[/:]", value) if inside else None
    return f"{match[1]}{SECRET}{value[end.start() :] if end else ''}"
