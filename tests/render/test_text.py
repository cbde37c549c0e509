"""A report as text: what it says, and what it never does to a terminal, a pipe or a log."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cudadoctor.facts import (
    Live,
    NvccOnPath,
    Packages,
    Selection,
    Stage,
    Target,
    Toolkit,
    Toolkits,
    TorchBuild,
    Unknown,
)
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.outcomes import Crashed, Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.render import text
from cudadoctor.report import Report
from tests.render.build import HOME, finding, report, target, toolkits

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def _no_wishes_about_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(
    judged: Report,
    *,
    width: int | None = None,
    color: bool | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> str:
    stream = io.StringIO()
    text.render(judged, stream=stream, width=width, color=color, quiet=quiet, verbose=verbose)
    return stream.getvalue()


def on_terminal(judged: Report, columns: int = 80) -> str:
    """Return what a real terminal of so many columns is sent."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(its, "w", encoding="utf-8") as stream:
        text.render(judged, stream=stream)
    written = b""
    try:
        while more := os.read(ours, 1 << 16):
            written += more
    except OSError:  # EIO: all is read, and nobody has the other end open
        pass
    finally:
        os.close(ours)
    return written.decode().replace("\r\n", "\n")


def plain(written: str) -> str:
    return ESCAPE.sub("", written)


# --- what it says -------------------------------------------------------------------------------------------


def test_the_whole_report_reads_like_this() -> None:
    assert shown(report()) == (
        "Target   ~/envs/vllm · venv · Python 3.11.7   (from VIRTUAL_ENV)\n"
        "Toolkit  13.0.88 · /usr/local/cuda-13.0   (nvcc on PATH is a script that starts it)\n"
        "Stack    torch 2.14.1+cu130 · vllm 0.12.0 · flashinfer 0.7.2.post1 · triton 3.5.1\n"
        "\n"
        "✗ cuda-home-wrong            error: torch and vLLM will take CUDA_HOME=/usr/local: no headers\n"
        "    seen   /usr/local/bin/nvcc: is a script, line 2: exec /usr/local/cuda-13.0/bin/nvcc\n"
        "    seen   /usr/local: no include/cuda_runtime.h in it\n"
        "    fix    export CUDA_HOME=/usr/local/cuda-13.0\n"
        "✗ cudart-link-missing        error: the link will stop with: cannot find -lcudart\n"
        "    seen   /usr/local/lib64: no such folder\n"
        "    fix    same as for cuda-home-wrong\n"
        "! ninja-missing              warning: ninja is not on the PATH that FlashInfer will see\n"
        "    seen   ~/envs/vllm/bin/ninja: exists\n"
        '    help   export PATH="/home/ada/envs/vllm/bin:$PATH"\n'
        "? plug-in-check              crashed: ZeroDivisionError: division by zero at /x/y.py:3\n"
        "? host-compiler-unsupported  inconclusive: compilers: did not end in time\n"
        "- libcuda-link-missing       suppressed: built elsewhere (warning: no stub)\n"
        "\n"
        "2 errors · 1 warning · 1 inconclusive · 1 crashed · 1 suppressed · 2 passed · 1 skipped"
        "        0.14 s\n"
    )


def test_the_stages_of_deep_stand_in_the_head_in_their_order() -> None:
    stages = (
        Stage("driver", "not-reached", "no libcuda.so.1 can be loaded: it is not there"),
        Stage("torch", "passed", "2.14.1", 2.04),
        Stage("gpu", "not-reached", "no GPU"),
        Stage("vllm", "failed", "the process died of SIGSEGV"),
    )
    made = report()
    told = shown(structs.replace(made, facts=structs.replace(made.facts, live=Live(stages))))
    assert (
        "Stages   driver not reached (no libcuda.so.1 can be loaded) · torch passed in 2.0 s"
        " · GPU not reached (no GPU) · vLLM failed\n"
    ) in told


def test_a_healthy_machine_is_told_so_in_the_last_line() -> None:
    said = shown(report(Passed("a"), Passed("b"), Skipped("c", "not asked for")))
    assert said.endswith("\n\n✓ no problems · 2 passed · 1 skipped        0.14 s\n")


