"""What a ticket has room for: findings before details, and every block and fold closed."""

import re

import pytest
from msgspec import structs

from cudadoctor.explain.model import Explanation, Kind, Seen
from cudadoctor.facts import Driver, Environ, Launch, Variable
from cudadoctor.findings import Evidence
from cudadoctor.outcomes import Failed
from cudadoctor.render.ticket import ticket
from cudadoctor.report import Report, encode
from tests.render.build import finding, report

GITHUB = 65_536
MARKS = "<img src=x> ``` @everyone </details> "


def seen(number: int, lines: int, characters: int) -> Seen:
    around = tuple((MARKS * characters)[:characters] for _ in range(lines))
    return Seen("x", "linker-cudart-missing", Kind.CAUSE, number, "x", f"cause {number}", around=around)


def log(causes: int, lines: int = 7, characters: int = 600) -> Explanation:
    all_ = [seen(number, lines, characters) for number in range(1, causes + 1)]
    return Explanation("serve.log", 100, 1000, all_[0], tuple(all_[1:]))


def found(number: int, evidence: int) -> Report:
    """Return a report of so many findings, each with so many pieces of evidence."""
    seen = tuple(Evidence("/opt/é", "ü" * 200) for _ in range(evidence))
    return report(Failed("a", findings=tuple(finding(f"number {n}", evidence=seen) for n in range(number))))


def told(whole: Report, explanation: Explanation | None = None, data: bytes = b"") -> str:
    return ticket(whole, explanation, data or encode(whole) * 40, ["3 values masked"])


def outside(text: str) -> str:
    """Return what is in no fenced block and in no code span; fail where a block stays open."""
    kept, fence = [], ""
    for line in text.splitlines():
        mark = re.fullmatch(r"\s*(`{3,})\w*", line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            kept.append(re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line))
    assert not fence
    return "\n".join(kept)


@pytest.mark.parametrize(
    ("whole", "explanation"),
    [
        (report(), log(60)),
        (report(), log(3, 7, 60_000)),
        (found(3000, 0), log(60)),
        (found(400, 5), log(60)),
        (found(1, 2000), None),
    ],
    ids=["many causes", "long lines", "many findings", "findings with details", "many details"],
)
def test_whatever_is_left_out_every_block_is_closed(whole: Report, explanation: Explanation | None) -> None:
    text = told(whole, explanation)
    assert len(text) < GITHUB and "too long for a ticket" in text
    plain = outside(text)
    assert plain.count("<details>") == plain.count("</details>")
    assert "<img" not in plain and "@everyone" not in plain
    assert text.rstrip().endswith(" s") and "3 values masked" in plain


def test_details_are_left_out_before_findings() -> None:
    text = told(found(400, 5), log(60))
    assert all(f"number {number}\n" in text for number in range(400))
    assert 0 < text.count("seen: ") < 2000


def test_a_long_log_leaves_room_for_the_machine_and_names_every_cause() -> None:
    text = told(report(), log(60))
    assert "<summary>Environment</summary>" in text and "<summary>Packages</summary>" in text
    assert all(f": cause {number} (" in text for number in range(1, 61))


def test_a_part_that_is_left_out_is_named() -> None:
    assert "Left out, being too long as well: Environment, " in told(found(3000, 0))


def test_a_finding_that_is_longer_than_a_ticket_is_named() -> None:
    long = report(Failed("a", findings=(finding("<img> " * 20_000), finding("the other"))))
    text = told(long)
    assert "- ❌ **error** `a`: (too long to show)\n" in text and "the other" in text
    assert "<img" not in outside(text)


def test_a_launch_is_told_with_its_arguments_and_what_it_sets() -> None:
    launch = Launch(
        "vllm-serve", ("vllm", "serve", "org/model", "--x", "a b"), "command line", {},
        {"VLLM_USE_V1": Variable("1", "command line")}, {}, "org/model",
    )  # fmt: skip
    whole = report()
    text = told(structs.replace(whole, facts=structs.replace(whole.facts, launch=launch)))
    assert "Command: vllm serve org/model --x 'a b'\nCommand sets: VLLM_USE_V1=1\n" in text


def test_a_machine_without_a_gpu_is_said_to_have_none_and_path_is_told() -> None:
    whole = report()
    environ = Environ({}, "the current variables", ("/opt/bin", "/usr/bin"))
    text = told(structs.replace(whole, facts=structs.replace(whole.facts, driver=Driver(), environ=environ)))
    assert "\nGPU: no trace of one\n" in text and "\nPATH=/opt/bin:/usr/bin\n" in text
