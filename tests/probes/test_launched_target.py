"""Where a launch runs, and with which variables: what the command itself says of both."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv as venv_module
from pathlib import Path

import pytest

from cudadoctor.facts import Environ, Target
from cudadoctor.host import RealHost
from cudadoctor.probes import environ
from cudadoctor.probes.target import Asked, Request, probe
from cudadoctor.testing import FakeHost
from tests.real.conftest import _do_without

from .test_target import DEBIAN, conda, venv

A = {"VIRTUAL_ENV": "/a", "PATH": "/a/bin:/usr/bin"}


def started(*argv: str, **variables: str) -> Target:
    """Return the target of a command; /a is active, /b has a vllm, /m/envs/c is conda's."""
    scripts = {"/b/bin/vllm": "#!/b/bin/python3\n", "/usr/bin/serve": "#!/usr/bin/env python3\n"}
    named = {"/home/ada/.conda/environments.txt": "/m/envs/c\n"}
    files = {**DEBIAN, **venv("/a"), **venv("/b"), **conda("/m/envs/c"), **scripts, **named}
    programs = ["/usr/bin/python3.11", "/m/envs/c/bin/python3.12", *scripts]
    host = FakeHost(files, {**A, "HOME": "/home/ada", **variables}, executables=programs)
    return probe(host, Request(launch=Asked(argv)))


def test_the_environment_is_the_one_that_the_command_is_a_program_of() -> None:
    target = started("/b/bin/vllm", "serve", "m")
    assert (target.prefix, target.chosen_by, target.active) == ("/b", "the command", True)
    assert target.notes[0] == "VIRTUAL_ENV=/a is active, and the command is of another"


@pytest.mark.parametrize(
    "argv",
    [
        ("env", "X=1", "/b/bin/vllm", "serve", "m"),
        ("nohup", "/b/bin/python3", "-m", "vllm.entrypoints.openai.api_server"),
        ("/b/bin/python3", "train.py"),
    ],
)
def test_what_is_wrapped_around_it_does_not_matter(argv: tuple[str, ...]) -> None:
    assert started(*argv).prefix == "/b"


def test_the_first_program_on_path_counts() -> None:
    assert started("vllm", "serve", "m", PATH="/b/bin:/usr/bin").prefix == "/b"
    assert started("vllm", "serve", "m").prefix == "/a"
    assert started("serve", PATH="/b/bin:/usr/bin").prefix == "/b"


def test_conda_run_names_it() -> None:
    for words in (
        ("-n", "c"),
        ("--no-capture-output", "--name", "c"),
        ("-p", "/m/envs/c"),
        ("--prefix=/m/envs/c",),
    ):
        target = started("conda", "run", *words, "vllm", "serve", "m")
        assert (target.prefix, target.active) == ("/m/envs/c", False), words


def test_one_that_cannot_be_found_is_said_and_the_active_one_stands_in() -> None:
    target = started("conda", "run", "-n", "none", "vllm", "serve", "m")
    assert target.prefix == "/a" and target.notes[0].startswith(
        "--name none: no conda environment is called so"
    )
    assert "makes an environment of its own" in started("uvx", "vllm", "serve", "m").notes[0]


def test_the_command_s_own_path_counts() -> None:
    assert started("env", "PATH=/b/bin:/usr/bin", "vllm", "serve", "m").prefix == "/b"


@pytest.mark.parametrize("argv", [("true",), ("no-such-program",), ("/a/bin/python3",)])
def test_a_command_that_tells_none_leaves_the_active_one(argv: tuple[str, ...]) -> None:
    assert (started(*argv).prefix, started(*argv).chosen_by) == ("/a", "VIRTUAL_ENV")


def test_a_container_needs_no_environment_here() -> None:
    argv = ("docker", "run", "vllm/vllm-openai:v0.12.0", "--model", "m")
    nowhere = FakeHost(
        {"/own/bin/python3": "", "/own/pyvenv.cfg": ""}, {"PATH": "/nothing"}, own_prefix="/own"
    )
    target = probe(nowhere, Request(launch=Asked(argv)))
    assert target.prefix == "/own" and target.chosen_by.startswith("a container is started")


# --- its variables ------------------------------------------------------------------------------------------


def seen(*argv: str, **given: str) -> Environ:
    """Return the judged variables of a command in an active environment."""
    host = FakeHost({"/usr/bin/": "", "/x/bin/": ""}, {"PATH": "/usr/bin", **given})
    target = Target("/v", "venv", "/v/bin/python3", "3.12.4", "/usr", (), "", "--prefix", True)
    return environ.probe(host, target, Request(launch=Asked(argv)))


