"""How many bytes of weights a folder holds, and which of its files cannot be whole.

The format: 8 bytes with the header's length, the header in JSON, then the tensors without gaps up to the end
of the file. So lengths alone tell how much there is in a whole file, and headers are read only where these do
not add up to what the index says. vLLM loads what its default loader chooses (0.12.0, read 2026-11-21).
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from cudadoctor.facts.model import Flaw, Weights
from cudadoctor.host import Host, TooLarge

#: huggingface_hub takes no longer header for one (constants.py of 0.36.2, read 2026-11-21).
HEADER_LIMIT_BYTES = 25_000_000
_HEADERS_BYTES = 64 << 20  #: of all headers together
_INDEX_BYTES = 64 << 20  #: an index of 180,000 tensors has 20 MB
_FILES = 2_000  #: that are looked at; the largest model has a few hundred
_NAMED = 20  #: flaws that are told one by one
LARGEST_BYTES = 1 << 50  #: no model has a petabyte
_ABSENT = ("missing", "broken-link", "empty")
#: What training leaves beside the weights (filter_files_not_needed_for_inference).
_NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")


#: What git leaves in a file's place where git-lfs did not fetch it.
_POINTER, _POINTER_BYTES = b"version https://git-lfs", 1024
_NUMBERED = re.compile(r"(.+-)(\d{5})(-of-(\d{5})\..+)")


class NotSafetensors(ValueError):
    """What stands at the beginning of the file is no header of this format."""


class _Tensor(Struct):
    data_offsets: tuple[int, int] = (0, 0)  # what is no tensor is the table of metadata


class _Index(Struct):
    weight_map: dict[str, str]
    metadata: dict[str, Any] | None = None


class _File(Struct):
    """One file that is there: its size, and how much of it is tensors (None: not read off)."""

    name: str
    size_bytes: int
    tensor_bytes: int | None = None
    flaw: Flaw | None = None


def survey(host: Host, folder: str, load_format: str = "auto") -> Weights | None:
    """Return the weights in a folder; None where there are none, or none that this format takes."""
    try:
        names = [name for name in host.list(folder) if not name.startswith(".")]
    except OSError:
        return None
    for form, pattern, index in _choices(load_format, names):
        matching = fnmatch.filter(names, pattern)
        if form in ("bin", "pt"):
            matching = [name for name in matching if not name.endswith(_NOT_WEIGHTS)]
            if matching:
                return _by_sizes(host, folder, form, matching)
        elif index in names:
            return _indexed(host, folder, form, index, matching)
        elif matching:
            return _by_headers(host, folder, form, matching)
    return None


def _choices(load_format: str, names: Sequence[str]) -> Iterator[tuple[Any, str, str]]:
    """Yield the forms in which vLLM would look: name, pattern of the files, index."""
    consolidated = ("consolidated", "consolidated*.safetensors", "consolidated.safetensors.index.json")
    plain = ("safetensors", "*.safetensors", "model.safetensors.index.json")
    if load_format == "mistral" or (load_format == "auto" and any(fnmatch.filter(names, consolidated[1]))):
        yield consolidated
        return
    if load_format not in ("pt", "npcache"):
        yield plain
    if load_format in ("auto", "hf", "npcache"):
        yield "bin", "*.bin", ""
    if load_format in ("auto", "hf", "pt"):
        yield "pt", "*.pt", ""


# --- one file -----------------------------------------------------------------------------------------------


def tensor_bytes(host: Host, path: str) -> int:
    """Return how many bytes of tensors the header tells of; raises OSError or NotSafetensors."""
    return _extent(host, path, _header_bytes(host, path))


def _header_bytes(host: Host, path: str) -> int:
    """Return the length of the header, which the file states first; raises OSError or NotSafetensors."""
    first = host.head(path, 8)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length < 2:
        raise NotSafetensors("it does not begin with the length of a header")
    if length > HEADER_LIMIT_BYTES:
        raise NotSafetensors(f"its header would have {length:,} bytes")
    return length


def _extent(host: Host, path: str, header_bytes: int) -> int:
    data = host.read_at(path, 8, header_bytes)
    if len(data) < header_bytes:
        raise NotSafetensors(f"its header of {header_bytes:,} bytes is not all there")
    try:
        tensors = msgspec.json.decode(data, type=dict[str, _Tensor])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NotSafetensors("its header is no JSON that describes tensors") from None
    ends = [tensor.data_offsets[1] for tensor in tensors.values()]
    last = max(ends, default=0)
    if not 0 <= last < LARGEST_BYTES or min(ends, default=0) < 0:
        raise NotSafetensors("its header tells of sizes that no file has")
    return last


def _look(host: Host, folder: str, name: str) -> _File:
    """Return a file by its size; what is not there or holds nothing has a flaw."""
    path = f"{folder}/{name}"
    if "/" in name or "\0" in name:  # vLLM loads what lies in the folder itself
        return _File(name, 0, flaw=Flaw(path, "missing", "the index names a path, not a file"))
    try:
        size_bytes = host.size(path)
    except FileNotFoundError:
        link = host.kind(path, follow=False) == "link"
        return _File(name, 0, flaw=Flaw(path, "broken-link" if link else "missing"))
    except OSError as error:
        return _File(name, 0, flaw=Flaw(path, "unreadable", error.strerror or str(error)))
    return _File(name, size_bytes, flaw=None if size_bytes else Flaw(path, "empty"))


def _lengths(host: Host, folder: str, file: _File) -> int:
    """Note how much of a file is behind its header, as far as its length goes; return the header's length."""
    if file.flaw is not None:
        return 0
    path = f"{folder}/{file.name}"
    try:
        header_bytes = _header_bytes(host, path)
    except OSError as error:
        file.flaw = Flaw(path, "unreadable", error.strerror or str(error))
    except NotSafetensors as error:
        pointer = file.size_bytes < _POINTER_BYTES and host.head(path, len(_POINTER)) == _POINTER
        file.flaw = Flaw(path, "garbled", "a pointer of git-lfs, without its file" if pointer else str(error))
    else:
        file.tensor_bytes = max(0, file.size_bytes - 8 - header_bytes)
        return header_bytes
    return 0


