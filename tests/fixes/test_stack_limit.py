"""Where the stack limit is set is shown, and nothing is done."""

import pytest
from msgspec import structs

from cudadoctor.actions import Safety, Show
from cudadoctor.facts import Unknown
from cudadoctor.registry import load_fixes
from tests.checks.build import machine

from .ask import plan, refused


@pytest.mark.parametrize(
    ("container", "says"),
    [
        ("docker", "docker run --ulimit stack=-1"),
        ("podman", "podman run --ulimit stack=-1"),
        ("kubernetes", "LimitSTACK=infinity for the container runtime's service"),
        ("lxc", "lxc.prlimit.stack"),
        ("apptainer", "/etc/security/limits.d/90-stack.conf"),
        ("", "/etc/security/limits.d/90-stack.conf"),
    ],
)
def test_names_the_place_of_this_machine(container: str, says: str) -> None:
    host = structs.replace(machine(), container=container)
    (shown,) = plan("stack-limit", {"limit": "unlimited"}, machine=host)
    assert isinstance(shown, Show) and says in shown.text and "\n" not in shown.text


def test_an_unknown_machine_is_taken_for_a_plain_one() -> None:
    (shown,) = plan("stack-limit", {"limit": "unlimited"}, machine=Unknown("timed out"))
    assert isinstance(shown, Show) and "LimitSTACK=infinity" in shown.text


def test_is_never_carried_out() -> None:
    assert load_fixes().fixes["stack-limit"].safety is Safety.MANUAL


@pytest.mark.parametrize("values", [{}, {"limit": ""}, {"limit": "1; reboot"}])
def test_refuses_another_limit(values: dict[str, str]) -> None:
    refused("stack-limit", values)
