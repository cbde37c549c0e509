"""How much weighs what: real files of safetensors, whole, cut short, and hostile."""

import json
import os
import struct
import time
from pathlib import Path

import pytest

from cudadoctor.facts.model import Weights
from cudadoctor.host import RealHost
from cudadoctor.probes.safetensors import NotSafetensors, survey, tensor_bytes
from tests.probes.checkpoints import INDEX, shards, tensors

HOST = RealHost({})


def looked(folder: Path, load_format: str = "auto") -> Weights:
    found = survey(HOST, str(folder), load_format)
    assert found is not None
    return found


def shard(folder: Path, number: int, of: int) -> Path:
    return folder / f"model-{number:05}-of-{of:05}.safetensors"


def test_a_whole_checkpoint_weighs_what_its_index_says(tmp_path: Path) -> None:
    total = shards(tmp_path, [9 << 30, 9 << 30, 1 << 20])
    found = looked(tmp_path)
    assert (found.form, found.tensor_bytes, found.files, found.present) == ("safetensors", total, 3, 3)
    assert not found.flaws and found.to_come_bytes == 0 and found.source == INDEX and not found.notes


def test_headers_are_believed_more_than_an_index_that_is_wrong(tmp_path: Path) -> None:
    total = shards(tmp_path, [5000, 7000], total=999)
    found = looked(tmp_path)
    assert (found.tensor_bytes, found.source) == (total, "headers") and not found.flaws
    assert "999" in found.notes[0]


@pytest.mark.parametrize("total", [1.2e4, 12000])
def test_a_total_may_be_given_as_a_float(tmp_path: Path, total: object) -> None:
    shards(tmp_path, [5000, 7000], total)
    shard(tmp_path, 2, 2).unlink()
    assert looked(tmp_path).tensor_bytes == 12000


@pytest.mark.parametrize("total", [-1, 1e300, 10**40, "many", None, True, 1 << 60])
def test_an_absurd_total_is_not_believed(tmp_path: Path, total: object) -> None:
    shards(tmp_path, [5000, 7000])
    index = json.loads((tmp_path / INDEX).read_text())
    index["metadata"]["total_size"] = total
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert looked(tmp_path).tensor_bytes == 12000
    shard(tmp_path, 1, 2).unlink()
    found = looked(tmp_path)
    assert found.tensor_bytes is None and found.to_come_bytes is None and found.flawed == 1


def test_a_missing_shard_is_named_and_what_is_still_to_come_is_counted(tmp_path: Path) -> None:
    shards(tmp_path, [5 << 30, 7 << 30, 1 << 30])
    shard(tmp_path, 2, 3).unlink()
    found = looked(tmp_path)
    assert [(flaw.kind, flaw.path) for flaw in found.flaws] == [("missing", str(shard(tmp_path, 2, 3)))]
    assert (found.present, found.to_come_bytes, found.tensor_bytes) == (2, 7 << 30, 13 << 30)


def test_a_link_of_a_snapshot_without_its_blob_is_told_from_a_missing_shard(tmp_path: Path) -> None:
    shards(tmp_path, [5000, 7000])
    shard(tmp_path, 1, 2).unlink()
    shard(tmp_path, 1, 2).symlink_to("../../blobs/abc")
    assert [flaw.kind for flaw in looked(tmp_path).flaws] == ["broken-link"]


def test_a_shard_that_holds_nothing_is_to_come_as_a_whole(tmp_path: Path) -> None:
    shards(tmp_path, [5000, 7000])
    shard(tmp_path, 1, 2).write_bytes(b"")
    found = looked(tmp_path)
    assert [flaw.kind for flaw in found.flaws] == ["empty"] and found.to_come_bytes == 5000


