"""Shells that were open before a fix changed the activation files."""

from cudadoctor.facts import Repairs
from cudadoctor.testing import judge

from .build import one, severities, shown


def test_reports_what_this_shell_does_not_have() -> None:
    outcome = judge(
        "activation-outdated", repairs=Repairs(1, pending=("CUDA_HOME",), source="/e/bin/activate")
    )
    text = shown(one(outcome))
    assert severities(outcome) == ["note"]
    assert "CUDA_HOME" in text and "/e/bin/activate" in text and 'eval "$(cudadoctor env)"' in text


def test_is_silent_when_the_shell_has_it_all() -> None:
    assert type(judge("activation-outdated", repairs=Repairs(1))).__name__ == "Passed"


def test_is_silent_when_nothing_was_repaired() -> None:
    assert type(judge("activation-outdated", repairs=Repairs())).__name__ == "Skipped"
