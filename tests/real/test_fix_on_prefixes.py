"""What fails on a real environment works after `fix --apply`, and fails as before after `undo`.

The program runs as its user runs it; what it promises is tried with the real linker and real shells.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .pip_prefix import plant_distribution, plant_torch
from .test_checks_on_prefixes import check, clean, conda, link, only

__all__ = ["conda"]
LINKS = ("cudart-link-missing", "libcuda-link-missing")


def program(*argv: str, before: Sequence[str] = (), **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program, behind `before` where it is given."""
    command = [*before, sys.executable, "-m", "cudadoctor", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=clean(**environ), timeout=120)


def fixed(prefix: Path, *argv: str, before: Sequence[str] = (), **environ: str) -> dict[str, Any]:
    """Carry the plan out and return what came of it, which must be what was predicted."""
    common = ("--prefix", str(prefix), "--no-config", "--format", "json")
    planned = program("fix", *argv, *common, before=before, **environ)
    ran = program("fix", *argv, *common, "--apply", before=before, **environ)
    assert ran.stderr == planned.stderr == "" and ran.returncode in (0, 1)
    done: dict[str, Any] = json.loads(ran.stdout)
    plan = json.loads(planned.stdout)
    for known in ("found", "lines", "held", "predicted_cleared", "predicted_left"):
        assert plan.get(known) == done.get(known), "the plan that was shown is the one that was carried out"
    assert done["run"] and done.get("surprises", []) == []
    assert done.get("left", 0) == done.get("predicted_left", 0)
    assert sorted(done["cleared"]) == sorted(done["predicted_cleared"]) != []
    return done


