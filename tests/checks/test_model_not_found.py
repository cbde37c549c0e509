from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Flaw, HubAnswer, Model, Token, Unknown, Variable
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import judged, launch, model

NAME = "model-not-found"
HUB = "https://hub.example"
ASKED = "Qwen/Qwen2.5-32B-Instruct-AWQ"


def absent(ended: str = "", status: int = 0, **more: Any) -> Model:
    online = HubAnswer(ended, HUB, status) if ended else None  # type: ignore[arg-type]
    reason = f"/hub has no models--{ASKED.replace('/', '--')}"
    changes = {"state": "absent", "path": "", "cache": "/hub", "reason": reason, "online": online, **more}
    return structs.replace(model(None, gib=None), **changes)


def look(seen: Model) -> Outcome:
    return judged(NAME, launch(), seen)


def test_reports_a_path_that_leads_nowhere() -> None:
    finding = one(look(absent(cache="", reason="no folder is at /x", similar=("/y",))), Severity.ERROR)
    assert finding.summary == "no folder is at /x" and finding.remedies[0].summary == "/y   # is here"


def test_reports_a_folder_without_a_config() -> None:
    flaw = Flaw("/models/it/config.json", "missing")
    finding = one(look(structs.replace(model(None), config_flaw=flaw)), Severity.ERROR)
    assert finding.summary == "/models/it has no config.json: it is no folder of a model"


def test_a_config_that_is_damaged_is_not_missing() -> None:
    flaw = Flaw("/models/it/config.json", "garbled")
    assert isinstance(look(structs.replace(model(None), config_flaw=flaw)), Passed)


def test_reports_a_model_that_may_not_be_downloaded() -> None:
    held = {"HF_HUB_OFFLINE": Variable("1", "start.sh:3")}
    seen = absent(offline="HF_HUB_OFFLINE", similar=("Qwen/Qwen2.5-7B-Instruct-AWQ",))
    finding = one(judged(NAME, structs.replace(launch(), variables=held), seen), Severity.ERROR)
    assert finding.summary == f"{ASKED} is not in the cache, and HF_HUB_OFFLINE forbids to download it"
    assert "start.sh:3: nothing is downloaded" in shown(finding)
    assert "/hub: has no models--Qwen--Qwen2.5-32B-Instruct-AWQ" in shown(finding)
    first = finding.remedies[0]
    assert first.summary.startswith("Qwen/Qwen2.5-7B-Instruct-AWQ")
    assert first.instead[0].summary == f"HF_HUB_OFFLINE=0 hf download {ASKED} --cache-dir /hub"


def test_reports_a_name_that_the_hub_does_not_know() -> None:
    finding = one(look(absent("absent", 404)), Severity.ERROR)
    assert finding.summary == f"the hub has no model called {ASKED}"
    assert f"{HUB}/{ASKED}: answers 404" in shown(finding)
    revision = one(look(absent("no-revision", 404, revision="v2")), Severity.ERROR)
    assert revision.summary.endswith("has no revision v2")


def test_a_name_that_is_refused_and_much_like_a_cached_one_is_likely_misspelt() -> None:
    finding = one(look(absent("refused", 401, similar=("Qwen/Qwen2.5-7B",))), Severity.ERROR)
    assert finding.summary.endswith("it is private or gated, or misspelt")
    assert finding.remedies[0].summary.startswith("Qwen/Qwen2.5-7B ")


def test_leaves_what_a_token_may_cure_to_hub_token_missing() -> None:
    assert isinstance(look(absent("refused", 401)), Passed)
    assert isinstance(look(absent("gated", 401)), Passed)
    assert isinstance(look(absent("refused", 403, similar=("x/y",), token=Token("HF_TOKEN"))), Passed)


@pytest.mark.parametrize("ended", ["unreachable", "broken", "not-installed", "no-config"])
def test_what_the_hub_did_not_say_is_not_judged(ended: str) -> None:
    assert isinstance(look(absent(ended)), Inconclusive)


def test_what_is_in_the_container_is_not_judged() -> None:
    assert isinstance(look(absent(state="elsewhere")), Inconclusive)


def test_is_silent_when_it_is_here_or_will_be_downloaded() -> None:
    assert isinstance(look(model()), Passed)
    assert isinstance(look(absent()), Passed) and isinstance(look(absent("found", 200)), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
