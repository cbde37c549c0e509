"""A third party's package, really installed, with checks that work, crash, loop and cannot be loaded."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parent / "sample"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the sample into a folder of its own, as pip does it."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the sample plug-in, is not installed")
    source = tmp_path_factory.mktemp("source") / "sample"
    shutil.copytree(SAMPLE, source)
    place = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*command, "--target", str(place), str(source)], check=True)
    return place


def run(site: Path, *argv: str, seconds: str = "0.5") -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from cudadoctor import engine; "
        f"engine.CHECK_TIMEOUT_S = {seconds}; from cudadoctor.cli import main; sys.exit(main({list(argv)!r}))"
    )
    environ = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, timeout=60
    )


def outcomes(site: Path, *argv: str) -> dict[str, Any]:
    ran = run(site, "check", "--format", "json", "--no-config", *argv)
    return {outcome["check"]: outcome for outcome in json.loads(ran.stdout)["outcomes"]}


def test_a_check_of_a_plug_in_reports_like_ours(installed: Path) -> None:
    found = outcomes(installed, "disk-label-odd")
    assert found["disk-label-odd"]["findings"][0]["summary"] == "a plug-in was here"


def test_a_plug_in_that_crashes_is_an_outcome(installed: Path) -> None:
    crashed = outcomes(installed)["always-crashes"]
    assert crashed["outcome"] == "crashed"
    assert "a bug of the plug-in" in crashed["reason"]


def test_a_plug_in_that_loops_past_its_time_is_an_outcome(installed: Path) -> None:
    looping = outcomes(installed)["never-ends"]
    assert looping["outcome"] == "crashed"
    assert "did not end within" in looping["reason"]


def test_a_plug_in_that_cannot_be_imported_is_an_outcome(installed: Path) -> None:
    found = outcomes(installed)
    assert "needs a library that is not installed" in found["cannot-import"]["reason"]
    assert "no_such_name" in found["not-there"]["reason"]
    assert found["cannot-import"]["outcome"] == found["not-there"]["outcome"] == "crashed"


def test_a_crash_exits_3_when_nothing_worse_was_found(installed: Path) -> None:
    assert run(installed, "check", "--no-config", "always-crashes").returncode == 3
    assert run(installed, "check", "--no-config", "cannot-import").returncode == 3


def test_a_finding_is_worse_than_a_crash(installed: Path) -> None:
    ran = run(installed, "check", "--no-config", "--fail-on", "warning", "always-crashes", "disk-label-odd")
    assert ran.returncode == 1


def test_a_failure_can_be_left_out(installed: Path) -> None:
    ran = run(
        installed, "check", "--no-config", "cannot-import", "disk-label-odd", "--ignore", "cannot-import"
    )
    assert ran.returncode == 0


def test_the_list_names_the_plug_in_and_its_failures(installed: Path) -> None:
    listed = run(installed, "list")
    assert "disk-label-odd" in listed.stdout and "[cudadoctor-sample]" in listed.stdout
    assert "cannot-import" in listed.stderr
    assert listed.returncode == 3


def test_the_configuration_can_leave_a_failure_out(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "cudadoctor.toml"
    file.write_text('ignore = ["cannot-import"]\n')
    ran = run(installed, "check", "--config", str(file), "cannot-import", "disk-label-odd")
    assert ran.returncode == 0
