"""ninja's own record of the headers that each output was made of: the file .ninja_deps.

The format is version 4, as ninja 1.11.1 and 1.13.2 write it (read off their files, 2026-11-21): records with
their size in front, of a path, which counts from 0, or of an output's number, its time and the numbers of
what it was made of. A record that comes later replaces an earlier one.
"""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.latest import latest

_SIGNATURE = b"# ninjadeps\n\x04\0\0\0"
_OF_AN_OUTPUT = 1 << 31


class _Log(Struct, frozen=True):
    """What a log says: all paths, and by output the latest record of what it was made of."""

    paths: list[str]
    made_of: dict[str, bytes]


def headers_of(log: bytes, folder: str) -> tuple[str, ...]:
    """Return the paths that the outputs below `folder` were made of, as they were recorded last.

    `folder` is as ninja has it, with a slash at its end. A log that is damaged or cut off gives what was
    before that.
    """
    said = _read(log)
    mine = [record for output, record in said.made_of.items() if output.startswith(folder)]
    numbers = dict.fromkeys(number for record in mine for number in _numbers(record)[3:])
    return tuple(said.paths[number] for number in numbers if number < len(said.paths))


@latest
def _read(log: bytes) -> _Log:
    """Take a log apart, once for all its operators; the numbers are read of those that are asked for."""
    if not log.startswith(_SIGNATURE):
        return _Log([], {})
    paths, made_of, at = list[str](), dict[str, bytes](), len(_SIGNATURE)
    while at + 4 <= len(log):
        head = int.from_bytes(log[at : at + 4], "little")
        size = head & (_OF_AN_OUTPUT - 1)
        record, at = log[at + 4 : at + 4 + size], at + 4 + size
        if len(record) < size or size < 4:
            break
        if not head & _OF_AN_OUTPUT:
            paths.append(record[:-4].rstrip(b"\0").decode("utf-8", "surrogateescape"))
            continue
        output = int.from_bytes(record[:4], "little")
        if output < len(paths):
            made_of[paths[output]] = record
    return _Log(paths, made_of)


def _numbers(record: bytes) -> tuple[int, ...]:
    """Return a record's numbers: the output's, two of its time, those of what it was made of."""
    places = range(0, len(record) - 3, 4)
    return tuple(int.from_bytes(record[place : place + 4], "little") for place in places)