def _judge(host: Host, folder: str, file: _File, header_bytes: int) -> None:
    """Read the header of one file, and hold it against the file's size."""
    path = f"{folder}/{file.name}"
    try:
        told = _extent(host, path, header_bytes)
    except OSError as error:
        file.flaw = Flaw(path, "unreadable", error.strerror or str(error))
        return
    except NotSafetensors as error:
        short = file.size_bytes < 8 + header_bytes
        file.flaw, file.tensor_bytes = Flaw(path, "truncated" if short else "garbled", str(error)), None
        return
    there = file.size_bytes - 8 - header_bytes
    if told > there:
        detail = f"its header tells of {told:,} bytes of tensors, {max(0, there):,} are there"
        file.flaw = Flaw(path, "truncated", detail)
    elif told < there:
        file.flaw = Flaw(path, "garbled", f"{there - told:,} bytes follow the last tensor")
    file.tensor_bytes = told


# --- a folder -----------------------------------------------------------------------------------------------


def _indexed(host: Host, folder: str, form: Any, index: str, matching: Sequence[str]) -> Weights:
    path = f"{folder}/{index}"
    read = read_index(host, path)
    if isinstance(read, str):
        flaw = Flaw(path, "garbled", read)
        found = _by_headers(host, folder, form, matching)
        return msgspec.structs.replace(
            found,
            index=path,
            flaws=(flaw, *found.flaws)[:_NAMED],
            flawed=found.flawed + 1,
            to_come_bytes=None,
        )
    names, total = read
    files = [_look(host, folder, name) for name in names[:_FILES]]
    headers = {file.name: _lengths(host, folder, file) for file in files}
    there = sum(file.tensor_bytes or 0 for file in files)
    if there != total or any(file.flaw for file in files):
        _judge_all(host, folder, files, headers)
    notes = []
    if len(names) > len(files):
        notes.append(f"{len(names):,} files are named, of which {len(files):,} were looked at")
    whole = all(file.flaw is None and file.tensor_bytes is not None for file in files) and not notes
    told, source = sum(file.tensor_bytes or 0 for file in files), index
    if whole and told != total:
        if total is not None:
            notes.append(f"{index} states {total:,} bytes, the headers {told:,}")
        total, source = told, "headers"
    return _weights(form, files, total, source, len(names), notes, path)


