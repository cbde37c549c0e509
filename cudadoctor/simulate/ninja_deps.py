"""ninja's own record of the headers that each output was made of: the file .ninja_deps.

The format is version 4, as ninja 1.11.1 and 1.13.2 write it (read off their files, 2026-11-21): records with
their size in front, of a path, which counts from 0, or of an output's number, its time and the numbers of
what it was made of. A record that comes later replaces an earlier one.
"""

from __future__ import annotations

_SIGNATURE = b"# ninjadeps\n\x04\0\0\0"
_OF_AN_OUTPUT = 1 << 31


def headers_of(log: bytes, folder: str) -> tuple[str, ...]:
    """Return the paths that the outputs below `folder` were made of, as they were recorded last.

    `folder` is as ninja has it, with a slash at its end. A log that is damaged or cut off gives what was
    before that.
    """
    if not log.startswith(_SIGNATURE):
        return ()
    paths, made_of, at = list[str](), dict[str, tuple[int, ...]](), len(_SIGNATURE)
    while at + 4 <= len(log):
        head = int.from_bytes(log[at : at + 4], "little")
        size = head & (_OF_AN_OUTPUT - 1)
        record, at = log[at + 4 : at + 4 + size], at + 4 + size
        if len(record) < size or size < 4:
            break
        if not head & _OF_AN_OUTPUT:
            paths.append(record[:-4].rstrip(b"\0").decode("utf-8", "surrogateescape"))
            continue
        numbers = [int.from_bytes(record[place : place + 4], "little") for place in range(0, size - 3, 4)]
        if numbers[0] < len(paths):
            made_of[paths[numbers[0]]] = tuple(numbers[3:])
    mine = [number for output, numbers in made_of.items() if output.startswith(folder) for number in numbers]
    return tuple(paths[number] for number in dict.fromkeys(mine) if number < len(paths))
