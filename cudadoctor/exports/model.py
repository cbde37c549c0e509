"""What exports come to: the variables after them, how they add up, how they name the environment's folder.

Text that starts with the environment's own folder can be written in `{prefix}` form, so that it stays right
when the folder is moved. `relative` puts it into that form; every function here takes either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import structs

from cudadoctor.actions import Export

#: Variables that are lists of folders.
LISTS = frozenset(
    ("LIBRARY_PATH", "LD_LIBRARY_PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "PATH")
)


def outcome(exports: Iterable[Export], variables: Mapping[str, str], prefix: str) -> dict[str, str | None]:
    """Return the value of each variable that is named, after these exports; None: not set."""
    after: dict[str, str | None] = {}
    for written in exports:
        export = absolute(written, prefix)
        before = after[export.name] if export.name in after else variables.get(export.name)
        after[export.name] = (_changed(export, before or "") if export.is_list else export.value) or None
    return after


def environ_after(exports: Iterable[Export], variables: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return all variables as they are after these exports."""
    changed = outcome(exports, variables, prefix)
    kept = {name: value for name, value in variables.items() if name not in changed}
    return kept | {name: value for name, value in changed.items() if value is not None}


def split(name: str, value: str) -> list[str]:
    """Return the entries of a list of folders but the empty ones; the loader's is split at `;` as well."""
    text = value.replace(";", ":") if name == "LD_LIBRARY_PATH" else value
    return [entry for entry in text.split(":") if entry]


def bare(entry: str) -> str:
    """Return an entry without the slashes at its end, by which two spellings of it are told to be one."""
    return entry.rstrip("/") or entry[:1]


def _changed(export: Export, value: str) -> str:
    gone = {bare(entry) for entry in export.remove}
    entries = [entry for entry in split(export.name, value) if bare(entry) not in gone]
    there = {bare(entry) for entry in entries}
    for entry in export.add:
        if bare(entry) not in there:
            there.add(bare(entry))
            entries.append(entry)
    return ":".join(entry for entry in entries if entry)


def toward(name: str, entries: Sequence[str], value: str) -> Export:
    """Return the change that leads from a list's entries ("" for an empty one) to those of `value`.

    What is new is added behind, what is gone is taken out; the order of what stays is not changed.
    """
    wanted = split(name, value)
    add, remove = _once(_without(wanted, entries)), _once(_without(entries, wanted))
    # With neither, it would be no change of a list but a variable to unset.
    return Export(name, add=add, remove=remove if add or remove else ("",))


def merged(before: Iterable[Export], new: Iterable[Export]) -> tuple[Export, ...]:
    """Return one export a name, which comes to the same as all of them in their order."""
    found: dict[str, Export] = {}
    for export in (*before, *new):
        earlier = found.get(export.name)
        found[export.name] = export if earlier is None else _both(earlier, export)
    return tuple(found.values())


def _both(first: Export, second: Export) -> Export:
    if not second.is_list:
        return second
    if not first.is_list:
        return Export(first.name, _changed(second, first.value))
    return Export(
        first.name,
        add=_once((*_without(first.add, second.remove), *second.add)),
        remove=_once((*_without(first.remove, second.add), *second.remove)),
    )


def _without(entries: Iterable[str], others: Iterable[str]) -> list[str]:
    gone = {bare(entry) for entry in others}
    return [entry for entry in entries if bare(entry) not in gone]


def _once(entries: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for entry in entries:
        found.setdefault(bare(entry), entry)
    return tuple(found.values())


# --- the environment's own folder ---------------------------------------------------------------------------

PLACE = "{prefix}"
#: One brace is the folder itself; each further one stands for the same text with one brace less.
_PLACES = re.compile(r"(\{+)prefix\}")
# At the start of a word, or of what a flag holds: -L/prefix/lib, -isystem/prefix, --sysroot=/prefix,
# -Wl,-rpath,/prefix/lib. Anywhere else it is a part of some other path.
_BEFORE = r"(?:^|[\s=,:;\"']|(?:^|[\s,:;\"'])-(?:[A-Za-z]|isystem|iquote|idirafter|isysroot))"
_AFTER = r"(?=$|[/\s,:;\"'])"


def relative(export: Export, prefix: str) -> Export:
    """Return the export with `{prefix}` where its text names the environment's folder, or what is in it."""
    folder = prefix.rstrip("/")
    if not folder:
        return _mapped(export, _escaped)
    mention = re.compile(f"({_BEFORE}){re.escape(folder)}{_AFTER}")

    def put_in(text: str) -> str:
        parts, at = [], 0
        for match in mention.finditer(text):
            parts += [_escaped(text[at : match.end(1)]), PLACE]
            at = match.end()
        return "".join([*parts, _escaped(text[at:])])

    return _mapped(export, put_in)


def absolute(export: Export, prefix: str) -> Export:
    """Return the export with the environment's folder where its text has `{prefix}`."""
    folder = prefix.rstrip("/")
    return _mapped(export, lambda text: "".join(folder if part is None else part for part in parts(text)))


def parts(text: str) -> list[str | None]:
    """Return text in `{prefix}` form in pieces: literal ones, and None for each place of the folder."""
    found: list[str | None] = []
    at = 0
    for match in _PLACES.finditer(text):
        literal = text[at : match.start()] + (match[0][1:] if len(match[1]) > 1 else "")
        found += [literal] if len(match[1]) > 1 else [literal, None]
        at = match.end()
    return [*found, text[at:]]


def _escaped(text: str) -> str:
    return _PLACES.sub(lambda match: "{" + match[0], text)


def _mapped(export: Export, change: Callable[[str], str]) -> Export:
    return structs.replace(
        export,
        value=change(export.value),
        add=tuple(map(change, export.add)),
        remove=tuple(map(change, export.remove)),
    )
