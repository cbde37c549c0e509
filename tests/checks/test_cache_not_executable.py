"""File systems from which nothing can be loaded."""

from cudadoctor.facts import Storage, StoragePlace, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .storing import SPARES, place, storage


def look(*changed: StoragePlace) -> Outcome:
    return judge("cache-not-executable", storage=storage(*changed))


def test_is_silent_where_libraries_can_be_loaded() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_without_the_stack() -> None:
    assert isinstance(judge("cache-not-executable", storage=Storage(())), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(judge("cache-not-executable", storage=Unknown("timed out")), Inconclusive)


def test_what_torch_compile_makes_in_tmp_cannot_be_loaded() -> None:
    finding = one(look(place("torchinductor", no_exec=True, nearest="/tmp", device=3)), Severity.WARNING)
    assert finding.summary == "torch.compile can load nothing that it compiles: /tmp is mounted noexec"
    assert finding.remedies[0].values == {"TORCHINDUCTOR_CACHE_DIR": "/opt/env/var/cache/torchinductor"}


def test_flashinfers_operators_are_an_error() -> None:
    finding = one(look(place("flashinfer", no_exec=True), place("triton", no_exec=True)), Severity.ERROR)
    assert "Triton" in shown(finding)


def test_models_and_temporary_files_need_no_such_thing() -> None:
    assert isinstance(look(place("hf-hub", no_exec=True), place("temporary", no_exec=True)), Passed)


def test_without_another_place_the_mount_is_to_be_changed() -> None:
    told = storage(place("flashinfer", no_exec=True, device=2), spares=SPARES[:1])
    (remedy,) = one(judge("cache-not-executable", storage=told)).remedies
    assert remedy.fix == "show" and remedy.summary.startswith("sudo mount -o remount,exec ")


def test_a_folder_with_a_command_in_its_name_starts_none() -> None:
    told = storage(place("flashinfer", no_exec=True, device=2, nearest="/a b;x"), spares=SPARES[:1])
    (remedy,) = one(judge("cache-not-executable", storage=told)).remedies
    assert "-T '/a b;x')\"" in remedy.summary
