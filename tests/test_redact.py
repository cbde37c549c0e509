"""Redaction masks secrets and personal paths, and nothing else."""

import json
import subprocess
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cudadoctor.declare import check
from cudadoctor.facts import (
    Distribution,
    Environ,
    Facts,
    HeaderDirectory,
    Libraries,
    LibraryFile,
    LinkDirectory,
    Machine,
    Packages,
    Selection,
    Target,
    Toolkit,
    Toolkits,
    Variable,
)
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.outcomes import Failed
from cudadoctor.redact import Redactor, for_facts, in_shell
from cudadoctor.report import Report, Tool, encode
from cudadoctor.secrets import SECRET

ADA = Redactor("/home/ada")
HF = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567"


def machine(home: str) -> Machine:
    return Machine("x86_64", "Linux", "Debian", "6.1", 8, 1 << 34, 1 << 33, 8192, None, home=home)


def facts(home: str = "/home/ada", root: str = "/scratch/ada/cuda-13.0") -> Facts:
    """Return facts in which the personal part of the paths is all over the place."""
    site = f"{home}/envs/vllm/lib/python3.11/site-packages"
    lib, dangling = f"{root}/lib64", LibraryFile("dangling", link="libcudart.so.13")
    return Facts(
        target=Target(
            f"{home}/envs/vllm", "venv", f"{home}/envs/vllm/bin/python", "3.11.7", "/usr", (site,),
            "/usr/include/python3.11", "VIRTUAL_ENV", True,
        ),
        environ=Environ(
            {
                "CUDA_HOME": Variable(root, f"{home}/envs/vllm/etc/conda/activate.d/cuda.sh:3"),
                "TVM_FFI_DISABLE_TORCH_C_DLPACK": Variable("1", "environment"),
                "FLASHINFER_EXTRA_LDFLAGS": Variable(f"-L{lib}", "environment"),
            },
            "the current variables",
            (f"{home}/envs/vllm/bin", "/usr/bin"),
        ),
        packages=Packages((Distribution("tiktoken", "0.12", site, requires=("regex==2025.1", "hf_xet>=1")),)),
        toolkits=Toolkits(
            (Toolkit(root, root, "cuda", "13.0.88", "", ("CUDA_HOME",), f"{root}/bin/nvcc", (), (lib,)),),
            (Selection("flashinfer", root, "CUDA_HOME", True, True),),
            {f"{root}/include": HeaderDirectory(True, ("cuda_runtime.h",))},
        ),
        libraries=Libraries({lib: LinkDirectory(True, {"libcudart.so": dangling})}, ("libcudart.so",)),
        machine=machine(home),
    )  # fmt: skip


@check
def joins_paths(toolkits: Toolkits, environ: Environ, libraries: Libraries):  # type: ignore[no-untyped-def]
    """Find by joined and split strings, as the real checks do."""
    root = toolkits.selections[0].root
    assert environ.get("CUDA_HOME") == root and toolkits.at(root) is not None
    assert toolkits.headers[f"{root}/include"].headers == ("cuda_runtime.h",)
    flag = environ.variables["FLASHINFER_EXTRA_LDFLAGS"].value
    found = libraries.directories[flag[2:]].files["libcudart.so"]
    remedy = Remedy("cuda-home", {"CUDA_HOME": root}, f"export CUDA_HOME={root}")
    yield Finding(
        f"{root}: {found.kind}", Severity.ERROR, (Evidence(environ.where("CUDA_HOME"), flag),), (remedy,)
    )


