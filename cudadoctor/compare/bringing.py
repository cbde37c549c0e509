"""The commands that would give B what A has, where that is known.

They say what A has, and advise nothing: an older version of a package is told as well as a newer one. The
system's own things, drivers and kernels have no command.
"""

from __future__ import annotations

import re
import shlex

from cudadoctor.compare.model import Seen
from cudadoctor.compare.roots import Roots, places
from cudadoctor.compare.rows import Row
from cudadoctor.facts import Conda, Distribution, Packages, Target
from cudadoctor.knowledge.torch import index_for

#: Which wheels torch's own index has for each CUDA, beside what they need.
_OF_TORCH = frozenset(("torch", "torchvision", "torchaudio"))
_CUDA_LABEL = re.compile(r"cu(\d{3,4})")
_RELEASE = re.compile(r"\d+(?:\.\d+)*(?:(?:a|b|rc|\.post)\d+)?")
_CHANNEL = re.compile(r"(?:https?://)?[\w./-]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
#: What stands in the place of a secret or a name, with its number or without: [secret], [host-1], [ipv6].
_MASKED = re.compile(r"\[(?:[a-z]+|ipv6)(?:[-:]\d+)?\]")
#: Kinds of environments that no lock file and no system says what is in.
_FREE = frozenset(("venv", "virtualenv", "uv", "conda"))
#: Variables that are an environment's own: its activation sets them.
_ITS_OWN = ("CONDA_", "VIRTUAL_ENV", "PATH", "MAMBA_")


class Bringing:
    """What turns one machine's fact into the other's."""

    def __init__(self, first: Seen, second: Seen, roots: tuple[Roots, Roots]) -> None:
        self._first, self._second = first, second
        self._here = roots[0]
        self._installed: dict[str, list[Distribution]] = {}
        if isinstance(first.facts.packages, Packages):
            for each in first.facts.packages.distributions:
                self._installed.setdefault(each.name, []).append(each)
        self._facts = second.real or second.facts
        self._there = places(first.facts, second.real)[1] if second.real else roots[1]

    def command(self, section: str, key: str, first: Row | None, second: Row | None) -> str:
        """Return the command for one difference; "" where there is none that is known to be right."""
        if section == "environ" and (first or second or _NOBODY).group == "variables":
            return self._variable(key, first)
        if section == "packages" and first is not None and _NAME.fullmatch(key):
            return self._package(key)
        if section == "conda" and first is not None and _NAME.fullmatch(key):
            return self._record(key)
        return ""

    def _variable(self, name: str, first: Row | None) -> str:
        if name.startswith(_ITS_OWN) or not _VARIABLE.fullmatch(name):
            return ""
        if first is None:
            return f"unset {name}"
        value = self._there.here(str(first.value))
        if value is None or _MASKED.search(value) or not value.isprintable():
            return ""
        return f"export {name}={shlex.quote(value)}"

    def _package(self, name: str) -> str:
        """Return what installs A's version, by the installer of B's environment."""
        packages, target = self._first.facts.packages, self._facts.target
        if not isinstance(packages, Packages) or not isinstance(target, Target):
            return ""
        if target.kind not in _FREE or target.lock_file or not target.python:
            return ""
        found = self._installed.get(name, [])
        if len(found) != 1 or found[0].installer == "conda" or found[0].problem:
            return ""
        wanted = self._requirement(found[0], packages)
        return f"{self._installer(target)} {wanted}" if wanted else ""

    def _requirement(self, found: Distribution, packages: Packages) -> str:
        version, _, label = found.version.partition("+")
        if found.name == "torch" and packages.torch is not None:
            label = packages.torch.version.partition("+")[2]
        if not _RELEASE.fullmatch(version) or not self._here.plain(found.location).startswith("{site"):
            return ""
        if not label:
            return f"{found.name}=={version}"
        cuda = _CUDA_LABEL.fullmatch(label)
        if found.name not in _OF_TORCH or cuda is None:
            return ""
        return f"{found.name}=={version} --index-url {index_for(version, cuda[1])}"

    def _installer(self, target: Target) -> str:
        """Return how packages are installed; on another machine by who is in the environment."""
        here = self._second.real is not None
        packages, python = self._facts.packages, shlex.quote(target.python)
        if isinstance(packages, Packages) and packages.find("pip") is not None and target.kind != "uv":
            return f"{python if here else 'python'} -m pip install"
        return f"uv pip install --python {python}" if here else "uv pip install"

    def _record(self, name: str) -> str:
        conda, target = self._first.facts.conda, self._facts.target
        record = conda.find(name) if isinstance(conda, Conda) else None
        if record is None or not isinstance(target, Target) or target.kind != "conda" or target.lock_file:
            return ""
        if record.problem or not _RELEASE.fullmatch(record.version):
            return ""
        channel = record.channel if _CHANNEL.fullmatch(record.channel) else ""
        given = f" -c {shlex.quote(channel)}" if channel else ""
        where = f" -p {shlex.quote(target.prefix)}" if self._second.real is not None else ""
        return f"conda install{where}{given} {name}={record.version}"


_NOBODY = Row("", "", "", "")
