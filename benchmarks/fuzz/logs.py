"""Logs that are none, that were made to be misread, and that arrive in pieces."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from ahocorasick_rs import BytesAhoCorasick as _MATCHER
from hypothesis import strategies as st
from msgspec import structs

from benchmarks.fuzz import odd, reports, shapes
from benchmarks.fuzz.running import Reader, Trouble
from cudadoctor.explain import Explanation
from cudadoctor.explain.cause import explain
from cudadoctor.explain.confirm import confirmed
from cudadoctor.explain.scan import ERRORS, LONGEST, Found, scan
from cudadoctor.explain.signatures import rows
from cudadoctor.explain.source import blocks
from cudadoctor.facts import Facts
from cudadoctor.mistakes import UserMistake
from cudadoctor.outcomes import Crashed, Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.redact import Redactor
from cudadoctor.render import explanation
from cudadoctor.render.ticket import ticket
from cudadoctor.report import Report, Tool, encode

_LEAST = 60_000  #: bytes of a line from which on it may be cut: what is looked at around a hit is less

#: What stands before a message in logs of containers, servers, CI systems, installers and tests.
PREFIXES = (
    "", "  ", "(EngineCore pid=12) ", "(Worker_TP0 pid=1) ", "(RayWorkerWrapper pid=7, ip=10.0.0.1) ",
    "[rank0]: ", "[rank1]:[W515 07:10:42.8 ProcessGroupNCCL.cpp:1117] ", "#12 34.5 ", "##[error]", "│ ",
    "ERROR 09-28 15:50:24 [core.py:718] ", "vllm-1  | ", "[pod/vllm-0/server] ", "E       ", "::error::",
    "2026-11-22T01:02:03.123456789Z stderr F ", "2026-11-22 01:02:03,123 - ", "\x1b[31m", "╭─ ",
    "\x1b[0;36m(APIServer pid=4)\x1b[0;0m ", '{"log":"', "Nov 28 17:40:08 host vllm[12]: ", "WARNING:root:",
    "INFO 01-01 00:00:00 [x.py:1] ", "\r 10%|█ | 1/10\r",
)  # fmt: skip
ENDS = ("\n", "\r\n", "\n\n", "\r", "", " \n", "\x00\n", '\\n"}\n', "\x1b[0m\n")


class Case(msgspec.Struct, frozen=True):
    """A log, and where the blocks end in which it arrives."""

    data: bytes
    cuts: tuple[int, ...] = ()


def read(case: Case) -> bool:
    """Scan a log as a whole and in pieces, and tell what it tells; return whether a cause was found."""
    data = case.data
    whole = scan(rows(), [data])
    ends = sorted(min(cut, len(data)) for cut in case.cuts)
    parts = [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]
    if max(map(len, data.split(b"\n"))) < _LEAST:
        _same(whole, scan(rows(), parts))
    else:
        scan(rows(), parts)
    told = explain(whole, "serve.log")
    tell(told)
    return told.root is not None


def _same(whole: Found, parts: Found) -> None:
    a, b = _plainly(whole), _plainly(parts)
    for name in a:
        if a[name] != b[name]:
            raise Trouble(f"blocks change the {name}", f"{a[name]!r:.300} as one, {b[name]!r:.300} in pieces")


def _plainly(found: Found) -> dict[str, Any]:
    tallies = found.tallies.values()
    return {
        "lines": found.lines,
        "size": found.size,
        "rows": sorted(found.tallies),
        "counts": {tally.row.id: tally.count for tally in tallies},
        "places": {tally.row.id: list(tally.places) for tally in tallies},
        "texts": {
            tally.row.id: [(hit.line, hit.text, hit.groups) for hit in tally.hits] for tally in tallies
        },
        "last error": found.last_error,
        "folders of packages": found.sites,
        "patience": found.tired,
    }


def tell(told: Explanation) -> None:
    """Render what a log tells in every form, without a machine and with every verdict that there can be."""
    redactor = Redactor("/home/ada", thorough=True)
    for each in (told, *_judged(told)):
        shown = redactor.value(each)
        for home, width in (("/home/user", None), ("", 60)):
            reports.plain(_written(shown, home, width), "explanation")
        encode(shown)
        reports.harmless(ticket(_REPORT, shown, b"{}", []), "ticket")


def _written(told: Explanation, home: str, width: int | None) -> str:
    return reports.written(lambda stream: explanation.render(told, home, stream=stream, width=width))


_REPORT = Report(Tool("cudadoctor", "0.1.0"), reports.CREATED, Facts().target, Facts())


def _judged(told: Explanation) -> Iterator[Explanation]:
    signatures = {row.id: row.signature for row in rows()}
    if told.root is None:
        return
    names = signatures[told.root.signature].checks
    kinds: tuple[Callable[[str, str], Outcome], ...] = (Passed, Skipped, Inconclusive, Crashed)
    for kind in kinds:
        yield confirmed(told, signatures, {name: kind(name, told.root.text) for name in names})
    found = reports.finding(told.root.text)
    yield confirmed(told, signatures, {name: Failed(name, findings=(found,)) for name in names})


def read_file(data: bytes) -> bool:
    """Read a log from a file as `explain` does; return whether it is one."""
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(data)
        stream.flush()
        try:
            found = scan(rows(), blocks(stream.name))
        except UserMistake as mistake:
            reports.one_line(str(mistake))
            return False
        os.truncate(stream.name, len(data) // 2)  # it is shorter than it was when it was opened
    tell(structs.replace(explain(found, stream.name), log="a\x1b[2J`b"))
    return True


# --- what is given ------------------------------------------------------------------------------------------


def readers() -> list[Reader]:
    """Return the readers of logs."""
    _keep_matcher()
    texts = _Texts()
    return [
        Reader("log: lines of programs, changed", _logs(texts), read, _reduce, 6),
        Reader("log: long lines", _long(texts), read, _reduce, 1),
        Reader("log: any bytes", st.builds(Case, st.binary(max_size=400), _CUTS), read, _reduce, 1),
        Reader("log: files of any encoding", _files(texts), read_file, None, 2),
    ]


def _keep_matcher() -> None:
    """Let all scans share the matcher of the rows, which takes longer to make than a small log to read."""
    import ahocorasick_rs

    made: dict[tuple[bytes, ...], Any] = {}

    def shared(needles: list[bytes], **how: Any) -> Any:
        key = tuple(needles)
        if key not in made:
            made.clear()
            made[key] = _MATCHER(needles, **how)
        return made[key]

    ahocorasick_rs.BytesAhoCorasick = shared  # type: ignore[assignment, misc]


_CUTS = st.lists(st.integers(0, 5000), max_size=6).map(tuple)


class _Texts:
    """The messages that the rows know, whole and as what they look for; written out in no representation."""

    def __init__(self) -> None:
        signatures = [row.signature for row in rows()]
        self.samples = [line for each in signatures for sample in each.sample for line in sample.split("\n")]
        self.needles = [
            *(needle for each in signatures for needle in each.find),
            *(each.decode() for each in ERRORS),
        ]

    def __repr__(self) -> str:
        return "texts"


@st.composite
def _line(draw: st.DrawFn, texts: _Texts) -> bytes:
    """Give a message behind some prefixes, whole or changed."""
    body = draw(odd.among(texts.samples))
    match draw(st.integers(0, 7)):
        case 0:
            at = draw(st.integers(0, len(body)))
            body = body[:at] + draw(odd.texts()) + body[at:]
        case 1:
            body = draw(odd.among(texts.needles)) + draw(odd.texts())
        case 2:
            body = draw(odd.texts())
        case 3:
            body = body[: draw(st.integers(0, len(body)))]
        case 4:
            body = " ".join((body, draw(odd.among(texts.samples)), draw(odd.among(texts.needles))))
    before = "".join(draw(st.lists(odd.among(PREFIXES), max_size=4)))
    raw = (before + body + draw(odd.among(ENDS))).encode("utf-8", "surrogatepass")
    if not draw(st.integers(0, 9)):
        return shapes.spoiled(draw, raw)
    return raw


@st.composite
def _logs(draw: st.DrawFn, texts: _Texts) -> Case:
    data = b"".join(draw(st.lists(_line(texts), max_size=12)))
    return Case(data, draw(st.lists(st.integers(0, len(data)), max_size=8).map(tuple)))


@st.composite
def _long(draw: st.DrawFn, texts: _Texts) -> Case:
    """Give a line of up to three MiB with messages in it, and others around it."""
    filler = draw(
        odd.among(
            (b"x", b" ", b"-I/usr/include ", b"\x00", b"\xff", "\u00e9".encode(), b"[31m", b"(a ", b"\\n")
        )
    )
    size = draw(odd.among((3000, 9000, 70_000, LONGEST - 40, LONGEST + 9000, 3 * LONGEST)))
    parts = [draw(_line(texts)).replace(b"\n", b" ") for _ in range(3)]
    many = filler * (size // len(filler) // 2)
    data = draw(_line(texts)) + parts[0] + many + parts[1] + many + parts[2] + b"\n" + draw(_line(texts))
    return Case(data, draw(st.lists(st.integers(0, len(data)), max_size=6).map(tuple)))


@st.composite
def _files(draw: st.DrawFn, texts: _Texts) -> bytes:
    """Give a log as some program wrote it: in UTF-16, packed, cut, or with a mark of another format."""
    data = b"".join(draw(st.lists(_line(texts), max_size=8)))
    match draw(st.integers(0, 7)):
        case 0:
            return data.decode("utf-8", "replace").encode(
                draw(odd.among(("utf-16", "utf-16-le", "utf-16-be", "utf-32")))
            )
        case 1:
            marks = (
                b"\x1f\x8b",
                b"\x28\xb5\x2f\xfd",
                b"\xfd7zXZ",
                b"BZh",
                b"PK\x03\x04",
                b"\x7fELF",
                b"\xff\xfe",
                b"\xef\xbb\xbf",
            )
            return draw(odd.among(marks)) + data
        case 2:
            return draw(st.binary(max_size=64)) + data
        case 3:
            return data.decode("utf-8", "replace").encode("utf-16")[:: draw(st.integers(1, 3))]
        case 4:
            return data.replace(b"\n", draw(odd.among((b"\r", b"\x00", b"\n\x00", b"\x85"))))
    return data


def _reduce(case: Case, fails: Callable[[Any], bool]) -> Case:
    """Return the log with as many of its lines, and then of its cuts and bytes, left out as can be."""
    pieces = (
        [case.data[i : i + 1] for i in range(len(case.data))]
        if len(case.data) < 300
        else case.data.splitlines(True)
    )
    cuts = list(case.cuts)

    def made(value: Any) -> Case:
        return Case(b"".join(value["data"]), tuple(value["cuts"]))

    less = shapes.smaller(
        {"data": [*pieces], "cuts": cuts}, lambda value: len(value) == 2 and fails(made(value)), 10.0
    )
    return made(less)
