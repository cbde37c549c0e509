"""Names and addresses of machines and people are masked, each with its own stand-in, and versions are not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cudadoctor.redact import Redactor

HOSTS = ("gpu-node-17.lab.corp.net",)


def log(text: str, hosts: tuple[str, ...] = HOSTS) -> str:
    return Redactor("/home/ada", hosts=hosts, thorough=True).text(text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("tcp://10.24.3.4:29500", "tcp://[ip-1]:29500"),
        ("Started on 10.24.3.4:8000", "Started on [ip-1]:8000"),
        ("NET/Socket : Using [0]eth0:10.24.3.4<0>", "NET/Socket : Using [0]eth0:[ip-1]<0>"),
        ("(raylet, ip=10.24.3.4)", "(raylet, ip=[ip-1])"),
        ("Local node IP: 10.24.3.4", "Local node IP: [ip-1]"),
        ("--host 10.24.3.4 --port 8000", "--host [ip-1] --port 8000"),
        ("MASTER_ADDR=10.24.3.4", "MASTER_ADDR=[ip-1]"),
        ('{"addr": "10.24.3.4", "n": 1}', '{"addr": "[ip-1]", "n": 1}'),
        ("inet 10.24.3.4/24 brd 10.24.3.255", "inet [ip-1]/24 brd 10.24.3.255"),
        ("INFO:     10.24.3.4:52310 - \"GET /v1\"", "INFO:     [ip-1]:52310 - \"GET /v1\""),
        ("from 192.168.1.20 and 172.17.0.3", "from [ip-1] and [ip-2]"),
        ("connect to 10.24.3.4 failed, 10.24.3.4 is down", "connect to [ip-1] failed, [ip-1] is down"),
        ("http://10.24.3.4/x and 10.24.3.5:80", "http://[ip-1]/x and [ip-2]:80"),
        ("listening on [fe80::a00:27ff:fe4e:66a1]:8000", "listening on [[ipv6:1]]:8000"),
        ("2a02:8109:9a80:1f::1 is up", "[ipv6:1] is up"),
        ("link/ether 02:42:ac:11:00:02 brd ff:ff:ff:ff:ff:ff",
         "link/ether [mac-1] brd ff:ff:ff:ff:ff:ff"),
        ("by Ada <ada.lovelace@engine.example.org>", "by Ada <[mail-1]>"),
        ("Serial Number              : 1324517012345", "Serial Number              : [serial-1]"),
        ('"board_serial": "1324517012345"', '"board_serial": "[serial-1]"'),
    ],
)  # fmt: skip
def test_an_address_is_masked_where_the_text_says_that_it_is_one(text: str, masked: str) -> None:
    assert log(text) == masked
    assert log(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-cublas-cu12 12.8.4.1", "nvidia-curand-cu12==10.3.9.90; platform_system", "12.8.0.38",
        "nvidia_cufile_cu12-1.13.1.3-py3-none-manylinux2014_x86_64.whl", "TensorRT version 10.0.1.6",
        "/opt/tensorrt/10.0.1.6/lib/libnvinfer.so.10.0.1", "libcudnn.so.9.10.2.21", "cuda@12.8.0.38",
        "upgraded from 12.8.4.1 to 12.9.1.4", "v10.0.1.6", "(>=9.10.2.21)", "127.0.0.1:8000", "0.0.0.0:8000",
        "http://localhost:8000/v1", "[::]:8000", "[::1]:8000", "ip 255.255.255.0", "1.2.3.4.5:80",
        "c10::add std::dec a::b ::1 at::native::add", "0000:3B:00.0 12:34:56 2026-11-22 10:11:12,123",
        "std::vector<c10::cuda::CUDAStream>",
        "undefined symbol: _ZN3c104cuda9SetDeviceEab, version GLIBC_2.34",
        "memcpy@GLIBC_2.14 foo@@CXXABI_1.3 @torch.compile", "git@github.com:pytorch/pytorch.git",
        "https://download.pytorch.org/whl/cu130 https://pypi.org/simple", "tokenizer@libtok.so",
        "00:00:00:00:00:00", "serial execution: off1234", "flow.py:123 and model.cc:45:12: error",
        "https://user.github.io/x https://docs.vllm.ai/en/latest",
        "pid=3(x) uid=0(root) /tmp/torchinductor_root/x C:\\Users torchinductor_x c10::add<0> lo:::1<0>",
        "Received 10.3.9.90 as version", "threading.local torch.internal.x numba.core.local",
    ],
)  # fmt: skip
def test_a_version_a_symbol_and_what_is_everybodys_stays(text: str) -> None:
    assert log(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("gpu-node-17:44712:44746 [2] NCCL INFO x", "[host-1]:44712:44746 [2] NCCL INFO x"),
        ("zeus:44712:44746 [2] NCCL INFO zeus", "[host-1]:44712:44746 [2] NCCL INFO [host-1]"),
        ("host-54:1:2 [0] host-55:1:2 [0]", "[host-1]:1:2 [0] [host-2]:1:2 [0]"),
        ("Nov 21 10:11:12 zeus kernel: NVRM: Xid", "Nov 21 10:11:12 [host-1] kernel: NVRM: Xid"),
        ("ada@gpu-node-17:~/x$ ls", "user@[host-1]:~/x$ ls"),
        ("ada@workstation:~/x$ ls; ada: yes", "user@workstation:~/x$ ls; ada: yes"),
        ("scp bob@ml-box3:/data/x .", "scp user2@[host-1]:/data/x ."),
        ("gpu-node-17.lab.corp.net and gpu-node-17", "[host-1] and [host-1]"),
        ("events.out.17.gpu-node-17.3", "events.out.17.[host-1].3"),
        ("failed to connect to [ip-10-0-0-1.ec2.internal]:29500", "failed to connect to [[host-1]]:29500"),
        ("on ip-10-0-0-1 and ip-10-0-0-2.us-west-2.compute.internal", "on [host-1] and [host-2]"),
        ("adas-macbook.local is up", "[host-1] is up"),
        ("HOSTNAME=zeus", "HOSTNAME=[host-1]"),
        ("--master-addr zeus --x", "--master-addr [host-1] --x"),
        ("http://llm.acme.example/v1", "http://[host-1]/v1"),
        ("http://gpu7x:8000/v1", "http://[host-1]:8000/v1"),
        ("USER=ada LOGNAME=bob", "USER=user LOGNAME=user2"),
        ("/home/bob/x /home/eve/x /home/bob/y", "/home/user2/x /home/user3/x /home/user2/y"),
        ("/Users/bob/x", "/Users/user2/x"),
        ("/nfs/users/bob/x", "/nfs/users/user2/x"),
        (r"C:\Users\Bob Roe\x and C:\\Users\\eve\\x", r"C:\Users\user2\x and C:\\Users\\user3\\x"),
        (
            "/tmp/torchinductor_bob/x /tmp/torchinductor_ada/x",
            "/tmp/torchinductor_user2/x /tmp/torchinductor_user/x",
        ),
        ("uid=1001(bob) gid=1001(lab)", "uid=1001(user2) gid=1001(user3)"),
        ("Using [0]ib0:fe80::a236:9fff:fe12:3456%ib0<0>", "Using [0]ib0:[ipv6:1]<0>"),
    ],
)
def test_a_machine_and_its_users_are_masked_in_a_log(text: str, masked: str) -> None:
    assert log(text) == masked
    assert log(masked, ()) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("--index-url https://pypi.acme.example/simple", "--index-url https://[host-1]/simple"),
        ("-i https://pypi.acme.example/simple", "-i https://[host-1]/simple"),
        (
            "Looking in indexes: https://pypi.org/simple, https://pypi.acme.example/x",
            "Looking in indexes: https://pypi.org/simple, https://[host-1]/x",
        ),
        ("--extra-index-url https://u:p@acme.example:8443/s",
         "--extra-index-url https://[secret]@[host-1]:8443/s"),
        ("https://tok@acme.example/s", "https://[secret]@[host-1]/s"),
        ("x @ git+ssh://git@git.acme.internal/x.git", "x @ git+ssh://git@[host-1]/x.git"),
        ("https://c.acme.example/t/ab-0123-4567/chan", "https://[host-1]/t/[secret]/chan"),
        ("--index-url https://u:p@pypi.org/simple", "--index-url https://[secret]@pypi.org/simple"),
        ("https://u:p@huggingface.co/x", "https://[secret]@huggingface.co/x"),
        ("redis://:p1@cache.acme.example:6379", "redis://[secret]@[host-1]:6379"),
        ("postgres://u:p1@10.3.4.5/db", "postgres://[secret]@[ip-1]/db"),
        ("see https://docs.acme.example/x", "see https://docs.acme.example/x"),
    ],
)  # fmt: skip
def test_the_host_of_a_private_index_is_masked_in_every_report(text: str, masked: str) -> None:
    redactor = Redactor("/home/ada")
    assert redactor.text(text) == masked
    assert Redactor("/home/ada").text(masked) == masked


@pytest.mark.parametrize(
    "host", ["gpu", "cuda", "localhost", "vllm", "node1", "cu13", "torch", "x", "nvidia"]
)
def test_a_machine_called_like_a_word_of_this_trade_corrupts_none(host: str) -> None:
    text = f"{host} /usr/local/{host}/x lib{host} the {host}: x={host} {host}.y"
    assert Redactor("", hosts=(host,)).text(text) == text
    assert log(text, (host,)) == text


def test_equal_values_get_equal_stand_ins_from_line_to_line() -> None:
    redactor = Redactor("", hosts=HOSTS, thorough=True)
    lines = ["gpu-node-17 has 10.0.0.1:80", "10.0.0.2:80", "gpu-node-17 meets 10.0.0.1 and a7x:1:2 [0]"]
    assert [redactor.text(line) for line in lines] == [
        "[host-1] has [ip-1]:80", "[ip-2]:80", "[host-1] meets [ip-1] and [host-2]:1:2 [0]",
    ]  # fmt: skip


def test_a_text_that_has_stand_ins_already_keeps_them_apart_from_new_ones() -> None:
    assert log("[host-1] and [ip-3]:80, zeus:1:2 [0] at 10.0.0.1:80") == (
        "[host-1] and [ip-3]:80, [host-2]:1:2 [0] at [ip-4]:80"
    )


PIECES = st.lists(
    st.sampled_from(
        ["10.0.0.1", "192.168.0.7", "12.8.4.1", ":80", "://", "@", "ip=", "fe80::1", "02:42:ac:11:00:02",
         "gpu-node-17", "zeus", ":1:2 [0]", "ada", "/home/bob/", "user2", "[host-1]", "[ip-2]", "[ipv6:1]",
         "[secret]", ".internal", "a@b.example", "HOSTNAME=", "-i ", "https://", "u:p@", " ", "\n", "/", "-",
         "\"",
         "\\", "x.local", "Serial: ", "a1b2c3d4", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
         "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "aZ3" * 12, "q7RwT2mX9bKd4LpVs8HnYc3F"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@given(PIECES)
def test_masking_a_log_twice_is_masking_it_once(text: str) -> None:
    once = log(text)
    assert log(once) == once


@given(PIECES)
def test_a_report_s_text_masked_twice_is_masked_once(text: str) -> None:
    once = Redactor("/home/ada", hosts=HOSTS).text(text)
    assert Redactor("/home/ada", hosts=HOSTS).text(once) == once


def test_a_private_key_is_masked_line_by_line() -> None:
    redactor = Redactor("", thorough=True)
    body = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj", "MzEfYyjiWA4R4ab2cZ=="]
    lines = ["-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----", "done"]
    prefixed = [f"(Worker pid=1) {line}" for line in lines]
    for given_lines in (lines, prefixed):
        told = "\n".join(redactor.text(line) for line in given_lines)
        assert not any(part in told for part in body) and told.endswith("done")
    assert re.fullmatch(
        r"-+BEGIN PRIVATE KEY-+\[secret\]-+END PRIVATE KEY-+", Redactor("").text("\n".join(lines[:-1]))
    )
