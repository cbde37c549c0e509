"""Where a launch's model is, what it says of itself, what is still to come: on real folders and caches."""

import errno
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cudadoctor.facts import Variable
from cudadoctor.facts.launch import Container, Mount
from cudadoctor.facts.model import Model
from cudadoctor.host import RealHost, Space
from cudadoctor.probes.architectures import registry
from cudadoctor.probes.model import decoded
from cudadoctor.probes.safetensors import survey
from cudadoctor.simulate.model_shape import read_shape
from cudadoctor.testing import FakeHost
from tests.probes.checkpoints import (
    AWQ,
    COMMIT,
    DEPLOYED,
    PLAIN,
    Home,
    cached,
    config,
    launch,
    shards,
    tensors,
)

NAME = "Qwen/Qwen3-32B-FP8"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# --- where it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_five_deployments_are_read_from_the_cache(home: Home, name: str) -> None:
    snapshot = cached(home.cache, name, DEPLOYED[name])
    total = shards(snapshot, [5 << 30, 1 << 30])
    model = home.model(name)
    assert (model.state, model.commit, model.path, model.source) == (
        "cached",
        COMMIT,
        str(snapshot),
        "the default",
    )
    assert (
        model.quantization
        and model.quantization.method == DEPLOYED[name]["quantization_config"]["quant_method"]
    )
    assert model.architectures == tuple(DEPLOYED[name]["architectures"])
    assert model.dtype == DEPLOYED[name]["torch_dtype"]
    assert model.weights and model.weights.tensor_bytes == total and model.room is None
    assert read_shape(model.config) == read_shape(DEPLOYED[name])


def test_a_local_folder_is_taken_before_a_name_of_the_hub(home: Home) -> None:
    cached(home.cache, NAME)
    config(home.path / NAME, {**PLAIN, "vocab_size": 7})
    model = home.model(NAME)
    assert model.state == "folder" and model.config and model.config["vocab_size"] == 7


def test_a_launch_without_a_model_has_none(home: Home) -> None:
    assert home.model("").state == "none"


def test_a_name_that_is_nowhere_is_absent_and_tells_what_is_like_it(home: Home) -> None:
    cached(home.cache, "Qwen/Qwen2.5-32B-Instruct-AWQ")
    cached(home.cache, "mistralai/Mistral-7B-v0.3")
    model = home.model("qwen/Qwen2.5-32B-Instruct-AWQ-4bit")
    assert model.state == "absent" and model.similar == ("Qwen/Qwen2.5-32B-Instruct-AWQ",)
    assert model.room and model.room.writable and model.room.folder == str(home.cache)
    assert home.model("TheBloke/Mistral-7B-v0.3").similar == ("mistralai/Mistral-7B-v0.3",)


def test_a_path_without_a_folder_is_told_from_a_name(home: Home) -> None:
    for name in ("/models/x", "./x", "a/b/c", "models--x", "x.git", "a b", "x" * 300, "a\0b", ""):
        model = home.model(name)
        assert model.state in ("absent", "none") and model.reason and model.room is None, name


@pytest.mark.parametrize(
    ("variables", "where", "source"),
    [
        ({}, ".cache/huggingface/hub", "the default"),
        ({"XDG_CACHE_HOME": "$HOME/xdg"}, "xdg/huggingface/hub", "the default"),
        ({"HF_HOME": "~/hf"}, "hf/hub", "HF_HOME"),
        ({"HF_HOME": "hf"}, "hf/hub", "HF_HOME"),
        ({"HF_HOME": "~/hf", "HUGGINGFACE_HUB_CACHE": "${HOME}/old"}, "old", "HUGGINGFACE_HUB_CACHE"),
        ({"HF_HOME": "h", "HUGGINGFACE_HUB_CACHE": "~/old", "HF_HUB_CACHE": "~/new"}, "new", "HF_HUB_CACHE"),
    ],
)  # fmt: skip
def test_the_cache_is_where_huggingface_hub_looks(
    home: Home, variables: dict[str, str], where: str, source: str
) -> None:
    cached(home.path / where, NAME)
    model = home.model(launch(NAME, variables))
    assert (model.state, model.source, model.cache) == ("cached", source, str(home.path / where))


