"""A redactor tells what it masked by kinds and names, and masks no digest, symbol or name."""

import time

import msgspec
import pytest

from cudadoctor.explain.model import Explanation, Here, Kind, Seen
from cudadoctor.facts import Environ, Facts, Unknown, Variable
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.outcomes import Failed
from cudadoctor.redact import Redactor, in_shell
from cudadoctor.report import Report, Tool
from cudadoctor.secrets import SECRET, looks_random
from tests.canary_kinds import canaries

HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"


def test_what_was_masked_is_told_by_kind_and_name_and_never_by_value() -> None:
    redactor = Redactor("/home/ada", hosts=("gpu-node-17",), thorough=True)
    for line in (
        f"a {HF} b", f"HF_TOKEN={HF}", "DB_PASSWORD=hunter22", "/home/ada/x /home/ada/y",
        "gpu-node-17 x2-y:1:2 [0]",
        "10.0.0.1:80", "10.0.0.1:81", "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    ):  # fmt: skip
        redactor.text(line)
    assert redactor.masked.names() == [
        "2 host names", "DB_PASSWORD", "a GitHub token", "a Hugging Face token", "an IP address",
        "home folder",
    ]  # fmt: skip
    assert redactor.masked.total == 7
    assert "hunter22" not in repr(vars(redactor.masked))


def test_the_same_value_counts_once_and_what_is_masked_already_never() -> None:
    redactor = Redactor("")
    redactor.text("DB_PASSWORD=hunter22 MY_PW=hunter22")
    redactor.text("DB_PASSWORD=[secret] from [host-1]")
    assert redactor.masked.total == 1 and redactor.masked.counts == {"DB_PASSWORD": 1}


def test_a_variable_of_a_report_is_told_by_its_name() -> None:
    redactor = Redactor("")
    seen = Environ({"VLLM_MYSECRET": Variable("abc", "environment")}, "the current variables")
    redactor.value(Facts(environ=seen))
    assert redactor.masked.names() == ["VLLM_MYSECRET"]


def test_nothing_masked_is_nothing_told() -> None:
    redactor = Redactor("/home/ada", hosts=("gpu-node-17",), thorough=True)
    redactor.text("torch 2.9.0+cu128 needs nvidia-cublas-cu12==12.8.4.1")
    assert redactor.masked.total == 0 and redactor.masked.names() == []


@pytest.mark.parametrize(
    "word",
    [
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709", "FBV4XKQ5C7T2LZ6H3M7N2PQRSTUVWXYZ234567ABCDEFGHIJKLMN",
        "_ZN3c104cuda9SetDeviceEab", "_ZNK2at10TensorBase14const_data_ptrIN3c108BFloat16EEEPKT_v",
        "CompressedTensorsW8A8Fp8MoEMethod", "Qwen2ForCausalLMWithMedusaHeads4",
        "DeepSeek-R1-Distill-Qwen-32B-FP8-dynamic",
        "meta-llama/Llama-3-70B-Instruct", "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64",
        "torch_compile_cache/ea2d23402a", "manylinux_2_28_x86_64", "1b4e28ba-2fa1-11d2-883f-0016d3cca427",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING", "FLASHINFER_EXTRA_LDFLAGS",
        "f7qjxgtbhd4l6wzq2vymo3ypnukbhbrq5cdjzjk36",
    ],
)  # fmt: skip
def test_a_digest_a_symbol_and_a_name_are_not_random(word: str) -> None:
    assert not looks_random(word)
    for form in ("{}", "NAME={}", "name: {}", "see {} here"):
        assert Redactor("", thorough=True).text(form.format(word)) == form.format(word)


@pytest.mark.parametrize(
    "text",
    [
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha256:47DEQpj8HBSaTImW5JCeuQeRkm5NMpJWZG3hSuFUAb",
        "torch/x.py,sha256=9kAd5sV0cWmTqPjE3xLh2Zr8Yb1NuGf7QiOvXa4tHDs,1234",
        "/root/.triton/cache/KD3QJ5VZ6X/x /root/.cache/uv/archive-v0/Xk3vQ9bRz7LmTqPjE3xLh2/lib",
        "/tmp/x/9kAd5sV0cWmTqPjE3xLh2Zr8Yb1NuGf7QiOvXa4tHDs/y",
        "chatcmpl-8f14e45fceea167a5a36dedd4bea2543 done",
    ],
)  # fmt: skip
def test_a_random_word_that_says_what_it_is_or_is_a_folder_stays(text: str) -> None:
    assert Redactor("", thorough=True).text(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("q7RwT2mX9bKd4LpVs8HnYc3Fz6", SECRET), ("--x q7RwT2mX9bKd4LpVs8HnYc3Fz6", f"--x {SECRET}"),
        ("x=q7RwT2mX9bKd4LpVs8HnYc3Fz6", f"x={SECRET}"), ("x: q7RwT2mX9bKd4LpVs8HnYc3Fz6.", f"x: {SECRET}."),
        ("https://h.example/x?y=q7RwT2mX9bKd4LpVs8HnYc3Fz6&z=1", f"https://h.example/x?y={SECRET}&z=1"),
        ('["q7RwT2mX9bKd4LpVs8HnYc3Fz6"]', f'["{SECRET}"]'),
    ],
)  # fmt: skip
def test_a_random_word_in_the_place_of_a_value_is_masked(text: str, masked: str) -> None:
    assert Redactor("").text(text) == masked