@pytest.mark.parametrize("cut", [1, 3000, 4999, 5001])
def test_a_shard_that_was_cut_short_is_told_by_its_header(tmp_path: Path, cut: int) -> None:
    shards(tmp_path, [5000, 7000])
    path = shard(tmp_path, 1, 2)
    os.truncate(path, path.stat().st_size - cut)
    found = looked(tmp_path)
    assert [flaw.kind for flaw in found.flaws] == ["truncated"]
    assert found.to_come_bytes == 5000 and found.tensor_bytes == 12000
    if cut == 3000:
        assert found.flaws[0].detail == "its header tells of 5,000 bytes of tensors, 2,000 are there"


def test_two_shards_whose_lengths_make_up_for_each_other_are_not_found_whole(tmp_path: Path) -> None:
    # The sum agrees: what is too much in one file is missing in the other. Such a thing is no accident.
    shards(tmp_path, [5000, 7000])
    longer, shorter = shard(tmp_path, 1, 2), shard(tmp_path, 2, 2)
    os.truncate(longer, longer.stat().st_size + 10)
    os.truncate(shorter, shorter.stat().st_size - 10)
    assert looked(tmp_path).tensor_bytes == 12000


def test_files_that_the_index_does_not_name_are_not_counted(tmp_path: Path) -> None:
    total = shards(tmp_path, [5000, 7000])
    tensors(tmp_path / "adapter.safetensors", {"x": 900})
    assert looked(tmp_path).tensor_bytes == total


def test_one_file_without_an_index_weighs_what_its_header_says(tmp_path: Path) -> None:
    tensors(tmp_path / "model.safetensors", {"a": 4 << 30, "b": 100})
    found = looked(tmp_path)
    assert (found.tensor_bytes, found.source, found.index) == ((4 << 30) + 100, "headers", "")


def test_mistrals_own_files_come_first(tmp_path: Path) -> None:
    shards(tmp_path, [5000, 7000])
    tensors(tmp_path / "consolidated.safetensors", {"a": 12001})
    assert looked(tmp_path).form == "consolidated" and looked(tmp_path).tensor_bytes == 12001
    assert looked(tmp_path, "safetensors").tensor_bytes == 12000


