"""A conda environment's own records, whole and damaged."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from cudadoctor.facts import Conda, Target
from cudadoctor.host import RealHost
from cudadoctor.probes.conda import probe
from cudadoctor.testing import FakeHost, Link, Special

META = "/c/conda-meta"


def target(prefix: str = "/c") -> Target:
    return Target(prefix, "conda", "", "", prefix, (), "", "--prefix", True)


def record(name: str, version: str, build: str = "0", **more: object) -> str:
    return json.dumps(
        {"name": name, "version": version, "build": build, "channel": "conda-forge/linux-64", **more}
    )


def seen(files: Mapping[str, object]) -> Conda:
    return probe(FakeHost(files), target())


def test_an_environment_of_another_kind_has_no_records() -> None:
    assert seen({"/c/bin/": ""}) == Conda("")
    assert seen({META: "a file"}) == Conda("")


def test_records_of_cuda_and_compilers_are_read_and_the_others_counted() -> None:
    names = ["cuda-version-12.8-h5d125a7_3", "cuda-cudart-dev-12.8.90-0", "python-3.12.4-h1_0", "zlib-1.3-h2"]
    files: dict[str, object] = {f"{META}/history": "", f"{META}/pixi": "{}"}
    for name in names:
        project, version, build = name.rsplit("-", 2)
        files[f"{META}/{name}.json"] = record(
            project, version, build, paths_data={"paths": [{"sha256": "0" * 64}]}
        )
    conda = seen(files)
    assert [r.name for r in conda.records] == ["cuda-cudart-dev", "cuda-version", "python"]
    assert (conda.prefix, conda.count, conda.cuda_version) == ("/c", 4, "12.8")
    found = conda.find("cuda-cudart-dev")
    assert found is not None and (found.version, found.channel) == ("12.8.90", "conda-forge/linux-64")


def test_activation_scripts_are_listed_in_their_order() -> None:
    folder = "/c/etc/conda/activate.d"
    files = {f"{META}/history": "", f"{folder}/b.sh": "", f"{folder}/a.sh": "", f"{folder}/a.fish": ""}
    assert seen(files).activation == (f"{folder}/a.sh", f"{folder}/b.sh")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"\0\0\0", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"null", "damaged"),
        (b'{"name": "cuda-nvcc"}', "damaged"),
        (b'{"name": 3, "version": "12"}', "damaged"),
        (b'{"name": "\xff", "version": "12"}', "damaged"),
        (b'{"name": "cuda-nvcc", "version": "12", "x": ' + b"[" * 200_000, "damaged"),
        (b" " * (17 << 20), "larger than 16 MiB"),
        (Special(), "not a regular file"),
        (Link("gone"), "No such file"),
        (Link("cuda-nvcc-12.8.93-hcd2ec93_1.json"), "symbolic links"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_a_damaged_record_is_known_by_its_file_s_name(content: object, says: str) -> None:
    (found,) = seen({f"{META}/cuda-nvcc-12.8.93-hcd2ec93_1.json": content}).records
    assert (found.name, found.version, found.build) == ("cuda-nvcc", "12.8.93", "hcd2ec93_1")
    assert says in found.problem and "\n" not in found.problem


@pytest.mark.parametrize(
    "name", ["cuda.json", "cuda-1.json", "cuda-.json", "cuda---.json", "cuda-a-b-c-d.json"]
)
def test_names_that_are_none_do_no_harm(name: str) -> None:
    assert seen({f"{META}/{name}": "{"}).count == 1


@pytest.mark.parametrize("channel", [None, {"name": "x"}, ["a"], 3])
def test_a_channel_may_be_anything(channel: object) -> None:
    files = {f"{META}/cuda-version-12.8-0.json": record("cuda-version", "12.8", channel=channel)}
    assert seen(files).cuda_version == "12.8"


def test_a_damaged_cuda_version_is_not_a_version() -> None:
    assert seen({f"{META}/cuda-version-12.8-0.json": "{"}).cuda_version == ""


def test_six_hundred_records_cost_little_more_than_their_share(tmp_path: Path) -> None:
    def fill(name: str, count: int) -> Target:
        meta = tmp_path / name / "conda-meta"
        meta.mkdir(parents=True)
        paths = [{"_path": f"lib/file{number}", "sha256": "0" * 64} for number in range(200)]
        for number in range(count):
            project = f"cuda-part{number}" if number % 10 == 0 else f"thing{number}"
            (meta / f"{project}-1.0-0.json").write_text(record(project, "1.0", paths_data={"paths": paths}))
        return target(str(tmp_path / name))

    def cost(target: Target) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            assert probe(RealHost(), target).records
            times.append(time.perf_counter() - started)
        return min(times)

    small, large = cost(fill("small", 170)), cost(fill("large", 600))
    assert large < 4 * small + 0.001
