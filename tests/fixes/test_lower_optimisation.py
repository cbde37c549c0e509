"""A lower level is put behind the user's own flags, and nothing else is."""

import pytest

from cudadoctor.actions import Export, Safety
from cudadoctor.facts import Unknown
from cudadoctor.registry import load_fixes
from tests.checks.build import environ

from .ask import plan, refused

CUDA, HOST = "FLASHINFER_EXTRA_CUDAFLAGS", "FLASHINFER_EXTRA_CFLAGS"


def test_exports_each_variable_with_the_users_flags_in_front() -> None:
    values = {CUDA: "--threads 2 -O1", HOST: "-O1"}
    made = plan("lower-optimisation", values, environ=environ(**{CUDA: "--threads 2"}))
    assert made == [Export(CUDA, "--threads 2 -O1"), Export(HOST, "-O1")]


def test_changes_what_is_built_and_so_is_unsafe() -> None:
    assert load_fixes().fixes["lower-optimisation"].safety is Safety.UNSAFE


@pytest.mark.parametrize(
    "values",
    [
        {},
        {CUDA: ""},
        {CUDA: "-O1 -Xcompiler -fplugin=/tmp/evil.so"},
        {CUDA: "-fplugin=/tmp/evil.so -O1"},
        {CUDA: "--threads 2"},
        {CUDA: "-O1\n"},
        {CUDA: "-O9"},
        {"LD_PRELOAD": "-O1"},
        {"CXXFLAGS": "-O1"},
    ],
)
def test_refuses_anything_but_a_level_behind_what_is_there(values: dict[str, str]) -> None:
    refused("lower-optimisation", values, environ=environ(**{CUDA: "--threads 2"}))


def test_refuses_where_the_users_own_flags_are_unknown() -> None:
    assert "denied" in refused("lower-optimisation", {CUDA: "-O1"}, environ=Unknown("denied"))
