"""The report: facts and outcomes in the shape of the published JSON Schema, and its exit code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from cudadoctor.facts import Facts, Target, Unknown
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Crashed, Outcome
from cudadoctor.planned import MemoryPlan

SCHEMA_VERSION = 1
_MOST_CHARACTERS = 300  #: of a reason why a file is not read


class Tool(Struct, frozen=True):
    """The program that made a report."""

    name: str
    version: str


class Report(Struct, frozen=True):
    """Everything one run saw and judged. Fields may be added; a rename takes a new `schema_version`."""

    tool: Tool
    created: str  #: ISO 8601, UTC
    target: Target | Unknown
    facts: Facts
    outcomes: tuple[Outcome, ...] = ()
    elapsed_ms: float = 0.0
    replayed: bool = False  #: judged from a file, without access to the machine
    schema_version: int = SCHEMA_VERSION
    plan: MemoryPlan | None = None  #: of a launch of vLLM, where enough is known of it

    def findings(self) -> Iterable[tuple[str, Finding]]:
        """Yield the name of the check with each finding that counts, the worst first."""
        found = [(o.check, f) for o in self.outcomes for f in o.findings if not f.suppressed]
        return sorted(found, key=lambda pair: -pair[1].severity.rank)

    def exit_code(self, fail_on: Severity | None = Severity.ERROR) -> int:
        """Return 1 for a finding at or above `fail_on`, else 3 where a check crashed, else 0."""
        if fail_on and any(finding.severity.rank >= fail_on.rank for _, finding in self.findings()):
            return 1
        return 3 if any(isinstance(outcome, Crashed) for outcome in self.outcomes) else 0


class UnreadableReport(Exception):
    """A file that is no report and no facts of ours: one line, exit code 2."""


def encode(report: Struct | dict[str, Any]) -> bytes:
    """Return the JSON of a report, of facts alone, or of what another command tells.

    A file name that is no UTF-8 holds lone surrogates, which JSON cannot: they become `\\xNN`, the same way
    everywhere, so that two names that were equal stay equal.
    """
    try:
        data = msgspec.json.encode(report)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_printable(msgspec.to_builtins(report)))
    return data if data.isascii() and b"##" not in data and b"\x7f" not in data else _unobeyed(data)


def _unobeyed(data: bytes) -> bytes:
    """Return JSON that means the same, with nothing in it that a terminal obeys, nor a CI system's log.

    That takes `##[command]` for one of its commands wherever it stands in a line.
    """
    from cudadoctor.show import escaped

    return re.sub(rb"#(?=#\w*\[)", rb"\\u0023", escaped(data.decode()).encode())


def _printable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(item) for item in value]
    return value


def decode(data: bytes) -> Facts:
    """Return the facts of a report or of a facts file; raise UnreadableReport with the reason."""
    try:
        shape = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReport(f"no JSON of ours: {_short(error)}") from None
    version = shape.get("schema_version")
    if version is not None and bytes(version) != str(SCHEMA_VERSION).encode():
        said = bytes(version)[:20].decode("utf-8", "backslashreplace")
        raise UnreadableReport(f"schema version {said}: this program reads {SCHEMA_VERSION}")
    facts = bytes(shape["facts"]) if "facts" in shape else data
    if "facts" not in shape and "target" not in shape:
        raise UnreadableReport("neither a report nor facts (it has no `facts` and no `target`)")
    try:
        return msgspec.json.decode(facts, type=Facts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = f"not the facts this program knows: {_short(error)}{_writer(shape)}"
        raise UnreadableReport(said) from None


def _short(error: Exception) -> str:
    """Return what is wrong; a word of the file that it quotes may be as long as the file."""
    text = str(error)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def _writer(shape: dict[str, msgspec.Raw]) -> str:
    """Return who wrote a report where that was another version; "" where it does not say so."""
    from cudadoctor import __version__

    try:
        tool = msgspec.json.decode(bytes(shape["tool"]), type=Tool)
    except (KeyError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    if tool.version == __version__:
        return ""
    return f" (written by {tool.name[:40]} {tool.version[:40]}, this is {__version__})"


def _undented(value: Any) -> Any:
    """Return a schema whose descriptions are dedented, as Python 3.13 has them already."""
    import inspect

    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(item) if key == "description" and isinstance(item, str) else _undented(item)
            for key, item in value.items()
        }
    return [_undented(item) for item in value] if isinstance(value, list) else value


def schema(of: type[Struct] = Report, title: str = "cudadoctor report") -> dict[str, object]:
    """Return the JSON Schema of a report, or of what another command tells."""
    schema = _undented(msgspec.json.schema(of))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