def verdict(judged: Facts) -> Failed:
    outcome = joins_paths.run(judged)
    assert isinstance(outcome, Failed), outcome
    return structs.replace(outcome, duration_ms=0.0)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"HF_TOKEN={HF}", "HF_TOKEN=[secret]"),
        (f"a {HF}, b", "a [secret], b"),
        ("hf_abcdefghijklmnopqrstuvwxyzabcdefgh", SECRET),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", SECRET),
        ("glpat-0123456789abcdefghij", SECRET),
        ("nvapi-0123456789abcdefghijABCDEFGHIJ_-", SECRET),
        ("sk-proj-0123456789abcdefghijABCDEFGHIJ", SECRET),
        ("pypi-AgEIcHlwaS5vcmcCJDAwMDAwMDAw", SECRET),
        ("key AKIAIOSFODNN7EXAMPLE.", "key [secret]."),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P", SECRET),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer [secret]"),
        ("authorization: Basic YWRhOmh1bnRlcjI=", "authorization: Basic [secret]"),
        ("AUTH_TOKEN=Bearer abcdef0123456789", "AUTH_TOKEN=[secret] [secret]"),
        ("https://ada:hunter2@mirror.example/simple", "https://[secret]@[host-1]/simple"),
        ("https://ada:hunt@er2@mirror.example/simple", "https://[secret]@[host-1]/simple"),
        ("git+https://0123456789abcdefTOKEN@h.example/x", "git+https://[secret]@[host-1]/x"),
        ("https://c.example/t/ab-0123-4567/chan/noarch", "https://[host-1]/t/[secret]/chan/noarch"),
        ("https://h.example/x?token=abc&page=2", "https://h.example/x?token=[secret]&page=2"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=[secret] psql"),
        ('export DB_PASSWORD="two words" X=1', "export DB_PASSWORD=[secret] X=1"),
        ("export DB_PASSWORD='two words' X=1", "export DB_PASSWORD=[secret] X=1"),
        ("AWS_SECRET_ACCESS_KEY = wJalrXUtnFEMI/K7MDENG", "AWS_SECRET_ACCESS_KEY = [secret]"),
        ("WANDB_API_KEY=0123456789abcdef", "WANDB_API_KEY=[secret]"),
        (r"--password=hun\ter2 next", "--password=[secret] next"),
        ("MYSECRET=x DBPASS=y", "MYSECRET=[secret] DBPASS=[secret]"),
        ("PASSW=z MY_PW=v", "PASSW=[secret] MY_PW=[secret]"),
        ('{"api_key": "a b", "n": 1}', '{"api_key": "[secret]", "n": 1}'),
        ('{"password": "it\'s"}', '{"password": "[secret]"}'),
        ("{'hf_token': 'x'}", "{'hf_token': '[secret]'}"),
        (r'"{\"aws_secret_access_key\":\"v\"}"', r'"{\"aws_secret_access_key\":\"[secret]\"}"'),
        (r'{\\\"secret\\\": \\\"v\\\"}', r'{\\\"secret\\\": \\\"[secret]\\\"}'),
        ("{'password': \"it's me\", 'n': 1}", "{'password': \"[secret]\", 'n': 1}"),
        ("{'api_key': ['k1', 'k2'], 'n': 1}", "{'api_key': ['[secret]', '[secret]'], 'n': 1}"),
        ('{"hf_token": ["k1","k2"]}', '{"hf_token": ["[secret]","[secret]"]}'),
        (r'"{\"api_key\": [\"k1\"]}"', r'"{\"api_key\": [\"[secret]\"]}"'),
        ("Namespace(api_key=['k1', 'k2'], n=1)", "Namespace(api_key=['[secret]', '[secret]'], n=1)"),
        ("serve m --ray-secret abc1 --port 80", "serve m --ray-secret [secret] --port 80"),
        ("curl -H 'Authorization: canary1' x", "curl -H 'Authorization: [secret]' x"),
        ("X-Api-Key: canary1", "X-Api-Key: [secret]"),
        ("https://h.example/x?sig=ab%2B&se=1", "https://h.example/x?sig=[secret]&se=1"),
    ],
)  # fmt: skip
def test_a_secret_is_masked(text: str, masked: str) -> None:
    assert Redactor("").text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "TVM_FFI_DISABLE_TORCH_C_DLPACK=1",
        "FLASHINFER_EXTRA_LDFLAGS=-L/usr/lib64 FLASHINFER_CUDA_ARCH_LIST=9.0a",
        "TOKENIZERS_PARALLELISM=false",
        "VLLM_MAX_TOKENS=8192 USE_TOKEN=1 --no-password=true",
        "tiktoken==0.12.0",
        "tiktoken>=0.6.0; extra == 'token'",
        "pypi-attestations 0.0.9",
        "hf_transfer-0.1.9.dist-info hf_transformers",
        "sk-learn-contrib-metric-learning",
        "/data/asiabcdefghijklmnopqr/akiaiosfodnn7example",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "torch-2.14.1+cu130-cp311-cp311-manylinux_2_28_x86_64.whl",
        "ssh://git@github.com/pytorch/pytorch",
        "https://conda.anaconda.org/conda-forge/linux-64",
        "http://localhost:8000/v1",
        "bypass=yes bearer of bad news",
        "c++ -shared -L/usr/local/cuda/lib64/stubs -lcudart -Wl,-rpath=/opt/x",
        "/proc/123/fd/4",
        "{'eos_token': '</s>', 'pad_token': ['<pad>'], 'stop_tokens': ['a'], 'api_key': None}",
        '{"tokenizer": "m", "max_tokens": "8", "eos_token_id": "2", "monkey": "x", "bypass": "y"}',
        "BYPASS=yes-1 COMPASS=north MONKEY=x OLDPWD=/x PWD=/y",
        "--hf-token is given, --api-key takes a value; --max-num-batched-tokens 8192",
        "--tokenizer m0 --tokenizer-mode m1 --password 8192",
        "the token: none1234 of these, api_key: see 12",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor("").text(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("/home/ada", "/home/user"),
        ("/home/ada/envs/vllm", "/home/user/envs/vllm"),
        ("-L/home/ada/lib:/home/ada/lib64", "-L/home/user/lib:/home/user/lib64"),
        ("no such folder: /home/ada.", "no such folder: /home/user."),
        ("/scratch/ada/x and ~ada/y", "/scratch/user/x and ~user/y"),
        ("../../ada/cuda", "../../user/cuda"),
        ("/home/adam /home/ada-old /home/ada.lab", "/home/adam /home/ada-old /home/ada.lab"),
        ("/usr/lib/libada.so ada canada", "/usr/lib/libada.so ada canada"),
    ],
)
def test_home_and_the_user_in_other_paths_are_masked(text: str, masked: str) -> None:
    assert ADA.text(text) == masked


