"""The one point that everything printed or written passes: secrets, people and machines are masked here.

A report is masked string by string, never as JSON text, and each different string once: strings that were
equal stay equal, no quote or key of the JSON is damaged, and a redacted report is judged like the original.

Every check pays for this. What a secret or an address looks like is in `forms` and `addresses`, which are
loaded when a cheap look has seen a mark of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct

from cudadoctor.facts import Facts, Machine
from cudadoctor.secrets import SECRET, looks_random

if TYPE_CHECKING:
    from cudadoctor.addresses import Addresses

USER = "user"
HOME = f"/home/{USER}"

#: User names that say nothing of a person: root's home stays /root.
_IMPERSONAL = frozenset((
    "root", "user", "ubuntu", "debian", "centos", "fedora", "rocky", "ec2-user", "azureuser", "opc", "admin",
    "nobody", "git", "jovyan", "vscode", "runner", "app", "vagrant", "workspace", "workspaces",
))  # fmt: skip
#: Words that probes and checks put into paths themselves. A user who is called like one of them has the home
#: folder masked and nothing else, or the folders of a toolkit would be renamed.
_TECHNICAL = frozenset((
    "bin", "cache", "compat", "data", "dist-packages", "env", "envs", "etc", "flashinfer", "home", "hpc_sdk",
    "huggingface", "include", "jit", "lib", "lib64", "local", "mnt", "ninja", "nvcc", "nvidia", "opt", "pkgs",
    "ray", "scratch", "share", "site-packages", "src", "stubs", "targets", "tmp", "torch", "triton", "usr",
    "uv", "var", "venv", "vllm",
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


class Masked:
    """What was masked: kinds and names, each with the number of different values, and never a value."""

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}

    def note(self, kind: str, value: str) -> None:
        """Count a value, which is not kept; of one with several names the first stays."""
        self._seen.setdefault(hash(value), kind)

    @property
    def total(self) -> int:
        """Return how many different values were masked."""
        return len(self._seen)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of different values by kind or name, the most first."""
        found: dict[str, int] = {}
        for kind in self._seen.values():
            found[kind] = found.get(kind, 0) + 1
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def names(self) -> list[str]:
        """Return them in words: "HF_TOKEN", "a GitHub token", "home folder", "2 host names"."""
        return [_in_words(kind, count) for kind, count in self.counts.items()]


def _in_words(kind: str, count: int) -> str:
    if kind == _HOME_FOLDER or (" " not in kind and kind not in _NOUNS):
        return kind if count == 1 else f"{kind} ({count})"
    if count > 1:
        return f"{count} {kind}{'es' if kind.endswith('s') else 's'}"
    return f"{'an' if kind[0] in 'AEIOaeio' or kind in _SPELLED else 'a'} {kind}"


#: Kinds of one word, which a name would be otherwise; and those that begin with a letter that is spelled out.
_NOUNS = frozenset(("JWT", "webhook", "cookie", "password", "secret"))
_SPELLED = frozenset(("NGC key", "SSH key", "npm token"))
_HOME_FOLDER = "home folder"