def test_a_variable_of_the_command_goes_before_that_of_the_shell(home: Home) -> None:
    home.environ["HF_HOME"] = str(home.path / "shell")
    cached(home.path / "command/hub", NAME)
    assert home.model(NAME).state == "absent"
    assert home.model(launch(NAME, {"HF_HOME": str(home.path / "command")})).state == "cached"
    unset = structs.replace(launch(NAME), unset=("HF_HOME",))
    assert home.model(unset).cache == str(home.cache)


def test_a_revision_is_a_branch_or_a_commit(home: Home) -> None:
    cached(home.cache, NAME, {**PLAIN, "vocab_size": 1}, "b" * 40)
    cached(home.cache, NAME)
    (home.cache / "models--Qwen--Qwen3-32B-FP8/refs/old").write_text("b" * 40)
    for revision in ("old", "b" * 40):
        model = home.model(launch(NAME, revision=revision))
        assert model.commit == "b" * 40 and model.config and model.config["vocab_size"] == 1
    gone = home.model(launch(NAME, revision="nowhere"))
    assert gone.state == "absent" and "no snapshot of nowhere" in gone.reason
    assert home.model(launch(NAME, revision="../../..")).state == "absent"


def test_weights_are_kept_in_the_download_folder_and_the_config_in_the_cache(home: Home) -> None:
    snapshot = cached(home.cache, NAME)
    shards(snapshot, [100])
    shards(cached(home.path / "big", NAME), [5000, 7000])
    model = home.model(launch(NAME, download_dir="big"))
    assert model.path == str(snapshot) and model.weights and model.weights.tensor_bytes == 12000
    offline = home.model(launch(NAME, {"HF_HUB_OFFLINE": "1"}, download_dir="big"))
    assert offline.weights and offline.weights.tensor_bytes == 100 and offline.offline == "HF_HUB_OFFLINE"


def test_a_config_that_only_the_download_folder_has_is_read_and_it_says_so(home: Home) -> None:
    shards(cached(home.path / "big", NAME), [5000])
    model = home.model(launch(NAME, download_dir=str(home.path / "big")))
    assert (
        model.state == "cached" and model.source == "--download-dir" and "looks for it in" in model.notes[0]
    )


def test_what_is_not_modelled_is_said(home: Home) -> None:
    (home.path / "x.gguf").write_bytes(b"GGUF")
    (home.path / "y").write_bytes(b"GGUFxxxx")
    assert home.model("x.gguf").state == home.model("y").state == "gguf"
    assert home.model("unsloth/Qwen3-4B-GGUF:Q4_K_M").state == "gguf"
    assert home.model("s3://bucket/model").state == "elsewhere"
    scope = home.model(launch(NAME, {"VLLM_USE_MODELSCOPE": "True"}))
    assert scope.state == "elsewhere" and "ModelScope" in scope.reason
    cached(home.cache, NAME)
    assert "'tensorizer'" in home.model(launch(NAME, load_format="tensorizer")).notes[0]


def test_dummy_weights_need_no_files(home: Home) -> None:
    config(home.path / "m")
    assert home.model(launch("m", load_format="dummy")).weights is None


# --- a container --------------------------------------------------------------------------------------------


def contained(name: str, *mounts: Mount, **variables: str) -> Any:
    values = {key: Variable(value, "compose.yaml:3") for key, value in variables.items()}
    container = Container("compose", "vllm/vllm-openai:latest", mounts=mounts)
    return structs.replace(
        launch(name), container=container, variables=values, image="vllm/vllm-openai:latest"
    )


def test_a_mounted_cache_is_looked_into_where_it_is_mounted_from(home: Home) -> None:
    cached(home.path / "hf/hub", NAME)
    model = home.model(contained(NAME, Mount("./hf", "/root/.cache/huggingface")))
    assert model.state == "cached" and model.path.startswith(str(home.path / "hf/hub"))
    deeper = contained(NAME, Mount("/nowhere", "/root"), Mount("~/hf", "/root/.cache/huggingface/"))
    assert home.model(deeper).state == "cached"
    moved = contained(NAME, Mount(str(home.path / "hf/hub"), "/models"), HF_HUB_CACHE="/models")
    assert home.model(moved).state == "cached"


