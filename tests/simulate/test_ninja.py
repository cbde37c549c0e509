"""FlashInfer's build.ninja: read as ninja reads it, and whom a changed variable leaves behind."""

import pytest

from cudadoctor.facts import Lock
from cudadoctor.simulate.ninja import WRITTEN, stale_after, variables_of
from tests.checks.cached import OPS, caches, op

TEXT = """\
ninja_required_version = 1.3
name = silu
cuda_home = /opt/a=b c
nvcc = $cuda_home/bin/nvcc

cflags = $common_cflags $
    -DA=x y $
    -O1
post_cflags =
ldflags = -shared $
    -lcudart

rule compile
  command = $cxx -c $in
  depfile = $out.d

build $name/x.o: compile /x.cc
"""


def test_a_value_over_several_lines_is_one_entry_a_line() -> None:
    assert variables_of(TEXT) == {
        "ninja_required_version": ("1.3",),
        "name": ("silu",),
        "cuda_home": ("/opt/a=b c",),
        "nvcc": ("$cuda_home/bin/nvcc",),
        "cflags": ("$common_cflags", "-DA=x y", "-O1"),
        "post_cflags": ("",),
        "ldflags": ("-shared", "-lcudart"),
    }


def test_a_file_that_ends_in_the_middle_gives_what_is_whole() -> None:
    assert "ldflags" not in variables_of(TEXT[: TEXT.index("    -lcudart")])
    assert "ldflags" not in variables_of(TEXT[: TEXT.index("cudart")])
    assert variables_of(TEXT[: TEXT.index("post_cflags")])["cflags"][-1] == "-O1"


@pytest.mark.parametrize("text", ["", "\n", "\0\xff\n$\n$$\n", "=\n", "rule x\nname = y\n", "a", "  $\n" * 3])
def test_what_is_no_build_file_has_no_variables_that_matter(text: str) -> None:
    assert "name" not in variables_of(text)


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_an_operator_that_is_not_built_stays_behind(name: str) -> None:
    assert stale_after({"LIBRARY_PATH", name}, caches(op("a"), op("b"))) == (f"{OPS}/a", f"{OPS}/b")


def test_none_stays_behind_where_the_compiler_reads_the_variable_itself() -> None:
    assert stale_after({"LIBRARY_PATH", "CPATH", "MAX_JOBS", "LD_LIBRARY_PATH"}, caches(op())) == ()


def test_none_stays_behind_where_flashinfer_writes_the_file_anew() -> None:
    assert stale_after({"CUDA_HOME"}, caches(op(), rewrites=True)) == ()


def test_one_that_is_being_built_is_left_alone() -> None:
    held = Lock(f"{OPS}/tmp/a.lock", "advisory", True)
    assert stale_after({"CUDA_HOME"}, caches(op("a"), op("b"), locks=(held,))) == (f"{OPS}/b",)
