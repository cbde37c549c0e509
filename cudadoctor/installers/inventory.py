"""What is installed in an environment, and what changed since."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from posixpath import basename, dirname

import msgspec
from msgspec import Struct, structs

from cudadoctor.actions import Version
from cudadoctor.facts import Target
from cudadoctor.host import Host
from cudadoctor.probes.packages import normalise
from cudadoctor.probes.packages import probe as seen_in

OF_CONDA = "conda"  #: the source of a distribution that conda's records own: pip shall leave it alone
VIRTUAL = ("venv", "virtualenv", "uv")  #: kinds of environments that stand on another one's Python


class _Record(Struct):
    name: str
    version: str
    build: str = ""
    channel: object = ""
    files: tuple[str, ...] = ()


class _Vcs(Struct):
    vcs: str
    commit_id: str = ""


class _Folder(Struct):
    editable: bool = False


class _DirectUrl(Struct):
    url: str
    vcs_info: _Vcs | None = None
    dir_info: _Folder | None = None
    subdirectory: str = ""


_RECORD_LIMIT = 64 << 20
_RECORDS = msgspec.json.Decoder(_Record)
_DIRECT_URLS = msgspec.json.Decoder(_DirectUrl)


def freeze(target: Target, host: Host) -> tuple[Version, ...]:
    """Return all that is installed: conda's records, which have a build, and distributions.

    A distribution's source is "" from an index, a folder's path where it is editable, else a URL as pip takes
    it, and `OF_CONDA` for one that a conda package brought.
    """
    records = list(_records(target.prefix, host))
    owned = {dirname(file) for record in records for file in record.files if _METADATA.search(file)}
    found = [Version(r.name, r.version, r.build, channel_of(str(r.channel))) for r in records]
    return (*found, *_distributions(target, host, {basename(folder) for folder in owned}))


_METADATA = re.compile(r"\.(?:dist|egg)-info/(?:METADATA|PKG-INFO)$")


def _records(prefix: str, host: Host) -> Iterator[_Record]:
    """Yield conda's records; what its file name tells stands in for one that is damaged."""
    folder = f"{prefix}/conda-meta"
    try:
        names = [name for name in host.list(folder) if name.endswith(".json")]
    except OSError:
        return
    for name in names:
        try:
            yield _RECORDS.decode(host.read(f"{folder}/{name}", _RECORD_LIMIT))
        except (OSError, ValueError, RecursionError):
            stem, version, build = ["", "", *name.removesuffix(".json").rsplit("-", 2)][-3:]
            if stem:
                yield _Record(stem, version, build)


def _distributions(target: Target, host: Host, owned: set[str]) -> Iterator[Version]:
    """Yield the distributions that an installer would replace: of a virtual environment only its own."""
    folders = [folder for folder in target.site_packages if folder not in python_path(host)]
    if target.kind in VIRTUAL:
        inside = f"{host.realpath(target.prefix)}/"
        folders = [folder for folder in folders if host.realpath(folder).startswith(inside)]
    seen: set[str] = set()
    for folder in folders:
        sources = dict(_sources(host, folder, owned))
        here = seen_in(host, structs.replace(target, site_packages=(folder,)))
        for found in here.distributions:
            if found.name in seen or found.name.startswith("~") or not found.version:
                continue
            seen.add(found.name)
            developed = found.location if not found.location.startswith(folder) else ""
            yield Version(found.name, found.version, "", sources.get(found.name, developed))


def _sources(host: Host, folder: str, owned: set[str]) -> Iterator[tuple[str, str]]:
    """Yield each distribution in a folder that did not come from an index, and where it is from."""
    try:
        names = host.list(folder)
    except OSError:
        return
    for entry in names:
        stem, _, suffix = entry.rpartition(".")
        name = normalise(stem.partition("-")[0])
        if entry in owned:
            yield name, OF_CONDA
        elif suffix == "dist-info":
            try:
                text = host.read(f"{folder}/{entry}/direct_url.json", 1 << 16)
                yield name, _source(_DIRECT_URLS.decode(text))
            except (OSError, ValueError):
                continue


def _source(direct: _DirectUrl) -> str:
    """Return what pip takes to install the same again: an editable folder as its path, all else as a URL."""
    if direct.dir_info is not None and direct.dir_info.editable:
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(direct.url).path)
    part = f"#subdirectory={direct.subdirectory}" if direct.subdirectory else ""
    if direct.vcs_info is not None:
        commit = f"@{direct.vcs_info.commit_id}" if direct.vcs_info.commit_id else ""
        return f"{direct.vcs_info.vcs}+{direct.url}{commit}{part}"
    return direct.url + part


Changes = tuple[tuple[Version, ...], tuple[Version, ...], tuple[tuple[Version, Version], ...]]


def changed(before: Sequence[Version], now: Sequence[Version]) -> Changes:
    """Return what was added, what was removed, and what was altered, as pairs of was and is.

    Distributions that come and go with their conda packages are not told twice.
    """
    was, is_ = _by_name(before), _by_name(now)
    added = (version for key, version in is_.items() if key not in was)
    removed = (version for key, version in was.items() if key not in is_)
    both = ((was[key], is_[key]) for key in was if key in is_)
    return (
        tuple(version for version in added if version.source != OF_CONDA),
        tuple(version for version in removed if version.source != OF_CONDA),
        tuple(pair for pair in both if pair[0] != pair[1] and {v.source for v in pair} != {OF_CONDA}),
    )


def _by_name(versions: Iterable[Version]) -> dict[tuple[str, bool], Version]:
    return {(version.name, bool(version.build)): version for version in versions}


def channel_of(text: str) -> str:
    """Return a record's channel without the machine's folder; "" where it is none, or holds a secret."""
    plain = re.sub(r"/(?:noarch|(?:linux|osx|win)-\w+)?/?$", "", text)
    secret = "@" in plain or "/t/" in plain
    return "" if secret or not re.fullmatch(r"[\w./:~%+-]+", plain) or plain == "pypi" else plain


def python_path(host: Host) -> set[str]:
    """Return the folders that only PYTHONPATH brings in: an installer does not see them."""
    return set(filter(None, host.environ.get("PYTHONPATH", "").split(":")))


def name_of(spec: str) -> str:
    """Return the package's name in a requirement of pip or a spec of conda."""
    match = re.match(r"[A-Za-z0-9_][A-Za-z0-9._-]*", spec.rpartition("::")[2])
    return match[0].lower() if match else ""