def test_a_cache_in_the_container_that_no_mount_shows_is_not_guessed_at(home: Home) -> None:
    cached(home.cache, NAME)
    for mounts in ((), (Mount("volume", "/root/.cache/huggingface"),)):
        model = home.model(contained(NAME, *mounts))
        assert model.state == "elsewhere" and "no mount shows it" in model.reason
    assert home.model(contained("/models/x")).state == "elsewhere"


def test_the_shells_variables_do_not_count_in_a_container(home: Home) -> None:
    home.environ["HF_TOKEN"] = "hf_secret"
    assert home.model(contained(NAME)).token.source == ""


def test_folders_that_may_have_been_meant_are_named(home: Home) -> None:
    config(home.path / "models/Qwen3-4B")
    (home.path / "models/Qwen3-4X").mkdir()
    assert home.model("./models/Qwen3-4b").similar == ("./models/Qwen3-4B",)
    assert home.model(str(home.path / "models")).similar == (str(home.path / "models/Qwen3-4B"),)
    snapshot = cached(home.cache, NAME)
    repository = snapshot.parent.parent
    model = home.model(str(repository))
    assert home.model("models").similar == ("models/Qwen3-4B",)
    assert model.similar == (str(snapshot),) and model.config_flaw and model.config_flaw.kind == "missing"


def test_a_folder_that_the_container_does_not_see_is_not_named(home: Home) -> None:
    config(home.path / "models/qwen")
    (home.path / "models/n").mkdir()
    all_of_it = contained("/models/n", Mount("./models", "/models"))
    assert home.model(all_of_it).similar == () and home.model(all_of_it).state == "folder"
    slip = contained("/models/qwem", Mount("./models", "/models"))
    assert home.model(slip).state == "absent" and home.model(slip).similar == ("/models/qwen",)
    alone = contained("/models/qwem", Mount("./models/n", "/models/qwem"))
    assert home.model(alone).similar == ()


def test_what_is_quantised_as_asked_may_have_been_meant(home: Home) -> None:
    config(home.path / "m")
    config(home.path / "m-AWQ", {**PLAIN, "quantization_config": AWQ})
    assert home.model(launch("./m", quantization="awq_marlin")).similar == ("./m-AWQ",)
    assert home.model(launch("./m-AWQ", quantization="awq")).similar == home.model("./m").similar == ()
    for name in ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B-AWQ", "Qwen/Qwen3-4B-FP8"):
        cached(home.cache, name)
    assert home.model(launch("Qwen/Qwen3-4B", quantization="awq")).similar == ("Qwen/Qwen3-4B-AWQ",)


# --- whether it can be written ------------------------------------------------------------------------------


def user(given: Any, name: str, engine: str = "compose") -> Any:
    changed = structs.replace(given.container, user=name, engine=engine)
    return structs.replace(given, container=changed)


def test_a_mounted_cache_is_written_by_the_containers_user(home: Home) -> None:
    folder = home.path / "hf/hub"
    folder.mkdir(parents=True)
    mine, group = folder.stat().st_uid, folder.stat().st_gid
    given = contained(NAME, Mount("./hf", "/hf"), HF_HOME="/hf")
    for mode, name, writable in (
        (0o755, "4321", False), (0o755, "4321:4321", False), (0o777, "4321", True), (0o755, str(mine), True),
        (0o775, f"4321:{group}", True), (0o755, f"4321:{group}", False), (0o775, "4321", None),
        (0o755, "0", True), (0o755, "root", True), (0o755, "", None), (0o755, "vllm", None),
    ):  # fmt: skip
        folder.chmod(mode)
        room = home.model(user(given, name)).room
        assert room and room.writable is writable, (oct(mode), name)
        assert bool(room.why) == (writable is False)
    folder.chmod(0o755)
    told = home.model(user(given, "4321")).room
    assert (
        told
        and told.detail == f"{folder} belongs to user {mine} (mode 0755), and the container's user is 4321"
    )


