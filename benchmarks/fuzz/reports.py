"""Reports and facts that are not what they should be, and all that is done with one that decodes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec import structs

from benchmarks.fuzz import shapes
from benchmarks.fuzz.odd import RAW, among
from benchmarks.fuzz.running import Reader, Trouble
from cudadoctor.compare import Seen, compare
from cudadoctor.declare import Check, Fix
from cudadoctor.engine import examine
from cudadoctor.facts import NOT_COLLECTED, SECTIONS, Facts, Target, Unknown
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.outcomes import Crashed, Outcome, Skipped
from cudadoctor.plan import Wanted, make_plan
from cudadoctor.planning import memory_plan
from cudadoctor.redact import Redactor, for_facts
from cudadoctor.registry import load, load_fixes
from cudadoctor.render import annotations as workflow
from cudadoctor.render import difference as differences
from cudadoctor.render import junit, markdown, sarif, text, ticket
from cudadoctor.render import repair as repairs
from cudadoctor.repair import described
from cudadoctor.report import Report, Tool, UnreadableReport, decode, encode
from cudadoctor.show import visible

TOOL = Tool("cudadoctor", "0.1.0")
CREATED = "2026-11-21T09:00:00Z"
TESTS = Path(__file__).resolve().parents[2] / "tests"
_LONGEST = 2000  #: characters of the line that says why a report is refused
_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_OURS = ("<details>", "</details>", "<summary>")
_LARGEST = 120_000  #: bytes of facts that are changed over and over
_MOST_PARSED = 60_000  #: characters of Markdown that are parsed again


# --- what is done with a report -----------------------------------------------------------------------------


@lru_cache(1)
def checks() -> dict[str, Check]:
    """Return every check of ours."""
    registry = load(launch=True)
    return {name: registry.checks[name] for name in sorted(registry.own())}


@lru_cache(1)
def fixes() -> dict[str, Fix]:
    """Return every fix."""
    return load_fixes().fixes


def read(data: bytes) -> bool:
    """Decode a report, and do with it whatever the commands do; return whether it was one."""
    facts = decoded(data)
    if facts is None:
        return False
    report = report_of(facts)
    redacted = for_facts(facts).value(report)
    _render(_asked(redacted))
    _plan(report)
    try:
        decode(encode(redacted))
    except UnreadableReport as problem:
        raise Trouble("a redacted report cannot be read", str(problem)) from None
    return True


def decoded(data: bytes) -> Facts | None:
    """Return the facts; None where they are refused with one clear line."""
    try:
        return decode(data)
    except UnreadableReport as problem:
        one_line(str(problem))
    return None


def one_line(problem: str) -> None:
    """Say where a problem is not told in one line of some length."""
    line = visible(Redactor("").text(problem))
    if not line.strip() or len(line) > _LONGEST:
        raise Trouble("no clear line", line[:200])


def report_of(facts: Facts) -> Report:
    """Return the report on facts; a check that crashes is trouble."""
    outcomes = judged(facts)
    plan = None if isinstance(facts.launch, Unknown) else memory_plan(facts)
    return Report(TOOL, CREATED, facts.target, facts, tuple(outcomes), 1.5, True, plan=plan)


def judged(facts: Facts) -> list[Outcome]:
    """Return how every check ends."""
    outcomes = examine(facts, checks().values(), checks())
    for outcome in outcomes:
        if isinstance(outcome, Crashed) and not _told_so(facts, outcome):
            raise Trouble(
                f"{outcome.check} crashed: {outcome.reason.rpartition(' at ')[2]}", outcome.reason[:400]
            )
    return outcomes


def _told_so(facts: Facts, outcome: Crashed) -> bool:
    """Return whether it is the facts that say that a probe has crashed."""
    sections = [getattr(facts, name) for name in SECTIONS]
    return any(isinstance(each, Unknown) and each.crashed for each in sections) and ": " in outcome.reason


def _asked(report: Report) -> Report:
    """Return a report without the checks whose facts nobody collected: most, and they all read the same."""
    asked = [
        each
        for each in report.outcomes
        if not isinstance(each, Skipped) or NOT_COLLECTED.reason not in each.reason
    ]
    return structs.replace(report, outcomes=tuple(asked))


def _render(report: Report) -> None:
    plain(written(lambda stream: text.render(report, stream=stream, verbose=True)), "text")
    plain(written(lambda stream: text.render(report, stream=stream, width=60, color=False)), "narrow text")
    plain(written(lambda stream: text.render(report, stream=stream, quiet=True)), "quiet text")
    harmless(markdown.render(report), "Markdown")
    xml.fromstring(plain(junit.render(report), "JUnit"))
    pages = [checks()[outcome.check] for outcome in report.outcomes]
    msgspec.json.decode(plain(sarif.render(report, pages).decode(), "SARIF"))
    for line in plain(workflow.render(report), "annotations").splitlines():
        if not line.startswith("::"):
            raise Trouble("a line of the annotations is none", line[:200])
    data = encode(report)
    msgspec.json.decode(plain(data.decode(), "JSON"))
    harmless(ticket.ticket(report, None, data, []), "ticket")


def _plan(report: Report) -> None:
    """Do as `fix --facts` does."""
    plan = make_plan(report, fixes(), Wanted(unsafe=True), None)
    prefix = report.target.prefix if isinstance(report.target, Target) else ""
    repair = described(plan, report, TOOL, prefix)
    plain(written(lambda stream: repairs.render(repair, report, stream=stream)), "plan")
    encode(for_facts(report.facts).value(repair))


def read_two(pair: tuple[bytes, bytes]) -> bool:
    """Compare two reports as `diff` does; return whether both were some."""
    both = [decoded(data) for data in pair]
    if both[0] is None or both[1] is None:
        return False
    seen = []
    for name, facts in zip("ab", both, strict=True):
        assert facts is not None
        masked = for_facts(facts).value(facts)
        seen.append(Seen(f"{name}.json", masked, tuple(judged(masked)), masked))
    difference = compare(seen[0], seen[1], checks().values(), fixes())
    redacted = for_facts(both[1]).value(difference)
    plain(written(lambda stream: differences.text(redacted, stream=stream, verbose=True)), "difference")
    plain(written(lambda stream: differences.text(redacted, stream=stream, width=60)), "narrow difference")
    harmless(differences.markdown(redacted, verbose=True), "Markdown of a difference")
    encode(redacted)
    return True


def finding(said: str) -> Finding:
    """Return a finding that says this everywhere."""
    remedy = Remedy("show", {}, said)
    return Finding(said, Severity.ERROR, (Evidence(said, said), Evidence("", said)), (remedy,))


def written(render: Callable[[io.StringIO], None]) -> str:
    """Return what a renderer writes."""
    stream = io.StringIO()
    render(stream)
    return stream.getvalue()


def plain(shown: str, what: str) -> str:
    """Return a text; what a terminal or the log of a CI system obeys in it is trouble.

    A ticket quotes the lines of a log as they are: it is pasted, not printed by a runner.
    """
    for line in shown.split("\n"):
        if visible(line) != line:
            raise Trouble(f"{what} holds a control character", repr(line)[:300])
        if line.lstrip().startswith("::") and what not in ("annotations", "ticket"):
            raise Trouble(f"a line of the {what} begins with ::", line[:200])
    return shown


def harmless(shown: str, what: str) -> str:
    """Return Markdown; HTML, links and pictures in it that are not ours are trouble."""
    plain(shown, what)
    if len(shown) > _MOST_PARSED:
        return shown
    for token in _PARSER.parse(shown):
        for each in (token, *(token.children or ())):
            foreign = each.type.startswith("html") and not each.content.strip().startswith(_OURS)
            if foreign or each.type in ("link_open", "image"):
                raise Trouble(f"{what} holds {each.type}", each.content[:300])
    return shown


# --- what is given ------------------------------------------------------------------------------------------


class Seeds:
    """Real facts as JSON, to be changed. (Hypothesis writes out what a strategy is given: these are not.)"""

    def __init__(self, facts: Iterable[bytes]) -> None:
        self._facts = [data for data in facts if len(data) <= _LARGEST]
        self.mutator = shapes.Mutator(shapes.Pool([msgspec.json.decode(data) for data in self._facts]))

    def __repr__(self) -> str:
        return f"Seeds({len(self._facts)})"

    def one(self, draw: st.DrawFn) -> bytes:
        """Return the JSON of one of them."""
        return self._facts[draw(st.integers(0, len(self._facts) - 1))]

    def crossed(self, draw: st.DrawFn) -> dict[str, Any]:
        """Return one, with sections of up to three others that it has not itself."""
        value: dict[str, Any] = msgspec.json.decode(self.one(draw))
        for _ in range(draw(st.integers(0, 3))):
            for name, section in msgspec.json.decode(self.one(draw)).items():
                if _is_known(section) and not _is_known(value.get(name)):
                    value[name] = section
        return value

    def __len__(self) -> int:
        return len(self._facts)


def _is_known(section: object) -> bool:
    return isinstance(section, dict) and section.get("probe") != "unknown"


def harvested() -> list[bytes]:
    """Return the facts that the tests of the checks judge, as JSON: every branch of every check has some."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/facts.jsonl"
        argv = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "benchmarks.fuzz.harvest",
            "-p",
            "no:cacheprovider",
        ]
        places = ["tests/checks", "tests/test_plan.py", "tests/test_planning.py", "tests/test_engine.py"]
        environ = {**os.environ, "CUDADOCTOR_HARVEST": file}
        done = subprocess.run([*argv, *places], env=environ, cwd=TESTS.parent, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stdout[-500:] + done.stderr[-500:])
        with open(file, "rb") as stream:
            return stream.read().splitlines()


