"""What a /dev/shm that is too small does, in one of its own: vLLM's queues cost what is written to them."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.real.conftest import _do_without

MIB = 1 << 20
#: The shared memory of one queue, and its flags behind 10 chunks: vllm/.../shm_broadcast.py, ShmRingBuffer.
QUEUE = """
import sys
from multiprocessing import shared_memory
chunk, count, pages = 24 << 20, 10, int(sys.argv[1])
memory = shared_memory.SharedMemory(create=True, size=(chunk + 2) * count)
print("made", flush=True)
memory.buf[chunk * count:] = bytes(memory.size - chunk * count)
for at in range(count):
    for page in range(pages):
        memory.buf[at * chunk + page * 4096] = 1
print("written", flush=True)
memory.unlink()
"""


def within(size: str, pages: int) -> subprocess.CompletedProcess[str]:
    """Make a queue and write so many pages of each chunk, in a /dev/shm of this size."""
    unshare = shutil.which("unshare")
    if unshare is None:
        _do_without("unshare is not on PATH")
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm || exit 77; exec "$@"'
    argv = [unshare, "-m", "sh", "-c", script, "sh", sys.executable, "-c", QUEUE, str(pages)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if done.returncode == 77 or "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("no mount of its own may be made here")
    return done


def test_a_queue_larger_than_the_file_system_is_made_and_takes_short_messages() -> None:
    done = within("64m", 1)
    assert (done.returncode, done.stdout) == (0, "made\nwritten\n"), done.stderr


def test_what_no_longer_fits_ends_the_process_with_a_bus_error() -> None:
    done = within("1m", 200)
    assert done.returncode in (-7, 135) and done.stdout == "made\n", done.stderr


def test_less_than_a_page_for_each_chunk_holds_not_even_short_messages() -> None:
    least = 11 * 4096  # as the check counts it for one queue
    assert within(str(least + 4096), 1).returncode == 0
    assert within(str(least // 2), 1).returncode in (-7, 135)
