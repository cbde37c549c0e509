"""`cudadoctor completion`, asked by the real shells."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from cudadoctor.cli import build_parser
from cudadoctor.registry import load, load_fixes


@cache
def script(shell: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "cudadoctor", "completion", shell], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    return ran.stdout


def need(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        if os.environ.get("CUDADOCTOR_REQUIRE_REAL") == "1":
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed")
    return found


def in_bash(folder: Path, line: str) -> list[str]:
    """Return what bash offers for the last word of `line`."""
    (folder / "completion").write_text(script("bash"))
    asked = """
      . ./completion
      spec=$(complete -p cudadoctor); spec=${spec#*-F }; function=${spec%% *}
      COMP_WORDS=($1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMP_LINE=$1; COMP_POINT=${#COMP_LINE}
      "$function" cudadoctor "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
      printf '%s\\n' "${COMPREPLY[@]}"
    """
    ran = subprocess.run(
        [need("bash"), "--norc", "-c", asked, "bash", line], capture_output=True, text=True, cwd=folder
    )
    assert ran.stderr == ""
    return [found.rstrip() for found in ran.stdout.splitlines()]


def in_fish(folder: Path, line: str) -> list[str]:
    """Return what fish offers for the last word of `line`."""
    (folder / "completion.fish").write_text(script("fish"))
    environ = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    ran = subprocess.run(
        [need("fish"), "--no-config", "-c", "source completion.fish; complete -C $argv[1]", line],
        capture_output=True, text=True, cwd=folder, env=environ,
    )  # fmt: skip
    assert ran.stderr == ""
    return [found.partition("\t")[0] for found in ran.stdout.splitlines()]


def in_zsh(folder: Path, line: str) -> list[str]:
    """Return the last word of `line` as zsh completes it at the press of the key."""
    (folder / "_cudadoctor").write_text(script("zsh"))
    (folder / "setup").write_text(
        "unsetopt beep zle_bracketed_paste\nPS1=READY\nfpath=($PWD $fpath)\nautoload -Uz compinit\n"
        "compinit -u -D\nwrite() { print -r -- $BUFFER > written; exit }\nzle -N write\nbindkey '^X' write\n"
        "bindkey '^I' complete-word\n"
    )
    written, zsh = folder / "written", need("zsh")
    written.unlink(missing_ok=True)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execve(zsh, ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "HOME": str(folder)})
    try:
        _answer(terminal, b"source ./setup\n", b"READY")
        _answer(terminal, f"{line}\t".encode(), b"")
        os.write(terminal, b"\x18")
        end = time.monotonic() + 20
        while not (written.is_file() and written.read_text()) and time.monotonic() < end:
            _read(terminal)
        return [written.read_text().rstrip().rpartition(" ")[2]]
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def _answer(terminal: int, text: bytes, until: bytes) -> None:
    """Type a text; return when `until` was printed, or when nothing comes any more."""
    os.write(terminal, text)
    said, end = b"", time.monotonic() + 20
    while time.monotonic() < end:
        more = _read(terminal)
        said += more
        if (until and until in said and not more) or (not until and not more):
            return


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096) if select.select([terminal], [], [], 0.2)[0] else b""
    except OSError:
        return b""


SHELLS = {"bash": in_bash, "zsh": in_zsh, "fish": in_fish}


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_checks_and_files_are_completed(shell: str, tmp_path: Path) -> None:
    need(shell)
    (tmp_path / "serve.log").touch()
    asked = SHELLS[shell]
    assert asked(tmp_path, "cudadoctor ch") == ["check"]
    assert asked(tmp_path, "cudadoctor check --fo") == ["--format"]
    assert asked(tmp_path, "cudadoctor check --format ju") == ["junit"]
    assert asked(tmp_path, "cudadoctor check cudart") == ["cudart-link-missing"]
    assert asked(tmp_path, "cudadoctor explain serve") == ["serve.log"]
    assert asked(tmp_path, "cudadoctor fix cuda-home-w") == ["cuda-home-wrong"]
    assert asked(tmp_path, "cudadoctor check --ignore nvcc-m") == ["nvcc-missing"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_every_command_and_every_check_is_in_the_script(shell: str) -> None:
    text = script(shell)
    commands = build_parser()._subparsers
    assert commands is not None
    (action,) = commands._group_actions
    assert action.choices is not None
    for word in (*action.choices, *load().checks, *load_fixes().fixes):
        assert str(word) in text


def test_a_name_that_a_shell_would_obey_is_left_out() -> None:
    from cudadoctor.commands.completion import _plain

    assert _plain(["good-one", "$(touch x)", "a b", "`x`", ";", "-x"]) == ("good-one",)