def test_a_mount_that_is_not_there_is_made_for_root(home: Home) -> None:
    given = contained(NAME, Mount("./new", "/hf"), HF_HOME="/hf")
    room = home.model(user(given, "4321")).room
    assert room and (room.writable, room.why) == (False, "made-for-root") and room.folder == str(home.path)
    podman = home.model(user(given, "4321", "podman")).room
    assert podman and podman.writable is None


def test_a_mount_may_be_read_only(home: Home) -> None:
    (home.path / "hf").mkdir()
    room = home.model(contained(NAME, Mount("./hf", "/hf", read_only=True), HF_HOME="/hf")).room
    assert room and (room.writable, room.why) == (False, "mounted-read-only")


def test_a_file_system_that_is_mounted_read_only_is_told(home: Home) -> None:
    home.given = FakeHost(
        {f"{home.cache}/": b""}, home=str(home.path), spaces={"/": Space(1, 5, read_only=True)}
    )
    room = home.model(NAME).room
    assert room and (room.writable, room.why, room.free_bytes) == (False, "read-only", 5)


def test_the_download_folder_is_written_to_even_where_all_is_there(home: Home) -> None:
    for cache in (home.cache, home.path / "big"):
        shards(cached(cache, NAME), [5000])
    assert home.model(NAME).room is None
    assert home.model(launch(NAME, download_dir="big")).room


# --- what it says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1]", "it holds no object"),
        (b"null", "it holds no object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b"\x00" * 64, "no JSON"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"a": NaN, "b": 1' + b"0" * 5_000_000 + b"}", "a number of 5000001 digits"),
        (b"<!DOCTYPE html><html>", "no JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "no JSON"),
    ],
)  # fmt: skip
def test_a_config_that_is_none_has_one_clear_reason(home: Home, content: bytes, why: str) -> None:
    config(home.path / "m")
    (home.path / "m/config.json").write_bytes(content)
    began = time.monotonic()
    model = home.model("m")
    assert time.monotonic() - began < 2
    assert model.config is None and why in model.reason and len(model.reason) < 400
    assert model.config_path.endswith("config.json")


def test_a_config_of_a_gigabyte_is_not_read(home: Home) -> None:
    os.truncate(config(home.path / "m") / "config.json", 1 << 30)
    assert "larger than 8 MiB" in home.model("m").reason


def test_a_config_that_is_a_fifo_a_folder_or_a_broken_link_is_said_so(home: Home) -> None:
    path = config(home.path / "m") / "config.json"
    path.unlink()
    assert "it is not there" in home.model("m").reason
    os.mkfifo(path)
    assert "not a regular file" in home.model("m").reason
    path.unlink()
    path.mkdir()
    assert "not a regular file" in home.model("m").reason
    path.rmdir()
    path.symlink_to("../../blobs/gone")
    assert "leads nowhere" in home.model("m").reason


def test_infinity_is_read_as_transformers_reads_it(home: Home) -> None:
    path = config(home.path / "m") / "config.json"
    path.write_text(json.dumps({**PLAIN, "time_step_limit": [0.0, float("inf")]}))
    assert home.model("m").config


def test_names_of_labels_are_left_out(home: Home) -> None:
    config(home.path / "m", {**PLAIN, "id2label": {str(at): "x" for at in range(1000)}})
    assert "id2label" not in (home.model("m").config or {})


def test_mistrals_own_params_alone_are_said_not_to_be_modelled(home: Home) -> None:
    config(home.path / "m")
    (home.path / "m/config.json").rename(home.path / "m/params.json")
    assert "params.json" in home.model("m").reason


def test_mistrals_own_params_beside_a_config_are_noted(home: Home) -> None:
    (config(home.path / "m") / "params.json").write_text("{}")
    model = home.model("m")
    assert model.config and "params.json" in model.notes[0]


def test_the_dtype_may_stand_in_the_nested_config_and_under_either_name(home: Home) -> None:
    nested = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"dtype": "bfloat16"}}
    config(home.path / "m", nested)
    assert home.model("m").dtype == "bfloat16"


def test_the_files_beside_the_config_are_noted(home: Home) -> None:
    config(home.path / "m")
    model = home.model("m")
    assert model.tokenizer is False and model.generation_config is False and model.weights is None
    (home.path / "m/tokenizer.json").write_text("{}")
    (home.path / "m/generation_config.json").write_text("{}")
    model = home.model("m")
    assert model.tokenizer is True and model.generation_config is True