def _numbered(names: Sequence[str]) -> Sequence[str]:
    """Return the names, with those that their numbers tell to be missing: -00001-of-00004 has three more."""
    found = [_NUMBERED.fullmatch(name) for name in names]
    ends = {(match[1], match[3]) for match in found if match is not None}
    if len(ends) != 1 or None in found:
        return names
    ((start, end),) = ends
    first = 0 if f"{start}00000{end}" in names else 1
    count = min(int(end[len("-of-") :][:5]), _FILES)
    wanted = [f"{start}{at:05}{end}" for at in range(first, first + count)]
    return sorted({*wanted, *names})


def _by_headers(host: Host, folder: str, form: Any, matching: Sequence[str]) -> Weights:
    matching = _numbered(matching)
    files = [_look(host, folder, name) for name in matching[:_FILES]]
    headers = {file.name: _lengths(host, folder, file) for file in files}
    _judge_all(host, folder, files, headers)
    notes = []
    known = len(files) == len(matching) and all(file.tensor_bytes is not None for file in files)
    if len(files) < len(matching):
        notes.append(f"{len(matching):,} files are there, of which {len(files):,} were looked at")
    total = sum(file.tensor_bytes or 0 for file in files) if known and files else None
    return _weights(form, files, total, "headers", len(matching), notes)


def _by_sizes(host: Host, folder: str, form: Any, matching: Sequence[str]) -> Weights:
    """Return weights that only torch could open: their files are hardly larger than what is in them."""
    matching = _numbered(matching)
    files = [_look(host, folder, name) for name in matching[:_FILES]]
    notes = [f"the sizes of the files stand for the tensors, which only torch reads out of .{form}"]
    known = len(files) == len(matching) and not any(file.flaw for file in files)
    total = sum(file.size_bytes for file in files) if known else None
    return _weights(form, files, total, "sizes", len(matching), notes)


def _judge_all(host: Host, folder: str, files: Sequence[_File], headers: dict[str, int]) -> None:
    """Read the headers, as far as the room for them goes; what is left out keeps what its length says."""
    left = _HEADERS_BYTES
    for file in files:
        left -= headers[file.name]
        if file.flaw is None and headers[file.name] and left >= 0:
            _judge(host, folder, file, headers[file.name])


def _weights(
    form: Any,
    files: Sequence[_File],
    total: int | None,
    source: str,
    count: int,
    notes: Sequence[str] = (),
    index: str = "",
) -> Weights:
    flaws = [file.flaw for file in files if file.flaw is not None]
    present = [file for file in files if file.flaw is None or file.flaw.kind not in _ABSENT]
    short = any(flaw.kind in ("truncated", "garbled") for flaw in flaws)
    to_come: int | None = 0
    if short or len(present) < len(files):
        # A file that is cut short comes again as a whole.
        whole = sum(file.tensor_bytes or 0 for file in present if file.flaw is None)
        to_come = total - whole if total is not None and index and total >= whole else None
    return Weights(
        form, total, source if total is not None else "", index, count, len(present),
        sum(file.size_bytes for file in present), to_come, tuple(flaws[:_NAMED]), len(flaws), tuple(notes),
    )  # fmt: skip


def read_index(host: Host, path: str) -> tuple[list[str], int | None] | str:
    """Return the files that an index names, and its total size in bytes; or why it cannot be used."""
    try:
        found = msgspec.json.decode(host.read(path, _INDEX_BYTES), type=_Index)
    except TooLarge:
        return f"larger than {_INDEX_BYTES >> 20} MiB, which no index is"
    except OSError as error:
        return error.strerror or str(error)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return f"no index of weights: {error}"[:200]
    names = list(dict.fromkeys(found.weight_map.values()))
    return (sorted(names), _size((found.metadata or {}).get("total_size"))) if names else "it names no file"


def _size(value: object) -> int | None:
    """Return a total size, which some indexes give as 1.5e10; None for what no model has."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return int(value) if 0 < value < LARGEST_BYTES else None
