"""Who else claims a distribution: a record of conda's, or a second metadata folder of the same project.

Nothing is opened unless two claim the same: a healthy environment costs one listing where it is conda's.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from msgspec import structs

from cudadoctor.facts import Distribution, Target
from cudadoctor.host import Host
from cudadoctor.knowledge import conda

_RECORD_LIMIT = 64 << 20
_FILE_LIMIT = 4 << 20
_TRIES = 8  #: files that two RECORDs tell apart, of which so many are looked at


class _Path(msgspec.Struct, frozen=True):
    path: str = msgspec.field(default="", name="_path")
    size_in_bytes: int | None = None


class _Paths(msgspec.Struct, frozen=True):
    paths: tuple[_Path, ...] = ()


class _Record(msgspec.Struct, frozen=True):
    paths_data: _Paths = _Paths()
    files: tuple[str, ...] = ()


def told(host: Host, target: Target, found: tuple[Distribution, ...]) -> tuple[Distribution, ...]:
    """Return the distributions, with `conda` and `own_file` filled in where two owners meet."""
    if target.kind in ("conda", "pixi"):
        found = _over_conda(host, target.prefix, found)
    count = Counter((d.name, d.location) for d in found if d.version)
    if len(count) == sum(count.values()):
        return found
    return tuple(
        _with_own_file(host, d, found) if count[d.name, d.location] > 1 and d.version else d for d in found
    )


# --- conda --------------------------------------------------------------------------------------------------


def _over_conda(host: Host, prefix: str, found: tuple[Distribution, ...]) -> tuple[Distribution, ...]:
    try:
        entries = [name for name in host.list(f"{prefix}/conda-meta") if name.endswith(".json")]
    except OSError:
        return found
    records = {entry.rsplit("-", 2)[0]: f"{prefix}/conda-meta/{entry}" for entry in entries}

    def marked(each: Distribution) -> Distribution:
        record = records.get(conda.NAMES.get(each.name, each.name), "")
        if not record or each.installer in ("", "conda") or not each.location.startswith(f"{prefix}/"):
            return each
        return each if _is_condas(host, prefix, each, record) else structs.replace(each, conda=record)

    return tuple(map(marked, found))


def _is_condas(host: Host, prefix: str, each: Distribution, record: str) -> bool:
    """Return whether conda itself put the distribution there, as far as its record can be read.

    Some packages of conda's say INSTALLER: pip, for pip built them. Then the file is as long as the record
    has it; pip writes it anew.
    """
    folder = each.path.rpartition("/")[0]
    installer = f"{folder}/INSTALLER"
    try:
        read = msgspec.json.decode(host.read(record, _RECORD_LIMIT), type=_Record)
        size = host.size(installer)
    except (OSError, ValueError, RecursionError):
        return True  # nothing shows that it is another's
    inside = folder.removeprefix(f"{prefix}/")
    for path in read.paths_data.paths:
        if path.path == f"{inside}/INSTALLER" and path.size_in_bytes is not None:
            return path.size_in_bytes == size
    return f"{inside}/METADATA" in read.files or f"{inside}/PKG-INFO" in read.files


# --- two metadata folders -----------------------------------------------------------------------------------


def _with_own_file(host: Host, each: Distribution, found: tuple[Distribution, ...]) -> Distribution:
    """Look for a file that shows that the files on disk are this distribution's, not its twin's."""
    own = _recorded(host, each)
    for other in found:
        if other is each or (other.name, other.location) != (each.name, each.location):
            continue
        theirs = _recorded(host, other)
        apart = [path for path, content in own.items() if theirs.get(path, content) != content]
        for path in apart[:_TRIES]:
            if _digest(host, f"{each.location}/{path}") == own[path]:
                return structs.replace(each, own_file=path)
    return each


def _recorded(host: Host, each: Distribution) -> dict[str, str]:
    """Return the modules that RECORD lists, with the SHA-256 of each."""
    try:
        text = host.read(f"{each.path.rpartition('/')[0]}/RECORD", _FILE_LIMIT).decode("utf-8", "replace")
    except OSError:
        return {}
    rows = (line.rsplit(",", 2) for line in text.splitlines())
    return {
        row[0]: row[1]
        for row in rows
        if len(row) == 3 and row[1].startswith("sha256=") and row[0].endswith(".py") and ".." not in row[0]
    }


def _digest(host: Host, file: str) -> str:
    import base64
    import hashlib

    try:
        content = hashlib.sha256(host.read(file, _FILE_LIMIT)).digest()
    except OSError:
        return ""
    return f"sha256={base64.urlsafe_b64encode(content).decode().rstrip('=')}"