def test_whole_reports_are_masked_as_their_texts_are() -> None:
    """The look at a whole report is another one than that at a single text."""
    for canary in canaries(seed=2, each=3):
        alone = Facts(environ=Environ({"X": Variable(canary.text, "environment")}, "the current variables"))
        text = msgspec.json.encode(Redactor("").value(alone)).decode()
        assert not any(part in text for part in canary.parts), canary.kind


WORDS = (
    "cause", "failed", "passed", "error", "warning", "note", "environment", "venv", "file", "missing",
    "vllm-serve", "cuda-home-wrong", "confirmed", "answered", "zeus",
)  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_no_log_can_damage_a_report_that_it_stands_in(word: str) -> None:
    """A machine in a log may be called like a kind, a name or a verdict; a key in it may have any tail."""
    lines = (f"{word}:1:2 [0] NCCL", "-----BEGIN PRIVATE KEY-----", "aZ3k" * 16, word, f"HOSTNAME={word}")
    seen = Seen(
        "s", word, Kind.CAUSE, 1, lines[0], "t", around=lines, here=Here("confirmed", "cuda-home-wrong")
    )
    told = Explanation(word, 5, 5, seen)
    masked = Redactor("", thorough=True).value(told)
    assert isinstance(masked.root, Seen) and masked.root.here == seen.here and masked.root.kind is Kind.CAUSE
    assert masked.root.cause == masked.log == word
    assert "aZ3k" not in repr(masked)
    finding = Finding(f"at {word}", Severity.NOTE, (Evidence(word, lines[0]),))
    report = Report(
        Tool("cudadoctor", "0"), "", Unknown(word), Facts(), (Failed("a-check", findings=(finding,)),)
    )
    again = Redactor("", hosts=(word,), thorough=True).value(report)
    assert again.outcomes[0].check == "a-check" and again.outcomes[0].findings[0].severity is Severity.NOTE


def test_a_private_key_in_the_lines_around_a_cause_is_masked_whole() -> None:
    body = ["aZ3k" * 16, "q7Rw" * 16, "Yb1=".rjust(12, "Q")]
    for lines in (
        ["x", "-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----", "y"],
        [*body, "-----END PRIVATE KEY-----", "error"],
        ["x", "(Worker pid=1) -----BEGIN PRIVATE KEY-----", *(f"(Worker pid=1) {each}" for each in body)],
    ):
        seen = Seen("s", "c", Kind.CAUSE, 1, "", "t", around=tuple(lines))
        text = msgspec.json.encode(Redactor("", thorough=True).value(seen)).decode()
        assert not any(part in text for part in body), text


def test_a_command_to_copy_keeps_its_machines_and_loses_its_secrets() -> None:
    command = "curl http://10.0.0.1:8000/v1 -H 'Authorization: Bearer q7RwT2mX9bKd4LpVs8HnYc3Fz6'"
    assert in_shell(command, "") == f"curl http://10.0.0.1:8000/v1 -H 'Authorization: Bearer {SECRET}'"


def test_a_log_of_many_machines_takes_no_long_time() -> None:
    redactor = Redactor("", thorough=True)
    started = time.perf_counter()
    for at in range(3000):
        assert redactor.text(f"n{at}-x:1:2 [0] 10.1.{at // 250}.{at % 250}:80") == (
            f"[host-{at + 1}]:1:2 [0] [ip-{at + 1}]:80"
        )
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n", "a@", "a.", "a.b-", "1.2.3.4",
        "1.2.3.4:", "::", "a:1:",
        "fe80:", "00:", "https://a.", "machine a login ", "curl ", "curl -u a", "redis-cli -", "ssh-rsa AAAA",
        "ip-1-",
        "Serial ", "/home/", "@a.", "host:1:1 [0]", "a1-", "--host ", "x.local", "password ", "A_B: ",
        "Cookie: a=",
        "hooks.slack.com/services/", "Digest response=\"", "*:*:a:", "https://x/t/", "ssh -a ",
        "Aa0" * 9 + "/",
    ],
)  # fmt: skip
def test_a_long_hostile_log_takes_no_long_time(piece: str) -> None:
    started = time.perf_counter()
    Redactor("/home/ada", hosts=("gpu-node-17",), thorough=True).text(piece * (200_000 // len(piece)))
    assert time.perf_counter() - started < 2
