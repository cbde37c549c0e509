from typing import Any

from msgspec import structs

from cudadoctor.facts import Download, Flaw, Model, Quantization, Unknown, Weights
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import GIB, judged, launch, model

NAME = "model-incomplete"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
BLOB = "/hub/models--Q--m/blobs/11.incomplete"


def held(*flaws: Flaw, **more: Any) -> Model:
    """Return a model in a folder whose weights have these flaws."""
    weights = Weights(
        "safetensors", 12 * GIB, to_come_bytes=7 * GIB if flaws else 0, flaws=flaws, flawed=len(flaws)
    )
    return structs.replace(
        model(method=""), **{"weights": weights, "weights_path": "/models/it", "tokenizer": True, **more}
    )


def cached(*flaws: Flaw, **more: Any) -> Model:
    return held(*flaws, **{"state": "cached", "cache": "/hub", "source": "the default", **more})


def flaw(kind: str, name: str = SECOND, detail: str = "") -> Flaw:
    return Flaw(f"/models/it/{name}", kind, detail)  # type: ignore[arg-type]


def look(seen: Model, **options: Any) -> Outcome:
    return judged(NAME, launch(**options), seen)


def test_reports_a_shard_that_a_folder_does_not_have() -> None:
    finding = one(look(held(flaw("missing"))), Severity.ERROR)
    assert finding.summary.endswith(f"are not whole: {SECOND}: it is not there")
    assert SECOND in finding.remedies[0].summary


def test_says_that_vllm_does_not_miss_weights_that_are_quantised() -> None:
    awq = Quantization("awq", "config.json: quantization_config")
    assert "answers nonsense" in shown(one(look(held(flaw("missing"), quantization=awq))))
    assert "answers nonsense" not in shown(one(look(held(flaw("missing")))))
    assert "answers nonsense" not in shown(one(look(held(flaw("truncated"), quantization=awq))))


def test_many_files_are_one_finding() -> None:
    finding = one(look(held(*(flaw("empty", f"model-{at}.safetensors") for at in range(9)))))
    assert "9 files, model-0.safetensors the first" in finding.summary and "/models/it: 4 more" in shown(
        finding
    )


def test_what_the_hub_will_send_is_a_note() -> None:
    part = Download(BLOB, 300 << 20)
    finding = one(look(cached(flaw("missing"), incomplete=(part,))), Severity.NOTE)
    assert finding.summary.startswith("7.0 GiB of ") and "downloads them before it loads" in finding.summary
    assert f"{BLOB}: 300 MiB are there in part" in shown(finding)
    assert finding.remedies[0].summary.startswith("hf download Qwen/")
    running = one(look(cached(flaw("missing"), incomplete=(structs.replace(part, running=True),))))
    assert "a download of this model is running" in shown(running)


def test_weights_of_which_nothing_is_there_yet_are_a_note() -> None:
    finding = one(look(cached(weights=None)), Severity.NOTE)
    assert finding.summary.startswith("weights of ") and "/models/it: has no weights yet" in shown(finding)


def test_what_the_hub_may_not_send_is_an_error() -> None:
    finding = one(look(cached(flaw("broken-link"), offline="HF_HUB_OFFLINE")), Severity.ERROR)
    assert finding.remedies[0].summary.startswith("HF_HUB_OFFLINE=0 hf download ")
    assert f"--include {SECOND}" in finding.remedies[0].summary


def test_a_damaged_file_of_the_cache_is_never_sent_again() -> None:
    finding = one(look(cached(flaw("truncated"), flaw("missing", FIRST))), Severity.ERROR)
    removed = f'rm "$(readlink -f /models/it/{SECOND})" && hf download '
    assert finding.remedies[0].summary.startswith(removed) and FIRST not in shown(finding)


def test_a_pointer_of_git_lfs_is_told_with_its_command() -> None:
    finding = one(
        look(held(flaw("garbled", FIRST, "a pointer of git-lfs, without its file"))), Severity.ERROR
    )
    assert finding.remedies[0].summary == "git -C /models/it lfs pull"


def test_reports_a_config_that_is_no_json() -> None:
    bad = Flaw("/models/it/config.json", "garbled", "no JSON")
    finding = one(look(held(config=None, config_flaw=bad, weights=None)), Severity.ERROR)
    assert "config.json: it is damaged: no JSON" in shown(finding)


def test_reports_a_folder_without_weights() -> None:
    finding = one(look(held(weights=None)), Severity.ERROR)
    assert '"Cannot find any model weights"' in finding.summary
    assert isinstance(look(held(weights=None, weights_path="")), Passed)  # of a format that is not looked at


def test_reports_a_folder_without_a_tokenizer() -> None:
    assert one(look(held(tokenizer=False)), Severity.ERROR).summary.endswith("has no tokenizer")
    assert isinstance(look(held(tokenizer=False), tokenizer="Qwen/Qwen3-4B"), Passed)
    assert isinstance(look(held(tokenizer=False), skip_tokenizer_init=True), Passed)
    assert isinstance(look(cached(tokenizer=False)), Passed)  # it will be downloaded
    assert one(look(cached(tokenizer=False, offline="HF_HUB_OFFLINE")), Severity.ERROR)


def test_what_only_the_container_may_read_is_not_judged() -> None:
    inside = structs.replace(launch(), image="vllm/vllm-openai:latest")
    assert isinstance(judged(NAME, inside, held(flaw("unreadable"))), Inconclusive)
    assert one(look(held(flaw("unreadable"))), Severity.ERROR)


def test_is_silent_when_all_is_there() -> None:
    assert isinstance(look(held()), Passed) and isinstance(look(cached()), Passed)


def test_is_silent_when_the_model_is_not_here() -> None:
    for state in ("absent", "elsewhere", "gguf"):
        assert isinstance(look(held(state=state)), Skipped)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
