"""Models that are not whole."""

import pytest
from msgspec import structs

from cudadoctor.facts import CachedModel, Download, Hub, Model, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown

ROOT = "/home/ada/.cache/huggingface/hub"
PART = Download(f"{ROOT}/models--Qwen--m/blobs/abc.incomplete", 3 << 30)
LINK = f"{ROOT}/models--Qwen--m/snapshots/r/model.safetensors"


def model(*incomplete: Download, broken: tuple[str, ...] = (), name: str = "Qwen/m") -> CachedModel:
    return CachedModel(name, f"{ROOT}/models--{name.replace('/', '--')}", incomplete, broken)


def look(*models: CachedModel, offline: str = "", complete: bool = True) -> Outcome:
    return judge("model-download-incomplete", hub=Hub(ROOT, "the default", 9, offline, models, complete))


def test_is_silent_when_every_model_is_whole() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_without_models_and_without_huggingface_hub() -> None:
    assert isinstance(judge("model-download-incomplete", hub=Hub()), Skipped)
    assert isinstance(judge("model-download-incomplete", hub=Hub(ROOT)), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(judge("model-download-incomplete", hub=Unknown("timed out")), Inconclusive)


def test_a_download_that_was_broken_off_is_a_note_on_and_off_the_network() -> None:
    for offline in ("", "HF_HUB_OFFLINE"):
        finding = one(look(model(PART), offline=offline), Severity.NOTE)
        assert finding.summary == "a model in the Hugging Face cache is not whole: Qwen/m"
    assert f"{PART.path}: one file in part, 3072 MiB, no download is running" in shown(finding)
    assert one(look(model(PART))).remedies[0].summary == "hf download Qwen/m"


@pytest.mark.parametrize("offline", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_download_is_let_through_where_a_variable_forbids_it(offline: str) -> None:
    remedy = one(look(model(PART), offline=offline)).remedies[0]
    assert remedy.summary == "HF_HUB_OFFLINE=0 hf download Qwen/m"


def test_more_than_was_looked_at_is_not_called_whole() -> None:
    assert isinstance(look(complete=False), Inconclusive)
    running = model(structs.replace(PART, running=True))
    assert isinstance(look(running, complete=False), Inconclusive)
    one(look(model(PART), complete=False), Severity.NOTE)


def test_a_link_that_leads_nowhere_is_a_warning_where_nothing_will_be_downloaded() -> None:
    one(look(model(broken=(LINK,))), Severity.NOTE)
    finding = one(look(model(broken=(LINK, LINK)), offline="HF_HUB_OFFLINE"), Severity.WARNING)
    assert f"{LINK}: 2 links lead to a blob that is not there" in shown(finding)
    assert "HF_HUB_OFFLINE: nothing will be downloaded" in shown(finding)


def test_is_silent_about_a_download_that_is_running() -> None:
    assert isinstance(look(model(structs.replace(PART, running=True), PART, broken=(LINK,))), Passed)


def test_many_models_are_one_finding() -> None:
    finding = one(look(*(model(PART, name=f"org/m{number}") for number in range(8))), Severity.NOTE)
    assert finding.summary.startswith("8 models") and finding.summary.endswith("org/m4 and 3 more")
    assert len(finding.evidence) == 5


def test_a_dataset_is_fetched_as_one() -> None:
    data = CachedModel("squad", f"{ROOT}/datasets--squad", (PART,))
    assert one(look(data)).remedies[0].summary == "hf download squad --repo-type dataset"


def test_of_the_model_that_is_launched_another_check_tells() -> None:
    hub = Hub(ROOT, "the default", 9, models=(model(PART), model(PART, name="Qwen/other")))
    launched = Model("Qwen/m", "cached", cache=ROOT)
    finding = one(judge("model-download-incomplete", hub=hub, model=launched))
    assert "Qwen/other" in finding.summary and "Qwen/m" not in finding.summary
    elsewhere = structs.replace(launched, cache="/other")
    assert "2 models" in one(judge("model-download-incomplete", hub=hub, model=elsewhere)).summary
