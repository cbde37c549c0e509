"""`cudadoctor check` as its user meets it: real processes, output and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BROKEN = {"CUDA_HOME": "/nowhere/cuda"}


def run(
    *argv: str, cwd: Path | None = None, stdin: str = "", environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program with a small environment of its own."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return subprocess.run(
        [sys.executable, "-m", "cudadoctor", *argv],
        capture_output=True,
        text=True,
        input=stdin,
        cwd=cwd,
        env={**kept, **(environ or {})},
        timeout=120,
    )


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """Return a venv-like environment with torch and FlashInfer planted in it."""
    root = tmp_path / "env"
    site = root / "lib/python3.11/site-packages"
    (root / "bin").mkdir(parents=True)
    (root / "bin/python3").write_text("#!/bin/sh\n")
    (root / "bin/python3").chmod(0o755)
    (root / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    for name, version in (("torch", "2.9.0+cu128"), ("flashinfer_python", "0.5.3")):
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text("__version__ = '2.9.0+cu128'\ncuda = '12.8'\n")
    return root


def report(patient: Path, *argv: str, environ: dict[str, str] | None = None) -> Any:
    command = ("check", "--prefix", str(patient), "--format", "json", "--no-config")
    ran = run(*command, *argv, environ=environ)
    assert ran.stderr == ""
    return json.loads(ran.stdout)


def verdicts(report: Any) -> dict[str, Any]:
    return {o["check"]: (o["outcome"], o["reason"], o["findings"]) for o in report["outcomes"]}


def test_a_wrong_cuda_home_is_found_and_exits_1(patient: Path) -> None:
    ran = run("check", "--prefix", str(patient), "--no-config", environ=BROKEN)
    assert ran.returncode == 1
    assert "cuda-home-wrong" in ran.stdout and "/nowhere/cuda" in ran.stdout
    assert ran.stderr == ""


def test_json_is_the_report_and_nothing_else(patient: Path) -> None:
    found = report(patient, environ=BROKEN)
    assert found["schema_version"] == 1
    assert {"tool", "created", "target", "facts", "outcomes"} <= found.keys()
    finding = verdicts(found)["cuda-home-wrong"][2][0]
    assert finding["severity"] == "error"
    assert {"source", "detail"} <= finding["evidence"][0].keys()
    assert "fix" in finding["remedies"][0] if finding["remedies"] else True


def test_a_report_fits_the_published_schema(patient: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "docs/report.schema.json").read_text())
    jsonschema.validate(report(patient, environ=BROKEN), schema)


def test_a_replay_gives_the_same_verdicts(patient: Path, tmp_path: Path) -> None:
    first = run("check", "--prefix", str(patient), "--format", "json", "--no-config", environ=BROKEN)
    file = tmp_path / "report.json"
    file.write_text(first.stdout)
    again = run(
        "check", "--facts", str(file), "--format", "json", "--no-config", environ={"PATH": "/nonexistent"}
    )
    assert verdicts(json.loads(again.stdout)) == verdicts(json.loads(first.stdout))
    assert again.returncode == first.returncode == 1
    from_stdin = run("check", "--facts", "-", "--format", "json", "--no-config", stdin=first.stdout)
    assert verdicts(json.loads(from_stdin.stdout)) == verdicts(json.loads(first.stdout))


def test_facts_alone_replay_too(patient: Path, tmp_path: Path) -> None:
    facts = run("facts", "--prefix", str(patient), environ=BROKEN)
    file = tmp_path / "facts.json"
    file.write_text(facts.stdout)
    again = run("check", "--facts", str(file), "--no-config")
    assert "cuda-home-wrong" in again.stdout and again.returncode == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no JSON of ours"),
        ("[]", "no JSON of ours"),
        ("{}", "neither a report nor facts"),
        ('{"schema_version": 99, "facts": {}}', "schema version 99"),
        ('{"facts": {"target": 3}}', "not the facts this program knows"),
        ('{"facts": ' + "[" * 5000, "no JSON of ours"),
        ("\x00\x01", "no JSON of ours"),
    ],
)
def test_a_file_that_is_no_report_is_one_line_and_exit_2(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "facts.json"
    file.write_text(content)
    ran = run("check", "--facts", str(file))
    assert ran.returncode == 2 and says in ran.stderr and ran.stderr.count("\n") == 1
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["check", "cuda-home-wrogn"], "did you mean 'cuda-home-wrong'?"),
        (["check", "--ignore", "cudart_link_missing"], "did you mean 'cudart-link-missing'?"),
        (["docs", "nvcc-mising"], "did you mean 'nvcc-missing'?"),
        (["check", "--prefix", "/nowhere"], "/nowhere: no such folder"),
        (["check", "--prefix", "/etc/passwd"], "/etc/passwd: not a folder"),
        (["check", "--prefix", "/etc"], "no Python environment"),
        (["check", "--python", "/nowhere/python"], "not an executable file"),
        (["check", "-n", "no-such-env"], "no conda environment is called"),
        (["check", "--facts", "/nowhere.json"], "No such file"),
        (["check", "--facts", "x.json", "--deep"], "cannot be combined"),
        (["check", "--config", "/nowhere.toml"], "no such file"),
        (["check", "--config", "/tmp"], "not a file"),
        (["check", "--config", ""], "unset variable"),
        (["chekc"], "invalid choice"),
        (["check", "--formt", "json"], "unrecognized arguments"),
        (["check", "--format", "xml"], "choose from"),
        (["check", "-q", "-v"], "not allowed with"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(argv: list[str], says: str) -> None:
    ran = run(*argv)
    assert ran.returncode == 2
    assert says in ran.stderr and ran.stderr.count("\n") == 1 and "Traceback" not in ran.stderr
    assert ran.stdout == ""


@pytest.mark.parametrize("option", ["--prefix", "--python", "--name", "--facts"])
def test_an_empty_value_is_refused(option: str) -> None:
    ran = run("check", option, "")
    assert ran.returncode == 2 and "unset variable" in ran.stderr and ran.stderr.count("\n") == 1


def test_a_mistake_holds_no_terminal_escape() -> None:
    ran = run("check", "--prefix", "/no\x1b[31mwhere\n")
    assert "\x1b" not in ran.stderr and ran.stderr.count("\n") == 1


def test_named_checks_alone_run(patient: Path) -> None:
    assert set(verdicts(report(patient, "ninja-missing"))) == {"ninja-missing"}


def test_each_check_alone_gets_all_it_needs(patient: Path) -> None:
    for name in (row["name"] for row in listed() if row["kind"] == "check"):
        found = report(patient, name)
        assert set(verdicts(found)) == {name}
        assert "Error" not in json.dumps(found["facts"]), name


def test_a_full_disk_is_one_line_and_no_verdict(patient: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine")
    command = f"{sys.executable} -m cudadoctor check --no-config --format json --prefix {patient} >/dev/full"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ran.returncode == 3 and "No space left" in ran.stderr and ran.stderr.count("\n") == 1


def test_ignored_checks_do_not_run(patient: Path) -> None:
    found = verdicts(report(patient, "--ignore", "cuda-home-wrong", environ=BROKEN))
    assert "cuda-home-wrong" not in found and len(found) > 5


def test_fail_on_decides_the_exit_code(patient: Path) -> None:
    never = run("check", "--prefix", str(patient), "--no-config", "--fail-on", "never", environ=BROKEN)
    assert never.returncode == 0 and "cuda-home-wrong" in never.stdout


def test_a_suppressed_finding_needs_a_reason_is_shown_and_does_not_count(
    patient: Path, tmp_path: Path
) -> None:
    (tmp_path / "cudadoctor.toml").write_text('[suppress]\ncuda-home-wrong = "this image never compiles"\n')
    argv = ("check", "--prefix", str(patient), "cuda-home-wrong")
    ran = run(*argv, cwd=tmp_path, environ=BROKEN)
    assert ran.returncode == 0 and "this image never compiles" in ran.stdout
    below = tmp_path / "deep" / "down"
    below.mkdir(parents=True)
    assert run(*argv, cwd=below, environ=BROKEN).returncode == 0
    assert run(*argv, "--no-config", cwd=tmp_path, environ=BROKEN).returncode == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[suppress]\ncuda-home-wrong = " "\n', "needs a reason"),
        ('[suppress]\ncuda-home-wrogn = "x"\n', "did you mean 'cuda-home-wrong'?"),
        ('fail-on = "sometimes"\n', "fail-on must be one of"),
        ("colour = true\n", "unknown field"),
        ("fail-on = [\n", "cudadoctor.toml: "),
        ("suppress = 3\n", "cudadoctor.toml: "),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "cudadoctor.toml").write_text(text)
    ran = run("check", cwd=tmp_path)
    assert ran.returncode == 2 and says in ran.stderr and ran.stderr.count("\n") == 1


def test_a_pyproject_of_an_odd_shape_is_no_traceback(patient: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool = 'x'  # [tool.cudadoctor]\n")
    ran = run("check", "--prefix", str(patient), "--fail-on", "never", cwd=tmp_path)
    assert ran.returncode == 0 and ran.stderr == ""


def test_settings_in_pyproject_count(patient: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.cudadoctor]\nfail-on = "never"\n')
    assert run("check", "--prefix", str(patient), cwd=tmp_path, environ=BROKEN).returncode == 0


def test_output_has_no_colour_when_it_is_no_terminal(patient: Path) -> None:
    assert "\x1b" not in run("check", "--prefix", str(patient), "--no-config", environ=BROKEN).stdout


def test_a_closed_pipe_is_no_traceback(patient: Path) -> None:
    command = f"{sys.executable} -m cudadoctor check --no-config --format json --prefix {patient} | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in ran.stderr


def test_secrets_and_the_home_folder_are_masked(tmp_path: Path, patient: Path) -> None:
    home = tmp_path / "home" / "ada-lovelace"
    home.mkdir(parents=True)
    moved = home / "env"
    patient.rename(moved)
    environ = {"HOME": str(home), "FLASHINFER_EXTRA_LDFLAGS": "-L/x --token=hf_abcdefghijklmnopqrstuvwx"}
    for shape in ("json", "markdown", "text"):
        ran = run(
            "check", "--prefix", str(moved), "--no-config", "--format", shape, environ={**environ, **BROKEN}
        )
        assert "ada-lovelace" not in ran.stdout and "hf_abcdef" not in ran.stdout
        assert ran.returncode == 1


def test_no_command_prints_the_help_and_exits_2() -> None:
    ran = run()
    assert ran.returncode == 2 and "usage: cudadoctor" in ran.stderr


def test_every_command_has_help() -> None:
    for command in ("check", "facts", "list", "docs", "schema", "completion"):
        ran = run(command, "--help")
        assert ran.returncode == 0 and ran.stdout.startswith("usage: cudadoctor")


def listed() -> list[dict[str, str]]:
    """Return every check and fix, as `list --format json` has them."""
    rows: list[dict[str, str]] = json.loads(run("list", "--format", "json").stdout)
    return rows


def test_the_list_is_the_same_in_every_form() -> None:
    rows = listed()
    checks, fixes = ([row for row in rows if row["kind"] == kind] for kind in ("check", "fix"))
    assert rows == [*checks, *fixes] and all(row["safety"] for row in fixes)
    for kind in (checks, fixes):
        assert [row["name"] for row in kind] == sorted(row["name"] for row in kind)
    first, heading, second = run("list").stdout.split("\n\n")
    assert heading.startswith("fixes") and "\n" not in heading
    for text, kind in ((first, checks), (second, fixes)):
        assert [line.split()[0] for line in text.splitlines()] == [row["name"] for row in kind]
    tables = run("list", "--format", "markdown").stdout
    assert all(f"| `{row['name']}` |" in tables for row in rows)


@pytest.mark.parametrize(("kind", "heading"), [("check", "## What it means"), ("fix", "## How it is undone")])
def test_every_name_has_its_page(kind: str, heading: str) -> None:
    name = next(row["name"] for row in listed() if row["kind"] == kind)
    assert heading in run("docs", name).stdout


def test_a_mistyped_fix_is_known_too() -> None:
    ran = run("docs", "toolkit-link")
    assert ran.returncode == 2 and "did you mean 'toolkit-links'?" in ran.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_a_script(shell: str) -> None:
    ran = run("completion", shell)
    assert ran.returncode == 0 and "cudadoctor" in ran.stdout and "--fail-on" in ran.stdout
