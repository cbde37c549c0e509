"""ninja's record of headers, read off logs that the real ninja wrote."""

import shutil
import subprocess
from pathlib import Path

import pytest

from cudadoctor.simulate.ninja_deps import headers_of

NINJA = """
rule cc
  command = gcc -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
build a/a.o: cc a.c
build b/b.o: cc b.c
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the log of two objects: of a.h, and of b.h in a folder of its own."""
    for program in ("ninja", "gcc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH")
    (tmp_path / "include").mkdir()
    (tmp_path / "include/b.h").touch()
    (tmp_path / "a.h").touch()
    (tmp_path / "a.c").write_text('#include "a.h"\n')
    (tmp_path / "b.c").write_text(f'#include "{tmp_path}/include/b.h"\n')
    (tmp_path / "build.ninja").write_text(NINJA)
    subprocess.run(["ninja", "-C", str(tmp_path)], check=True, capture_output=True)
    return tmp_path / ".ninja_deps"


def test_each_output_has_its_headers(log: Path) -> None:
    assert headers_of(log.read_bytes(), "a/") == ("a.c", "a.h")
    assert headers_of(log.read_bytes(), "b/") == ("b.c", f"{log.parent}/include/b.h")
    assert headers_of(log.read_bytes(), "c/") == ()


def test_what_was_recorded_last_counts(log: Path) -> None:
    (log.parent / "a.c").write_text("int a;\n")
    subprocess.run(["ninja", "-C", str(log.parent)], check=True, capture_output=True)
    assert headers_of(log.read_bytes(), "a/") == ("a.c",)


def test_a_log_that_is_cut_off_anywhere_gives_less_and_never_an_error(log: Path) -> None:
    whole = log.read_bytes()
    for length in range(len(whole)):
        assert set(headers_of(whole[:length], "a/")) <= {"a.c", "a.h"}


@pytest.mark.parametrize(
    "log_of",
    [
        b"",
        b"# ninjadeps\n\x03\0\0\0",
        b"# ninjadeps\n\x04\0\0\0" + b"\xff" * 400,
        b"# ninjadeps\n\x04" + bytes(99),
    ],
)
def test_a_log_of_something_else_gives_nothing(log_of: bytes) -> None:
    assert headers_of(log_of, "a/") == ()