def saved() -> list[bytes]:
    """Return the facts of the reports that are kept to be replayed."""
    files = sorted((TESTS / "reports").glob("*.json"))
    return [encode(decode(file.read_bytes())) for file in files]


def readers(seeds: Seeds) -> list[Reader]:
    """Return the readers of reports, with inputs made from these facts and from their types."""
    return [
        Reader("report: any bytes", st.one_of(st.binary(max_size=200), _brackets()), read, reduce, 1),
        Reader("report: any JSON", _wrapped(shapes.anything()), read, reduce, 1),
        Reader("report: facts of the right types", _wrapped(_typed()), read, reduce, 2),
        Reader("report: real facts, changed", _documents(seeds), read, reduce, 8),
        Reader("report: real facts, spoiled", _spoiled(seeds), read, reduce, 1),
        Reader("diff: two reports", _pairs(seeds), read_two, reduce_two, 2),
    ]


def _brackets() -> st.SearchStrategy[bytes]:
    parts = [
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b":",
        b",",
        b'"facts"',
        b'"target"',
        b'"schema_version"',
        b"1",
        b"\\u",
    ]
    piece = st.one_of(among(parts), among(RAW).map(bytes), st.binary(max_size=3))
    return st.lists(piece, max_size=30).map(b"".join)


