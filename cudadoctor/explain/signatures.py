"""Loads the rows of `knowledge/signatures/*.toml`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from functools import cache

import msgspec

from cudadoctor.explain.model import Kind, Signature

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "knowledge", "signatures")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signature: tuple[Signature, ...]


class Row(msgspec.Struct, frozen=True):
    """A signature, with its expressions compiled."""

    signature: Signature
    match: re.Pattern[str] | None
    unless: re.Pattern[str] | None

    @property
    def id(self) -> str:
        """Return the row's name."""
        return self.signature.id


def read(path: str) -> tuple[Signature, ...]:
    """Return the rows of one file; raise ValueError where it is not what it should be."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    with open(path, "rb") as stream:
        return msgspec.convert(tomllib.load(stream), _File).signature


@cache
def rows() -> tuple[Row, ...]:
    """Return every row, file by file."""
    names = sorted(name for name in os.listdir(FOLDER) if name.endswith(".toml"))
    return compiled(row for name in names for row in read(os.path.join(FOLDER, name)))


def compiled(signatures: Iterable[Signature]) -> tuple[Row, ...]:
    """Return rows ready to be searched for; raise ValueError for two of one name, or a sign that is none."""
    made = tuple(
        Row(
            each,
            re.compile(each.match) if each.match else None,
            re.compile(each.unless) if each.unless else None,
        )
        for each in signatures
    )
    signs = {row.id for row in made if row.signature.kind is Kind.SIGN}
    seen: set[str] = set()
    for row in made:
        if row.id in seen:
            raise ValueError(f"two rows are called {row.id}")
        seen.add(row.id)
        if unknown := {*row.signature.beside, *row.signature.not_beside} - signs:
            raise ValueError(f"{row.id}: no sign is called {', '.join(sorted(unknown))}")
    return made
