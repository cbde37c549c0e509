"""A report as Markdown: what it says, and that nothing from the machine is read as Markdown or HTML."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from cudadoctor.facts import Packages, Target, Toolkit, TorchBuild, Unknown
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.outcomes import Crashed, Failed, Inconclusive, Passed, Skipped
from cudadoctor.render import markdown
from cudadoctor.report import Report
from cudadoctor.show import visible
from tests.render.build import HOME, finding, report, toolkits

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OURS = {"<details>\n<summary>1 passed, 1 skipped</summary>\n", "</details>\n"}


def tokens(text: str) -> Iterator[Token]:
    for token in PARSER.parse(text):
        yield token
        yield from token.children or ()


def code(text: str) -> list[str]:
    return [token.content for token in tokens(text) if token.type == "code_inline"]


def told(summary: str, detail: str = "", fix: str = "") -> str:
    """Return the Markdown of a report with one finding."""
    evidence = (Evidence("", detail),) if detail else ()
    remedies = (Remedy("show", {}, fix),) if fix else ()
    return markdown.render(
        report(Failed("a", findings=(finding(summary, evidence=evidence, remedies=remedies),)))
    )


def test_the_whole_report_reads_like_this() -> None:
    assert markdown.render(report()) == (
        "## cudadoctor: 2 errors, 1 warning, 1 inconclusive, 1 crashed, 1 suppressed\n"
        "\n"
        "- **Target**: `~/envs/vllm`, venv, Python 3.11.7 (from `VIRTUAL_ENV`)\n"
        "- **Toolkit**: 13.0.88, `/usr/local/cuda-13.0` (nvcc on PATH is a script that starts it)\n"
        "- **Stack**: torch `2.14.1+cu130`, vllm 0.12.0, flashinfer `0.7.2.post1`, triton 3.5.1\n"
        "\n"
        "### Findings\n"
        "\n"
        "- ❌ **error** `cuda-home-wrong`: torch and vLLM will take `CUDA_HOME=/usr/local`: no headers\n"
        "  - seen: `/usr/local/bin/nvcc: is a script, line 2: exec /usr/local/cuda-13.0/bin/nvcc`\n"
        "  - seen: `/usr/local: no include/cuda_runtime.h in it`\n"
        "  - fix: `export CUDA_HOME=/usr/local/cuda-13.0`\n"
        "- ❌ **error** `cudart-link-missing`: the link will stop with: cannot find `-lcudart`\n"
        "  - seen: `/usr/local/lib64: no such folder`\n"
        "  - fix: same as for `cuda-home-wrong`\n"
        "- ⚠️ **warning** `ninja-missing`: ninja is not on the PATH that FlashInfer will see\n"
        "  - seen: `~/envs/vllm/bin/ninja: exists`\n"
        '  - help: `export PATH="/home/ada/envs/vllm/bin:$PATH"`\n'
        "\n"
        "### No verdict\n"
        "\n"
        "- **crashed** `plug-in-check`: ZeroDivisionError: division by zero at `/x/y.py:3`\n"
        "- **inconclusive** `host-compiler-unsupported`: compilers: did not end in time\n"
        "\n"
        "### Suppressed\n"
        "\n"
        "- warning `libcuda-link-missing`: no stub (accepted: built elsewhere)\n"
        "\n"
        "<details>\n"
        "<summary>2 passed, 1 skipped</summary>\n"
        "\n"
        "- `a-passes` passed, 0.00 ms\n"
        "- `b-passes` passed, 0.25 ms\n"
        "- `jit-build-fails` skipped (deep: runs only with `--deep`), 0.00 ms\n"
        "\n"
        "</details>\n"
        "\n"
        "`cudadoctor 0.1.0`, `2026-11-21T09:00:00Z`, 0.14 s\n"
    )


def test_a_healthy_machine_has_a_short_report() -> None:
    text = markdown.render(report(Passed("a")))
    assert text.startswith("## cudadoctor: no problems\n") and "###" not in text


def test_a_report_without_any_verdict_claims_nothing() -> None:
    assert markdown.render(report(Skipped("a", "x"))).startswith("## cudadoctor: no check applied\n")


def test_a_replay_and_sections_that_could_not_be_had_are_said() -> None:
    text = markdown.render(report(target=Unknown("gone"), replayed=True))
    assert "- **Replay**: judged from a saved file: this machine was not looked at\n" in text
    assert "- **Target**: unknown: gone\n" in text


HOSTILE = [
    "`", "``", "` `` ```", "`x", "x`", "a | b", "|---|", "</details><script>", "<!-- x", "&lt;b&gt;",
    "line\nline", "\n\n# heading", "- item", "1. item", "> quote", "---", "===", "***bold***", "_em_",
    "~~gone~~", "[text](https://evil.example)", "![x](https://evil.example/pixel.png)",
    "<https://evil.example>", "https://evil.example", "www.evil.example", "@everyone", "#1", "GH-1",
    "owner/repo#1", ":tada:", "$x$", "$`x`$", "[x]: https://evil.example", "\\`", "\\", "a\\", "\x1b[31m",
    "\u202e", "\udcff", "[^1]", "'", "''", "(", "()", "(`",
]  # fmt: skip


def everywhere(hostile: str) -> Report:
    """Return a report with one string in every place that can hold one."""
    remedy = Remedy(hostile, {hostile: hostile})
    every = Finding(
        hostile, Severity.ERROR, (Evidence(hostile, hostile),), (remedy, Remedy("show", {}, hostile))
    )
    accepted = finding(hostile, suppressed=hostile or "x")
    where = Target(hostile, hostile, hostile, hostile, hostile, (), "", hostile, True, (hostile,))
    return report(
        Failed(hostile, findings=(every, accepted)),
        Crashed(hostile, hostile),
        Inconclusive(hostile, hostile),
        Passed(hostile, hostile),
        Skipped(hostile, hostile),
        target=where,
        judged=hostile,
        toolkits=toolkits((Toolkit(hostile, hostile, "cuda", hostile, "", (hostile,)),)),
        packages=Packages((), TorchBuild(hostile, hostile, hostile), unreadable=(hostile,)),
    )


def shape(text: str) -> list[str]:
    """Return the blocks of a document, without the spans of words in them."""
    return [token.type for token in PARSER.parse(text)]


def assert_inert(hostile: str) -> None:
    text = markdown.render(everywhere(hostile))
    assert shape(text) == shape(markdown.render(everywhere("x")))
    allowed = {"text", "code_inline", "strong_open", "strong_close"}
    for token in tokens(text):
        if token.type == "html_block":
            assert token.content in OURS
        if token.type == "inline":
            assert {child.type for child in token.children or ()} <= allowed, token.content
        if token.type == "text" and token.level:
            assert not set(token.content) & set("`<>|*_~@#[]$\\&"), token.content
    text.encode("utf-8")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_from_the_machine_is_markup(hostile: str) -> None:
    assert_inert(hostile)


PIECES = st.sampled_from([*HOSTILE, " ", "a", "\t", "1", "."])


@given(st.text(st.characters(), min_size=1) | st.lists(PIECES, min_size=1).map("".join))
def test_no_text_at_all_is_markup(hostile: str) -> None:
    assert_inert(hostile)


@pytest.mark.parametrize("hostile", [text for text in HOSTILE if text.strip() == text])
def test_evidence_and_commands_can_be_read_exactly(hostile: str) -> None:
    spans = code(told("x", f"see {hostile} end", hostile))
    assert visible(f"see {hostile} end") in spans and visible(hostile) in spans


def test_plain_words_and_numbers_are_no_code() -> None:
    summary = "nvcc 12.4 is older than torch's 13.0 (by far), says ld: 'no such file' in /usr/lib."
    line = "nvcc 12.4 is older than torch's 13.0 (by far), says ld: `'no such file'` in `/usr/lib`."
    assert line in told(summary)
    assert 'stop with `"No room for it"`; then' in told('stop with "No room for it"; then')


def test_a_path_in_brackets_keeps_them_outside() -> None:
    assert "(`/usr/lib64`), then" in told("look (/usr/lib64), then")


def test_the_home_folder_is_a_tilde_except_in_commands() -> None:
    text = told(f"{HOME}/x is gone", f"{HOME}/y", f"ls {HOME}/z")
    assert "`~/x` is gone" in text and "seen: `~/y`" in text and f"help: `ls {HOME}/z`" in text