@pytest.mark.parametrize(
    "name", ["tokenizer.model", "tiktoken.model", "vocab.txt", "qwen.tiktoken", "tokenization_kimi.py",
             "spiece.model", "sentencepiece.bpe.model", "tekken.json", "tokenizer_config.json"]
)  # fmt: skip
def test_a_tokenizer_has_many_names(home: Home, name: str) -> None:
    (config(home.path / "m") / name).write_text("")
    assert home.model("m").tokenizer is True


@pytest.mark.parametrize(("content", "kind"), [(b"", "empty"), (b"{", "garbled"), (None, "missing")])
def test_what_is_wrong_with_the_config_itself_is_told(home: Home, content: bytes | None, kind: str) -> None:
    path = config(home.path / "m") / "config.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    found = home.model("m").config_flaw
    assert found and (found.kind, found.path) == (kind, str(path))


def test_what_a_whole_repository_has_tells_that_all_of_it_was_fetched(home: Home) -> None:
    config(home.path / "m")
    assert not home.model("m").whole
    (home.path / "m/README.md").write_text("")
    assert home.model("m").whole


def test_what_would_be_downloaded_and_what_no_download_mends_are_told_apart(home: Home) -> None:
    snapshot = cached(home.cache, NAME)
    shards(snapshot, [5000, 6000, 7000])
    (snapshot / "model-00002-of-00003.safetensors").unlink()
    os.truncate(snapshot / "model-00003-of-00003.safetensors", 100)
    model, offline = home.model(NAME), home.model(launch(NAME, {"HF_HUB_OFFLINE": "1"}))
    assert [flaw.kind for flaw in model.staying] == ["truncated"] and model.may_download
    assert [flaw.kind for flaw in offline.staying] == ["missing", "truncated"]
    assert offline.to_come_bytes == 0 and model.to_come_bytes
    assert home.model("Qwen/Nowhere").to_come_bytes is None


def test_quantisation_may_be_stated_in_a_file_of_its_own(home: Home) -> None:
    config(home.path / "m")
    beside = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    (home.path / "m/hf_quant_config.json").write_text(json.dumps(beside))
    found = home.model("m").quantization
    assert found and (found.method, found.source) == ("modelopt_fp4", "hf_quant_config.json")


@pytest.mark.parametrize(
    ("content", "method", "source"),
    [
        ({"quantization_config": AWQ}, "awq", "quantization_config"),
        ({"compression_config": {"quant_method": "compressed_tensors"}}, "compressed-tensors", "compression"),
        ({"text_config": {"quantization_config": {"quant_method": "FP8"}}}, "fp8", "text_config.quant"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "modelopt_fp4", ""),
        ({"quantization_config": {"bits": 4}}, "", ""),
    ],
)  # fmt: skip
def test_quantisation_is_found_where_vllm_looks(
    home: Home, content: dict[str, Any], method: str, source: str
) -> None:
    config(home.path / "m", {**PLAIN, **content})
    found = home.model("m").quantization
    assert found and found.method == method and source in found.source


def test_lists_of_layers_are_left_out_of_the_quantisation(home: Home) -> None:
    config(home.path / "m", {**PLAIN, "quantization_config": {**AWQ, "modules_to_not_convert": ["x"] * 1000}})
    found = home.model("m").quantization
    assert found and found.config["modules_to_not_convert"] == "(1000 entries)" and found.config["bits"] == 4


# --- what is still to come ----------------------------------------------------------------------------------


def test_missing_shards_of_a_snapshot_are_to_come_and_need_room(home: Home) -> None:
    snapshot = cached(home.cache, NAME)
    shards(snapshot, [5 << 30, 7 << 30])
    (snapshot / "model-00002-of-00002.safetensors").unlink()
    model = home.model(NAME)
    assert model.weights and model.weights.to_come_bytes == 7 << 30
    assert model.room and model.room.free_bytes and model.room.folder.endswith("/blobs")