def test_a_user_called_cuda_leaves_the_toolkits_alone() -> None:
    redactor = Redactor("/home/cuda")
    assert redactor.text("/home/cuda/x") == "/home/user/x"
    for path in (
        "/usr/local/cuda/bin/nvcc",
        "/opt/cuda",
        "/data/site-packages/cuda/bindings",
        "/usr/local/cuda-13.0",
    ):
        assert redactor.text(path) == path


@pytest.mark.parametrize(
    "user", ["lib", "lib64", "bin", "include", "python3.11", "cu13", "targets", "x86_64-linux"]
)
def test_a_user_called_like_a_folder_of_a_toolkit_leaves_it_alone(user: str) -> None:
    assert Redactor(f"/home/{user}").text(f"/opt/tk/{user}/x") == f"/opt/tk/{user}/x"


@pytest.mark.parametrize(
    "home", ["/root", "/home/ubuntu", "/home/user", "/", "", "/usr/local", "relative/ada"]
)
def test_a_home_that_is_nobodys_stays(home: str) -> None:
    text = f"{home}/x /root/x /usr/local/cuda /home/ada relative/ada"
    assert Redactor(home).text(text) == text


def test_a_name_that_is_no_utf_8_is_masked_too() -> None:
    assert Redactor("/home/ad\udcff").text("/home/ad\udcff/x") == "/home/user/x"


def test_redacted_facts_hold_nothing_personal() -> None:
    text = encode(for_facts(facts()).value(facts())).decode()
    assert "ada" not in text and "/home/user/envs/vllm" in text and "/scratch/user/cuda-13.0" in text


