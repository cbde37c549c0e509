"""Whose machine it was: host names, addresses, numbers of hardware and people, each with a numbered stand-in.

Two equal values get equal stand-ins, two different ones different. What says nothing of a machine stays:
loopback addresses, public servers, and names that are words of this trade.

Four numbers with dots between are an address and no version
- where the text says so: `://`, `user@` or a word for an address before them (ip, addr, host, inet, peer,
  gateway, endpoint, listening on, connect to ...), a port, `<port>` or a prefix length (`/24`) behind them;
- or where no version is like that: 192.168.*, 172.16.* to 172.31.*, and those that begin with 100 and more;
- never behind `==`, `>=`, `v`, `-` or `_`, within a file's name, or with more of a version behind them;
- and once known as an address, wherever else they stand in the same report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice

Note = Callable[[str, str], None]

#: Words that no machine's name may take the place of: a machine that is called so keeps its name, which says
#: nothing of whose it is.
_WORDS = frozenset((
    "access", "active", "admin", "all", "amd", "any", "app", "arm", "auto", "base", "bash", "bin", "build",
    "cache", "check", "child", "client", "cluster", "code", "compute", "conda", "config", "container", "core",
    "cpu", "cuda", "data", "deep", "default", "desktop", "dev", "device", "docker", "driver", "engine", "env",
    "environment", "error", "failed", "file", "flashinfer", "gcc", "gpu", "head", "home", "host", "info",
    "inference", "jetson", "kernel", "lab", "laptop", "launch", "ldconfig", "lib", "link", "linux", "local",
    "localhost", "localdomain", "login", "machine", "main", "master", "memory", "missing", "mnt", "model",
    "models", "nccl", "node", "none", "note", "nvcc", "nvidia", "opt", "orin", "other", "passed", "path",
    "pip", "pixi", "podman", "prod", "production", "public", "python", "ray", "redis", "release", "remote",
    "rank", "root", "run", "runner", "scratch", "serve", "server", "share", "skipped", "spark", "src",
    "stage", "system", "target", "test", "thor", "tmp", "torch", "train", "training", "triton", "ubuntu",
    "user", "usr", "uv", "venv", "virtualenv", "vllm", "vm", "warning", "worker", "workspace",
    "workstation", "wsl", "x86", "debian", "fedora", "unknown", "inconclusive", "crashed", "directory",
    "text", "markdown", "json",
))  # fmt: skip
_WORDS_FORM = re.compile(
    r"(?:cuda|cu|lib|python|py|sm|torch|vllm|nccl|gcc|clang|x86_64|aarch64|\d)[\d._-]*"
    r"|(?:gpu|cpu|rank|node|worker|host|ip|mail|mac|serial|ipv)\d*"
)
#: Servers of everybody: the name tells nothing. What ends so with a dot before it is one too.
PUBLIC = (
    "pypi.org", "pythonhosted.org", "python.org", "pytorch.org", "nvidia.com", "nvcr.io", "huggingface.co",
    "hf.co", "hf-mirror.com", "github.com", "githubusercontent.com", "github.io", "ghcr.io", "gitlab.com",
    "anaconda.org", "anaconda.com", "conda.io", "docker.com", "docker.io", "quay.io", "readthedocs.io",
    "vllm.ai", "flashinfer.ai", "kernel.org", "debian.org", "ubuntu.com", "fedoraproject.org", "gnu.org",
    "stackoverflow.com", "google.com", "googleapis.com", "slack.com", "discord.com", "modelscope.cn",
    "wandb.ai", "openai.com", "anthropic.com", "astral.sh", "prefix.dev", "pydantic.dev", "llvm.org",
    "cmake.org", "tsinghua.edu.cn", "aliyun.com", "host.docker.internal", "metadata.google.internal",
)  # fmt: skip
_NOBODY = frozenset(
    ("git", "user", "root", "hg", "ec2-user", "ubuntu", "admin", "oauth2", "runner", "noreply")
)
_SUFFIXES = ("internal", "local", "localdomain", "lan", "corp", "intra", "intranet", "private")
_FILE_ENDS = frozenset(
    ("so", "py", "sh", "c", "h", "cu", "cc", "cpp", "json", "toml", "txt", "log", "whl", "in")
)
_STAND_IN = r"\[(host|ip|mail|mac|serial)-(\d{1,6})\]|\[(ipv6):(\d{1,6})\]"
_KINDS = {
    "host": "host name",
    "ip": "IP address",
    "ipv6": "IP address",
    "mail": "e-mail address",
    "mac": "MAC address",
    "serial": "serial number",
}


def is_word(name: str) -> bool:
    """Return whether a machine's name is a word that texts have for other reasons."""
    return len(name) < 3 or name.lower() in _WORDS or _WORDS_FORM.fullmatch(name.lower()) is not None