@pytest.mark.parametrize("outcome", [Inconclusive("a", "x"), Crashed("a", "x"), Skipped("a", "x")])
def test_what_was_not_decided_is_no_good_news(outcome: Outcome) -> None:
    assert "no problems" not in shown(report(outcome)) and "1 passed" not in shown(report(outcome))


def test_errors_come_before_warnings_before_notes() -> None:
    three = [Failed(s.value, findings=(finding(severity=s),)) for s in Severity]
    said = shown(report(*three))
    assert said.index("✗ error") < said.index("! warning") < said.index("· note")
    assert "1 error · 1 warning · 1 note · 0 passed · 0 skipped" in said


def test_verbose_adds_passed_and_skipped_sorted_with_reason_and_time() -> None:
    said = shown(
        report(Skipped("d", "no torch", 0.5), Passed("c", "", 1.234), Passed("a", "fine")), verbose=True
    )
    assert said.index("✓ a  passed: fine  0.00 ms") < said.index("✓ c  passed  1.23 ms")
    assert said.index("✓ c") < said.index("- d  skipped: no torch  0.50 ms")


def test_a_remedy_without_words_shows_its_values() -> None:
    said = shown(
        report(Failed("a", findings=(finding(remedies=(Remedy("cuda-home", {"CUDA_HOME": "/x"}),)),)))
    )
    assert "    fix    cuda-home: CUDA_HOME=/x\n" in said


def test_two_commands_to_run_by_hand_are_two_although_neither_has_values() -> None:
    remedies = (Remedy("show", {}, "one"), Remedy("show", {}, "two"), Remedy("show", {}, "one"))
    said = shown(report(Failed("a", findings=(finding(remedies=remedies),))))
    assert "help   one\n    help   two\n    help   same as above\n" in said


def test_a_variable_that_is_its_own_source_is_named_once() -> None:
    evidence = (
        Evidence("CUDA_HOME", "CUDA_HOME=/x"),
        Evidence("CUDA_HOME", "is empty"),
        Evidence("", "bare"),
    )
    said = shown(report(Failed("a", findings=(finding(evidence=evidence),))))
    assert "seen   CUDA_HOME=/x\n    seen   CUDA_HOME: is empty\n    seen   bare\n" in said


def test_the_home_folder_is_a_tilde_except_where_one_would_copy_it() -> None:
    summary = f"{HOME}/x is gone; CUDA_HOME={HOME}; '{HOME}/x y' -L{HOME}/lib /mnt{HOME} {HOME}y"
    remedy = Remedy("show", {}, f'export CUDA_HOME="{HOME}/x y"')
    said = shown(report(Failed("a", findings=(finding(summary, remedies=(remedy,)),))))
    assert f"~/x is gone; CUDA_HOME=~; '{HOME}/x y' -L{HOME}/lib /mnt{HOME} {HOME}y\n" in said
    assert f'export CUDA_HOME="{HOME}/x y"\n' in said


# --- the head -----------------------------------------------------------------------------------------------


def head(judged: Report) -> list[str]:
    return shown(judged).partition("\n\n")[0].splitlines()


def test_a_replay_says_that_this_machine_was_not_looked_at() -> None:
    assert (
        head(report(replayed=True))[0] == "Replay   judged from a saved file: this machine was not looked at"
    )


def test_sections_that_could_not_be_had_show_the_reason() -> None:
    broken = report(
        target=Unknown("gone"), packages=Unknown("target: gone"), toolkits=Unknown("not collected", True)
    )
    assert head(broken) == [
        "Target   unknown: gone",
        "Toolkit  not collected",
        "Stack    unknown: target: gone",
    ]


def test_variables_that_activation_would_set_are_said_to_be_judged() -> None:
    judged = report(judged="the current variables plus what activation would set")
    assert head(judged)[1] == "         judged by the current variables plus what activation would set"


def test_notes_on_the_choice_of_the_target_are_shown() -> None:
    noted = structs.replace(target(), notes=("CONDA_PREFIX=/opt/conda is set too",))
    assert head(report(target=noted))[1] == "         CONDA_PREFIX=/opt/conda is set too"


def test_a_target_without_python_says_so() -> None:
    bare = structs.replace(target(), python="", version="")
    assert (
        head(report(target=bare))[0] == "Target   ~/envs/vllm · venv · no Python in it   (from VIRTUAL_ENV)"
    )


def chosen(root: str, rule: str) -> Selection:
    return Selection("torch", root, rule, True, True)