def test_redacted_facts_are_judged_alike() -> None:
    redactor = for_facts(facts())
    whole = Report(Tool("cudadoctor", "0"), "", facts().target, facts(), (verdict(facts()),))
    redacted = redactor.value(whole)
    assert redacted.outcomes == (verdict(redacted.facts),)
    replayed = msgspec.json.decode(encode(redacted), type=Report)
    assert for_facts(replayed.facts).value(replayed) == redacted


@pytest.mark.parametrize(
    "user", ["cuda", "lib", "include", "bin", "nvcc", "root", "x", "cudart.so", "a+b", 'q"\\']
)
def test_redacted_facts_of_a_user_with_an_awkward_name_are_judged_alike(user: str) -> None:
    seen = facts(f"/home/{user}", f"/home/{user}/{user}/cuda")
    redactor = for_facts(seen)
    assert (
        verdict(redactor.value(seen))
        == redactor.value(Report(Tool("", ""), "", seen.target, seen, (verdict(seen),))).outcomes[0]
    )


@pytest.mark.parametrize("user", ["vllm", "ray", "ninja", "hydra"])
def test_a_user_who_is_called_like_a_package_renames_none(user: str) -> None:
    redactor = Redactor(f"/home/{user}")
    below = "lib/python3.12/site-packages"
    assert redactor.text(f"/opt/{below}/{user}/x.py") == f"/opt/{below}/{user}/x.py"
    assert redactor.text(f"/home/{user}/{below}/{user}/x.py") == f"/home/user/{below}/{user}/x.py"


def test_two_users_never_become_one() -> None:
    seen = facts(root="/home/user/cuda")
    redacted = for_facts(seen).value(seen)
    assert isinstance(redacted.machine, Machine) and isinstance(redacted.toolkits, Toolkits)
    assert redacted.machine.home == "/home/user1"
    assert redacted.toolkits.toolkits[0].root == "/home/user/cuda"
    assert for_facts(redacted).value(redacted) == redacted


def test_a_variable_whose_name_says_secret_loses_its_value() -> None:
    environ = Environ({"FLASHINFER_TOKEN": Variable("abc", "environment")}, "the current variables")
    redacted = Redactor("").value(Facts(environ=environ))
    assert isinstance(redacted.environ, Environ)
    assert redacted.environ.variables == {"FLASHINFER_TOKEN": Variable(SECRET, "environment")}


def test_a_key_of_plain_data_that_leaves_no_doubt_loses_its_value() -> None:
    seen = Facts(environ=Environ({"VLLM_MYSECRET": Variable("abc", "environment")}, "the current variables"))
    redacted = Redactor("").value(seen)
    assert isinstance(redacted.environ, Environ)
    assert redacted.environ.variables["VLLM_MYSECRET"].value == SECRET


def test_a_secret_before_a_quote_leaves_the_json_whole() -> None:
    seen = Facts(environ=Environ({"CFLAGS": Variable(f'-DX="{HF}" TOKEN=a"b', 'PASSWORD="')}, "'\"\\"))
    redacted = Redactor("").value(seen)
    assert isinstance(redacted.environ, Environ)
    assert redacted.environ.variables["CFLAGS"] == Variable('-DX="[secret]" TOKEN=[secret]"b', 'PASSWORD="')
    assert msgspec.json.decode(encode(redacted), type=Facts) == redacted


def test_facts_without_anything_personal_come_back_as_they_are() -> None:
    seen = Facts(machine=machine("/root"))
    assert for_facts(seen).value(seen) is seen


TRICKY = st.lists(
    st.sampled_from(
        ["TOKEN=", "PASSWORD=", "api_key = ", '"', "'", "\\", "://", "@", ":", "/", "/home/ada", "ada", HF,
         " ", "Bearer ", '"token"', '"api_key": "', "'secret': '", "--password ", "--x-token a1",
         "X-Api-Key: a1", "DBPASS=", "?sig=", "AKIAIOSFODNN7EXAMPLE", "\n", ",", "}", "]", "=", "[secret]",
         "x", "/t/",
         "\x00", "é", "abcdefghijklmnop"]
    )
).map("".join)  # fmt: skip