def is_public(host: str) -> bool:
    """Return whether a server's name says nothing of whose it is."""
    host = host.lower().rstrip(".")
    if host.startswith(("docs.", "www.")) and not host.endswith(_INSIDE):
        return True
    return any(host == each or host.endswith(f".{each}") for each in PUBLIC)


def is_local(address: str) -> bool:
    """Return whether an IPv4 address is every machine's own."""
    return address.startswith(("0.", "127.", "255.", "169.254.169.254"))


def is_quad(word: str) -> bool:
    """Return whether a word is four numbers that an IPv4 address can have."""
    numbers = word.split(".")
    return len(numbers) == 4 and all(
        each.isdecimal() and len(each) < 4 and int(each) < 256 for each in numbers
    )


@cache
def _pattern(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(pattern, re.VERBOSE | flags)


class Addresses:
    """The stand-ins that were given so far, and the values that are known to be addresses."""

    def __init__(self, note: Note, hosts: Iterable[str] = ()) -> None:
        self._note = note
        self._given: dict[tuple[str, str], str] = {}
        self._taken: dict[str, int] = {}
        self._known: dict[str, str] = {}  #: a value, and the kind that it is of
        for host in hosts:
            self.learn_host(host, host.partition(".")[0])

    def learn_host(self, host: str, short: str = "") -> None:
        """Take a name for a machine's wherever it stands as a word; `short` is the same without domain."""
        for name in (host, short):
            if name and not is_word(name.partition(".")[0]) and not is_public(name):
                self.learn("host", name)

    def learn(self, kind: str, value: str) -> None:
        """Take a value for an address from now on."""
        self._known.setdefault(value, kind)

    def reserve(self, text: str) -> None:
        """Keep the numbers of stand-ins that a text already has for what they stand for there."""
        if "-" not in text and ":" not in text:
            return
        for found in _pattern(_STAND_IN).finditer(text):
            kind, number = (found[1], found[2]) if found[1] else (found[3], found[4])
            self._taken[kind] = max(self._taken.get(kind, 0), int(number))

    def stand_in(self, kind: str, value: str) -> str:
        """Return what stands for a value; the same for the same value."""
        key = (
            kind,
            value.partition(".")[0] if kind == "host" and value.partition(".")[0] in self._known else value,
        )
        if key not in self._given:
            self._taken[kind] = self._taken.get(kind, 0) + 1
            mark = ":" if kind == "ipv6" else "-"  # checks tell the two kinds of addresses by the colon
            self._given[key] = f"[{kind}{mark}{self._taken[kind]}]"
            self._note(_KINDS[kind], key[1])
        return self._given[key]

    def learn_stated(self, values: Iterable[str]) -> None:
        """Learn what stands where nothing but an address can."""
        for value in values:
            if is_quad(value):
                if not is_local(value):
                    self.learn("ip", value)
            elif ":" in value:
                self.learn("ipv6", value)
            else:
                self.learn_host(value)

    def forget(self, names: Iterable[str]) -> None:
        """Take these words, the keys of a report, for no machine's name."""
        for name in names:
            self._known.pop(name, None)

    # --- what is there --------------------------------------------------------------------------------------

    def learn_quads(self, text: str, quads: Iterable[str]) -> None:
        """Learn which of these groups of four numbers are addresses by what stands around them in a text."""
        for quad in quads:
            if is_quad(quad) and not is_local(quad) and quad not in self._known:
                places = islice(re.finditer(re.escape(quad), text), _OCCURRENCES)
                if any(_is_address(text, *place.span()) for place in places):
                    self.learn("ip", quad)

    def learn_urls(self, text: str, every: bool = False) -> None:
        """Learn the hosts of private addresses: with a login, of a package index, of a name only used inside.

        With `every` the host of each address that is not a public server's.
        """
        for found in _pattern(_URL).finditer(text):
            host = found["host"].rstrip(".")
            line = text[max(0, found.start() - _LINE) : found.start()].rpartition("\n")[2]
            private = every or found["login"] or found["conda"] or host.endswith(_INSIDE)
            private = private or _pattern(_INDEX, re.IGNORECASE).search(line)
            if private and re.search("[A-Za-z]", host) and not is_public(host) and not is_word(host):
                self.learn("host", host)

    def mask(self, text: str) -> str:
        """Return a text with a stand-in for each value that is known, where it stands by itself."""
        if not self.may_be_in(text):
            return text
        for value, kind in self._known.items():
            if kind == "ipv6" and value in text:
                form = rf"(?<![\w:.]){re.escape(value)}(?![\w:])"
                text = re.sub(form, lambda _, value=value: self.stand_in("ipv6", value), text)  # type: ignore[misc]
        return _pattern(_WORD).sub(self._replace, text)

    def may_be_in(self, text: str) -> bool:
        """Return whether a text can have a known value in it; never wrong with False."""
        return len(self._known) > _FEW or any(value in text for value in self._known)

    def _replace(self, found: re.Match[str]) -> str:
        word, before, behind = found[0], found.string[: found.start()][-1:], found.string[found.end() :][:1]
        labels = word.split(".")
        if word.startswith("[") or len(labels) > _LABELS:
            return word
        # A name of letters alone is none as a part of another; one with a digit or a dash is.
        if word in self._known and not ("_" in (before, behind) and (word.isalpha() or is_quad(word))):
            return self.stand_in(self._known[word], word)
        for length in range(len(labels) - 1, 0, -1):
            for at in range(len(labels) - length + 1):
                part = ".".join(labels[at : at + length])
                if part in self._known and not part.isalpha() and not is_quad(part):
                    labels[at : at + length] = [self.stand_in(self._known[part], part)]
                    return ".".join(labels)
        return word

    def mask_forms(self, text: str) -> str:
        """Return a text without what is personal by its form alone: mail, hardware, IPv6."""
        lower = text.lower()
        if "@" in text:
            text = _pattern(_MAIL).sub(self._mail, text)
        if text.count(":") > 1 or text.count("-") > 4:
            text = _pattern(_MAC).sub(self._mac, text)
            text = _pattern(_IPV6).sub(self._ipv6, text)
        if "serial" in lower:
            text = _pattern(_SERIAL, re.IGNORECASE).sub(self._serial, text)
        return text

    def learn_hosts(self, text: str) -> None:
        """Learn the names of machines that a log has before its lines, behind options and in its messages."""
        for pattern in _HOSTS:
            names = {
                found["host"].rstrip("."): None for found in _pattern(pattern, re.MULTILINE).finditer(text)
            }
            for name in names:
                own = _pattern(_STAND_IN).fullmatch(f"[{name}]") and f"[{name}]" in text
                if not own and re.search("[A-Za-z]", name) and not is_word(name) and not is_public(name):
                    self.learn("host", name)

    def _mail(self, found: re.Match[str]) -> str:
        user, _, host = found[0].partition("@")
        if user in _NOBODY or found["top"].lower() in _FILE_ENDS or found.string[found.end() :][:1] == ":":
            return found[0]
        return self.stand_in("mail", f"{user}@{host}")

    def _mac(self, found: re.Match[str]) -> str:
        digits = re.sub("[:-]", "", found[0]).lower()
        return found[0] if len(set(digits)) == 1 else self.stand_in("mac", digits)

    def _ipv6(self, found: re.Match[str]) -> str:
        return self.stand_in("ipv6", found[0].lower())

    def _serial(self, found: re.Match[str]) -> str:
        return f"{found['before']}{self.stand_in('serial', found['value'])}"


#: A stand-in, or a word of the letters that names and addresses of machines are made of.
_WORD = rf"{_STAND_IN}|(?<![A-Za-z0-9.-])[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*"
_FEW, _LABELS = 16, 24
_OCCURRENCES = 1000  #: of four numbers that are looked at in one text
#: Before an address, and behind one.
_BEFORE = r"""(?i)(?:://(?:[^/\s@]{0,200}@)?|\b(?:ips?|ipaddr|ip_addr(?:ess)?|addr|address
    |[a-z_]{0,40}_addr|[a-z-]{0,40}-addr|hosts?|hostname|inet6?|peer|gateway|nameserver|endpoint|subnet|broadcast
    |netmask|via|server|master|e[tn][a-z]{1,3}\d{1,3}(?:[a-z]\d{1,3}){0,4}|ib\d|bond\d
    |(?:connect|listen|bind|bound|request|accept|reach|ping|traffic)\w{0,9}(?:[ ](?:to|on|from|at|for))?)
    ["']?[ ]{0,3}[=:(\[ ]?[ ]{0,3}["'(\[]?|::ffff:)$"""
_BEHIND = r"[\])\"']{0,2}:\d{2,5}(?![\d.])|<\d{1,5}>|/\d{1,2}(?![\w./])|[ ]-[ ][-\"\w]|:/"


def _is_address(text: str, start: int, end: int) -> bool:
    """Return whether the four numbers there are an address; the rule is at the top of this file."""
    before, behind = (
        text[max(0, start - 60) : start].rpartition("\n")[2],
        text[end : end + 12].partition("\n")[0],
    )
    if re.search(r"(?:[=<>~!]=|[\w.+<>~_-]|(?<![:/])/)$", before) and not re.search(r"ffff:$", before):
        return False
    if re.match(r"[\w+-]|\.\w", behind) or re.search(r"(?i)(?:version|release|\bv)[ :=]{0,3}$", before):
        return False
    if _pattern(_BEFORE).search(before) or _pattern(_BEHIND).match(behind):
        return True
    if before.endswith("@"):
        return behind.startswith(":") or bool(re.search(r"\b(?:ssh|scp|rsync)\b", before))
    return _no_version(text[start:end])


def _no_version(quad: str) -> bool:
    first, second = (int(number) for number in quad.split(".")[:2])
    return first >= 100 or (first == 172 and 16 <= second < 32)


_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_FULL = rf"{_NAME}(?:\.{_NAME}){{0,8}}"
_INSIDE = tuple(f".{suffix}" for suffix in _SUFFIXES)
_LINE = 600  #: characters before an address in which what it is of is looked for
#: Words before the address of a package index; pip says "Looking in indexes: ..., ...".
_INDEX = (
    r"index[-_]?url|find[-_]links|trusted[-_]host|indexes:|(?:^|\s)-[if](?=[\s=])|\[\[(?:tool\.uv\.)?index"
)
_URL = rf"""[A-Za-z][\w+.-]{{1,20}}://(?P<login>[^/\s"'@]{{0,300}}@)?(?P<host>{_FULL})
    (?![\w@-])(?P<conda>(?::\d{{1,5}})?/t/)?"""
_MAIL = rf"""(?<![\w.+%@/:-])[A-Za-z0-9][\w.+%-]{{0,63}}@(?:{_NAME}\.){{1,6}}(?P<top>[A-Za-z]{{2,24}})
    (?![\w@-]|\.\w)"""
_MAC = r"""(?<![\w:.-])(?:(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:.])
    |(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}(?![\w.-]))"""
#: Of the ranges that machines have; `c10::add` would be one too. Or all eight groups. NCCL has the interface
#: before an address and a port behind it: `ib0:fe80::1%ib0<0>`.
_IPV6 = r"""(?:(?<![\w:.])|(?<=[\w:]\w:)(?=[0-9a-fA-F:]{3,39}(?:%[\w.-]{1,16})?<\d))
    (?:(?=[23][0-9a-fA-F]{3}:|[fF][cdCD][0-9a-fA-F]{2}:|[fF][eE][89abAB][0-9a-fA-F]:)
    (?=[0-9a-fA-F:]*::|(?:[0-9a-fA-F]{1,4}:){7})(?:[0-9a-fA-F]{1,4}::?){1,7}[0-9a-fA-F]{0,4}
    |(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4})(?:%[\w.-]{1,16})?(?![\w:])"""
_SERIAL = r"""(?P<before>\b(?:board[ _]?|gpu[ _]?|module[ _]?|chassis[ _]?|system[ _]?)?
    serial(?:[ _]?(?:number|no\.?|num))?["']?\s{0,40}[:=]\s{0,4}["']?)
    (?P<value>(?=[\w-]*\d)\w[\w-]{5,40})"""
#: Where nothing but the name of a machine can stand.
_HOSTS = (
    # NCCL: host:process:thread [device]
    rf"(?<![\w.-])(?P<host>{_FULL}):\d{{1,8}}:\d{{1,8}}[ ]\[\d{{1,3}}\]",
    # the system's log
    rf"""^(?:[A-Z][a-z]{{2}}[ ][ \d]\d[ ]\d\d:\d\d:\d\d|\d{{4}}-\d\d-\d\dT\d\d:\d\d:\S{{2,24}})[ ]
        (?P<host>(?![A-Z]+[ ]){_FULL})[ ](?:kernel:|[\w./-]{{1,40}}\[\d+\]:)""",
    rf"""(?:--(?:host|hostname|master[-_]addr|rdzv[-_]endpoint|node-ip-address|data-parallel-address|nodelist)
            [=\s]["']?
        |\b(?:MASTER_ADDR|HOSTNAME|SLURMD_NODENAME|SLURM_JOB_NODELIST|SLURM_NODELIST|PET_MASTER_ADDR)=["']?
        |\b(?:hostname|node_?name|node_host|rdzv_endpoint|master_addr|host_name)["']?[ ]?[=:][ ]?["'])
        (?P<host>{_FULL})""",
    rf"""\b(?:ssh|scp|rsync)[ ](?:-\w+[ ](?:\S+[ ])?){{0,4}}(?:[\w.-]+@)?
        (?P<host>{_NAME}(?:-|\d|\.){_FULL})(?=[:\s]|$)""",
    # a prompt, or a place on another machine
    rf"""(?<![\w.+/@:-])[a-z_][\w.-]{{0,31}}@(?P<host>(?!sha\d|md5){_FULL})
        (?=:[~/\w]|[ ][~/][^@]{{0,80}}[$\#])""",
    rf"(?<![\w.-])(?P<host>ip-\d{{1,3}}(?:-\d{{1,3}}){{3}}(?:\.{_FULL})?)(?![\w-])",
    rf"(?<![\w.@/-])(?P<host>(?=[\w.]*[\d-])(?:{_NAME}\.){{1,7}}(?:{'|'.join(_SUFFIXES)}))(?![\w(/-]|\.\w)",
    rf"""(?<![\w.@/-])(?P<host>(?:{_NAME}\.){{1,7}}
        (?:compute\.internal|compute(?:-\d)?\.amazonaws\.com|svc\.cluster\.local))(?![\w-])""",
    rf"\[(?P<host>{_FULL})\]:\d{{2,5}}(?!\d)",
)
