"""Reports that are damaged, newer, endless, or written to harm whoever reads them."""

import io
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from markdown_it import MarkdownIt

from cudadoctor.engine import examine
from cudadoctor.facts import Facts
from cudadoctor.findings import Severity
from cudadoctor.redact import for_facts
from cudadoctor.registry import load
from cudadoctor.render import annotations, junit, markdown, sarif, text
from cudadoctor.report import Report, Tool, UnreadableReport, decode, encode
from tests.commands.test_workflow import commands

ROOT = Path(__file__).resolve().parents[1]
SAVED = (ROOT / "tests/reports/v1-launch.json").read_bytes()
MEMORY_BYTES = 1 << 30  #: that reading and judging any file may take; the shared libraries' maps are in it


def read(data: bytes | Path, *argv: str, stdin: bool = False) -> "subprocess.CompletedProcess[str]":
    """Run `check` on a file or on bytes, in bounded memory and time."""

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    name = "-" if isinstance(data, bytes) else str(data)
    command = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--facts", name, *argv]
    ran = subprocess.run(
        command,
        input=data if isinstance(data, bytes) else None,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        preexec_fn=bound,
    )
    return subprocess.CompletedProcess(
        command, ran.returncode, ran.stdout.decode(), ran.stderr.decode(errors="surrogateescape")
    )


def refused(data: bytes | Path) -> str:
    """Return the one line that says why a file is not read."""
    ran = read(data)
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr[-500:]
    assert ran.stderr.startswith("cudadoctor: --facts ") and ran.stderr.endswith("\n")
    line = ran.stderr[:-1]
    assert line.isprintable() and len(line) < 1000
    return line


def changed(change: Callable[[Any], None]) -> bytes:
    report = json.loads(SAVED)
    change(report)
    return json.dumps(report).encode()


# --- what is no report --------------------------------------------------------------------------------------

DEEP = 100_000
NO_REPORTS = {
    "nothing": b"",
    "white space": b" \n\t " * 1000,
    "null": b"null",
    "a number": b"1e400",
    "a list": b"[{}]",
    "text": b"ld: cannot find -lcudart\n",
    "binary": bytes(range(256)) * 64,
    "NUL bytes": b"\0" * 5000,
    "UTF-16": SAVED.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + SAVED,
    "two reports": SAVED * 2,
    "JSON lines": b"{}\n" * 1000,
    "deep lists": b'{"facts": ' + b"[" * DEEP,
    "deep lists that end": b'{"facts": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"facts": ' + b'{"target":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep in what is not known": SAVED[:-1] + b', "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep in a section that is not known": SAVED.replace(
        b'"facts":{', b'"facts":{"x":' + b"[" * DEEP + b"]" * DEEP + b",", 1
    ),
    "a later schema": changed(lambda report: report.update(schema_version=2)),
    "a schema that is no number": changed(lambda report: report.update(schema_version="1")),
    "a schema of odd words": changed(lambda report: report.update(schema_version="\x1b[2J\u202e" * 50)),
    "a schema that is no UTF-8": b'{"schema_version": "\xff\xfe", "facts": {}}',
    "an endless schema": b'{"schema_version": ' + b"1" * 100_000 + b', "facts": {}}',
    "facts that are none": b'{"facts": null}',
    "facts that are a list": b'{"facts": []}',
    "facts that are text": b'{"facts": "target"}',
    "another program's": b'{"findings": [], "version": "2.1.0"}',
    "a word that is not known": changed(lambda report: report["facts"]["launch"].update(kind="\x1b[31m")),
    "a string with raw controls": SAVED.replace(b"Debian", b"\x1b[2J", 1),
    "a string that is no UTF-8": SAVED.replace(b"Debian", b"\xff\xfe", 1),
    "a lone surrogate": SAVED.replace(b"Debian", b"\\ud800", 1),
    "a number beyond all": changed(lambda report: report["facts"]["machine"].update(cores="@")).replace(
        b'"@"', b"1" * 5000
    ),
    "a fraction for a count": changed(lambda report: report["facts"]["machine"].update(cores=1.5)),
    "true for a count": changed(lambda report: report["facts"]["machine"].update(cores=True)),
    "a tag that is not known": changed(lambda report: report["facts"]["target"].update(probe="x" * 5000)),
}


@pytest.mark.parametrize("name", NO_REPORTS)
def test_what_is_no_report_is_one_line_and_exit_2(name: str) -> None:
    refused(NO_REPORTS[name])


