from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Container, HubAnswer, Launch, Model, Note, Token, Unknown, Variable, Weights
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import environ, one, shown
from .launched import judged, launch, model

NAME = "hub-token-missing"
HUB = "https://hub.example"
EMPTY = Token(blank=("HF_TOKEN",), file="/home/ada/.cache/huggingface/token")
NONE, GIVEN = Token(), Token("HF_TOKEN")


def absent(token: Token = NONE, ended: str = "", **more: Any) -> Model:
    """Return a model that is to be downloaded, and what the hub said of it."""
    status = {"gated": 401, "refused": 401, "absent": 404, "found": 200}.get(ended, 0)
    online = HubAnswer(ended, HUB, status) if ended else None  # type: ignore[arg-type]
    changes = {"state": "absent", "cache": "/hub", "weights": None, "token": token, "online": online, **more}
    return structs.replace(model(None), **changes)


def look(seen: Model, given: Launch | None = None) -> Outcome:
    return judged(NAME, given or launch(), seen, environ=environ())


def composed() -> Launch:
    """Return a launch whose compose file gives HF_TOKEN=${HF_TOKEN}, which is set nowhere."""
    note = Note(
        "HF_TOKEN is not set: compose puts an empty text in its place", "compose.yaml:7", "variable-empty"
    )
    return structs.replace(
        launch(), container=Container("compose", "vllm/vllm-openai:latest"), notes=(note,),
        variables={"HF_TOKEN": Variable("", "compose.yaml:7")},
    )  # fmt: skip


def test_an_empty_token_is_a_warning_with_its_place() -> None:
    finding = one(look(absent(EMPTY), composed()), Severity.WARNING)
    assert finding.summary.startswith("HF_TOKEN is empty: the hub is asked for ")
    assert "compose.yaml:7: HF_TOKEN is empty: HF_TOKEN is not set: compose puts" in shown(finding)
    assert ".env" in finding.remedies[0].summary
    assert "HF_TOKEN: HF_TOKEN is empty" in shown(one(look(absent(EMPTY))))


def test_an_empty_token_for_a_gated_model_is_an_error() -> None:
    finding = one(look(absent(EMPTY, "gated"), composed()), Severity.ERROR)
    assert finding.summary.endswith("is gated, and the token is empty")
    assert f"accept the conditions at {HUB}/" in finding.remedies[0].instead[0].summary


def test_reports_a_gated_model_without_a_token() -> None:
    finding = one(look(absent(ended="gated")), Severity.ERROR)
    assert finding.summary.endswith("is gated, and no token is given") and "answers 401" in shown(finding)


def test_says_what_401_means() -> None:
    finding = one(look(absent(ended="refused")), Severity.ERROR)
    assert "is private or gated, or is no name that the hub knows" in finding.summary


def test_leaves_a_name_that_is_much_like_a_cached_one_to_model_not_found() -> None:
    assert isinstance(look(absent(ended="refused", similar=("Qwen/Qwen3-4B",))), Passed)


def test_reports_a_token_that_does_not_suffice() -> None:
    gated = one(look(absent(GIVEN, "gated")), Severity.ERROR)
    assert "has not accepted" in gated.summary and "HF_TOKEN: the token comes from here" in shown(gated)
    assert "has expired" in one(look(absent(GIVEN, "refused")), Severity.ERROR).summary


def test_a_blank_file_counts_as_an_empty_token() -> None:
    finding = one(look(absent(Token(blank=("/home/ada/token",)))), Severity.WARNING)
    assert finding.summary.startswith("token is empty") and "/home/ada/token: holds nothing" in shown(finding)


@pytest.mark.parametrize(
    "seen",
    [
        absent(),  # a public one, for all that is known
        absent(GIVEN),
        absent(structs.replace(GIVEN, blank=("HUGGING_FACE_HUB_TOKEN",))),
        absent(EMPTY, "found"),
        absent(EMPTY, "absent"),
        absent(EMPTY, state="cached", weights=Weights("safetensors", 1)),
    ],
)
def test_is_silent_when_no_token_is_needed(seen: Model) -> None:
    assert isinstance(look(seen), Passed)


def test_is_silent_when_nothing_is_asked_of_the_hub() -> None:
    assert isinstance(look(absent(EMPTY, offline="HF_HUB_OFFLINE")), Skipped)
    assert isinstance(look(structs.replace(model(), token=EMPTY)), Skipped)


def test_an_option_that_gives_a_token_leaves_it_open() -> None:
    assert isinstance(look(absent(ended="gated"), launch(hf_token="[secret]")), Inconclusive)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True), environ=environ()), Skipped)
    assert isinstance(look(model(), launch("other")), Skipped)