class Redactor:
    """Masks one user's home folder and name, what looks like a secret, and addresses and names of machines.

    `name` is what the user is called afterwards; an empty `home` leaves paths as they are. `hosts` are names
    of machines to mask wherever they stand as a word. `thorough` is for logs: names of machines and users
    that only their place gives away are masked too, and what goes over several lines. A log may be given line
    by line.
    """

    def __init__(
        self, home: str, name: str = USER, hosts: Iterable[str] = (), thorough: bool = False
    ) -> None:
        home = home.rstrip("/")
        user = home.rpartition("/")[2]
        personal = home.startswith("/") and user not in _IMPERSONAL and not home.startswith(_SYSTEM_FOLDERS)
        self._user, self._name = user, name
        self._pattern = _paths(home, user) if personal else None
        # Shorter ones are never masked: they would be in any text.
        self._hosts = tuple(host for host in hosts if len(host.partition(".")[0]) >= _SHORTEST_HOST)
        self._thorough = thorough
        self._known: Addresses | None = None
        self._users: dict[str, str] = {}
        self._key_lines = 0  #: how many more lines may belong to a private key that has begun
        self.masked = Masked()

    def text(self, text: str) -> str:
        """Return one plain text with everything personal and secret masked."""
        if self._thorough:
            text = self._within_key(text)
        for _ in range(_PASSES):
            before, text = text, self._once(text)
            if text == before:
                break
        return text

    def _once(self, text: str) -> str:
        text = _without_secrets(self._impersonal(text), self.masked)
        if not self._thorough and not self._may_hold_addresses(text):
            return text
        return self._without_machines(text, self._addresses(text))

    def _without_machines(self, text: str, known: Addresses) -> str:
        text = known.mask(known.mask_forms(text))
        return re.sub(_LOGIN, self._anybody, text) if self._thorough and "@[" in text else text

    def value(self, value: T) -> T:
        """Return a report or facts with every string in it masked."""
        plain = msgspec.to_builtins(value)
        keys: dict[str, None] = {}
        strings: dict[str, None] = {}
        _gather(plain, strings, keys)
        strings.update(keys)
        changes = self._changes(plain, strings, keys)
        hidden = frozenset(name for name in keys if _names_a_secret(name))
        if not changes and not hidden:
            return value
        try:
            return msgspec.convert(_changed(plain, changes, hidden, self.masked), type=type(value))
        except msgspec.ValidationError:  # a machine is called like a word that a field is limited to
            changes = {text: masked for text, masked in changes.items() if not re.fullmatch(_OWN_WORD, text)}
            return msgspec.convert(_changed(plain, changes, hidden, self.masked), type=type(value))

    def _changes(self, plain: Any, strings: dict[str, None], keys: dict[str, None]) -> dict[str, str]:
        """Return the strings of a report that are masked, and as what."""
        everything, stated = "\n".join(strings), _stated(plain)
        known = self._addresses_in(everything, stated, keys)
        parts = self._key_parts(plain) if self._thorough and "PRIVATE KEY-" in everything else {}
        texts, named = list(strings), {*self._hosts, *stated}
        anywhere = _may_hold_secrets(texts)
        changes = {}
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            secret = anywhere and _may_hold_secrets(batch)
            for text in batch:
                # A word by itself is mostly one of the report's own: only what is known for sure is masked.
                whose = None if known and text not in named and re.fullmatch(_PLAIN, text) else known
                masked = self._of_report(parts.get(text, text), secret, whose)
                if masked != text:
                    changes[text] = masked
        return changes

    def _of_report(self, text: str, secret: bool, known: Addresses | None) -> str:
        """Return one string of a report masked; `secret` says whether it can hold one."""
        text = self._impersonal(text)
        for _ in range(_PASSES if secret or known else 0):
            before = text
            if secret:
                text = _without_secrets(text, self.masked)
            if known is not None:
                text = self._without_machines(text, known)
            if text == before:
                break
        return text

    def _key_parts(self, plain: Any) -> dict[str, str]:
        """Return the lines of private keys in lists of lines, and what they are masked as."""
        found: dict[str, str] = {}
        for lines in _lists(plain):
            self._key_lines = 0
            for line in lines:
                found[line] = self._within_key(line)
            ends = [at for at, line in enumerate(lines) if "PRIVATE KEY-" in line and "-----END" in line]
            for end in ends:  # the beginning may be above what is shown
                for line in reversed(lines[:end]):
                    body = line.split()[-1:] or [""]
                    if not _may_be_of_key(body[0]):
                        break
                    found[line] = SECRET.join(line.rsplit(body[0], 1))
        self._key_lines = 0
        return found

    # --- people ---------------------------------------------------------------------------------------------

    def _impersonal(self, text: str) -> str:
        if self._pattern is not None and self._user in text:
            text = self._pattern.sub(self._replace, text)
        if self._thorough and any(mark in text for mark in _PEOPLE):
            text = re.sub(_ANYBODY, self._anybody, text)
            text = re.sub(_ON_WINDOWS, self._anybody, text)
        return text

    def _replace(self, match: re.Match[str]) -> str:
        self.masked.note(_HOME_FOLDER if match["home"] else "user name", match[0])
        return f"/home/{self._name}" if match["home"] else self._name

    def _anybody(self, match: re.Match[str]) -> str:
        """Give another user, as a log from elsewhere has, a name of his own."""
        user = match["user"]
        if user in _IMPERSONAL or re.fullmatch(rf"{USER}\d*", user):
            return match[0]
        if user == self._user and self._pattern is not None:
            return f"{match['before']}{self._name}"
        if user not in self._users:
            self._users[user] = f"{USER}{len(self._users) + 2}"
            self.masked.note("user name", user)
        return f"{match['before']}{self._users[user]}"

    def _within_key(self, line: str) -> str:
        """Return a line without what it has of a private key that began on one before it."""
        if "PRIVATE KEY" in line:
            self._key_lines = _KEY_LINES if "-----BEGIN" in line and "-----END" not in line else 0
        elif self._key_lines and (words := line.split()):
            body, whole = words[-1], len(words[-1]) >= _KEY_WIDTH
            self._key_lines = self._key_lines - 1 if whole or ":" in line or body == SECRET else 0
            if _may_be_of_key(body):
                self.masked.note("private key", body)
                line = SECRET.join(line.rsplit(body, 1))
        return line

    # --- machines -------------------------------------------------------------------------------------------

    def _may_hold_addresses(self, text: str) -> bool:
        """Return whether a text can hold the name or address of a machine; never wrong with False."""
        return (
            any(host.partition(".")[0] in text for host in self._hosts)
            or (self._known is not None and self._known.may_be_in(text))
            or ("@" in text and any(map(_ends_a_mail, text.split("@")[1:])))
            or "erial" in text
            or ("://" in text and any(mark in text for mark in _URL_MARKS))
            or any(_plausible(text, quad) for quad in _quads(text))
            or _has_groups(text)
        )

    def _addresses(self, text: str) -> Addresses:
        """Return what is known of machines, with what a text tells of them."""
        if self._known is None:
            from cudadoctor.addresses import Addresses

            self._known = Addresses(self.masked.note, self._hosts)
        known = self._known
        known.reserve(text)
        known.learn_urls(text, self._thorough)
        known.learn_quads(text, _quads(text))
        if self._thorough:
            known.learn_hosts(text)
        return known

    def _addresses_in(self, text: str, stated: list[str], keys: dict[str, None]) -> Addresses | None:
        """Return what to look for in the strings of a report, or None where there is nothing."""
        if not stated and not self._thorough and not self._may_hold_addresses(text):
            return None
        known = self._addresses(text)
        known.learn_stated(stated)
        known.forget(keys)
        return known


