"""The memory benchmark on rows of our own making: whole ones, odd ones, and none."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.memory import cover, flags_of, main, shape_of

KEYS = {"cases", "tokens_median_error", "tokens_p95_error", "worst", "range_covers", "range_median_width"}
ROW: dict[str, Any] = {
    "id": "made", "model": "Qwen2.5-7B-Instruct-AWQ", "vllm": "0.12.0", "gpu": "RTX 3090 24GB",
    "gpu_total_gib": None, "outcome": "ok",
    "config": {
        "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "head_dim": 128,
        "hidden_size": 3584, "intermediate_size": 18944, "vocab_size": 152064,
    },
    "args": {"max_model_len": 4096, "gpu_memory_utilization": 0.9, "max_num_seqs": 16, "tp": 1},
    "log": {"available_kv_gib": 15.0, "kv_tokens": 280864, "max_concurrency": 68.57},
}  # fmt: skip


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *rows: object) -> dict[str, Any]:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    assert main([str(file)]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(summary) == KEYS
    return summary


def test_the_last_line_says_how_near_and_how_wide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = run(tmp_path, capsys, ROW)
    assert summary["cases"] == 1
    assert summary["worst"] < 0.001
    assert summary["range_covers"] == 1
    assert 0 < summary["range_median_width"] < 0.1


def test_a_wrong_figure_is_not_covered_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**ROW, "log": {"available_kv_gib": 3.0, "kv_tokens": 280864}}
    summary = run(tmp_path, capsys, wrong)
    assert summary["range_covers"] == 0
    assert summary["worst"] > 0.5


def test_odd_rows_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = [
        {}, {"id": 1}, {**ROW, "check": "skip"}, {**ROW, "config": {}}, {**ROW, "args": None, "log": None},
        {**ROW, "vllm": "dev"}, {**ROW, "config": {"num_hidden_layers": "many"}}, [], "text", 7,
        {**ROW, "args": {"tp": "two"}}, {**ROW, "gpu": None}, {**ROW, "log": {"available_kv_gib": "a few"}},
    ]  # fmt: skip
    summary = run(tmp_path, capsys, ROW, *odd)
    assert summary["cases"] == 1 + len(odd)
    assert summary["worst"] < 0.001


def test_a_broken_line_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"id": "cut o\n' + json.dumps(ROW) + "\n")
    assert main([str(file)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["cases"] == 2


def test_an_empty_file_has_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, capsys)["cases"] == 0


def test_weights_are_in_the_format_that_the_name_tells() -> None:
    assert flags_of(ROW).quantization == "awq_marlin"
    assert flags_of({**ROW, "model": "openai/gpt-oss-20b"}).quantization == "mxfp4"
    assert flags_of({**ROW, "model": "Qwen3-32B"}).quantization == ""


def test_counts_of_layers_become_kinds() -> None:
    config = {**ROW["config"], "n_full": 4, "n_sliding": 24, "sliding_window": 512}
    assert (shape_of({**ROW, "config": config}).full, shape_of({**ROW, "config": config}).sliding) == (4, 24)


def test_more_cache_than_the_budget_is_no_question() -> None:
    with pytest.raises(Exception, match="utilisation"):
        cover({**ROW, "log": {"available_kv_gib": 23.0}})


def test_a_missing_file_name_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