def test_the_command_s_own_variables_are_judged() -> None:
    found = seen(
        "CUDA_VISIBLE_DEVICES=1", "env", "-u", "CUDA_HOME", "PATH=/x/bin", "vllm", CUDA_HOME="/c", CC="gcc"
    )
    assert {name: held.value for name, held in found.variables.items()} == {
        "CC": "gcc",
        "CUDA_VISIBLE_DEVICES": "1",
    }
    assert found.path == ("/x/bin",) and found.judged == "the current variables, with those of the command"
    assert found.where("CUDA_VISIBLE_DEVICES") == "CUDA_VISIBLE_DEVICES (command line)"


def test_a_clean_environment_has_nothing_else() -> None:
    assert set(seen("env", "-i", "CC=cc", "vllm", CUDA_HOME="/c").variables) == {"CC"}


def test_what_is_set_to_something_unknown_is_said() -> None:
    command = ("bash", "-c", "export CUDA_HOME=$(find-cuda) A=$(b)\nvllm serve m")
    found = seen(*command, CUDA_HOME="/c")
    assert found.judged.endswith("but for CUDA_HOME: what that is set to is not known")


def test_its_secrets_are_not_kept() -> None:
    assert seen("env", "VLLM_API_KEY=x", "HF_TOKEN=y", "vllm").variables == {}


def test_a_container_s_variables_are_not_this_machine_s() -> None:
    found = seen("docker", "run", "-e", "CC=other", "image", CC="gcc")
    assert found.get("CC") == "gcc" and found.judged == "the current variables"


# --- what its script activates ------------------------------------------------------------------------------


def script(text: str) -> Target:
    """Return the target of `bash serve.sh`; /a is active, /b a venv, c one of conda's."""
    files = {**DEBIAN, **venv("/a"), **venv("/b"), **conda("/m"), **conda("/m/envs/c")}
    files |= {"/home/ada/serve.sh": text, "/home/ada/.conda/environments.txt": "/m/envs/c\n"}
    programs = ["/usr/bin/python3.11", "/m/envs/c/bin/python3.12", "/m/bin/python3.12"]
    host = FakeHost(files, {**A, "HOME": "/home/ada"}, executables=programs)
    by_file, typed = Asked(script="/home/ada/serve.sh"), Asked(("bash", "/home/ada/serve.sh"))
    target = probe(host, Request(launch=by_file))
    assert probe(host, Request(launch=typed)) == target
    return target


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("source /b/bin/activate\nexec vllm serve m\n", "/b"),
        ("ENV=/b\n. $ENV/bin/activate\nvllm serve m\n", "/b"),
        ("conda activate c\nvllm serve m\n", "/m/envs/c"),
        ('eval "$(conda shell.bash hook)"\nNAME=c\nmicromamba activate "$NAME"\nvllm serve m\n', "/m/envs/c"),
        ("source /m/bin/activate c\nvllm serve m\n", "/m/envs/c"),
        ("source /m/bin/activate\nvllm serve m\n", "/m"),
        ("conda activate none\nvllm serve m\n", "/a"),
        ("conda activate $(cat name)\nvllm serve m\n", "/a"),
        ("vllm serve m\nsource /b/bin/activate\n", "/a"),
    ],
)
def test_a_script_says_in_which_environment_it_starts(text: str, prefix: str) -> None:
    target = script(text)
    assert target.prefix == prefix and target.active == (prefix == "/a"), target


# --- uv run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize(
    "words",
    [(), ("--no-project",), ("--project", "../../project/other"), ("--active",), ("--directory", "..")],
)
@pytest.mark.parametrize("place", ["project/below", "plain/below"])
def test_uv_itself_takes_the_same_environment(
    tmp_path: Path, place: str, words: tuple[str, ...], active: bool
) -> None:
    uv = shutil.which("uv")
    if uv is None:
        _do_without("uv is not on PATH")
    for name in ("project", "plain", "project/other"):
        venv_at(tmp_path / name / ".venv")
        (tmp_path / name / "below").mkdir()
    for name in ("project", "project/other"):
        (tmp_path / name / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0"\n')
    venv_at(tmp_path / "active")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_OFFLINE": "1", "UV_NO_SYNC": "1"}
    environ |= {"VIRTUAL_ENV": str(tmp_path / "active")} if active else {}
    folder = tmp_path / place
    code = "import sys; print(sys.prefix)"
    command = [uv, "run", "--no-python-downloads", *words, "python", "-c", code]
    real = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=folder)
    if real.returncode or not real.stdout.startswith(str(tmp_path)):
        pytest.skip(f"uv makes or finds another one here: {real.stdout}{real.stderr}")
    host = _At(str(folder), environ)
    target = probe(host, Request(launch=Asked(("uv", "run", *words, "python", "-c", code))))
    assert target.prefix == real.stdout.strip()


class _At(RealHost):
    """This machine, with another current folder."""

    def __init__(self, folder: str, environ: dict[str, str]) -> None:
        super().__init__(environ)
        self._folder = folder

    def cwd(self) -> str:
        return self._folder


def venv_at(folder: Path) -> None:
    """Make a virtual environment without pip."""
    venv_module.create(folder, symlinks=True)