_SHORTEST_HOST = 3
#: What is masked can uncover what stood in its shadow: a text is gone through until nothing more is found.
_PASSES = 5
_BATCH = 32  #: texts that are asked about at once: hardly any holds a secret


def for_facts(facts: Facts, home: str = "", hosts: Iterable[str] = (), thorough: bool = False) -> Redactor:
    """Return the redactor for what these facts were seen by; `hosts` are the names of the machine.

    The user gets a name that no other path here has, so that two paths never become one.
    """
    home = home or (facts.machine.home if isinstance(facts.machine, Machine) else "")
    return Redactor(home, _free_name(facts, home), hosts, thorough)


def _free_name(facts: Facts, home: str) -> str:
    try:
        if f"/{USER}".encode() not in msgspec.json.encode(facts):
            return USER
    except UnicodeEncodeError:
        pass
    strings: dict[str, None] = {}
    _gather(msgspec.to_builtins(facts), strings, strings)
    everything, name, number = "\n".join(strings), USER, 1
    while re.search(rf"/{name}{_END}", everything) and home != f"/home/{name}":
        name, number = f"{USER}{number}", number + 1
    return name


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
    return _without_secrets(command, Masked())


def _paths(home: str, user: str) -> re.Pattern[str]:
    """Return the pattern of the home folder, and of the user's name: in any other path, and in a login."""
    whole, name = re.escape(home), re.escape(user)
    if len(user) < 2 or user in _TECHNICAL or re.fullmatch(_TECHNICAL_FORM, user):
        return re.compile(rf"(?P<home>{whole}){_END}")
    # Below site-packages are the names of packages.
    place = r"(?:(?<=[/~])(?<!-packages/)|(?<=/torchinductor_))"
    login = rf"(?<![\w.+/@:-]){name}(?=@[\w.-]+:)"
    return re.compile(rf"(?P<home>{whole}){_END}|{place}{name}{_END}|{login}")