CUDA = Toolkit("/opt/tk", "/opt/tk", "cuda", "12.8", "", ("CUDA_HOME",), "/opt/tk/bin/nvcc")


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (Toolkits((), (), {}), "none within reach"),
        (toolkits((CUDA,), chosen("/opt/tk", "CUDA_HOME")), "12.8 · /opt/tk   (from CUDA_HOME)"),
        (toolkits((CUDA,), chosen("/link", "CUDA_HOME")), "12.8 · /opt/tk   (from CUDA_HOME)"),
        (toolkits((), chosen("/usr", "CUDA_HOME")), "none within reach"),
        (
            toolkits((CUDA,), chosen("/opt/tk", "the default, as no nvcc is on PATH")),
            "12.8 · /opt/tk   (the default, as no nvcc is on PATH)",
        ),
        (
            toolkits((CUDA,), nvcc=NvccOnPath("/bin/nvcc", "link", "/opt/tk/bin/nvcc")),
            "12.8 · /opt/tk   (nvcc on PATH is a link to it)",
        ),
        (
            toolkits((structs.replace(CUDA, nvcc="", version="", found_by=("pip",)),)),
            "version unknown · /opt/tk · no nvcc in it   (nothing selects it; found by: pip)",
        ),
    ],
)  # fmt: skip
def test_the_toolkit_line_tells_which_and_why(seen: Toolkits, line: str) -> None:
    assert f"Toolkit  {line}" in head(report(toolkits=seen))


@pytest.mark.parametrize(
    ("torch", "says"),
    [
        (TorchBuild("2.9.0+cpu", "/t"), "torch 2.9.0+cpu (CPU-only)"),
        (TorchBuild("2.9.0+cu128", "/t", "12.8"), "torch 2.9.0+cu128"),
        (TorchBuild("2.9.0", "/t", "12.8"), "torch 2.9.0 (CUDA 12.8)"),
        (TorchBuild("2.9.0", "/t", hip="6.4"), "torch 2.9.0 (ROCm 6.4)"),
        (None, "nothing of torch, vLLM or FlashInfer installed"),
    ],
)
def test_the_stack_line_tells_what_torch_was_built_for(torch: TorchBuild | None, says: str) -> None:
    assert f"Stack    {says}" in head(report(packages=Packages((), torch)))


def test_a_folder_of_packages_that_cannot_be_read_is_noted() -> None:
    lines = head(report(packages=Packages((), unreadable=("/x: Permission denied",))))
    assert "         could not be read: /x: Permission denied" in lines


# --- quiet --------------------------------------------------------------------------------------------------


def test_quiet_is_one_line_each_and_the_counts() -> None:
    assert shown(report(), quiet=True, width=40) == (
        "✗ cuda-home-wrong  error: torch and vLLM will take CUDA_HOME=/usr/local: no headers\n"
        "✗ cudart-link-missing  error: the link will stop with: cannot find -lcudart\n"
        "! ninja-missing  warning: ninja is not on the PATH that FlashInfer will see\n"
        "? host-compiler-unsupported  inconclusive: compilers: did not end in time\n"
        "? plug-in-check  crashed: ZeroDivisionError: division by zero at /x/y.py:3\n"
        "2 errors · 1 warning · 1 inconclusive\n"
        "1 crashed · 1 suppressed · 2 passed\n"
        "1 skipped        0.14 s\n"
    )


def test_quiet_is_silent_on_a_healthy_machine() -> None:
    assert shown(report(Passed("a"), Skipped("b", "x")), quiet=True) == ""


@pytest.mark.parametrize(
    "outcome", [Inconclusive("a", "x"), Failed("a", findings=(finding(severity=Severity.NOTE),))]
)
def test_quiet_shows_notes_and_what_could_not_be_told(outcome: Outcome) -> None:
    first, last = shown(report(outcome), quiet=True).splitlines()
    assert re.fullmatch(r"[?·] a  (inconclusive: x|note: something is wrong)", first)
    assert re.fullmatch(r"1 (inconclusive|note) · 0 passed · 0 skipped +0.14 s", last)


# --- widths -------------------------------------------------------------------------------------------------

LONG = "/very/long/" + "folder/" * 20 + "libcudart.so"


