from msgspec.structs import replace

from cudadoctor.facts import Builds, Packages, SharedFile
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import SITE, one, packages, shown

NCCL = ("nvidia-nccl-cu12", "nvidia-nccl-cu13")
FILE = f"{SITE}/nvidia/nccl/lib/libnccl.so.2"


def installed() -> Packages:
    found = packages(nvidia_nccl_cu12="2.27.5", nvidia_nccl_cu13="2.28.9")
    requires = ("nvidia-nccl-cu12==2.27.5; platform_system == 'Linux'",)
    distributions = (replace(d, requires=requires) if d.name == "torch" else d for d in found.distributions)
    return replace(found, distributions=tuple(distributions))


def look(*files: SharedFile) -> Outcome:
    return judge("cuda-wheels-overwritten", packages=installed(), builds=Builds(shared_files=files))


def test_reports_a_library_that_another_major_s_wheel_has_overwritten() -> None:
    finding = one(look(SharedFile(FILE, NCCL, "nvidia-nccl-cu13")), Severity.WARNING)
    assert finding.summary == "nvidia-nccl-cu13 lies over nvidia-nccl-cu12, which torch needs"
    assert f"{FILE}: is of nvidia-nccl-cu13" in shown(finding)
    again = "pip install --force-reinstall --no-deps nvidia-nccl-cu12==2.27.5"
    assert finding.remedies[0].summary == f"pip uninstall -y nvidia-nccl-cu13 && {again}"


def test_is_a_note_where_torch_s_own_came_last() -> None:
    finding = one(look(SharedFile(FILE, NCCL, "nvidia-nccl-cu12")), Severity.NOTE)
    assert finding.summary == "uninstalling nvidia-nccl-cu13 would remove files of nvidia-nccl-cu12"


def test_is_silent_where_nobody_knows_whose_the_file_is() -> None:
    assert isinstance(look(SharedFile(FILE, NCCL, "")), Passed)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(look(), Passed)
    bare = judge("cuda-wheels-overwritten", packages=packages(torch=""), builds=Builds())
    assert isinstance(bare, Skipped)
