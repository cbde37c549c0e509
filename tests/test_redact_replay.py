"""Whatever is masked in a report, the checks say the same of it."""

import json
from pathlib import Path

import pytest
from msgspec import structs

from cudadoctor.engine import examine
from cudadoctor.facts import Facts, Listener, Resources, Unknown, WantedPort
from cudadoctor.outcomes import Outcome
from cudadoctor.redact import Redactor, for_facts
from cudadoctor.registry import load
from cudadoctor.report import Report, Tool, decode, encode

SAVED = sorted((Path(__file__).parent / "reports").glob("*.json"))
HOSTS = ("gpu-node-17.lab.corp.net",)
#: Of a machine: a name that is nothing else, one that stands in paths, and such as are words of this trade.
NAMES = ("gpu-node-17", "zeus", "cuda", "gpu", "localhost", "target", "venv", "linux", "error")


def judged(facts: Facts) -> tuple[Outcome, ...]:
    registry = load()
    outcomes = examine(facts, registry.checks.values(), registry.own())
    return tuple(structs.replace(outcome, duration_ms=0.0) for outcome in outcomes)


def said(outcomes: tuple[Outcome, ...]) -> list[tuple[str, str, list[str]]]:
    return [(o.check, type(o).__name__, [f.summary for f in o.findings]) for o in outcomes]


def personal(path: Path, user: str, host: str) -> Facts:
    """Return the facts of a saved report as they would be of that user, in folders named for the machine."""
    data = json.loads(path.read_text())
    old = (data["facts"]["target"]["prefix"] if isinstance(data["facts"]["target"], dict) else "") or "/srv"
    folder = f"/home/{user}/{host}" if user else f"/scratch/{host}"
    text = json.dumps(data["facts"]).replace(old, f"{folder}/env")
    text = text.replace('"home": "', f'"home": "/home/{user}", "was": "' if user else '"home": "')
    return decode(text.encode())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("user", ["ada", "cuda", "root"])
@pytest.mark.parametrize("thorough", [False, True], ids=["report", "log"])
@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_masked_facts_are_judged_as_they_were(path: Path, thorough: bool, user: str, name: str) -> None:
    facts = personal(path, user, name)
    home = f"/home/{user}"
    redactor = for_facts(facts, home, hosts=(name, *HOSTS), thorough=thorough)
    report = Report(Tool("cudadoctor", "0"), "", facts.target, facts, judged(facts))
    masked = redactor.value(report)
    assert said(judged(masked.facts)) == said(masked.outcomes)
    again = for_facts(masked.facts, hosts=(name, *HOSTS), thorough=thorough).value(masked)
    assert encode(again) == encode(masked)
    if user == "ada":
        assert b"/home/ada" not in encode(masked)
    if name == "gpu-node-17":
        assert name.encode() not in encode(masked)


def with_port(facts: Facts, wanted: str, held: str) -> Facts:
    ports = (WantedPort(8000, wanted, "--port", listeners=(Listener(held, 8000, 0, 7, "python serve"),)),)
    resources = Resources(ports) if isinstance(facts.resources, Unknown) else facts.resources
    return structs.replace(facts, resources=structs.replace(resources, ports=ports))


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ("10.3.9.90", "10.3.9.90"), ("10.3.9.90", "10.3.9.91"), ("10.3.9.90", "0.0.0.0"), ("", "10.3.9.90"),
        ("fe80::1", "fe80::1"), ("fe80::1", "fe80::2"), ("::", "fe80::1"), ("", "fe80::1"), ("", "::"),
        ("localhost", "127.0.0.1"), ("localhost", "10.3.9.90"), ("gpu-node-17", "10.3.9.90"),
    ],
)  # fmt: skip
def test_a_port_is_held_or_free_at_masked_addresses_as_at_the_real_ones(wanted: str, held: str) -> None:
    launch = next(path for path in SAVED if "launch" in path.stem)
    facts = with_port(decode(launch.read_bytes()), wanted, held)
    masked = Redactor("").value(Report(Tool("", ""), "", facts.target, facts, judged(facts)))
    assert said(judged(masked.facts)) == said(masked.outcomes)
    text = encode(masked).decode()
    assert "10.3.9.9" not in text and "fe80" not in text and "gpu-node" not in text


def test_a_version_that_looks_like_an_address_stays_in_a_report() -> None:
    facts = with_port(decode(SAVED[0].read_bytes()), "10.3.9.91", "10.3.9.91")
    assert b"10.3.9.91" not in encode(Redactor("").value(facts))
    for path in SAVED:
        facts = decode(path.read_bytes())
        assert Redactor("", hosts=HOSTS).value(facts) is facts