def long_report() -> Report:
    words = "the linker will look in many places " * 5
    remedy = Remedy("show", {}, f'export LIBRARY_PATH="{LONG}:$LIBRARY_PATH" && echo done')
    return report(
        Failed(
            "a-check",
            findings=(finding(words + LONG, evidence=(Evidence(LONG, words),), remedies=(remedy,)),),
        )
    )


def test_no_line_is_broken_where_there_is_no_terminal() -> None:
    said = shown(long_report())
    assert max(map(len, said.splitlines())) > 300
    assert any(line.startswith("✗ a-check") and line.endswith(LONG) for line in said.splitlines())


@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
def test_prose_wraps_and_paths_and_commands_stay_whole(width: int) -> None:
    said = shown(long_report(), width=width)
    assert said.count(LONG) == 3
    assert f'help   export LIBRARY_PATH="{LONG}:$LIBRARY_PATH" && echo done\n' in said
    for line in said.splitlines():
        assert len(line) <= width or LONG in line, line


@pytest.mark.parametrize("width", [1, 5, 20])
def test_a_terminal_that_is_far_too_narrow_loses_nothing(width: int) -> None:
    narrow, wide = shown(long_report(), width=width), shown(long_report(), width=400)
    assert narrow.replace("·", "").split() == wide.replace("·", "").split()


def test_further_lines_hang_under_the_first() -> None:
    words = "one two three four five six seven eight nine ten"
    said = shown(report(Failed("a", findings=(finding(words, evidence=(Evidence("x", words),)),))), width=44)
    assert "✗ a  error: one two three four five six\n     seven eight nine ten\n" in said
    assert "    seen   x: one two three four five six\n           seven eight nine ten\n" in said


def test_on_a_narrow_terminal_the_text_stands_below_the_name() -> None:
    said = shown(report(Failed("host-compiler-unsupported", findings=(finding("one two"),))), width=40)
    assert "✗ host-compiler-unsupported\n    error: one two\n" in said


def test_a_real_terminal_gets_its_width_and_colours() -> None:
    said = on_terminal(report(), 72)
    assert "\x1b[1;31m✗ \x1b[0m" in said
    assert max(map(len, plain(said).splitlines())) <= 72
    assert "error:" not in plain(said)
    wide = plain(on_terminal(report(), 200))
    assert "✗ cuda-home-wrong            torch and vLLM will take CUDA_HOME=/usr/local: no headers\n" in wide


def test_wide_characters_count_twice() -> None:
    said = shown(report(Failed("a", findings=(finding("環境 " * 20),))), width=44)
    assert all(len(line) + sum(ord(c) > 0x2E80 for c in line) <= 44 for line in said.splitlines()[4:-2])


# --- colours ------------------------------------------------------------------------------------------------


def test_colours_add_nothing_but_colours() -> None:
    said = shown(report(), color=True)
    words = re.sub(r"(?m)^([✗!·] \S+ +)(error|warning|note): ", r"\1", shown(report()))
    assert ESCAPE.search(said) and plain(said) == words


@pytest.mark.parametrize("color", [None, True])
def test_no_color_always_wins(monkeypatch: pytest.MonkeyPatch, color: bool | None) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b" not in shown(report(), color=color)
    assert "\x1b" not in on_terminal(report())


def test_an_empty_no_color_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b" in on_terminal(report())


def test_force_color_colours_a_pipe_without_wrapping_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = shown(long_report())
    assert "\x1b" in said and max(map(len, said.splitlines())) > 300


def test_a_dumb_terminal_gets_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in on_terminal(report())


def test_color_false_is_plain_on_a_terminal() -> None:
    assert "\x1b" not in shown(report(), color=False)


# --- hostile text -------------------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "line\nline", "tab\there", "\r\x08\x0b\x0c", "\x9b31m",
    "\u202ecod.exe", "\u2066x\u2069", "\udcff", "[red]markup[/red]", "[link=file:///x]y[/link]", ":smile:",
    "%s {0}", "\x00", "\u2028",
]  # fmt: skip