def undone(prefix: Path, **environ: str) -> str:
    """Take the last run back and return what is said of it."""
    ran = program("undo", "--prefix", str(prefix), **environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def snapshot(root: Path) -> dict[str, object]:
    """Return everything below `root` but the journal: type and mode, text or content, time of files."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        at, name = path.lstat(), str(path.relative_to(root))
        if f"{name}/".startswith("etc/cudadoctor/"):
            continue
        body = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        is_file = path.is_file() and not path.is_symlink()
        found[name] = (at.st_mode, body, at.st_mtime_ns if is_file else 0)
    if not any(name.startswith("etc/") for name in found):
        found.pop("etc", None)  # made for the journal
    return found


def line_of(outcome: Any) -> str:
    """Return the link line that a finding shows."""
    return str(only(outcome)["evidence"][0]["detail"])


def in_bash(prefix: Path, *lines: str, **environ: str) -> list[str]:
    """Run lines in a bash that has activated the environment; return what was printed."""
    script = "\n".join([f". '{prefix}/bin/activate'", *lines])
    ran = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, env=clean(**environ)
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.fixture
def pip(pip_cu13: Path) -> Path:
    """Return the venv of pip's CUDA 13 with FlashInfer's metadata planted in it."""
    plant_distribution(pip_cu13, "flashinfer-python", "0.7.2.post1")
    return pip_cu13


@pytest.fixture
def wrapped(tmp_path: Path) -> dict[str, str]:
    """Return the variables under which nvcc is a script in front of the machine's own toolkit."""
    toolkit = next(iter(sorted(Path("/usr/local").glob("cuda-*/bin/nvcc"))), None)
    if toolkit is None:
        pytest.skip("no /usr/local/cuda-*/bin/nvcc on this machine")
    folder = tmp_path / "local/bin"
    folder.mkdir(parents=True)
    (folder / "nvcc").write_text(f'#!/bin/sh\nexec {toolkit} "$@"\n')
    (folder / "nvcc").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.fixture
def alone(tmp_path: Path) -> list[str]:
    """Return what runs a command where the machine has no toolkit of its own."""
    own = [str(path) for path in Path("/usr/local").glob("cuda-*")]
    if not own:
        return []
    script = tmp_path / "alone.sh"
    hide = "".join(f"mount -t tmpfs none '{path}' || exit\n" for path in own)
    script.write_text(f'{hide}exec "$@"\n')
    argv = ["unshare", "--mount", "sh", str(script)]
    if not shutil.which("unshare") or subprocess.run([*argv, "true"], capture_output=True).returncode:
        pytest.skip("the machine's own toolkit cannot be hidden: no right to mount")
    return argv


# --- there and back -----------------------------------------------------------------------------------------


def test_a_conda_prefix_links_after_fix_and_is_as_before_after_undo(
    conda: Path, gxx: str, tmp_path: Path
) -> None:
    environ = {"CUDA_HOME": str(conda)}
    lines = {name: line_of(check(conda, **environ)[name]) for name in LINKS}
    assert "cannot find -lcudart" in link(lines[LINKS[0]], tmp_path, **environ)
    assert "cannot find -lcuda" in link(lines[LINKS[1]], tmp_path, **environ)
    before = snapshot(conda)
    done = fixed(conda, **environ)
    assert set(LINKS) <= set(done["cleared"])
    assert done["lines"][0]["what"] == "lib64 -> lib"
    assert [link(line, tmp_path, **environ) for line in lines.values()] == ["", ""]
    moved = conda.rename(conda.with_name("moved"))
    for line in lines.values():
        assert link(line.replace(str(conda), str(moved)), tmp_path) == "", "a relative link survives a move"
    moved.rename(conda)
    assert "removed lib64 -> lib" in undone(conda, **environ)
    assert "cannot find -lcudart" in link(lines[LINKS[0]], tmp_path, **environ)
    assert snapshot(conda) == before


def test_pips_runtime_gets_its_link_name_and_loses_it_again(
    pip: Path, alone: list[str], gxx: str, tmp_path: Path
) -> None:
    (root,) = pip.glob("lib/python3.*/site-packages/nvidia/cu13")
    environ = {"CUDA_HOME": str(root), "PATH": "/usr/bin:/bin"}
    line = line_of(check(pip, **environ)["cudart-link-missing"])
    assert "cannot find -lcudart" in link(line, tmp_path, **environ)
    before = snapshot(pip)
    done = fixed(pip, before=alone, **environ)
    assert "cudart-link-missing" in done["cleared"]
    assert os.readlink(root / "lib64/libcudart.so") == "../lib/libcudart.so.13"
    assert "cannot find -lcudart" not in link(line, tmp_path, **environ)
    undone(pip, **environ)
    assert "cannot find -lcudart" in link(line, tmp_path, **environ)
    assert snapshot(pip) == before


def test_behind_a_wrapper_cuda_home_is_exported_by_activation(pip: Path, wrapped: dict[str, str]) -> None:
    before = snapshot(pip)
    assert check(pip, **wrapped)["cuda-home-wrong"]["outcome"] == "failed"
    done = fixed(pip, **wrapped)
    assert "cuda-home-wrong" in done["cleared"]
    ask = f"'{sys.executable}' -m cudadoctor check cuda-home-wrong --no-config --quiet"
    lines = in_bash(pip, 'echo "$CUDA_HOME"', ask, "deactivate", 'echo "${CUDA_HOME-unset}"', **wrapped)
    assert lines[0].startswith("/usr/local/cuda-") and lines[1:] == ["unset"]
    with_one = in_bash(pip, 'echo "$CUDA_HOME"', "deactivate", 'echo "$CUDA_HOME"', **wrapped, CUDA_HOME="/x")
    assert with_one == [lines[0], "/x"]
    undone(pip, **wrapped)
    assert snapshot(pip) == before


def test_from_the_active_environment_the_new_variables_count_in_the_check_afterwards(
    pip: Path, wrapped: dict[str, str]
) -> None:
    before = snapshot(pip)
    active = {**wrapped, "PATH": f"{pip}/bin:{wrapped['PATH']}", "VIRTUAL_ENV": str(pip)}
    done = fixed(pip, **active)
    assert "cuda-home-wrong" in done["cleared"]
    undone(pip, **active)
    assert snapshot(pip) == before


@pytest.mark.parametrize("which", ["conda", "pip"])
def test_the_script_makes_the_same_tree_as_apply(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    prefix: Path = request.getfixturevalue(which)
    environ = {"CUDA_HOME": str(prefix)} if which == "conda" else request.getfixturevalue("wrapped")
    kept = tmp_path / "kept"
    subprocess.run(["cp", "-a", str(prefix), str(kept)], check=True)
    script = program("fix", "--prefix", str(prefix), "--no-config", "--format", "script", **environ)
    subprocess.run(["sh"], input=script.stdout, text=True, check=True, env=clean(), capture_output=True)
    by_script = without_times(snapshot(prefix))
    shutil.rmtree(prefix)
    kept.rename(prefix)
    before = without_times(snapshot(prefix))
    fixed(prefix, **environ)
    assert without_times(snapshot(prefix)) == by_script != before


def without_times(found: dict[str, object]) -> dict[str, object]:
    return {name: what[:2] for name, what in found.items() if isinstance(what, tuple)}


# --- what recipes get wrong ---------------------------------------------------------------------------------


def test_with_the_recipes_library_path_one_link_is_left_to_make(
    conda: Path, gxx: str, tmp_path: Path
) -> None:
    recipe = f"{conda}/lib:{conda}/targets/x86_64-linux/lib"
    environ = {"CUDA_HOME": str(conda), "LIBRARY_PATH": recipe}
    found = check(conda, **environ)
    assert found["cudart-link-missing"]["outcome"] == "passed"
    line = line_of(found["libcuda-link-missing"])
    assert "cannot find -lcuda:" in link(line, tmp_path, **environ)
    done = fixed(conda, "libcuda-link-missing", **environ)
    assert [line["what"] for line in done["lines"]] == ["lib64 -> lib"]
    assert link(line, tmp_path, **environ) == ""


def test_ld_library_path_does_not_link_and_is_never_what_fix_sets(
    conda: Path, gxx: str, tmp_path: Path
) -> None:
    environ = {"CUDA_HOME": str(conda), "LD_LIBRARY_PATH": f"{conda}/lib:{conda}/lib/stubs"}
    line = line_of(check(conda, **environ)["cudart-link-missing"])
    assert "cannot find -lcudart" in link(line, tmp_path, **environ)
    done = fixed(conda, *LINKS, **environ)
    assert "LD_LIBRARY_PATH" not in json.dumps(done["lines"])
    assert link(line, tmp_path, **environ) == ""


def test_the_link_of_an_unmatched_pattern_is_removed_and_comes_back(conda: Path) -> None:
    environ = {"CUDA_HOME": str(conda)}
    subprocess.run(
        ["sh", "-c", "mkdir -p lib64 && ln -s /nowhere/lib/libcudart.so* lib64/"], cwd=conda, check=True
    )
    pattern = conda / "lib64/libcudart.so*"
    assert pattern.is_symlink(), "without a match the shell hands the pattern itself over"
    before = snapshot(conda)
    fixed(conda, **environ)
    assert not pattern.is_symlink()
    undone(conda, **environ)
    assert snapshot(conda) == before


def test_a_recipes_absolute_links_are_dead_after_a_move_and_turned(conda: Path, gxx: str) -> None:
    (conda / "lib64").mkdir()
    (conda / "lib64/libcudart.so").symlink_to(conda / "lib/libcudart.so")
    moved = conda.rename(conda.with_name("moved"))
    assert not (moved / "lib64/libcudart.so").exists()
    environ = {"CUDA_HOME": str(moved)}
    before = snapshot(moved)
    fixed(moved, **environ)
    assert not os.readlink(moved / "lib64/libcudart.so").startswith("/")
    again = moved.rename(moved.with_name("again"))
    assert (again / "lib64/libcudart.so").exists()
    again.rename(moved)
    undone(moved, **environ)
    assert snapshot(moved) == before


def test_nothing_is_written_through_a_lib64_that_leads_elsewhere(conda: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (conda / "lib64").symlink_to(outside)
    before, environ = snapshot(conda), {"CUDA_HOME": str(conda)}
    ran = program("fix", "--prefix", str(conda), "--no-config", "--apply", *LINKS, **environ)
    assert ran.returncode in (0, 1) and ran.stderr == ""
    assert [*outside.iterdir()] == [] and os.readlink(conda / "lib64") == str(outside)
    if "undo with" in ran.stdout:
        undone(conda, **environ)
    assert snapshot(conda) == before


@pytest.mark.parametrize("value", [None, "/mine"])
def test_cpath_is_exported_behind_what_it_has_and_without_an_empty_entry(
    conda: Path, gxx: str, value: str | None
) -> None:
    (conda / "include").mkdir()  # as with every Python that conda brings: no link can be made
    environ = {"CUDA_HOME": str(conda)} | ({"CPATH": value} if value else {})
    before = snapshot(conda)
    fixed(conda, "cuda-headers-missing", **environ)
    script = conda / "etc/conda/activate.d/cudadoctor.sh"
    end = conda / "etc/conda/deactivate.d/cudadoctor.sh"
    ask = f'. "{script}"; echo "$CPATH"; . "{end}"; echo "${{CPATH-unset}}"'
    command = ["bash", "--norc", "-c", ask]
    shown = subprocess.run(
        command, capture_output=True, text=True, env=clean(**environ, CONDA_PREFIX=str(conda))
    )
    headers = f"{conda}/targets/x86_64-linux/include"
    assert shown.stderr == ""
    assert shown.stdout.splitlines() == [f"{value}:{headers}" if value else headers, value or "unset"]
    undone(conda, **environ)
    assert snapshot(conda) == before


# --- what is predicted is what is found ---------------------------------------------------------------------


def test_an_empty_entry_of_library_path_is_taken_out(conda: Path, gxx: str) -> None:
    environ = {"CUDA_HOME": str(conda), "CONDA_PREFIX": str(conda), "LIBRARY_PATH": f"{conda}/lib::"}
    environ["PATH"] = f"{conda}/bin:{os.environ['PATH']}"
    gap = check(conda, **environ)["library-path-gap"]
    assert gap["outcome"] == "failed"
    before = snapshot(conda)
    fixed(conda, "library-path-gap", **environ)
    undone(conda, **environ)
    assert snapshot(conda) == before


def test_a_stub_on_ld_library_path_is_taken_out(conda: Path) -> None:
    stubs = next(path.parent for path in conda.rglob("stubs/libcuda.so"))
    environ = {"CUDA_HOME": str(conda), "CONDA_PREFIX": str(conda), "LD_LIBRARY_PATH": f"/opt/x:{stubs}"}
    environ["PATH"] = f"{conda}/bin:{os.environ['PATH']}"
    assert check(conda, **environ)["stub-on-loader-path"]["outcome"] == "failed"
    before = snapshot(conda)
    assert fixed(conda, "stub-on-loader-path", **environ)["cleared"] == ["stub-on-loader-path"]
    printed = program("env", "--prefix", str(conda), "--no-config", **environ).stdout
    assert "export LD_LIBRARY_PATH='/opt/x'\n" in printed
    undone(conda, **environ)
    assert snapshot(conda) == before


def test_an_operator_set_up_for_another_toolkit_is_moved_aside_and_back(
    pip_cu12: Path, conda_prefix_of: Any, tmp_path: Path
) -> None:
    toolkit = conda_prefix_of("cudart12")
    (toolkit / "bin").mkdir(exist_ok=True)
    (toolkit / "bin/nvcc").write_text("#!/bin/sh\n")
    (toolkit / "bin/nvcc").chmod(0o755)
    base = tmp_path / "base"
    operator = base / ".cache/flashinfer/0.5.3/86/cached_ops/silu_and_mul"
    operator.mkdir(parents=True)
    (operator / "build.ninja").write_text(BUILD)
    environ = {"CUDA_HOME": str(toolkit), "FLASHINFER_WORKSPACE_BASE": str(base)}
    environ |= {"VIRTUAL_ENV": str(pip_cu12), "PATH": f"{pip_cu12}/bin:/usr/bin:/bin"}
    assert check(pip_cu12, **environ)["flashinfer-build-stale"]["outcome"] == "failed"
    before = snapshot(base)
    fixed(pip_cu12, "flashinfer-build-stale", **environ)
    assert not operator.exists()
    undone(pip_cu12, **environ)
    assert snapshot(base) == before


BUILD = """\
ninja_required_version = 1.3
name = silu_and_mul
cuda_home = /usr/local/cuda-gone
cxx = c++
nvcc = $cuda_home/bin/nvcc

common_cflags = $
    -DTORCH_EXTENSION_NAME=$name
cflags = $
    $common_cflags $
    -fPIC
post_cflags =
cuda_cflags = $
    $common_cflags
cuda_post_cflags =
ldflags = $
    -shared $
    -L$cuda_home/lib64 $
    -L$cuda_home/lib64/stubs $
    -lcudart $
    -lcuda

rule compile
  command = $cxx -MMD -MF $out.d $cflags -c $in -o $out $post_cflags
  depfile = $out.d
  deps = gcc

rule link
  command = $cxx $in $ldflags -o $out

build silu_and_mul/silu_and_mul.so: link silu_and_mul/x.o
default silu_and_mul/silu_and_mul.so
"""


def test_the_lock_of_a_killed_build_is_moved_aside_and_back(conda: Path, tmp_path: Path) -> None:
    extensions = tmp_path / "extensions"
    (extensions / "mine").mkdir(parents=True)
    (extensions / "mine/lock").touch()
    environ = {"CUDA_HOME": str(conda), "TORCH_EXTENSIONS_DIR": str(extensions)}
    found = check(conda, **environ)["build-lock-stale"]
    if found["outcome"] == "inconclusive":
        pytest.skip(f"this machine leaves doubt: {found['reason']}")
    assert found["outcome"] == "failed"
    before = snapshot(extensions)
    assert fixed(conda, "build-lock-stale", **environ)["cleared"] == ["build-lock-stale"]
    assert not (extensions / "mine/lock").exists()
    undone(conda, **environ)
    assert snapshot(extensions) == before


def test_a_planted_torch_of_another_release_changes_nothing_that_fix_promises(
    conda_mixed: Path, gxx: str
) -> None:
    plant_torch(conda_mixed, "2.9.0+cu128", "12.8")
    plant_distribution(conda_mixed, "flashinfer-python", "0.5.3")
    environ = {"CUDA_HOME": str(conda_mixed)}
    before = snapshot(conda_mixed)
    fixed(conda_mixed, **environ)
    undone(conda_mixed, **environ)
    assert snapshot(conda_mixed) == before
