"""What steps are called: before they are done, and once they are taken back."""

import pytest

from cudadoctor.actions import (
    Action,
    Export,
    Install,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Show,
    Step,
    TurnLink,
    Was,
    WriteFile,
)
from cudadoctor.words import said, taken_back

WAS = Was(b"x", 0o600, 1)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (MakeFolder("/v/etc"), "make folder etc"),
        (MakeLink("/v/lib64", "lib"), "link lib64 -> lib"),
        (TurnLink("/v/lib64", "lib", "/gone"), "turn lib64 -> lib (now: /gone)"),
        (RemoveLink("/v/lib64", "/gone"), "remove lib64 -> /gone"),
        (WriteFile("/v/a.sh", b""), "write a.sh"),
        (WriteFile("/v/a.sh", b"", before=WAS), "change a.sh"),
        (MoveAside("/cache/op"), "move /cache/op aside"),
        (MoveAside("/cache/op", ".op"), "move /cache/op aside, to .op"),
        (Install("pip", ("ninja", "cmake")), "install ninja cmake with pip"),
        (Install("pip", ("ninja",), ("pip", "install", "ninja>=1")), "pip install 'ninja>=1'"),
        (Export("CUDA_HOME", "/x"), "set CUDA_HOME=/x, on activation"),
        (Export("LD_PRELOAD"), "unset LD_PRELOAD, on activation"),
        (Export("CPATH", "", ("/a",), ("/b",)), "CPATH, on activation: add /a, take out /b"),
        (Show("get a driver"), "get a driver"),
    ],
)
def test_an_action_is_told_with_short_paths(action: Action, words: str) -> None:
    assert said(action, "/v") == words


def test_without_a_prefix_paths_are_whole() -> None:
    assert said(MakeLink("/v/lib64", "lib")) == "link /v/lib64 -> lib"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (MakeFolder("/v/etc"), "removed folder etc"),
        (MakeLink("/v/lib64", "lib"), "removed lib64 -> lib"),
        (TurnLink("/v/lib64", "lib", "/gone"), "restored lib64 -> /gone"),
        (RemoveLink("/v/lib64", "/gone"), "restored lib64 -> /gone"),
        (WriteFile("/v/a.sh", b""), "removed a.sh"),
        (WriteFile("/v/a.sh", b"", before=WAS), "restored a.sh"),
        (MoveAside("/cache/op", ".op"), "moved /cache/op back"),
        (Install("pip", ("ninja",)), "restored the packages as they were before ninja"),
    ],
)
def test_what_taking_a_step_back_did_is_told(step: Step, words: str) -> None:
    assert taken_back(step, "/v") == words
