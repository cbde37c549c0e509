"""A difference as text and as Markdown: what it says, and that nothing from a report is obeyed."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec import structs

from cudadoctor.compare import IDLE, NAMED, NEEDED, OPEN, Difference, Different, Side, Turned, Unseen
from cudadoctor.render import difference as rendering

PARSER = MarkdownIt("commonmark")
A = Side("works.json", "/home/user/envs/vllm", "venv", "3.12.1", ("torch 2.9.0+cu128",))
B = Side("this machine", "/opt/vllm", "conda", "3.12.1", ("torch 2.8.0+cu126",))
PIP = "/opt/vllm/bin/python -m pip install torch==2.9.0 --index-url https://download.pytorch.org/whl/cu128"


def package(name: str, rank: int = NEEDED, **more: Any) -> Different:
    first, second = more.pop("first", "1.0"), more.pop("second", "2.0")
    return Different(rank, "packages", name, first, second, group="packages", item=name, **more)


def taken(who: str) -> Different:
    what, group = f"toolkit taken by {who}", "toolkit taken by"
    return Different(NAMED, "toolkits", what, "/a", "/b", "", ("cuda-home-wrong",), group, what)


def whole() -> Difference:
    """Return a difference with one of everything."""
    return Difference(
        A,
        B,
        (
            Turned(
                "cuda-home-wrong", "passed", "failed", "error", ("no such folder",),
                "cudadoctor fix cuda-home-wrong",
            ),
            Turned("ninja-missing", "failed", "passed", "warning", ("no ninja",)),
            Turned("driver-too-old", "inconclusive", "passed", reason="driver: did not end in time"),
        ),
        ("libcuda-link-missing",),
        (
            Different(
                NAMED, "environ", "CUDA_HOME", "/a", "unset", "A", ("cuda-home-wrong",), "variables",
                "CUDA_HOME", "export CUDA_HOME=/a",
            ),
            taken("FlashInfer"),
            taken("torch"),
            package("torch", first="2.9.0+cu128", second="2.8.0+cu126", command=PIP),
            package("vllm", second="not installed", only="A"),
            package("numpy", second="not installed", only="A"),
            Different(OPEN, "compilers", "g++", "gcc 12.2.0", "gcc 14.1.0"),
            Different(IDLE, "machine", "kernel", "6.1", "6.8"),
        ),
        (Unseen("deep", "A", "runs only with --deep"), Unseen("live", "A", "runs only with --deep")),
        120,
        "B",
    )  # fmt: skip


def text(difference: Difference, **options: Any) -> str:
    stream = io.StringIO()
    rendering.text(difference, stream=stream, **options)
    return stream.getvalue()


def test_the_whole_text_reads_like_this() -> None:
    assert text(whole()) == (
        "A  works.json    /home/user/envs/vllm · venv · Python 3.12.1 · torch 2.9.0+cu128\n"
        "B  this machine  /opt/vllm · conda · Python 3.12.1 · torch 2.8.0+cu126\n"
        "\n"
        "✗ cuda-home-wrong  passed in A, fails in B\n"
        "    found  no such folder\n"
        "    fix    cudadoctor fix cuda-home-wrong\n"
        "✓ ninja-missing  failed in A, passes in B\n"
        "? driver-too-old  no verdict in A, passes in B\n"
        "    why    driver: did not end in time\n"
        "  fail in both: libcuda-link-missing\n"
        "\n"
        "Named by what fails in B only\n"
        "  CUDA_HOME  /a -> unset\n"
        "    A has  export CUDA_HOME=/a\n"
        "  toolkit taken by FlashInfer, torch  /a -> /b\n"
        "\n"
        "What else is looked at by what fails in B only\n"
        "  torch  2.9.0+cu128 -> 2.8.0+cu126\n"
        f"    A has  {PIP}\n"
        "  packages only in A: vllm 1.0, numpy 1.0\n"
        "\n"
        "What other failing checks look at\n"
        "  g++  gcc 12.2.0 -> gcc 14.1.0\n"
        "\n"
        "1 more difference that no failing check looks at (-v)\n"
        "deep, live: not looked at in A (runs only with --deep)\n"
        "different: 3 checks and 8 of 120 facts\n"
    )


def test_the_whole_markdown_reads_like_this() -> None:
    assert rendering.markdown(whole()) == (
        "## cudadoctor diff: different: 3 checks and 8 of 120 facts\n"
        "\n"
        "- **A**: `works.json`, `/home/user/envs/vllm`, `venv`, `Python 3.12.1`, `torch 2.9.0+cu128`\n"
        "- **B**: `this machine`, `/opt/vllm`, `conda`, `Python 3.12.1`, `torch 2.8.0+cu126`\n"
        "\n"
        "### Checks\n"
        "\n"
        "- ❌ `cuda-home-wrong`: passed in A, fails in B\n"
        "  - error: no such folder\n"
        "  - fix: `cudadoctor fix cuda-home-wrong`\n"
        "- ✅ `ninja-missing`: failed in A, passes in B\n"
        "- ❔ `driver-too-old`: no verdict in A, passes in B\n"
        "  - why: driver: did not end in time\n"
        "- fail in both: `libcuda-link-missing`\n"
        "\n"
        "### Named by what fails in B only\n"
        "\n"
        "- `CUDA_HOME`: `/a` → `unset`\n"
        "  - A has: `export CUDA_HOME=/a`\n"
        "- toolkit taken by FlashInfer, torch: `/a` → `/b`\n"
        "\n"
        "### What else is looked at by what fails in B only\n"
        "\n"
        "- torch: `2.9.0+cu128` → `2.8.0+cu126`\n"
        f"  - A has: `{PIP}`\n"
        "- packages only in A: vllm 1.0, numpy 1.0\n"
        "\n"
        "### What other failing checks look at\n"
        "\n"
        "- `g++`: `gcc 12.2.0` → `gcc 14.1.0`\n"
        "\n"
        "- 1 more difference that no failing check looks at (`-v`)\n"
        "- deep, live: not looked at in A (runs only with `--deep`)\n"
    )


def test_two_that_are_the_same_are_two_lines_and_a_count() -> None:
    assert text(Difference(A, A, compared=812)).splitlines()[2:] == ["", "the same: 812 facts compared"]


def test_what_matters_to_no_check_is_told_where_there_is_nothing_else() -> None:
    only = structs.replace(whole(), checks=(), failing=(), differences=whole().differences[-1:], basis="")
    assert "What no failing check looks at\n  kernel  6.1 -> 6.8\n" in text(only)
    assert "(-v)" not in text(only)


def test_long_lists_are_cut_and_verbose_tells_them_whole() -> None:
    many = tuple(package(f"p{number}") for number in range(20))
    lonely = tuple(package(f"q{number}", only="B") for number in range(20))
    difference = Difference(A, B, differences=(*many, *lonely), basis="B")
    short, long = text(difference), text(difference, verbose=True)
    assert "  12 more packages differ: -v\n" in short and ", and 12 more (-v)\n" in short
    assert "p19" not in short and "q19" not in short
    assert "-v" not in long and "  p19  1.0 -> 2.0\n" in long and "q19 2.0\n" in long


def test_commands_for_many_packages_are_left_to_verbose() -> None:
    many = tuple(package(f"p{number}", command=f"pip install p{number}==1.0") for number in range(5))
    difference = Difference(A, B, differences=many, basis="B")
    assert "pip install" not in text(difference) and "what would give B what A has: -v\n" in text(difference)
    assert text(difference, verbose=True).count("A has  pip install") == 5


def test_a_difference_says_for_which_checks_it_is_named_where_several_fail() -> None:
    turned = tuple(Turned(name, "passed", "failed") for name in ("a", "b"))
    named = package("torch", NAMED, checks=("a", "b"))
    difference = Difference(A, B, turned, differences=(named,), basis="B")
    assert "  torch  1.0 -> 2.0   (a, b)\n" in text(difference)
    assert "- torch: `1.0` → `2.0` (`a`, `b`)\n" in rendering.markdown(difference)


def test_the_home_folder_is_a_tilde_but_not_in_a_command() -> None:
    lines = text(whole(), home="/home/user")
    assert "~/envs/vllm" in lines and "A has  export CUDA_HOME=/a" in lines


def test_a_narrow_terminal_wraps_prose_and_no_command() -> None:
    lines = text(whole(), width=50).splitlines()
    assert f"    A has  {PIP}" in lines
    assert all(len(line) <= 50 for line in lines if "pip" not in line and "/" not in line)


def test_colours_come_only_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in text(whole())
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in text(whole(), color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in text(whole(), color=True)


_HOSTILE = st.text(
    st.sampled_from("`<>@#*_[]()|\\\n\r\t \x1b\x9b\u202e\u2028&:/!-a1~\ud800"), max_size=30
) | st.sampled_from(["</details>", "<script>", "::error::x", "@all", "#1", "![x](http://x)", "- x"])


@given(_HOSTILE)
def test_whatever_a_string_holds_is_harmless(said: str) -> None:
    side = Side(said, said, said, said, (said,))
    turned = (Turned(said, "passed", "failed", "error", (said,), said, said),)
    others = [
        Different(rank, said, said, said, said, "", (said, said), said, said, said) for rank in (1, 2, 4)
    ]
    lonely = Different(NEEDED, said, said, said, said, "B", (said,), "packages", said, said)
    difference = Difference(
        side, side, turned, (said,), (*others, lonely), (Unseen(said, "A", said),), basis="B"
    )
    printed = text(difference, verbose=True)
    marked = rendering.markdown(difference, verbose=True)
    for each in (printed, marked):
        assert not set(each) & set("\x1b\x9b\u202e\u2028\r\t\ud800")
    assert not any(line.lstrip().startswith("::") for line in (*printed.splitlines(), *marked.splitlines()))
    for token in PARSER.parse(marked):
        assert token.type not in ("html_block", "code_block", "fence", "hr", "blockquote_open")
        for child in token.children or ():
            assert child.type in ("text", "code_inline", "strong_open", "strong_close", "softbreak"), child
            assert child.type != "text" or not set(child.content) & set("@<"), child
