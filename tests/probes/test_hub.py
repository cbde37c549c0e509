"""The Hugging Face cache, in the layout that huggingface_hub leaves behind."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import Distribution, Environ, Hub, Machine, Packages, Target, Variable
from cudadoctor.host import Host, RealHost
from cudadoctor.probes.hub import probe
from cudadoctor.testing import FakeHost, Link

HOME, SITE = "/home/ada", "/v/lib/python3.12/site-packages"
HUB = f"{HOME}/.cache/huggingface/hub"
MODEL = f"{HUB}/models--Qwen--Qwen2.5-7B"
REVISION = f"{MODEL}/snapshots/a09a"
WHOLE: dict[str, object] = {
    f"{MODEL}/blobs/abc": b"weights",
    f"{MODEL}/refs/main": b"a09a",
    f"{REVISION}/model.safetensors": Link("../../blobs/abc"),
    f"{HUB}/.locks/models--Qwen--Qwen2.5-7B/abc.lock": b"",
    f"{HUB}/version.txt": b"1",
}


def look(host: Host, installed: bool = True, home: str = HOME, **variables: str) -> Hub:
    held = {name: Variable(value, "environment") for name, value in variables.items()}
    return probe(
        host,
        Target("/v", "venv", "/v/bin/python", "3.12", "/usr", (SITE,), "", "--prefix", True),
        Environ(held, "the current variables", (), "/here"),
        Packages((Distribution("huggingface-hub", "0.36.2", SITE),) if installed else ()),
        Machine("x86_64", "Linux", "Debian", "6.1", 8, 1 << 34, 1 << 34, 8192, None, home=home),
    )


def seen(files: Mapping[str, object], **variables: Any) -> Hub:
    return look(FakeHost(files, {"SCRATCH": "/scratch"}), **variables)


def test_a_model_that_is_whole_is_only_counted() -> None:
    assert seen(WHOLE) == Hub(HUB, "the default", 1)


def test_without_huggingface_hub_nothing_is_looked_at() -> None:
    assert look(FakeHost(WHOLE), installed=False) == Hub()


def test_without_a_cache_there_is_no_model() -> None:
    assert seen({}).count == 0


def test_a_download_that_was_broken_off_is_told() -> None:
    (model,) = seen({**WHOLE, f"{MODEL}/blobs/def.incomplete": b"123"}).models
    assert model.name == "Qwen/Qwen2.5-7B"
    (file,) = model.incomplete
    assert (file.path, file.size_bytes, file.running) == (f"{MODEL}/blobs/def.incomplete", 3, False)


@pytest.mark.parametrize("name", ["def.incomplete", "def.1a2b3c4d.incomplete"])
def test_what_has_come_whole_meanwhile_is_none(name: str) -> None:
    assert seen({**WHOLE, f"{MODEL}/blobs/{name}": b"", f"{MODEL}/blobs/def": b"x"}).models == ()


def test_a_download_that_runs_holds_its_lock(tmp_path: Path) -> None:
    hub = tmp_path / ".cache/huggingface/hub"
    (hub / "models--org--m/blobs").mkdir(parents=True)
    (hub / "models--org--m/blobs/abc.incomplete").write_bytes(b"12")
    (hub / ".locks/models--org--m").mkdir(parents=True)
    (hub / ".locks/models--org--m/abc.lock").touch()
    with open(hub / ".locks/models--org--m/abc.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look(RealHost({}), home=str(tmp_path)).models[0].incomplete[0].running
    assert not look(RealHost({}), home=str(tmp_path)).models[0].incomplete[0].running


def test_links_that_lead_nowhere_are_told_also_in_a_folder() -> None:
    files = {
        **WHOLE,
        f"{REVISION}/config.json": Link("../../blobs/gone"),
        f"{REVISION}/onnx/model.onnx": Link("../../../blobs/gone"),
        f"{REVISION}/a/b/c/vae.bin": Link("../../../../../blobs/gone"),
        f"{REVISION}/a-real-file": b"",
    }
    (model,) = seen(files).models
    assert model.broken == (
        f"{REVISION}/config.json",
        f"{REVISION}/onnx/model.onnx",
        f"{REVISION}/a/b/c/vae.bin",
    )


def test_datasets_have_names_too() -> None:
    files = {f"{HUB}/datasets--squad/blobs/a.incomplete": b""}
    assert seen(files).models[0].name == "squad"


@pytest.mark.parametrize(
    ("variables", "path", "source"),
    [
        ({"HF_HUB_CACHE": "~/x"}, f"{HOME}/x", "HF_HUB_CACHE"),
        ({"HF_HUB_CACHE": "$SCRATCH/x/"}, "/scratch/x", "HF_HUB_CACHE"),
        ({"HF_HUB_CACHE": "${UNSET}/x"}, "/here/${UNSET}/x", "HF_HUB_CACHE"),
        ({"HUGGINGFACE_HUB_CACHE": "/x", "HF_HOME": "/y"}, "/x", "HUGGINGFACE_HUB_CACHE"),
        ({"HF_HOME": "/y"}, "/y/hub", "HF_HOME"),
        ({"XDG_CACHE_HOME": "/z"}, "/z/huggingface/hub", "the default"),
    ],
)
def test_variables_move_it(variables: dict[str, str], path: str, source: str) -> None:
    found = seen({}, **variables)
    assert (found.path, found.source) == (path, source)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "yes", "TRANSFORMERS_OFFLINE": "0"}, "HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "True"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, ""),
        ({}, ""),
    ],
)
def test_the_variable_that_forbids_downloads_is_told(variables: dict[str, str], told: str) -> None:
    assert seen({}, **variables).offline == told


class Counting(FakeHost):
    """Counts what is asked of one entry; listing a folder is one question, whatever it holds."""

    asked = 0

    def kind(self, path: str, follow: bool = True) -> str:
        self.asked += 1
        return super().kind(path, follow)

    def list(self, path: str) -> list[str]:
        self.asked += 1
        return super().list(path)

    def size(self, path: str) -> int:
        self.asked += 1
        return super().size(path)

    def locked(self, path: str) -> bool:
        self.asked += 1
        return super().locked(path)


def test_a_huge_cache_is_not_walked_to_its_end() -> None:
    files = {f"{HUB}/models--o--m{n}/snapshots/r/{f}": b"" for n in range(40) for f in range(100)}
    host = Counting(files)
    assert not look(host).complete
    assert host.asked < 7_000


def test_a_snapshot_s_names_may_be_anything(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/.cache/huggingface/hub/models--\xe9--m/snapshots/r"
    os.makedirs(folder)
    os.symlink(b"nowhere\xff", folder + b"/\xff")
    (model,) = look(RealHost({}), home=str(tmp_path)).models
    assert len(model.broken) == 1


@pytest.mark.parametrize(
    "entries",
    [
        [f"blobs/{n:x}.incomplete" for n in range(15_000)],
        [f"snapshots/{n}/" for n in range(15_000)],
        [f"snapshots/r/{n}/" for n in range(15_000)],
    ],
)
def test_neither_downloads_nor_revisions_nor_folders_without_end_are_all_looked_at(
    entries: list[str],
) -> None:
    host = Counting(
        {f"{MODEL}/{entry}": b"" for entry in entries if not entry.endswith("/")}
        | {f"{MODEL}/{entry}x": b"" for entry in entries if entry.endswith("/")}
    )
    assert not look(host).complete
    assert host.asked < 7_000, "two questions for an entry at most"


def test_what_was_found_before_the_budget_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cudadoctor.probes.hub._LOOK_ENTRIES", 4)
    found = seen({f"{MODEL}/blobs/{n}.incomplete": b"1" for n in range(9)})
    assert not found.complete and len(found.models[0].incomplete) == 3
