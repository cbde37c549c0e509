"""What would fit, and how the GPU's memory would be used, in text and in Markdown."""

import io

from msgspec import structs

from cudadoctor.findings import Finding, Remedy, Severity
from cudadoctor.outcomes import Failed
from cudadoctor.planned import MemoryPlan, Profile, Share, Span
from cudadoctor.planning import evidence_of
from cudadoctor.render import markdown, text
from cudadoctor.report import Report

from .build import finding, report

GIB = 1 << 30
PLAN = MemoryPlan(
    "0.12.0", "", "RTX 3090", 1, "--gpu", int(23.58 * GIB), 0.75, int(17.7 * GIB),
    Span(17.9 * GIB, 18.2 * GIB), (Share("activations", Span(1.4 * GIB, 1.8 * GIB), "forward pass"),),
    Span(-2.3 * GIB, -1.6 * GIB), GIB, 4096, Span(0, 0), Span(0, 0), Span(0, 0), "no-kv-cache",
)  # fmt: skip
FITS = structs.replace(
    PLAN, utilization=0.9, outcome="fits", kv_cache=Span(1.0 * GIB, 1.2 * GIB), concurrency=Span(1.0, 1.2),
    profiles=(
        Profile("one user", "--max-model-len 8192 --max-num-seqs 1", "8192 tokens"),
        Profile("many", "--max-num-seqs 2", "2 x 4096 tokens at once"),
    ),
)  # fmt: skip


def advice(label: str, options: str, holds: str) -> Remedy:
    values = {"label": label, "options": options, "holds": holds}
    return Remedy("show", values, f"{options}   # {holds}")


ADVICE = (
    advice("would fit", "--gpu-memory-utilization 0.90", "4096 tokens, about 1.2 requests at once"),
    advice("more room", "--gpu-memory-utilization 0.90 --kv-cache-dtype fp8", "4096 tokens, about 2.3"),
)


def told(
    plan: MemoryPlan | None, what: Finding, width: int | None = None, verbose: bool = False
) -> list[str]:
    stream = io.StringIO()
    text.render(of(plan, what), stream=stream, width=width, color=False, verbose=verbose)
    return stream.getvalue().splitlines()


def of(plan: MemoryPlan | None, what: Finding) -> Report:
    return structs.replace(report(Failed("kv-cache-does-not-fit", findings=(what,))), plan=plan)


def test_advice_stands_in_columns_without_a_label_for_help() -> None:
    lines = told(PLAN, finding("will stop", Severity.ERROR, (), ADVICE))
    shown = [line for line in lines if line.startswith("    ")]
    assert shown == [
        "    would fit   --gpu-memory-utilization 0.90"
        "                          4096 tokens, about 1.2 requests at once",
        "    more room   --gpu-memory-utilization 0.90 --kv-cache-dtype fp8     4096 tokens, about 2.3",
    ]


def test_on_a_narrow_page_what_it_holds_goes_below_and_the_options_stay_whole() -> None:
    lines = told(PLAN, finding("will stop", Severity.ERROR, (), ADVICE), width=80)
    at = lines.index("    more room   --gpu-memory-utilization 0.90 --kv-cache-dtype fp8")
    assert lines[at + 1] == " " * 16 + "4096 tokens, about 2.3"


def test_what_the_picture_shows_is_not_said_again_but_where_all_is_wanted() -> None:
    seen = finding("will stop", Severity.ERROR, evidence_of(PLAN), ADVICE)
    assert not any("seen" in line for line in told(PLAN, seen))
    assert any(
        "seen   activations: 1.4 to 1.8 GiB: forward pass" in line for line in told(PLAN, seen, None, True)
    )
    assert any("seen   activations: " in line for line in told(None, seen))


def test_the_picture_says_how_far_a_launch_that_fits_could_go() -> None:
    lines = told(FITS, finding())
    assert "GPU memory   RTX 3090, 23.58 GiB · budget 17.7 GiB at 0.90 · as vLLM 0.12.0 plans" in lines
    at = next(number for number, line in enumerate(lines) if line.startswith("  KV cache"))
    assert lines[at].endswith("4096 tokens need 1.0 GiB: about 1.1 at once")
    assert lines[at + 1 : at + 3] == [
        "  one user --max-model-len 8192 --max-num-seqs 1   8192 tokens",
        "  many     --max-num-seqs 2                        2 x 4096 tokens at once",
    ]


def test_no_picture_is_drawn_of_what_was_not_planned() -> None:
    assert not any("GPU memory" in line for line in told(None, finding()))


def test_markdown_names_each_way_with_what_it_holds() -> None:
    lines = markdown.render(of(PLAN, finding("will stop", Severity.ERROR, (), ADVICE))).splitlines()
    assert "  - would fit: `--gpu-memory-utilization 0.90`, 4096 tokens, about 1.2 requests at once" in lines


def test_cards_that_would_do_have_no_options() -> None:
    cards = Remedy("show", {"label": "would do"}, "one H200 (139.8 GiB)")
    lines = told(PLAN, finding("do not fit", Severity.ERROR, (), (cards,)))
    assert "    would do    one H200 (139.8 GiB)" in lines
