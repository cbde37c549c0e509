"""The CUDA and compiler packages of a conda environment, by its records in conda-meta."""

from __future__ import annotations

import msgspec

from cudadoctor.facts import Conda, CondaRecord, Target
from cudadoctor.host import Host
from cudadoctor.probes.environ import activate_scripts

_RECORD_LIMIT = 16 << 20
#: Records that some check looks at; of all others only the number is kept.
_PREFIXES = (
    "cuda",
    "libcu",
    "libnv",
    "libnpp",
    "gcc",
    "gxx",
    "binutils",
    "ld_impl",
    "sysroot",
    "cudnn",
    "nccl",
)
_NAMES = frozenset(["python", "pytorch", "pytorch-gpu", "ninja", "cmake", "clang", "conda-gcc-specs"])


class _Record(msgspec.Struct):
    name: str
    version: str
    build: str = ""
    channel: object = ""


_DECODER = msgspec.json.Decoder(_Record)


def probe(host: Host, target: Target) -> Conda:
    """Return the records of a conda environment; of any other kind an empty section."""
    folder = f"{target.prefix}/conda-meta"
    if host.kind(folder) != "directory":
        return Conda("")
    entries = [name for name in host.list(folder) if name.endswith(".json")]
    records = tuple(_record(host, folder, entry) for entry in entries if _matters(entry))
    version = next((r.version for r in records if r.name == "cuda-version" and not r.problem), "")
    return Conda(target.prefix, records, len(entries), version, tuple(activate_scripts(host, target.prefix)))


def _matters(entry: str) -> bool:
    return entry.startswith(_PREFIXES) or entry.rsplit("-", 2)[0] in _NAMES


def _record(host: Host, folder: str, entry: str) -> CondaRecord:
    """Read one record; what its file name tells stands in for one that is damaged."""
    name, version, build = [*entry.removesuffix(".json").rsplit("-", 2), "", ""][:3]
    try:
        record = _DECODER.decode(host.read(f"{folder}/{entry}", _RECORD_LIMIT))
    except OSError as error:
        return CondaRecord(name, version, build, problem=error.strerror or str(error))
    except (ValueError, RecursionError) as error:
        return CondaRecord(name, version, build, problem=f"damaged: {error}")
    return CondaRecord(record.name, record.version, record.build, str(record.channel))