def everywhere(hostile: str) -> Report:
    """Return a report with one string in every place that can hold one."""
    remedy = Remedy(hostile, {hostile: hostile})
    told = Finding(
        hostile, Severity.ERROR, (Evidence(hostile, hostile),), (remedy, Remedy("show", {}, hostile))
    )
    where = Target(hostile, hostile, hostile, hostile, hostile, (), "", hostile, True, (hostile,))
    return report(
        Failed(hostile, findings=(told, structs.replace(told, suppressed=hostile))),
        Crashed(hostile, hostile),
        Inconclusive(hostile, hostile),
        Passed(hostile, hostile),
        Skipped(hostile, hostile),
        target=where,
        judged=hostile,
        toolkits=toolkits((Toolkit(hostile, hostile, "cuda", hostile, "", (hostile,)),)),
        packages=Packages((), TorchBuild(hostile, hostile, hostile), unreadable=(hostile,)),
    )


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("color", [None, True])
def test_nothing_that_a_terminal_would_obey_is_written(hostile: str, color: bool | None) -> None:
    said = plain(shown(everywhere(hostile), color=color, verbose=True))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", said)
    assert said.count("\n") == plain(shown(everywhere("x"), color=color, verbose=True)).count("\n")


@pytest.mark.parametrize("markup", ["[red]x[/red]", "[/]", "[bold", ":smile:", "\\[x]"])
def test_what_rich_would_read_as_markup_is_shown_as_it_is(markup: str) -> None:
    judged = report(Failed("a", findings=(finding(markup, remedies=(Remedy("show", {}, markup),)),)))
    assert plain(shown(judged, color=True)).count(markup) == 2


def test_escapes_can_be_read() -> None:
    said = shown(report(Failed("a", findings=(finding("\x1b[31m \n \u202e \udcff"),))))
    assert r"\x1b[31m \n \u202e \xff" in said


@given(st.text(st.characters()), st.integers(1, 100))
def test_any_text_at_any_width_can_be_written(hostile: str, width: int) -> None:
    shown(everywhere(hostile), width=width, verbose=True).encode("utf-8")


# --- what a stream can show ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8", "utf-16"])
def test_every_encoding_can_show_a_report(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    judged = report(Failed("a", findings=(finding("/home/bücher/環境"),)))
    text.render(judged, stream=stream, color=False)
    text.render(judged, stream=stream, color=True)
    stream.flush()


def test_an_ascii_stream_gets_ascii_marks_and_escapes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    text.render(
        report(Failed("a", findings=(finding("/home/bücher"),)), Passed("b")), stream=stream, verbose=True
    )
    stream.flush()
    said = raw.getvalue().decode("ascii")
    assert "Target   ~/envs/vllm - venv - Python 3.11.7" in said
    assert "x a  error: /home/b\\xfccher\n" in said and "+ b  passed" in said
    assert "1 error - 1 passed - 0 skipped" in said


def test_a_pipe_is_written_without_importing_rich() -> None:
    code = (
        "import io, sys\nfrom cudadoctor.render import text\nfrom tests.render.build import report\n"
        "text.render(report(), stream=io.StringIO())\nprint('rich' in sys.modules)"
    )
    environ = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    assert ran.stdout == "False\n"


def test_colours_import_the_least_of_rich() -> None:
    code = (
        "import io, sys\nfrom cudadoctor.render import text\nfrom tests.render.build import report\n"
        "text.render(report(), stream=io.StringIO(), color=True)\nprint(*sorted(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "rich.console" in loaded
    assert not loaded & {
        "rich.table",
        "rich.panel",
        "rich.markdown",
        "rich.syntax",
        "rich.progress",
        "pygments",
    }


@pytest.mark.parametrize("quiet", [False, True])
def test_checks_that_are_undecided_for_one_reason_are_one_line(quiet: bool) -> None:
    reason = "packages: /v/site-packages: Permission denied"
    outcomes = tuple(Inconclusive(f"check-{number}", reason) for number in range(9))
    told = shown(structs.replace(report(), outcomes=(*outcomes, Inconclusive("other", "why"))), quiet=quiet)
    assert told.count("Permission denied") == 1 and "10 inconclusive" in told
    assert f"inconclusive: {reason} (and 8 more checks for the same reason)\n" in told
    assert "inconclusive: why\n" in told


def test_a_few_checks_are_told_one_by_one() -> None:
    outcomes = tuple(Inconclusive(f"check-{number}", "why") for number in range(3))
    told = shown(structs.replace(report(), outcomes=outcomes))
    assert [told.count(f"check-{number}") for number in range(3)] == [1, 1, 1] and "more" not in told