def _gather(value: Any, texts: dict[str, None], keys: dict[str, None]) -> None:
    """Note each different string of plain data, and each different key."""
    if isinstance(value, dict):
        keys.update(dict.fromkeys(value))
        value = value.values()
    elif isinstance(value, str):
        value = (value,)
    elif not isinstance(value, (list, tuple)):
        return
    for item in value:
        if isinstance(item, str):
            texts[item] = None
        elif isinstance(item, (dict, list, tuple)):
            _gather(item, texts, keys)


def _changed(value: Any, changes: dict[str, str], hidden: frozenset[str], masked: Masked) -> Any:
    """Return plain data with its strings changed, and without the values of the keys in `hidden`."""
    if isinstance(value, str):
        return changes.get(value, value)
    if isinstance(value, dict):
        return {
            changes.get(key, key): (
                _hide(key, item, masked) if key in hidden else _changed(item, changes, hidden, masked)
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_changed(item, changes, hidden, masked) for item in value]
    return value


def _hide(name: str, value: Any, masked: Masked) -> Any:
    """Return what belongs to a variable called TOKEN or the like, without what it holds."""
    held = value.get("value") if isinstance(value, dict) else value
    if isinstance(held, str) and held:
        masked.note(name, held if held != SECRET else name)
    if isinstance(value, dict):
        return {key: SECRET if key == "value" else item for key, item in value.items()}
    return SECRET if isinstance(value, str) else value


def _lists(value: Any) -> Iterator[list[str]]:
    """Yield every list of texts alone."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) for item in value):
        yield list(value)
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _lists(item)


def _may_be_of_key(word: str) -> bool:
    """Return whether a word can be a line of a private key: base64, and no word of a language."""
    base64 = len(word) % 4 == 0 and re.fullmatch(r"[A-Za-z0-9+/]{3,}={0,2}", word)
    return bool(base64) and not (word.isalpha() and len(word) < _KEY_WIDTH)


def _stated(plain: Any) -> list[str]:
    """Return what the sections of a launch have where an address belongs."""
    facts = plain.get("facts", plain) if isinstance(plain, dict) else {}
    if not isinstance(facts, dict):
        return []
    found: list[Any] = []
    for port in (facts.get("resources") or {}).get("ports") or ():
        found += [port.get("host"), *(each.get("address") for each in port.get("listeners") or ())]
    options = (facts.get("launch") or {}).get("options") or {}
    for name in _ADDRESS_OPTIONS:
        found += (options.get(name) or {}).get("values") or ()
    return [each for each in found if isinstance(each, str) and each not in _EVERYBODY]


_ADDRESS_OPTIONS = (
    "--host", "--data-parallel-address", "--data-parallel-rpc-address", "--master-addr", "--node-ip-address",
)  # fmt: skip
_EVERYBODY = frozenset(("", "0.0.0.0", "127.0.0.1", "localhost", "::", "::1", "None", SECRET))
#: Where a user's name stands for sure: a home folder, torch's cache, `id`, or the variable that holds it.
_ANYBODY = (
    r"(?P<before>/(?:home|Users|(?:data|export|mnt|net|nfs)/(?:home|users))/|/torchinductor_"
    r"|\b(?:USER|LOGNAME|USERNAME|SUDO_USER)=|\b[ug]id=\d{1,10}\()"
    r"(?P<user>[A-Za-z_][\w.-]{0,63}?)(?![\w-]|\.\w)"
)
#: There a name may have spaces in it.
_ON_WINDOWS = r"(?P<before>\b[A-Za-z]:\\{1,4}Users\\{1,4})(?P<user>[^\\/:*?\"<>|\r\n]{1,64})(?=\\)"
_PEOPLE = ("home/", "Users", "users/", "USER", "LOGNAME", "torchinductor_", "id=")  #: one is where those are
_LOGIN = r"(?P<before>(?<=//)|(?<![\w.+/@:\]-]))(?P<user>[A-Za-z_][\w.-]{0,63})(?=@\[(?:host|ip)[v6:\d-]*\])"
_PLAIN = r"[a-z]+(?:[-_][a-z]+)*"  #: a word of small letters, as kinds and names of checks are
_OWN_WORD = r"[A-Za-z]+(?:[-_][A-Za-z]+)*"  #: what a field that takes few values takes
_KEY_LINES, _KEY_WIDTH = 400, 40  #: of a private key: its longest, and how wide its lines are at least

# --- cheap looks --------------------------------------------------------------------------------------------

_URL_MARKS = (
    "index", "INDEX", "find-links", "/t/", "-i ", "-f ", ".internal", ".local", ".lan", ".corp", ".intra",
    ".private",
)  # fmt: skip


def _only(kept: str) -> bytes:
    return bytes(number if chr(number) in kept else 32 for number in range(256))


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_HEX = (*_DIGITS, *"abcdefABCDEF")
_VERSIONS_ONLY = _only(f"{_LETTERS}{_DIGITS}._=<>~!+-")
_WORDS_ONLY = _only(f"{_LETTERS}{_DIGITS}+/_-=")


def _words(text: str, kept: bytes) -> set[bytes]:
    """Return the different words of these characters; everything else parts them."""
    return set(text.encode("utf-8", "replace").translate(kept).split())


def _quads(text: str) -> list[str]:
    """Return the groups of four numbers that nothing marks as a version at first sight."""
    if text.count(".") < 3:
        return []
    found: dict[str, None] = {}
    for word in _words(text, _VERSIONS_ONLY):
        if word.count(b".") > 2:
            sign, quad = word.rpartition(b"=")[1:]
            quad = quad.partition(b"<")[0].strip(b".")
            compared = sign and word.rpartition(b"=")[0][-1:] in _COMPARED
            if quad.count(b".") == 3 and quad.replace(b".", b"").isdigit() and not compared:
                found[quad.decode()] = None
    return list(found)


def _plausible(text: str, quad: str) -> bool:
    """Return whether four numbers, that may be an address, are somewhere more than the whole of a string."""
    at = -1 if quad.startswith(("127.", "0.")) else text.find(quad)
    while at >= 0:
        before, behind = text[max(0, at - 2) : at], text[at + len(quad) : at + len(quad) + 1]
        whole = before[-1:] in _ENDS and behind in _ENDS
        compared = before[-1:] == "=" and before[:1] in _SIGNS
        if not (whole or compared or before[-1:] in _JOINED or behind in _JOINED):
            return True
        at = text.find(quad, at + 1)
    return False


def _has_groups(text: str) -> bool:
    """Return whether there is anything like a MAC address or one of IPv6."""
    if text.count(":") < 2:
        return False
    if "::" in text:
        parts = text.split("::")
        for before, behind in pairwise(parts):
            if before[-1:] in _HEX and (behind[:1] in _HEX or not behind[:1].isalnum()):
                return True
    run = 0
    for part in text.split(":"):
        run = run + 1 if len(part) < 5 else 0
        if run > 3:
            return True
    return False


def _ends_a_mail(behind: str) -> bool:
    """Return whether what is behind an @ can be the server of a mail address, or of another login."""
    return behind[:1].isalnum() and any(mark in behind[:64].split(None, 1)[0] for mark in ".:")


_SIGNS = ("=", "<", ">", "~", "!")
_COMPARED = tuple(sign.encode() for sign in _SIGNS)
_JOINED = ("-", "_", "+", ".", "<", ">", *_DIGITS)
_ENDS = ("", "\n")


#: One of these is in every text that holds a secret. Nearly every report has none of them and is spared the
#: search with the patterns below, which would cost more than all the rest.
_MARKS = (
    "gho_", "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "gldt-", "glrt-", "glcbt-", "glptt-",
    "nvapi-", "xox", "xapp-", "npm_", "api_org_", "pypi-AgE", "AIza", "ya29.", "GOCSPX-", "AKIA", "ASIA",
    "IQoJ", "FwoG", "FQoG", "eyJ", "earer", "uthorization", "UTHORIZATION", "PRIVATE KEY-", " AAAA",
    "hooks.slack.com/", "/webhooks/", "webhook.office.com/", "ookie:", "Digest ",
    "password ", "requirepass ", "masterauth ", "redis-cli ", "sshpass ", "docker login", "wandb login",
    "curl ", ":5432:", ":6432:", ":*:",
)  # fmt: skip
#: These stand in many a harmless name (hf_transfer, disk-full): they count with what a secret has behind.
_SHORT_MARKS = {"hf_": 12, "sk-": 20, "GPU-": 8, "MIG-": 8}
_NAME_ENDS = (
    "token", "secret", "secrets", "password", "passwd", "passw", "passphrase", "passcode", "pass", "pwd",
    "pw", "credential", "credentials", "creds", "auth", "key", "keys", "key_id", "key-id", "sig", "signature",
)  # fmt: skip
#: What is in every name that `named` takes for one; it is asked of the others only.
_NAME_PARTS = (
    "tok", "secr", "pass", "pwd", "pw", "key", "cred", "auth", "cookie", "dsn", "webhook", "bearer",
    "connection",
)  # fmt: skip
_OPTION_PARTS = ("passw", "secret", "key", "token", "credential", "passphrase")
_LONGEST_OPTION = 90


def _may_hold_secrets(strings: Iterable[str]) -> bool:
    """Return whether any of these texts can hold a secret; it is never wrong with False."""
    text = "\n".join(strings)
    if any(mark in text for mark in _MARKS) or ("://" in text and ("@" in text or "/t/" in text)):
        return True
    for mark, length in _SHORT_MARKS.items():
        if mark in text and any(_goes_on(part[:length], length) for part in text.split(mark)[1:]):
            return True
    lower = text.lower()
    if "--" in text:
        options = "\n".join([part[:_LONGEST_OPTION].partition(" ")[0] for part in lower.split("--")[1:]])
        if any(part in options for part in _OPTION_PARTS):
            return True
    if any(looks_random(word.decode()) for word in _words(text, _WORDS_ONLY) if _may_be_random(word)):
        return True
    parts = lower.replace(":", "=").split("=")
    return any(part.rstrip(_BEHIND_NAME).endswith(_NAME_ENDS) for part in parts[:-1])


def _goes_on(behind: str, length: int) -> bool:
    """Return whether a mark has as much behind it as a key has."""
    return len(behind) == length and behind.replace("-", "").replace("_", "").isalnum()


def _may_be_random(word: bytes) -> bool:
    return len(word) > 23 and not (word.isalpha() or word.islower() or word.isupper())


_BEHIND_NAME = "\\\"' \t\r\n0123456789_"


def _names_a_secret(name: str) -> bool:
    """Return whether a key of plain data is a name whose value is a secret.

    Those of the facts themselves are in small letters: of such names only what leaves no doubt counts.
    """
    lower = name.lower()
    if len(name) > 200 or not any(part in lower for part in _NAME_PARTS):
        return False
    from cudadoctor.secrets import named

    return named(name) in (("sure", "likely") if name.isupper() else ("sure",))


def _without_secrets(text: str, masked: Masked) -> str:
    if not _may_hold_secrets((text,)):
        return text
    from cudadoctor.forms import mask

    return re.sub(_UUID, r"\1", mask(text, masked.note))


#: Of a GPU's number what CUDA_VISIBLE_DEVICES needs stays: too little to know a machine by.
_UUID = r"((?:GPU|MIG)-[0-9a-f]{8})(?:-[0-9a-f]{2,12})+"