@st.composite
def _wrapped(draw: st.DrawFn, facts: st.SearchStrategy[Any]) -> bytes:
    """Give JSON as facts or as a report of some version."""
    value = draw(facts)
    match draw(st.integers(0, 5)):
        case 0:
            value = {"facts": value, "schema_version": draw(st.one_of(shapes.anything(), st.just(1)))}
        case 1:
            value = {"target": value, "environ": draw(facts)}
        case 2 | 3:
            value = {"tool": {}, "schema_version": 1, "facts": value, "outcomes": draw(shapes.anything())}
    return shapes.written(value)


def _typed() -> st.SearchStrategy[Any]:
    """Return facts of a few sections, each of the right type."""
    known = msgspec.inspect.type_info(Facts)
    assert isinstance(known, msgspec.inspect.StructType)
    sections = {each.encode_name: shapes.shaped(each.type, 1) for each in known.fields}
    some = st.lists(st.sampled_from(sorted(sections)), min_size=1, max_size=8, unique=True)
    return some.flatmap(
        lambda names: st.fixed_dictionaries({name: sections[name] for name in {*names, "target"}})
    )


@st.composite
def _documents(draw: st.DrawFn, seeds: Seeds) -> bytes:
    """Give real facts, changed in some places."""
    value = seeds.crossed(draw)
    seeds.mutator.change(draw, value)
    match draw(st.integers(0, 9)):
        case 0:
            value = {"facts": value}
        case 1 | 2:
            value = {"schema_version": 1, "facts": value, "outcomes": []}
    return shapes.written(value)


@st.composite
def _spoiled(draw: st.DrawFn, seeds: Seeds) -> bytes:
    return shapes.spoiled(draw, seeds.one(draw))


@st.composite
def _pairs(draw: st.DrawFn, seeds: Seeds) -> tuple[bytes, bytes]:
    """Give real facts and the same changed; or two that have nothing to do with each other."""
    value = seeds.crossed(draw)
    before = shapes.written(value)
    if not draw(st.integers(0, 5)):
        return before, draw(_documents(seeds))
    seeds.mutator.change(draw, value)
    return before, shapes.written(value)


def reduce(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return less JSON that still fails."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data
    if not fails(shapes.written(value)):
        return data
    return shapes.written(shapes.smaller(value, lambda less: fails(shapes.written(less))))


def reduce_two(pair: tuple[bytes, bytes], fails: Callable[[Any], bool]) -> tuple[bytes, bytes]:
    """Return less of both that still fails."""
    first = reduce(pair[0], lambda less: fails((less, pair[1])))
    return first, reduce(pair[1], lambda less: fails((first, less)))