def test_files_of_torch_are_taken_by_their_sizes_and_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model-00001-of-00002.bin").write_bytes(b"x" * 700)
    (tmp_path / "pytorch_model-00002-of-00002.bin").write_bytes(b"x" * 300)
    (tmp_path / "training_args.bin").write_bytes(b"x" * 5000)
    found = looked(tmp_path)
    assert (found.form, found.tensor_bytes, found.source) == ("bin", 1000, "sizes") and found.notes


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    (tmp_path / "training_args.bin").write_bytes(b"x")
    (tmp_path / ".hidden.safetensors").write_bytes(b"x")
    assert survey(HOST, str(tmp_path)) is None
    assert survey(HOST, str(tmp_path / "nowhere")) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "begin"),
        (b"\x01", "begin"),
        (b"\xff" * 8, "header would have"),
        (struct.pack("<Q", 200_000_000), "header would have"),
        (struct.pack("<Q", 50) + b"{}", "not all there"),
        (struct.pack("<Q", 4) + b"null", "no JSON"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "no JSON"),
        (struct.pack("<Q", 40_000) + b"[" * 40_000, "no JSON"),
        (struct.pack("<Q", 60) + b'{"a":{"data_offsets":[0,1e99]}}'.ljust(60), "no JSON"),
        (struct.pack("<Q", 70) + b'{"a":{"data_offsets":[0,99999999999999999]}}'.ljust(70), "sizes"),
        (struct.pack("<Q", 60) + b'{"a":{"dtype":"U8","data_offsets":[0,-5]}}'.ljust(60), "sizes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "header would have"),
    ],
)  # fmt: skip
def test_what_is_no_header_has_one_clear_reason(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(NotSafetensors, match=why):
        tensor_bytes(HOST, str(path))
    found = looked(tmp_path)
    assert found.flawed == 1 and found.tensor_bytes is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"null", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": []}',
        b'{"weight_map": {"a": 1}}',
        b"\x00" * 100, b"\xff\xfe" * 10, b'{"metadata": ' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_an_index_that_is_none_is_a_flaw_and_the_headers_are_read(tmp_path: Path, content: bytes) -> None:
    shards(tmp_path, [5000, 7000])
    (tmp_path / INDEX).write_bytes(content)
    found = looked(tmp_path)
    assert [flaw.kind for flaw in found.flaws] == ["garbled"] and found.flaws[0].path.endswith(INDEX)
    assert found.tensor_bytes == 12000


def test_an_index_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    shards(tmp_path, [5000])
    os.truncate(tmp_path / INDEX, 2 << 30)
    began = time.monotonic()
    found = looked(tmp_path)
    assert time.monotonic() - began < 2
    assert found.flaws[0].detail == "larger than 64 MiB, which no index is"


def test_an_index_that_is_a_fifo_does_not_block(tmp_path: Path) -> None:
    shards(tmp_path, [5000])
    (tmp_path / INDEX).unlink()
    os.mkfifo(tmp_path / INDEX)
    assert looked(tmp_path).flaws[0].detail == "not a regular file"


def test_a_shard_that_is_a_fifo_does_not_block(tmp_path: Path) -> None:
    shards(tmp_path, [5000, 7000])
    shard(tmp_path, 1, 2).unlink()
    os.mkfifo(shard(tmp_path, 1, 2))
    assert [flaw.kind for flaw in looked(tmp_path).flaws] == ["unreadable"]


def test_an_index_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    names = {"a": "../secret.safetensors", "b": "/etc/passwd", "c": "x\0.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {"total_size": 10}, "weight_map": names}))
    found = looked(tmp_path)
    assert {flaw.kind for flaw in found.flaws} == {"missing"} and found.flawed == 3


def test_a_hundred_thousand_shards_are_not_all_looked_at(tmp_path: Path) -> None:
    weight_map = {f"w{at}": f"model-{at:06}.safetensors" for at in range(100_000)}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1 << 40}, "weight_map": weight_map}))
    began = time.monotonic()
    found = looked(tmp_path)
    assert time.monotonic() - began < 3
    assert found.files == 100_000 and len(found.flaws) == 20 and found.flawed == 2_000
    assert found.tensor_bytes == 1 << 40 and "2,000 were looked at" in found.notes[0]


def test_headers_beyond_their_room_are_not_read(tmp_path: Path) -> None:
    for at in range(4):
        raw = b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}'.ljust(24_000_000)
        (tmp_path / f"m{at}.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + b"abc")
    assert looked(tmp_path).tensor_bytes == 12


def test_shards_without_an_index_are_counted_by_their_numbers(tmp_path: Path) -> None:
    shards(tmp_path, [100, 200, 300])
    (tmp_path / INDEX).unlink()
    found = looked(tmp_path)
    assert found.tensor_bytes == 600 and not found.flaws
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    found = looked(tmp_path)
    (flaw,) = found.flaws
    assert flaw.kind == "missing" and flaw.path.endswith("model-00002-of-00003.safetensors")
    assert (found.files, found.present, found.tensor_bytes, found.to_come_bytes) == (3, 2, None, None)


def test_numbers_may_begin_at_nought_and_tell_nothing_beside_other_names(tmp_path: Path) -> None:
    for name in ("model-00000-of-00002.safetensors", "model-00001-of-00002.safetensors"):
        tensors(tmp_path / name, {name: 10})
    assert not looked(tmp_path).flaws
    tensors(tmp_path / "more.safetensors", {"x": 10})
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    assert not looked(tmp_path).flaws


def test_a_number_of_shards_that_none_has_is_bounded(tmp_path: Path) -> None:
    tensors(tmp_path / "model-00001-of-99999.safetensors", {"x": 10})
    assert looked(tmp_path).flawed == 1999


def test_what_git_leaves_for_git_lfs_is_told_as_such(tmp_path: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4976698672\n"
    (tmp_path / "model.safetensors").write_text(text)
    (flaw,) = looked(tmp_path).flaws
    assert flaw.kind == "garbled" and "git-lfs" in flaw.detail
