"""`cudadoctor env` as a launch script uses it: evaluated by real shells."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .test_check import run
from .test_fix import apply, conda, library, variables

__all__ = ["conda", "library"]
SHELLS = {
    "bash": (["bash", "--norc", "-c"], 'eval "$({})"'),
    "zsh": (["zsh", "-f", "-c"], 'eval "$({})"'),
    "fish": (["fish", "--no-config", "-c"], "{} | source"),
    "csh": (["csh", "-f", "-c"], 'eval "`{}`"'),
}


@pytest.fixture
def blocked(conda: Path, tmp_path: Path) -> Path:
    """Return the environment with a lib64 that leads elsewhere, so that only LIBRARY_PATH helps."""
    (conda / "lib64").symlink_to(tmp_path)
    return conda


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("before", [None, "/mine", "/it's mine"])
def test_a_shell_that_evaluates_it_has_the_variables(blocked: Path, shell: str, before: str | None) -> None:
    argv, how = SHELLS[shell]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not on PATH")
    environ = variables(blocked) | ({"LIBRARY_PATH": before} if before else {})
    ran = run("env", "--prefix", str(blocked), "--no-config", "--shell", shell, environ=environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    text = blocked.parent / "text"
    text.write_text(ran.stdout)
    command = f"{how.format(f'cat {text}')}; printenv LIBRARY_PATH"
    shown = subprocess.run(
        [*argv, command], capture_output=True, text=True, env=environ | {"PATH": "/usr/bin:/bin"}
    )
    assert shown.stderr == ""
    wanted = [*([before] if before else []), f"{blocked}/lib", f"{blocked}/lib/stubs"]
    assert shown.stdout.strip().split(":") == wanted


def test_a_healthy_environment_prints_nothing(conda: Path) -> None:
    apply(conda)
    ran = run("env", "--prefix", str(conda), "--no-config", "cudart-link-missing", environ=variables(conda))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_what_activation_exports_already_is_printed_for_a_shell_that_lacks_it(blocked: Path) -> None:
    argv = ("env", "--prefix", str(blocked), "--no-config", "cudart-link-missing")
    planned = run(*argv, environ=variables(blocked)).stdout
    apply(blocked)
    persisted = run(*argv, environ=variables(blocked)).stdout
    assert persisted == planned != ""


def test_json_and_dotenv_hold_the_same(blocked: Path) -> None:
    argv = ("env", "--prefix", str(blocked), "--no-config", "--shell")
    found = json.loads(run(*argv, "json", environ=variables(blocked)).stdout)
    lines = run(*argv, "dotenv", environ=variables(blocked)).stdout.splitlines()
    assert dict(line.split("=", 1) for line in lines) == found


def test_nothing_is_changed_by_it(blocked: Path) -> None:
    before = sorted(blocked.rglob("*"))
    run("env", "--prefix", str(blocked), "--no-config", environ=variables(blocked))
    assert sorted(blocked.rglob("*")) == before


def test_an_activation_file_that_was_edited_is_one_line_and_exit_2(blocked: Path) -> None:
    apply(blocked)
    script = blocked / "etc/conda/activate.d/cudadoctor.sh"
    script.write_text(script.read_text() + "export MINE=1\n")
    ran = run("env", "--prefix", str(blocked), "--no-config", environ=variables(blocked))
    assert (ran.returncode, ran.stdout) == (2, "") and f"{script}: was edited by hand" in ran.stderr


def test_an_environment_that_cannot_be_written_to_is_helped_by_variables_all_the_same(conda: Path) -> None:
    """No link is possible, nor an activation file: the launch script needs neither."""
    folders = [conda, *(path for path in conda.rglob("*") if path.is_dir() and not path.is_symlink())]
    for folder in folders:
        folder.chmod(0o777)  # "anyone may write there": refused for root as well
    argv = ("env", "--prefix", str(conda), "--no-config", "--shell", "json", "cudart-link-missing")
    found = json.loads(run(*argv, environ=variables(conda)).stdout)
    assert found == {"LIBRARY_PATH": f"{conda}/lib:{conda}/lib/stubs"}
