"""What the launch takes of this machine: ports as /proc shows them, and the room in /dev/shm."""

from __future__ import annotations

import pytest

from cudadoctor.facts import Environ, Launch, Listener, Resources, SharedMemory, Unknown, WantedPort
from cudadoctor.host import Space
from cudadoctor.probes.resources import ports, probe
from cudadoctor.probes.target import Asked, Request
from cudadoctor.testing import FakeHost, Link
from tests.launch.read import composed, typed

ENVIRON = Environ({}, "the current variables", ("/usr/bin", "/v/bin"))
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
MIB = 1 << 20


def line(address: str, port: int, inode: int, state: str = "0A", uid: int = 1000) -> str:
    zeros = "0" * len(address)
    return (
        f"   0: {address}:{port:04X} {zeros}:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}"
        f"        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
    )


IPV4, LOOPBACK, IPV6 = "00000000", "0100007F", "0" * 32


def machine(
    tcp: str = "", tcp6: str = "", files: dict[str, object] | None = None, spaces: object = None
) -> FakeHost:
    held = {
        "/proc/net/tcp": HEAD + tcp,
        "/proc/net/tcp6": HEAD + tcp6,
        "/proc/self/status": "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n",
        "/dev/shm/": b"",
        **(files or {}),
    }
    return FakeHost(held, spaces={"/dev/shm": Space(7, 64 * MIB)} if spaces is None else spaces)  # type: ignore[arg-type]


def look(
    host: FakeHost, line_typed: str = "vllm serve m", launch: Launch | None = None, asked: Asked | None = None
) -> Resources | Unknown:
    return probe(host, Request(launch=asked or Asked()), launch or typed(line_typed), ENVIRON)


def only(found: Resources | Unknown) -> WantedPort:
    assert isinstance(found, Resources)
    (wanted,) = found.ports
    return wanted


def test_a_free_port_has_no_listener_and_nothing_else_of_the_machine_is_looked_at() -> None:
    host = machine(line(IPV4, 8080, 5) + line(IPV4, 8000, 6, state="01"), files={"/proc/": OSError(13, "no")})
    assert only(look(host)) == WantedPort(8000, "", "vLLM's default")


def test_a_taken_port_comes_with_its_holder_and_the_next_free_one() -> None:
    files: dict[str, object] = {
        "/proc/41/fd/3": Link("socket:[77]"),
        "/proc/41/cmdline": b"python3\0-m\0http.server\0--api-key\0canary-1\0--token=canary-2\x008000\0",
        "/proc/9/fd/3": Link("socket:[78]"),
        "/proc/7/fd/": OSError(13, "Permission denied"),
    }
    wanted = only(look(machine(line(LOOPBACK, 8000, 77) + line(IPV4, 8001, 78), files=files)))
    (listener,) = wanted.listeners
    assert (listener.address, listener.user, listener.pid) == ("127.0.0.1", 1000, 41)
    assert listener.command == "python3 -m http.server --api-key [secret] --token=[secret] 8000"
    assert wanted.next_free == 8002


def test_a_holder_that_another_user_has_is_not_known() -> None:
    wanted = only(look(machine(line(IPV4, 8000, 77, uid=33))))
    assert wanted.listeners == (Listener("0.0.0.0", 8000, 33),)


def test_dockers_own_process_is_found_by_its_command_line() -> None:
    words = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8000 -container-port 80"
    proxy = words.replace(" ", "\0").encode()
    files: dict[str, object] = {"/proc/50/fd/": OSError(13, "no"), "/proc/50/cmdline": proxy}
    (listener,) = only(look(machine(line(IPV4, 8000, 77, uid=0), files=files))).listeners
    assert listener.pid == 50 and "docker-proxy" in listener.command


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (IPV6, "::"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_addresses_of_ipv6_are_written_as_people_write_them(address: str, says: str) -> None:
    (listener,) = only(look(machine(tcp6=line(address, 8000, 5)))).listeners
    assert listener.address == says


def test_without_ipv6_there_is_ipv4_alone_and_without_either_nothing_is_known() -> None:
    host = FakeHost({"/proc/net/tcp": HEAD + line(IPV4, 8000, 5, uid=33)})
    assert only(look(host)).listeners == (Listener("0.0.0.0", 8000, 33),)
    with pytest.raises(FileNotFoundError):
        look(FakeHost())


def test_lines_that_are_none_are_passed_over() -> None:
    garbled = "rubbish\n 0: ZZ:1F40 0:0 0A a b c d e f g\n 1: 00000000:1F40\n"
    assert only(look(machine(garbled))).listeners == ()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("vllm serve m --port 9000 --host ::", [(9000, "::", "command line")]),
        ("vllm serve m --uds /run/vllm.sock", []),
        ("vllm serve m --headless", []),
        ("vllm serve m --port 0", []),
        ("vllm serve m --port 70000", []),
        ("docker run -p 127.0.0.1:8100:8000 vllm/vllm-openai --model m", [(8100, "", "command line")]),
        ("docker run -p 8000 vllm/vllm-openai --model m", []),
        ("docker run vllm/vllm-openai --model m", []),
        ("docker run --network host vllm/vllm-openai --model m --port 8001", [(8001, "", "command line")]),
    ],
)
def test_the_ports_that_a_launch_wants(command: str, expected: list[tuple[int, str, str]]) -> None:
    assert [(each.port, each.host, each.origin) for each in ports(typed(command))] == expected


def test_a_compose_service_wants_what_it_publishes() -> None:
    text = 'services:\n  a:\n    image: vllm/vllm-openai\n    ports: ["8080:8000"]\n    command: --model m\n'
    (wanted,) = ports(composed(text))
    assert (wanted.port, wanted.published) == (8080, True)


def test_shared_memory_has_the_size_that_it_was_mounted_with() -> None:
    mounts = "tmpfs /dev/shm tmpfs rw,nosuid,size=65536k 0 0\nproc /proc proc rw 0 0\n"
    found = look(machine(files={"/proc/self/mounts": mounts}))
    assert isinstance(found, Resources)
    assert found.shared_memory == SharedMemory(64 * MIB, 64 * MIB) and found.user == 1000


def test_shared_memory_is_not_known_where_there_is_none() -> None:
    found = look(FakeHost({"/proc/net/tcp": HEAD}))
    assert isinstance(found, Resources)
    assert found.shared_memory is None and found.user is None


def test_this_machine_says_nothing_of_a_launch_planned_for_another() -> None:
    for asked in (Asked(gpu="rtx-3090"), Asked(memory_bytes=1 << 34)):
        found = look(machine(), asked=asked)
        assert isinstance(found, Unknown) and found.expected


# --- the program --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line_typed", "program"),
    [
        ("vllm serve m", "/v/bin/vllm"),
        ("nohup env A=1 vllm serve m", "/v/bin/vllm"),
        ("/v/bin/vllm serve m", "/v/bin/vllm"),
        ("/none/vllm serve m", ""),
        ("python3 -m vllm.entrypoints.openai.api_server", ""),
        ("./vllm serve m", None),
        ("conda run -n x vllm serve m", None),
        ("uv run vllm serve m", None),
        ("env -i vllm serve m", None),
        ("docker run vllm/vllm-openai vllm serve m", None),
    ],
)
def test_the_program_is_looked_for_where_the_path_is_known(line_typed: str, program: str | None) -> None:
    host = FakeHost({"/v/bin/vllm": "", "/proc/net/tcp": HEAD}, executables=["/v/bin/vllm"])
    found = look(host, line_typed)
    assert isinstance(found, Resources) and found.program == program
