"""Facts are collected side by side: what hangs or fails keeps none of the others from being told."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from cudadoctor import engine
from cudadoctor.declare import check
from cudadoctor.engine import collect, everything, examine
from cudadoctor.facts import Driver, Facts, Launch, Packages, Unknown
from cudadoctor.findings import Finding, Severity
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Failed, Skipped
from cudadoctor.probes.target import Request
from tests.checks.gpus import driver

FOUND = Finding("it is broken", Severity.ERROR, ())


@pytest.fixture
def prefix(tmp_path: Path) -> Iterator[Path]:
    """Return a venv with one package."""
    site = tmp_path / "lib/python3.12/site-packages"
    (site / "torch-2.9.0.dist-info").mkdir(parents=True)
    (site / "torch-2.9.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n"
    )
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.4\n")
    yield tmp_path


def seen(host: RealHost, prefix: Path) -> tuple[Facts, list[list[str]]]:
    """Return the facts, and what was still missing each time that the user was told to wait."""
    told: list[list[str]] = []
    return collect(host, everything(), Request(str(prefix), "", "", False), told.append), told


def unknown(facts: Facts) -> dict[str, str]:
    """Return the sections that could not be had, with the reason, but those of --deep."""
    sections = {name: getattr(facts, name) for name in everything()}
    return {name: section.reason for name, section in sections.items() if isinstance(section, Unknown)}


def test_a_folder_that_does_not_answer_hides_only_what_builds_on_it(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    class Hangs(RealHost):
        def list(self, path: str) -> list[str]:
            if path.endswith("site-packages"):
                gone.wait()
            return super().list(path)

    monkeypatch.setattr(engine, "TIMEOUT_S", 6.0)
    try:
        facts, told = seen(Hangs({"PATH": "/usr/bin:/bin", "HOME": str(prefix)}), prefix)
    finally:
        gone.set()
    reasons = unknown(facts)
    assert "did not end in time" in reasons["packages"]
    builds_on_it = {"packages"}
    for name, needs in engine.PROBES.items():
        if name not in engine.DEEP and not builds_on_it.isdisjoint(needs):
            builds_on_it.add(name)
    assert reasons.keys() == builds_on_it
    assert told and all("packages" in missing for missing in told)


def test_a_probe_that_fails_hides_only_what_builds_on_it(prefix: Path) -> None:
    class Fails(RealHost):
        def cores(self) -> int:
            raise RuntimeError("no such number")

    facts, _ = seen(Fails({"PATH": "/usr/bin:/bin", "HOME": str(prefix)}), prefix)
    reasons = unknown(facts)
    assert "no such number" in reasons["machine"] and "packages" not in reasons
    assert isinstance(facts.machine, Unknown) and facts.machine.crashed


def test_probes_of_files_take_turns_in_the_order_that_they_build_on_each_other(prefix: Path) -> None:
    threads: dict[str, set[int]] = {}

    class Notes(RealHost):
        def list(self, path: str) -> list[str]:
            threads.setdefault("site-packages", set()).add(threading.get_ident())
            return super().list(path)

        def memory(self) -> object:  # type: ignore[override]
            threads.setdefault("memory", set()).add(threading.get_ident())
            return super().memory()

    seen(Notes({"PATH": "/nowhere", "HOME": str(prefix)}), prefix)
    assert len(threads["memory"]) == 1 and threads["memory"] <= threads["site-packages"]


def test_a_late_probe_does_not_change_what_others_have_read() -> None:
    """It has seen that its cell is empty, and is held up before it fills it: meanwhile the time is over."""
    cell, looked, go_on = engine._Cell(), threading.Event(), threading.Event()

    class Slow(threading.Event):
        def is_set(self) -> bool:
            known = super().is_set()
            if threading.current_thread() is late:
                looked.set()
                go_on.wait(0.2)
            return known

    cell.ready = Slow()
    late = threading.Thread(target=cell.put, args=("the section",))
    late.start()
    looked.wait(5)
    cell.put("did not end in time")
    read = cell.section
    go_on.set()
    late.join()
    assert cell.section == read


def test_in_a_container_only_what_it_shares_with_this_machine_is_judged() -> None:
    @check
    def of_the_environment(packages: Packages) -> Iterator[Finding]:
        """Find something in the environment."""
        yield FOUND

    @check
    def of_the_driver(driver: Driver, packages: Packages) -> Iterator[Finding]:
        """Find something about the driver."""
        yield FOUND

    @check
    def of_the_launch(launch: Launch) -> Iterator[Finding]:
        """Find something in the launch."""
        yield FOUND

    @check
    def of_both(packages: Packages, launch: Launch | None = None) -> Iterator[Finding]:
        """Find something in the environment, which a launch may change."""
        yield FOUND

    checks = [of_the_environment, of_the_driver, of_the_launch, of_both]
    launch = Launch("vllm-serve", ("vllm", "serve"), "command line", {}, {}, {}, image="vllm/vllm-openai")
    facts = Facts(packages=Packages(()), driver=driver(), launch=launch)
    inside = [type(each) for each in examine(facts, checks)]
    assert inside == [Skipped, Failed, Failed, Skipped]
    outside = structs.replace(facts, launch=structs.replace(launch, image=""))
    assert [type(each) for each in examine(outside, checks)] == [Failed] * 4
