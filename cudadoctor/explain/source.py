"""Reads a log: in blocks, as UTF-8, up to where the file ended when it was opened."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO

from cudadoctor.mistakes import UserMistake

BLOCK = 1 << 20
_PACKED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"\xfd7zXZ": ("xz", "xzcat"),
    b"BZh": ("bzip2", "bzcat"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
_ELF = b"\x7fELF"
_SHARE = 0.3  #: zero bytes at odd (or even) places from which on a text is taken for UTF-16


def blocks(name: str) -> Iterator[bytes]:
    """Yield the bytes of a log as UTF-8; raise UserMistake where it cannot be read, or is no log.

    A file that grows is read up to its size at the start, a pipe to its end.
    """
    if name == "-":
        if sys.stdin is None:
            raise UserMistake("-: the input is closed")
        yield from _decoded(_read(sys.stdin.buffer, None), name)
        return
    if os.path.isdir(name):
        raise UserMistake(f"{name}: is a folder, not a log")
    try:
        with open(name, "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            regular = stat.S_ISREG(status.st_mode) and status.st_size > 0
            yield from _decoded(_read(stream, status.st_size if regular else None), name)
    except (OSError, ValueError) as error:
        raise UserMistake(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _read(stream: BinaryIO, size: int | None) -> Iterator[bytes]:
    left = size
    # What reads a pipe at once takes what is there: whoever follows a log sees no block held back.
    read = getattr(stream, "read1", stream.read)
    while left is None or left > 0:
        block = read(BLOCK if left is None else min(BLOCK, left))
        if not block:
            return
        if left is not None:
            left -= len(block)
        yield block


def _decoded(raw: Iterator[bytes], name: str) -> Iterator[bytes]:
    first = b""
    for block in raw:
        first += block
        if len(first) >= 4096:
            break
    for mark, (what, tool) in _PACKED.items():
        if first.startswith(mark):
            how = f"{tool} {'FILE' if name == '-' else name} | cudadoctor explain -"
            raise UserMistake(f"{name}: is packed by {what}: {how}")
    if first.startswith(_ELF):
        raise UserMistake(f"{name}: is a program or library, not a log")
    encoding = _encoding(first)
    if encoding is None:
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from raw
        return
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    yield decoder.decode(first).lstrip("\ufeff").encode("utf-8", "replace")
    for block in raw:
        yield decoder.decode(block).encode("utf-8", "replace")


def _encoding(first: bytes) -> str | None:
    """Return the encoding of a text that is not UTF-8: what PowerShell's `>` writes is UTF-16."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16-le" if first.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"
    half = len(first[:4096]) // 2
    if half < 8:
        return None
    even, odd = first[: 2 * half : 2].count(0), first[1 : 2 * half : 2].count(0)
    if odd > _SHARE * half and even < odd / 8:
        return "utf-16-le"
    if even > _SHARE * half and odd < even / 8:
        return "utf-16-be"
    return None