@given(st.lists(TRICKY, max_size=4))
def test_json_text_stays_json_with_as_many_strings(values: list[str]) -> None:
    document = {"a": values, "b": dict.fromkeys(values, 1)}
    masked = json.loads(ADA.text(json.dumps(document, separators=(",", ":"))))
    assert len(masked["a"]) == len(values)


@given(TRICKY)
def test_masking_twice_is_masking_once(text: str) -> None:
    once = ADA.text(text)
    assert ADA.text(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        "\\",
        '"',
        '"a":',
        "--a-",
        "--token ",
        "--a.b-secret",
        "'token':'",
        "X-api-key: ",
        "?sig=",
        "sk-",
        "eyJ-",
        "hf_",
        "://a:",
        "token ",
        "PASSWORD=\\",
        "Bearer ",
        "/ada",
        "(",
        "/t/",
    ],
)
def test_a_long_hostile_text_takes_no_long_time(piece: str) -> None:
    started = time.perf_counter()
    ADA.text(piece * 20_000)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("export CUDA_HOME=/home/ada/cuda", 'export CUDA_HOME="$HOME"/cuda'),
        ("export CPATH='/home/ada/my env:/home/ada/b c'", """export CPATH="$HOME"'/my env:'"$HOME"'/b c'"""),
        ("ln -s lib /home/ada/env/lib64", 'ln -s lib "$HOME"/env/lib64'),
        ("ls /home/adam /home/ada", 'ls /home/adam "$HOME"'),
        ("ls '/home/ada'", "ls \"$HOME\"''"),
        ("ls /data/ada", "ls /data/ada"),
    ],
)
def test_a_command_to_copy_stays_right_and_names_nobody(command: str, shown: str) -> None:
    assert in_shell(command, "/home/ada") == shown
    script = f"HOME=/home/ada; set -- {command}; printf '%s\\n' \"$@\""
    before = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    after = subprocess.run(
        ["sh", "-c", script.replace(command, shown)], capture_output=True, text=True, check=True
    )
    assert after.stdout == before


def test_a_command_to_copy_holds_no_secret() -> None:
    assert "hf_" not in in_shell("export X=hf_AbCdEfGhIjKlMnOpQrStUv", "/home/ada")


def test_a_secret_inside_a_path_leaves_the_rest_of_the_path() -> None:
    redactor = Redactor("/home/ada")
    assert redactor.text("-L/opt/token=abcdefghijk123/lib64:x") == "-L/opt/token=[secret]/lib64:x"
    assert redactor.text("HF_TOKEN=ab/cdefghijklmno+p==") == "HF_TOKEN=[secret]"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GPU-1a2b3c4d-0000-1111-2222-333344445555", "GPU-1a2b3c4d"),
        (
            "CUDA_VISIBLE_DEVICES=MIG-1a2b3c4d-0000-1111-2222-333344445555,0",
            "CUDA_VISIBLE_DEVICES=MIG-1a2b3c4d,0",
        ),
        ("MIG-GPU-1a2b3c4d-0000-1111-2222-333344445555/7/0", "MIG-GPU-1a2b3c4d/7/0"),
        ("GPU-1a2b3c4d", "GPU-1a2b3c4d"),
        ("GPU-hours", "GPU-hours"),
    ],
)
def test_of_a_gpu_s_number_too_little_is_left_to_know_a_machine_by(text: str, masked: str) -> None:
    redactor = Redactor("/home/alice")
    assert redactor.text(text) == redactor.text(masked) == masked


def test_a_user_s_name_in_the_folder_of_torchinductor_is_masked() -> None:
    redactor = Redactor("/home/alice")
    assert redactor.text("/tmp/torchinductor_alice/x") == "/tmp/torchinductor_user/x"
    assert redactor.text("/tmp/torchinductor_alicex") == "/tmp/torchinductor_alicex"
