from __future__ import annotations

import pytest
from msgspec import structs

from cudadoctor.facts import Container, Given, Launch, Listener, Port, Resources, Unknown, WantedPort
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import judged, launch

HTTP = Listener("0.0.0.0", 8000, 1000, 41, "python3 -m http.server 8000")
VLLM = structs.replace(HTTP, command="/venv/bin/python /venv/bin/vllm serve other")


def look(
    *listeners: Listener, host: str = "", published: bool = False, given: Launch | None = None
) -> Outcome:
    origin = "compose.yaml, service a" if published else "vLLM's default"
    wanted = WantedPort(8000, host, origin, published, listeners, 8001 if listeners else 0)
    return judged("port-in-use", given or launch(), resources=Resources((wanted,), 1000))


def contained(engine: str = "compose") -> Launch:
    container = Container(engine, "vllm/vllm-openai:v0.12.0", ports=(Port("8000", "80"),))
    return structs.replace(launch(), container=container, image=container.image)


def test_names_who_has_the_port_and_the_next_free_one() -> None:
    finding = one(look(HTTP), Severity.ERROR)
    assert finding.summary == 'will stop with "Address already in use": port 8000 is held by process 41'
    assert "process 41 (python3 -m http.server 8000): listens at 0.0.0.0, port 8000" in shown(finding)
    assert [remedy.summary for remedy in finding.remedies] == ["--port 8001"]
    assert finding.remedies[0].instead[0].summary == "end process 41 (python3 -m http.server 8000)"


def test_says_whose_it_is_where_the_process_is_not_to_be_seen() -> None:
    finding = one(look(Listener("0.0.0.0", 8000, 33)), Severity.ERROR)
    assert finding.summary.endswith("port 8000 is held by a process of user 33")


@pytest.mark.parametrize(
    ("host", "address", "severity"),
    [
        ("", "127.0.0.1", Severity.ERROR),
        ("0.0.0.0", "192.168.0.5", Severity.ERROR),
        ("127.0.0.1", "0.0.0.0", Severity.ERROR),
        ("127.0.0.1", "127.0.0.1", Severity.ERROR),
        ("localhost", "127.0.0.1", Severity.ERROR),
        ("::", "127.0.0.1", Severity.ERROR),
        ("::", "::1", Severity.ERROR),
        ("::1", "::", Severity.ERROR),
        ("", "::", Severity.WARNING),
        ("127.0.0.1", "::", Severity.WARNING),
        ("", "::1", None),
        ("127.0.0.1", "192.168.0.5", None),
        ("127.0.0.1", "::1", None),
        ("::1", "127.0.0.1", None),
        ("gpu-box", "192.168.0.5", None),
    ],
)
def test_addresses_meet_as_the_kernel_has_it(host: str, address: str, severity: Severity | None) -> None:
    outcome = look(structs.replace(HTTP, address=address), host=host)
    if severity is None:
        assert isinstance(outcome, Passed)
    else:
        one(outcome, severity)


def test_two_servers_of_one_user_would_share_the_port() -> None:
    finding = one(look(VLLM), Severity.WARNING)
    assert finding.summary.endswith("both would have it, and requests go to either")


@pytest.mark.parametrize("holder", [structs.replace(VLLM, user=33), structs.replace(VLLM, command="nginx")])
def test_another_users_server_and_another_program_share_nothing(holder: Listener) -> None:
    one(look(holder), Severity.ERROR)


def test_a_vllm_without_that_option_shares_nothing() -> None:
    newer = structs.replace(launch(), image="vllm/vllm-openai:v0.25.0")
    one(look(VLLM, given=newer), Severity.ERROR)
    many = structs.replace(launch(api_server_count=4), image="vllm/vllm-openai:v0.25.0")
    one(look(VLLM, given=many), Severity.WARNING)


def test_a_published_port_is_changed_where_it_is_published() -> None:
    finding = one(look(HTTP, published=True, given=contained()), Severity.ERROR)
    assert finding.remedies[0].summary == 'ports: "8001:80"'
    finding = one(look(HTTP, published=True, given=contained("docker")), Severity.ERROR)
    assert finding.remedies[0].summary == "-p 8001:80"


def test_a_container_that_may_be_its_own_earlier_one_is_no_error() -> None:
    proxy = structs.replace(HTTP, command="/usr/bin/docker-proxy -proto tcp -host-port 8000")
    finding = one(look(proxy, published=True, given=contained()), Severity.WARNING)
    assert "by a container already, if not by an earlier one of this" in finding.summary


def test_the_address_that_an_engine_binds_is_not_known() -> None:
    loopback = structs.replace(HTTP, address="127.0.0.1")
    one(look(loopback, published=True, given=contained()), Severity.WARNING)


def test_is_silent_when_the_port_is_free() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_where_no_port_is_taken_or_the_machine_is_another() -> None:
    assert isinstance(judged("port-in-use", launch(), resources=Resources()), Skipped)
    elsewhere = Unknown("the launch is planned for another machine (--gpu)", expected=True)
    assert isinstance(judged("port-in-use", launch(), resources=elsewhere), Skipped)
    assert isinstance(judged("port-in-use", launch("other"), resources=Resources()), Skipped)


def test_cannot_tell_of_a_port_that_comes_about_when_it_runs() -> None:
    given = launch()
    given.options["--port"] = Given((), "run.sh:3", "--port", "$(free-port) is known only when it runs")
    outcome = judged("port-in-use", given, resources=Resources())
    assert isinstance(outcome, Inconclusive) and "$(free-port)" in outcome.reason
