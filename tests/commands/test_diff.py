"""`cudadoctor diff` as its user meets it: a working and a broken machine, yesterday and today."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.elves import plant

from .test_check import patient, run

__all__ = ["patient"]
HEADERS = {
    "cuda.h": "#define CUDA_VERSION 12080\n",
    "cuda_runtime.h": "",
    "cuda_runtime_api.h": "#define CUDART_VERSION 12080\n",
}


@pytest.fixture
def cuda(tmp_path: Path) -> Path:
    """Return a toolkit in small, with which the patient is well."""
    root = tmp_path / "cuda-12.8"
    for folder in ("bin", "include", "lib64/stubs"):
        (root / folder).mkdir(parents=True)
    (root / "bin/nvcc").write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.8, V12.8.93'\n")
    (root / "bin/nvcc").chmod(0o755)
    for name, text in HEADERS.items():
        (root / "include" / name).write_text(text)
    plant(root / "lib64/libcudart.so", "libcudart.so.12")
    plant(root / "lib64/stubs/libcuda.so", "libcuda.so.1")
    return root


def look(root: Path, file: Path, *argv: str, **variables: str) -> Path:
    """Save what check says of an environment."""
    ran = run("check", "--prefix", str(root), "--format", "json", "--no-config", *argv, environ=variables)
    assert ran.stderr == ""
    file.write_text(ran.stdout)
    return file


def diff(*argv: object, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return run("diff", "--no-config", *map(str, argv), stdin=stdin, environ=variables)


def told(first: Path, second: Path) -> Any:
    ran = diff(first, second, "--format", "json")
    assert ran.stderr == ""
    return json.loads(ran.stdout)


@pytest.fixture
def works(patient: Path, cuda: Path, tmp_path: Path) -> Path:
    """Return the report of the patient with its toolkit."""
    return look(patient, tmp_path / "works.json", CUDA_HOME=str(cuda))


# --- equal --------------------------------------------------------------------------------------------------


def test_a_report_is_the_same_as_itself(works: Path) -> None:
    ran = diff(works, works)
    assert ran.returncode == 0 and ran.stderr == ""
    last = ran.stdout.splitlines()[-1]
    assert last.startswith("the same: ") and last.endswith(" facts compared")


def test_equal_environments_of_two_users_are_the_same(patient: Path, cuda: Path, tmp_path: Path) -> None:
    reports = []
    for user, name in (("ada", "vllm"), ("bob", "torch-nightly")):
        home = tmp_path / "home" / user
        root = home / "envs" / name
        shutil.copytree(patient, root, symlinks=True)
        own = home / "cuda"
        shutil.copytree(cuda, own)
        variables = {"HOME": str(home), "CUDA_HOME": str(own), "TRITON_CACHE_DIR": f"{home}/triton"}
        reports.append(look(root, tmp_path / f"{user}.json", **variables))
    ran = diff(*reports)
    assert ran.returncode == 0, ran.stdout
    assert "/envs/vllm" in ran.stdout and "/envs/torch-nightly" in ran.stdout


def test_this_machine_is_looked_at_where_no_second_report_is_given(
    patient: Path, cuda: Path, works: Path
) -> None:
    ran = diff(works, "--prefix", patient, CUDA_HOME=str(cuda))
    assert ran.returncode == 0 and "B  this machine" in ran.stdout


def test_what_one_side_has_not_looked_at_is_said_and_is_no_difference(
    patient: Path, cuda: Path, works: Path, tmp_path: Path
) -> None:
    part = look(patient, tmp_path / "part.json", "ninja-missing", CUDA_HOME=str(cuda))
    ran = diff(part, works)
    assert ran.returncode == 0, ran.stdout
    assert "not looked at in A (not collected)" in ran.stdout
    assert {unseen["side"] for unseen in told(part, works)["unseen"]} == {"A"}


# --- broken -------------------------------------------------------------------------------------------------


def test_an_unset_variable_is_what_the_failing_checks_name(
    patient: Path, works: Path, cuda: Path, tmp_path: Path
) -> None:
    broken = look(patient, tmp_path / "broken.json", CUDA_HOME="/nowhere/cuda")
    ran = diff(works, broken)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 1
    assert "✗ cuda-home-wrong  passed in A, fails in B" in lines
    named = lines.index("Named by what fails in B only")
    assert lines.index("✗ cuda-home-wrong  passed in A, fails in B") < named
    assert lines[named + 1].startswith(f"  CUDA_HOME  {cuda} -> /nowhere/cuda")
    assert lines[named + 2] == f"    A has  export CUDA_HOME={cuda}"


def test_a_link_that_is_gone_is_the_one_difference(
    patient: Path, works: Path, cuda: Path, tmp_path: Path
) -> None:
    (cuda / "lib64/libcudart.so").unlink()
    found = told(works, look(patient, tmp_path / "broken.json", CUDA_HOME=str(cuda)))
    (only,) = found["differences"]
    assert only["what"] == f"libcudart.so in {cuda}/lib64"
    assert (only["first"], only["second"], only["rank"]) == ("there", "missing", 1)
    assert only["checks"] == ["cudart-link-missing"]
    (turned,) = found["checks"]
    assert (turned["check"], turned["first"], turned["second"]) == ("cudart-link-missing", "passed", "failed")


def test_what_has_mended_it_is_told_without_the_way_back(patient: Path, works: Path, tmp_path: Path) -> None:
    broken = look(patient, tmp_path / "broken.json", CUDA_HOME="/nowhere/cuda")
    ran = diff(broken, works)
    assert ran.returncode == 1
    assert "✓ cuda-home-wrong  failed in A, passes in B" in ran.stdout
    assert "Named by what failed in A only\n  CUDA_HOME  /nowhere/cuda -> " in ran.stdout
    assert "A has" not in ran.stdout


def test_another_torch_is_told_with_the_index_that_has_it(
    patient: Path, works: Path, cuda: Path, tmp_path: Path
) -> None:
    site = patient / "lib/python3.11/site-packages"
    (site / "torch-2.9.0+cu128.dist-info").rename(site / "torch-2.8.0+cu126.dist-info")
    metadata = site / "torch-2.8.0+cu126.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("2.9.0+cu128", "2.8.0+cu126"))
    (site / "torch/version.py").write_text("__version__ = '2.8.0+cu126'\ncuda = '12.6'\n")
    found = told(works, look(patient, tmp_path / "other.json", CUDA_HOME=str(cuda)))
    torch = next(each for each in found["differences"] if each["what"] == "torch")
    assert (torch["first"], torch["second"]) == ("2.9.0+cu128", "2.8.0+cu126")
    index = "https://download.pytorch.org/whl/cu128"
    assert torch["command"].endswith(f" torch==2.9.0 --index-url {index}")


def test_a_repair_that_there_is_is_offered(conda_without_lib64: Path, tmp_path: Path) -> None:
    root = conda_without_lib64
    broken = look(root, tmp_path / "broken.json", CUDA_HOME=str(root))
    (root / "lib64").symlink_to("lib")
    works = look(root, tmp_path / "works.json", CUDA_HOME=str(root))
    ran = diff(works, broken)
    assert "    fix    cudadoctor fix cudart-link-missing\n" in ran.stdout
    (root / "lib64").unlink()
    here = diff(works, "--prefix", root, CUDA_HOME=str(root))
    assert f"    fix    cudadoctor fix cudart-link-missing --prefix {root}\n" in here.stdout


@pytest.fixture
def conda_without_lib64(patient: Path, cuda: Path) -> Path:
    """Return the patient as a conda environment, with its toolkit in lib."""
    (patient / "pyvenv.cfg").unlink()
    (patient / "conda-meta").mkdir()
    (patient / "conda-meta/history").touch()
    shutil.copy(cuda / "bin/nvcc", patient / "bin/nvcc")
    shutil.copytree(cuda / "include", patient / "targets/x86_64-linux/include")
    plant(patient / "lib/libcudart.so", "libcudart.so.12")
    return patient


def test_an_ignored_check_is_not_judged(patient: Path, works: Path, tmp_path: Path) -> None:
    broken = look(patient, tmp_path / "broken.json", CUDA_HOME="/nowhere/cuda")
    ran = diff(works, broken, "--ignore", "cuda-home-wrong")
    assert ran.returncode == 1 and "✗ cuda-home-wrong" not in ran.stdout


# --- what is printed ----------------------------------------------------------------------------------------


def test_the_json_fits_its_schema(patient: Path, works: Path, tmp_path: Path) -> None:
    import msgspec

    from cudadoctor.compare import Difference

    jsonschema = pytest.importorskip("jsonschema")
    found = told(works, look(patient, tmp_path / "broken.json", CUDA_HOME="/nowhere/cuda"))
    jsonschema.validate(found, msgspec.json.schema(Difference))
    ranks = [each["rank"] for each in found["differences"]]
    assert ranks == sorted(ranks) and found["schema_version"] == 1


def test_commands_are_for_the_machine_they_are_run_on_and_name_nobody(
    patient: Path, cuda: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home/ada-lovelace"
    shutil.copytree(patient, home / "env", symlinks=True)
    shutil.copytree(cuda, home / "cuda")
    works = look(home / "env", tmp_path / "works.json", HOME=str(home), CUDA_HOME=f"{home}/cuda")
    for form in ("text", "json", "markdown"):
        ran = diff(works, "--prefix", home / "env", "--format", form, HOME=str(home), CUDA_HOME="/nowhere")
        assert ran.returncode == 1 and "ada-lovelace" not in ran.stdout
        wanted = '"$HOME"/cuda' if form == "text" else "/home/user/cuda"
        assert f"export CUDA_HOME={wanted}" in ran.stdout


def test_commands_for_another_machine_say_home_too(patient: Path, cuda: Path, tmp_path: Path) -> None:
    home = tmp_path / "home/ada-lovelace"
    shutil.copytree(patient, home / "env", symlinks=True)
    shutil.copytree(cuda, home / "cuda")
    works = look(home / "env", tmp_path / "works.json", HOME=str(home), CUDA_HOME=f"{home}/cuda")
    broken = look(home / "env", tmp_path / "broken.json", HOME=str(home), CUDA_HOME="/nowhere")
    assert 'A has  export CUDA_HOME="$HOME"/cuda\n' in diff(works, broken).stdout


def test_secrets_are_masked_and_two_of_them_are_no_difference(
    patient: Path, cuda: Path, tmp_path: Path
) -> None:
    reports = []
    for number in "12":
        facts = json.loads(look(patient, tmp_path / "x.json", CUDA_HOME=str(cuda)).read_text())
        value = f"-L/x --token=hf_{number}bcdefghijklmnopqrstuvwx"
        variables = facts["facts"]["environ"]["variables"]
        variables["FLASHINFER_EXTRA_LDFLAGS"] = {"value": value, "origin": "environment"}
        reports.append(tmp_path / f"{number}.json")
        reports[-1].write_text(json.dumps(facts))
    ran = diff(*reports, "-v")
    assert ran.returncode == 0 and "hf_" not in ran.stdout


HOSTILE = "</details>\n## @all\x1b[2J\u202e<script>`x`::error::y"


def test_hostile_strings_are_harmless_in_every_format(works: Path, tmp_path: Path) -> None:
    report = json.loads(works.read_text())
    facts = report["facts"]
    facts["environ"]["variables"][HOSTILE] = {"value": HOSTILE, "origin": HOSTILE}
    facts["environ"]["path"].append(HOSTILE)
    facts["packages"]["distributions"].append({"name": HOSTILE, "version": HOSTILE, "location": HOSTILE})
    facts["machine"]["kernel"] = HOSTILE
    facts["driver"] = {"probe": "unknown", "reason": HOSTILE, "expected": False, "crashed": False}
    other = tmp_path / "hostile.json"
    other.write_text(json.dumps(report))
    for argv in ((works, other), (other, works)):
        for form in ("text", "markdown"):
            ran = diff(*argv, "-v", "--format", form)
            assert ran.returncode == 1 and ran.stderr == ""
            assert not {"\x1b", "\u202e"} & set(ran.stdout)
            lines = ran.stdout.splitlines()
            assert not any(line.lstrip().startswith(("</details>", "## @all", "::error::")) for line in lines)
            for line in lines if form == "markdown" else ():
                outside = "".join(line.split("`")[::2])
                assert "<script>" not in outside or "``" in line
        assert json.loads(diff(*argv, "--format", "json").stdout)["first"]


def test_a_closed_pipe_is_no_traceback(works: Path) -> None:
    command = f"{sys.executable} -m cudadoctor diff --no-config {works} {works} | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in ran.stderr


def test_output_has_no_colour_when_it_is_no_terminal(works: Path) -> None:
    assert "\x1b" not in diff(works, works).stdout


# --- mistakes -----------------------------------------------------------------------------------------------


def test_one_of_the_two_may_come_from_stdin(works: Path) -> None:
    assert diff("-", works, stdin=works.read_text()).returncode == 0
    assert diff(works, "-", stdin=works.read_text()).returncode == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no JSON of ours"),
        ('{"schema_version": 99, "facts": {}}', "schema version 99"),
        ('{"facts": {"target": 3}}', "not the facts this program knows"),
        ('{"facts": ' + "[" * 5000, "no JSON of ours"),
    ],
)
def test_what_is_no_report_is_one_line_that_names_it(
    works: Path, tmp_path: Path, content: str, says: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    for argv in ((bad, works), (works, bad)):
        ran = diff(*argv)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert "bad.json: " in ran.stderr and says in ran.stderr and "--facts" not in ran.stderr


def test_what_cannot_be_meant_is_one_line(works: Path) -> None:
    for argv, says in (
        (("-", "-"), "only one of A and B"),
        ((works, works, "--prefix", "/x"), "--prefix says what is looked at here"),
        ((works, "/nowhere.json"), "/nowhere.json: No such file"),
        ((works, works, "--ignore", "cuda-home-wrogn"), "did you mean 'cuda-home-wrong'?"),
    ):
        ran = diff(*argv)
        assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
        assert says in ran.stderr


def test_reports_come_from_other_machines_through_pipes(patient: Path) -> None:
    check = f"{sys.executable} -m cudadoctor check --prefix {patient} --no-config --format json"
    command = f"{sys.executable} -m cudadoctor diff <({check}) <(CUDA_HOME=/none {check})"
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr == ""
    assert "CUDA_HOME" in ran.stdout