def test_a_report_cut_anywhere_is_one_line_and_exit_2(tmp_path: Path) -> None:
    for end in range(1, len(SAVED) - 1, 997):
        with pytest.raises(UnreadableReport):
            decode(SAVED[:end])
    refused(SAVED[: len(SAVED) // 2])


def test_a_field_of_any_other_type_is_one_line(tmp_path: Path) -> None:
    odd: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "x", [], {}, [[]], {"probe": "unknown"}, ["x", 1])
    report = json.loads(SAVED)
    for path in places(report["facts"]):
        for value in odd:
            try:
                facts = decode(json.dumps({"facts": put(report["facts"], path, value)}).encode())
            except UnreadableReport as reason:
                assert "\n" not in str(reason) and len(str(reason)) < 500
            else:
                assert isinstance(facts, Facts)


def test_things_that_are_no_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("endless", "loop", "missing", ".", "a\x1b[31mb\n"):
        refused(tmp_path / name)


# --- what takes long ----------------------------------------------------------------------------------------


def test_ten_million_findings_are_refused_before_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    findings = b'{"check":"x","outcome":"failed","findings":[' + b"{}," * 10_000_000 + b"{}]}"
    file.write_bytes(SAVED.replace(b'"outcomes":[', b'"outcomes":[' + findings + b",", 1))
    assert "larger than 16 MiB" in refused(file)
    assert "larger than 16 MiB" in refused(file.read_bytes())


def test_outcomes_are_never_read_back(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    lie = b'{"check":"x","outcome":"passed","findings":[' + b"{}," * 5_000_000 + b"{}]}"
    file.write_bytes(SAVED.replace(b'"outcomes":[', b'"outcomes":[' + lie + b",", 1))
    told, plain = read(file, "-q"), read(SAVED, "-q")
    assert told.returncode == plain.returncode == 1
    assert told.stdout.splitlines()[:-1] == plain.stdout.splitlines()[:-1], "only the time differs"


#: Lists and tables of facts to be filled, and what with.
FLOODS: dict[str, tuple[tuple[str, ...], Callable[[int], Any]]] = {
    "packages": (
        ("packages", "distributions"),
        lambda n: {"name": f"a{n}", "version": "1", "location": "/x", "requires": [f"b{n % 7}>=2"]},
    ),
    "one package": (
        ("packages", "distributions"),
        lambda n: {"name": "torch", "version": f"{n}", "location": f"/x{n}"},
    ),
    "variables": (("environ", "variables"), lambda n: {"value": f"/x{n}", "origin": "environment"}),
    "a path": (("environ", "path"), lambda n: f"/bin{n}"),
    "folders": (
        ("libraries", "directories"),
        lambda n: {
            "exists": True,
            "real": "/x",
            "files": {"libcudart.so": {"kind": "dangling", "link": "y"}},
        },
    ),
    "folders of a toolkit": (("toolkits", "toolkits", "0", "lib"), lambda n: f"/srv/lib{n}"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_facts_is_judged_in_the_time_of_a_long_look(name: str) -> None:
    path, item = FLOODS[name]
    report = json.loads(SAVED)
    place: Any = report["facts"]
    for step in path:
        place = place[int(step) if step.isdecimal() else step]
    if isinstance(place, dict):
        place.update({f"/N{number}": item(number) for number in range(20_000)})
    else:
        place.extend(item(number) for number in range(20_000))
    ran = read(json.dumps(report).encode(), "-q")
    assert ran.returncode == 1 and ran.stderr == ""
    assert float(re.findall(r"([\d.]+) s$", ran.stdout.strip())[0]) < 20


def test_a_name_that_is_there_twice_counts_once() -> None:
    twice = SAVED.replace(b'"facts":{', b'"facts":{"target":{"probe":"unknown","reason":"first"},', 1)
    assert decode(twice) == decode(SAVED), "the last one counts, as JSON's readers have it"


@pytest.mark.parametrize(
    "number", ["1e308", "-1e308", "1e-400", "9223372036854775807", "-9223372036854775808"]
)
def test_numbers_at_the_end_of_what_a_machine_holds_are_judged(number: str) -> None:
    facts = re.sub(rb'(_bytes|_kib|cores)":\d+', rb'\1":@', SAVED).replace(b"@", number.encode())
    ran = read(facts, "-q")
    assert ran.returncode in (1, 2) and "bug of cudadoctor" not in ran.stderr and "crashed" not in ran.stdout


# --- what is written to harm --------------------------------------------------------------------------------

HARM = {
    "a terminal's commands": "\x1b[2J\x1b]0;owned\x07\x9b31m\r\b\x7f",
    "reversed text": "a\u202eb\u2066c\u200bd\u2028e\ufefff",
    "markup": "</details></code>`` ` ```<script>alert(1)</script><!-- ![x](https://evil.example/p) | @all #1",
    "markdown": "\n\n# x\n\n* y\n1. z\n> q\n---\n[x]: https://evil.example\n|a|b|\n|-|-|",
    "xml": "]]><failure/><!DOCTYPE x [<!ENTITY a 'b'>]>&a;<![CDATA[ \x00\ufffe\uffff\"'><testcase>",
    "a runner's commands": "\n::error::x\r\n::add-mask::a%0A::stop-commands::x ##[error]x ##vso[t.x]y,z=1:",
    "a link in SARIF": "[click](https://evil.example) {0} {{1}} ](1)",
    "a shell's commands": "$(touch /tmp/x)`touch /tmp/x`;touch /tmp/x&&'\"\\",
    "format strings": "%s%n{0}{x.__class__}%(y)s\\g<0>\\1",
    "length": "x" * 20_000,
}
CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value of plain data that is no table and no list."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value[:2]):
            yield from places(item, (*path, number))
    else:
        yield path


def put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return plain data with one value in place of another, and all other parts shared."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = put(data[path[0]], path[1:], value)
    return copy


@cache
def free() -> tuple[tuple[Any, ...], ...]:
    """Return the way to each string of the saved facts that may be any string at all."""
    facts = json.loads(SAVED)["facts"]
    found = []
    for path in places(facts):
        value = facts
        for step in path:
            value = value[step]
        if isinstance(value, str):
            try:
                decode(json.dumps({"facts": put(facts, path, "any text")}).encode())
            except UnreadableReport:
                continue
            found.append(path)
    return tuple(found)


def poisoned(harm: str, keep: str = "") -> Report:
    """Return a report whose facts hold `harm` in each string, but for those of a section to be kept."""
    facts: Any = json.loads(SAVED)["facts"]
    for path in free():
        if path[0] != keep:
            facts = put(facts, path, harm)
    facts["environ"]["variables"] |= {harm: {"value": harm, "origin": harm}}
    seen = decode(json.dumps({"facts": facts}).encode())
    registry = load()
    outcomes = tuple(examine(seen, registry.checks.values(), registry.own()))
    report = Report(Tool("cudadoctor", "0.1.0"), "2026-11-21T09:00:00Z", seen.target, seen, outcomes, 1, True)
    return for_facts(seen).value(report)


def test_nearly_every_string_of_a_report_can_be_poisoned() -> None:
    assert len(free()) > 100


@pytest.mark.parametrize("keep", ["", "packages", "toolkits", "environ", "launch"])
@pytest.mark.parametrize("name", HARM)
def test_nothing_in_a_report_is_obeyed_in_any_format(name: str, keep: str) -> None:
    report = poisoned(HARM[name], keep)
    crashed = [outcome for outcome in report.outcomes if type(outcome).__name__ == "Crashed"]
    assert not crashed, crashed[0]
    plain(report)
    in_markdown(report)
    in_xml(report)
    in_json(report)
    told = annotations.render(report, Severity.NOTE)
    assert not CONTROL.search(told) and len(commands(told)) == told.count("\n")


def plain(report: Report) -> None:
    for verbose in (False, True):
        stream = io.StringIO()
        text.render(report, stream=stream, verbose=verbose)
        assert not CONTROL.search(stream.getvalue())
        assert commands(stream.getvalue()) == []


def in_markdown(report: Report) -> None:
    said = markdown.render(report)
    assert not CONTROL.search(said) and commands(said) == []
    allowed = {"text", "code_inline", "strong_open", "strong_close"}
    for token in PARSER.parse(said):
        assert token.type not in (
            "table_open",
            "blockquote_open",
            "hr",
            "fence",
            "code_block",
            "ordered_list_open",
        )
        if token.type == "html_block":
            assert re.fullmatch(r"</?(?:details|summary)>.*\n", token.content.replace("\n<", "\\n<"))
        assert {child.type for child in token.children or ()} <= allowed, token.content


def in_xml(report: Report) -> None:
    root = xml.fromstring(junit.render(report))
    assert len(root.findall("testsuite/testcase")) == len(report.outcomes)
    tags = {
        "testsuites",
        "testsuite",
        "properties",
        "property",
        "testcase",
        "failure",
        "skipped",
        "system-out",
    }
    assert {element.tag for element in root.iter()} <= tags
    assert not any(CONTROL.search(each) for element in root.iter() for each in element.attrib.values())


def in_json(report: Report) -> None:
    for data in (sarif.render(report, load().checks.values()), encode(report)):
        assert not CONTROL.search(data.decode().rstrip("\n")) and commands(data.decode()) == []
        json.loads(data)
    assert decode(encode(report)) == report.facts


def test_a_poisoned_file_is_harmless_through_the_whole_program(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(encode(poisoned("".join(HARM[name] for name in HARM if name != "length"))))
    for form in ("text", "markdown", "junit", "sarif", "json"):
        ran = read(file, "--format", form)
        assert ran.returncode in (0, 1) and ran.stderr == "", ran.stderr
        assert not CONTROL.search(ran.stdout) and commands(ran.stdout) == []