def test_a_download_on_its_way_is_told_from_one_that_was_broken_off(home: Home) -> None:
    cached(home.cache, NAME)
    repository = "models--Qwen--Qwen3-32B-FP8"
    blobs = home.cache / repository / "blobs"
    (blobs / f"{'1' * 64}.incomplete").write_bytes(b"x" * 10)
    (blobs / f"{'2' * 64}.4f2a.incomplete").write_bytes(b"x" * 20)
    (blobs / f"{'3' * 64}.incomplete").write_bytes(b"x")
    (blobs / ("3" * 64)).write_bytes(b"whole")
    locks = home.cache / ".locks" / repository
    locks.mkdir(parents=True)
    with (locks / f"{'2' * 64}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = home.model(NAME).incomplete
    assert [(each.size_bytes, each.running) for each in found] == [(10, False), (20, True)]


def test_a_cache_of_somebody_else_is_said_to_be_closed(tmp_path: Path) -> None:
    closed = {"/home/ada/.cache/huggingface/hub/": PermissionError(errno.EACCES, "Permission denied")}
    home = Home(Path("/home/ada"))
    home.given = FakeHost(closed, home="/home/ada")
    assert "/huggingface/hub may not be looked into" in home.model(NAME).reason


def test_where_a_token_comes_from_is_told_and_never_what_it_is(home: Home) -> None:
    assert home.model(NAME).token.source == ""
    file = home.path / ".cache/huggingface/token"
    file.parent.mkdir(parents=True)
    file.write_text("hf_verysecret\n")
    assert home.model(NAME).token.source == str(file)
    empty = home.model(launch(NAME, {"HF_TOKEN": ""}))
    assert empty.token.source == str(file) and empty.token.blank == ("HF_TOKEN",)
    home.environ["HF_TOKEN"] = "hf_verysecret"
    model = home.model(NAME)
    assert model.token.source == "HF_TOKEN" and "verysecret" not in repr(model)
    file.write_text("\n")
    blank = home.model(launch(NAME, {"HF_TOKEN": "  ", "HUGGING_FACE_HUB_TOKEN": "hf_x"})).token
    assert blank.source == "" and blank.blank == ("HF_TOKEN", str(file))
    other = home.model(launch(NAME, {"HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "hf_x"})).token
    assert other.source == "HUGGING_FACE_HUB_TOKEN" and other.blank == ("HF_TOKEN",)


@pytest.mark.parametrize(
    ("variables", "offline"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        ({"TRANSFORMERS_OFFLINE": "yes"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "ON"}, "TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, ""),
    ],
)
def test_the_variable_that_forbids_downloads_is_named(
    home: Home, variables: dict[str, str], offline: str
) -> None:
    assert home.model(launch(NAME, variables)).offline == offline


# --- what the installed vLLM knows --------------------------------------------------------------------------

REGISTRY = """
import transformers
_TEXT = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    "Qwen3ForCausalLM": ("qwen3", "Qwen3ForCausalLM"),  # a comment
    "MistralForCausalLM": ("llama", "LlamaForCausalLM"),
}
_EMBEDDING = {
    "LlamaModel": ("llama", "LlamaForCausalLM"),
    **{k: (mod, arch) for k, (mod, arch) in _TEXT.items() if arch == "LlamaForCausalLM"},
}
_BACKEND = {"TransformersForCausalLM": ("transformers", "TransformersForCausalLM")}
_VLLM_MODELS = {**_TEXT, **_EMBEDDING, **_BACKEND}
_PREVIOUSLY_SUPPORTED_MODELS = {"MllamaForConditionalGeneration": "0.10.2"}

class Registry:
    def known(self):
        return {"Nonsense": 1}
"""
DEFAULTS = """
_SUFFIX_TO_DEFAULTS: list[tuple[str, tuple[str, str]]] = [
    ("ForCausalLM", ("generate", "none")),
    ("ForSequenceClassification", ("pooling", "classify")),
]
"""


@pytest.fixture
def stocked(tmp_path: Path) -> Home:
    """A home with a small vLLM and transformers of our own."""
    files = {
        "vllm/model_executor/models/registry.py": REGISTRY,
        "vllm/config/model.py": DEFAULTS,
        "transformers/models/auto/modeling_auto.py": '("smol", "SmolForCausalLM"),\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Home(tmp_path, str(tmp_path), vllm="0.12.0", transformers="4.57.6")


@pytest.mark.parametrize(
    ("architecture", "verdict", "taken"),
    [
        ("Qwen3ForCausalLM", "known", "Qwen3ForCausalLM"),
        ("LlamaModel", "known", "LlamaModel"),
        ("Qwen3ForSequenceClassification", "known", "Qwen3ForCausalLM"),
        ("SmolForCausalLM", "fallback", ""),
        ("Qwen3NextForCausalLM", "unknown", ""),
    ],
)
def test_an_architecture_is_looked_up_in_the_registry(
    stocked: Home, architecture: str, verdict: str, taken: str
) -> None:
    config(stocked.path / "m", {**PLAIN, "architectures": [architecture]})
    found = stocked.model("m").architecture
    assert found and (found.verdict, found.taken) == (verdict, taken)
    if verdict == "unknown":
        assert found.nearest[0] == "Qwen3ForCausalLM" and found.source.endswith("registry.py")


def test_one_that_was_dropped_is_told_with_its_last_version(stocked: Home) -> None:
    config(stocked.path / "m", {"architectures": ["MllamaForConditionalGeneration"]})
    found = stocked.model("m").architecture
    assert found and (found.verdict, found.former) == ("unknown", "0.10.2")


def test_a_model_with_code_of_its_own_may_run_by_transformers(stocked: Home) -> None:
    own = {"architectures": ["MyForCausalLM"], "auto_map": {"AutoModelForCausalLM": "modeling.MyForCausalLM"}}
    config(stocked.path / "m", own)
    found = stocked.model("m").architecture
    assert found and found.verdict == "fallback" and "auto_map" in found.reason


def test_a_registry_without_such_classes_has_no_fallback(stocked: Home) -> None:
    path = stocked.path / "vllm/model_executor/models/registry.py"
    path.write_text(REGISTRY.replace("**_BACKEND", "**{}"))
    config(stocked.path / "m", {"architectures": ["SmolForCausalLM"]})
    found = stocked.model("m").architecture
    assert found and found.verdict == "unknown"


def registering(home: Home, name: str, points: str) -> None:
    """Install a distribution with these entry points."""
    folder = home.path / f"{name}-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text(points)
    first = structs.replace(home.packages.distributions[0], name=name, file=f"{folder.name}/METADATA")
    home.packages = structs.replace(home.packages, distributions=(*home.packages.distributions, first))


def test_a_plugin_of_vllm_may_know_more(stocked: Home) -> None:
    registering(stocked, "mine", "[vllm.general_plugins]\nmine = mine:register\n")
    config(stocked.path / "m", {"architectures": ["MyForCausalLM"]})
    found = stocked.model("m").architecture
    assert found and found.verdict == "cannot-tell" and "mine" in found.reason


@pytest.mark.parametrize(
    "points",
    [
        "[console_scripts]\nvllm = vllm.x:main\n\n[vllm.general_plugins]\nlora = vllm.plugins.x:register\n",
        "# no [vllm.general_plugins]\n[console_scripts]\nmine = mine:main\n",
        "[vllm.general_plugins]\n\n[other]\nmine = mine:main\n",
    ],
)
def test_what_vllm_registers_itself_is_no_plugin(stocked: Home, points: str) -> None:
    registering(stocked, "own", points)
    config(stocked.path / "m", {"architectures": ["MyForCausalLM"]})
    found = stocked.model("m").architecture
    assert found and found.verdict == "unknown"


def test_one_text_is_a_list_of_one(stocked: Home) -> None:
    config(stocked.path / "m", {"architectures": "MyForCausalLM"})
    model = stocked.model("m")
    assert model.architecture and model.architecture.verdict == "unknown"
    assert model.architectures == model.architecture.asked == ("MyForCausalLM",)


@pytest.mark.parametrize("named", [None, [], "", 7])
def test_a_config_that_names_none_is_said_so(stocked: Home, named: object) -> None:
    config(stocked.path / "m", {"architectures": named})
    found = stocked.model("m").architecture
    assert found and found.verdict == "cannot-tell" and found.reason == "config.json names no architecture"


def test_a_config_that_vllm_reads_with_a_class_of_its_own_may_name_another(stocked: Home) -> None:
    (stocked.path / "vllm/transformers_utils").mkdir(parents=True)
    table = 'X = LazyConfigDict(\n    mine="MineConfig",\n)\n'
    (stocked.path / "vllm/transformers_utils/config.py").write_text(table)
    for family, verdict in (("mine", "cannot-tell"), ("min", "unknown")):
        config(stocked.path / "m", {"architectures": ["MyForCausalLM"], "model_type": family})
        found = stocked.model("m").architecture
        assert found and found.verdict == verdict


MODELING = """class MyPreTrainedModel(PreTrainedModel):
    {0}
class MyForCausalLM({1}MyPreTrainedModel, GenerationMixin):
    {2}
"""
SUITED = "_supports_attention_backend = True"


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (("pass", "", "pass"), "unknown"), ((SUITED, "", "pass"), "fallback"),
        (("pass", "", SUITED), "fallback"), (("pass", "Elsewhere, ", "pass"), "fallback"),
        (("pass", "module.Base, ", "pass"), "fallback"),
    ],
)  # fmt: skip
def test_a_class_of_transformers_that_vllm_does_not_take_is_no_way_out(
    stocked: Home, parts: tuple[str, str, str], verdict: str
) -> None:
    transformers = stocked.path / "transformers"
    (transformers / "models/mine").mkdir(parents=True)
    (transformers / "models/mine/modeling_mine.py").write_text(MODELING.format(*parts))
    (transformers / "modeling_utils.py").write_text(
        "class PreTrainedModel:\n    _supports_attention_backend = False\n    @classmethod\n"
        "    def is_backend_compatible(cls):\n        return cls._supports_attention_backend\n"
    )
    config(stocked.path / "m", {"architectures": ["MyForCausalLM"], "model_type": "mine"})
    found = stocked.model("m").architecture
    assert found and found.verdict == verdict, found


@pytest.mark.parametrize(
    "text",
    [
        "", "x = 1", "_VLLM_MODELS = make()", "_VLLM_MODELS = {**_GONE}", "_VLLM_MODELS = _VLLM_MODELS",
        "def", "\x00", "_VLLM_MODELS = {name: 1}", "_VLLM_MODELS = {k: v for k, v in other()}",
        "_VLLM_MODELS = {k: (a, b) for k, (a, b) in {}.items() if a.startswith('x')}",
        "(" * 5000,
    ],
)  # fmt: skip
def test_a_registry_written_otherwise_is_said_not_to_be_understood(stocked: Home, text: str) -> None:
    (stocked.path / "vllm/model_executor/models/registry.py").write_text(text)
    assert isinstance(registry(RealHost({}), str(stocked.path)), str)
    config(stocked.path / "m")
    found = stocked.model("m").architecture
    assert found and found.verdict == "cannot-tell" and "registry.py" in found.reason


def test_without_vllm_nothing_is_said_of_architectures_and_methods(home: Home) -> None:
    config(home.path / "m", DEPLOYED[NAME])
    model = home.model("m")
    assert model.architecture is None and model.methods is None


def test_weights_in_one_file_are_counted(home: Home) -> None:
    tensors(config(home.path / "m") / "model.safetensors", {"a": 4_400_000_000})
    found = home.model("m").weights
    assert found and found.tensor_bytes == 4_400_000_000


@given(st.binary(max_size=200))
def test_no_bytes_make_a_config_or_a_header_crash(data: bytes) -> None:
    assert isinstance(decoded(data), (dict, str))
    host = FakeHost({"/m/model.safetensors": data, "/m/model.safetensors.index.json": data})
    found = survey(host, "/m")
    assert found is not None and found.flawed


def test_what_was_seen_survives_being_written_down(stocked: Home) -> None:
    shards(cached(stocked.cache, NAME, {**DEPLOYED[NAME], "limit": [0.0, 1.5]}), [5000])
    model = stocked.model(launch(NAME, quantization="fp8"))
    assert msgspec.json.decode(msgspec.json.encode(model), type=Model) == model
