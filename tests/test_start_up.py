"""What a start costs, asserted on imports and system calls, never on seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulate.models import QWEN25_32B

MODEL = "a folder with a model"
HEAVY = {
    "torch",
    "vllm",
    "flashinfer",
    "triton",
    "rich",
    "pynvml",
    "importlib.metadata",
    "asyncio",
    "pathlib",
}


def loaded_by(*argv: str) -> set[str]:
    code = (
        "import sys, json\n"
        f"sys.argv = ['cudadoctor', *{list(argv)!r}]\n"
        "from cudadoctor.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stdout.flush()\n"
        "sys.stderr.write('\\nMODULES' + json.dumps(sorted(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ran.stderr.rpartition("MODULES")[2])
    return set(found)


@pytest.fixture
def whole(tmp_path: Path) -> str:
    """Return a healthy environment: what a conflict takes to be explained is loaded for a conflict."""
    for name, version in (("torch", "2.9.0"), ("numpy", "2.1.0")):
        folder = tmp_path / f"lib/python3.12/site-packages/{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        wants = "Requires-Dist: numpy>=1.26,<3\n" if name == "torch" else ""
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{wants}\n"
        (folder / "METADATA").write_text(head)
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.4\n")
    return str(tmp_path)


def test_help_imports_neither_msgspec_nor_anything_heavier() -> None:
    loaded = loaded_by("--help")
    assert not loaded & (HEAVY | {"msgspec", "subprocess", "cudadoctor.engine", "cudadoctor.facts"})


def test_json_imports_neither_rich_nor_anything_of_the_stack(whole: str) -> None:
    loaded = loaded_by("check", "--format", "json", "--no-config", "--prefix", whole)
    assert not loaded & (HEAVY - {"pathlib"}) and "cudadoctor.engine" in loaded


def test_json_imports_no_library_that_only_other_machines_need(whole: str) -> None:
    loaded = loaded_by("check", "--format", "json", "--no-config", "--prefix", whole)
    assert not loaded & {"psutil", "distro", "logging", "packaging", "shutil"}


PLANNER = {"cudadoctor.simulate.gpu_memory", "cudadoctor.launch.commands", "cudadoctor.probes.model", "yaml"}


def test_only_a_launch_loads_what_judges_launches(whole: str) -> None:
    options = ("--format", "json", "--no-config", "--prefix", whole)

    def of_launches(loaded: set[str]) -> set[str]:
        return {name for name in loaded if name.startswith("cudadoctor.checks.launch")} | loaded & PLANNER

    assert not of_launches(loaded_by("check", *options)) - {"cudadoctor.checks.launch"}
    assert len(of_launches(loaded_by("preflight", *options, "--", "vllm", "serve", "m"))) > 20
    other = loaded_by("preflight", *options, "--", "true")
    assert not other & {"cudadoctor.simulate.gpu_memory", "yaml", "ast"}


def test_preflight_imports_nothing_of_the_stack(whole: str) -> None:
    loaded = loaded_by(
        "preflight", "--format", "json", "--no-config", "--prefix", whole, "--", "vllm", "serve"
    )
    assert not loaded & (HEAVY - {"pathlib"} | {"huggingface_hub"})


def test_check_does_without_what_msgspec_takes_where_it_is_installed(whole: str) -> None:
    loaded = loaded_by("check", "--format", "json", "--no-config", "--prefix", whole)
    assert "msgspec" in loaded and not loaded & {"typing_extensions", "inspect"}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not on this machine")
@pytest.mark.parametrize(
    "argv", [("check",), ("preflight", "--gpu", "rtx-3090", "--", "vllm", "serve", MODEL)]
)
def test_nothing_is_opened_for_writing(tmp_path: Path, argv: tuple[str, ...]) -> None:
    log, model = tmp_path / "trace", tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({**QWEN25_32B, "architectures": ["Qwen2ForCausalLM"]}))
    name, *more = (str(model) if word == MODEL else word for word in argv)
    command = [sys.executable, "-B", "-m", "cudadoctor", name, "--format", "json", "--no-config", *more]
    traced = ["strace", "-f", "-qq", "-e", "trace=%file,ftruncate", "-o", str(log), *command]
    subprocess.run(traced, stdout=subprocess.DEVNULL, check=False)
    lines = log.read_text(errors="replace").splitlines()
    assert len(lines) > 100
    for line in lines:
        writes = any(flag in line for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"))
        changes = any(
            f" {call}(" in line for call in ("mkdir", "unlink", "rename", "symlink", "link", "chmod", "creat")
        )
        assert not (writes or changes) or "/dev/null" in line or "ENOENT" in line, line
