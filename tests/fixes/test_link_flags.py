"""FlashInfer's line gets folders, and nothing else."""

import pytest

from cudadoctor.actions import Export
from cudadoctor.facts import Unknown
from tests.checks.build import environ

from .ask import plan, refused

NAME = "FLASHINFER_EXTRA_LDFLAGS"


def test_puts_folders_behind_the_users_flags() -> None:
    value = "-lm -L/opt/env/lib -L/opt/env/lib/stubs"
    assert plan("link-flags", {NAME: value}, environ=environ(**{NAME: "-lm"})) == [Export(NAME, value)]
    assert plan("link-flags", {NAME: "-L/x"}, environ=environ()) == [Export(NAME, "-L/x")]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-lm",
        "-lm -L.",
        "-lm -L/a -fplugin=/evil.so",
        "-lm -L/a;reboot",
        "-lm -L/a\n",
        "-L/a",
        "-lm -Wl,-rpath,/a",
    ],
)
def test_refuses_anything_but_folders_behind_what_is_there(value: str) -> None:
    refused("link-flags", {NAME: value}, environ=environ(**{NAME: "-lm"}))


def test_refuses_other_variables_and_unknown_ones() -> None:
    refused("link-flags", {"LDFLAGS": "-L/a"}, environ=environ())
    refused("link-flags", {NAME: "-L/a"}, environ=Unknown("denied"))
