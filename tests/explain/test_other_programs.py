"""Logs of other programs, and of healthy servers, as they print them: none is the environment's trouble."""

import pytest

from cudadoctor.explain import Explanation
from cudadoctor.explain.cause import explain
from cudadoctor.explain.scan import scan
from cudadoctor.explain.signatures import rows

#: What is printed, and the error that is told of it.
LOGS = {
    "make": (
        "gcc -c -o x.o x.c\nx.c:1:17: error: expected ';' before '}' token\n    1 | int f(){return 1}\n"
        "make: *** [<builtin>: x.o] Error 1\n",
        "x.c:1:17: error: expected ';' before '}' token",
    ),
    "ld": (
        "/usr/bin/ld: cannot find -lfoo: No such file or directory\n"
        "collect2: error: ld returned 1 exit status\n",
        "/usr/bin/ld: cannot find -lfoo: No such file or directory",
    ),
    "nvcc": (
        's.cu(1): error: expected an expression\n\n1 error detected in the compilation of "s.cu".\n',
        "s.cu(1): error: expected an expression",
    ),
    "rustc": (
        "   Compiling foo v0.1.0\nerror: linking with `cc` failed: exit status: 1\n"
        "  = note: /usr/bin/ld: cannot find -lpq: No such file or directory\n"
        "          collect2: error: ld returned 1 exit status\n"
        'error: could not compile `foo` (bin "foo") due to 1 previous error\n',
        "= note: /usr/bin/ld: cannot find -lpq: No such file or directory",
    ),
    "psycopg2": (
        "      ./psycopg/psycopg.h:36:10: fatal error: libpq-fe.h: No such file or directory\n"
        "      compilation terminated.\n      error: command '/usr/bin/gcc' failed with exit code 1\n"
        "  ERROR: Failed building wheel for psycopg2\n",
        "./psycopg/psycopg.h:36:10: fatal error: libpq-fe.h: No such file or directory",
    ),
    "pip": (
        "ERROR: No matching distribution found for foo==9\n",
        "ERROR: No matching distribution found for foo==9",
    ),
    "ldso": ("ERROR: ld.so: object 'x.so' from LD_PRELOAD cannot be preloaded: ignored.\n", None),
    "systemd": (
        "Nov 22 02:00:00 gpu systemd[1]: vllm.service: Killing process 123 (python3) with signal SIGKILL.\n"
        "Nov 22 02:00:00 gpu systemd[1]: vllm.service: Main process exited, code=killed, status=9/KILL\n",
        "",
    ),
    "kubelet": (
        "      Reason:       Error\n      Exit Code:    137\n"
        "  Warning  Unhealthy  5m  kubelet  Liveness probe failed: HTTP probe failed with statuscode: 503\n",
        "",
    ),
    "cmake": (
        "-- Could NOT find Python3 (missing: Python3_INCLUDE_DIRS Development)\n"
        "-- Could NOT find CUDA (missing: CUDA_TOOLKIT_ROOT_DIR CUDA_NVCC_EXECUTABLE CUDA_INCLUDE_DIRS)\n"
        "-- Configuring done\n",
        "",
    ),
    "wsl": ("ldconfig: /usr/lib/wsl/lib/libcuda.so.1 is not a symbolic link\n", ""),
    "vllm": (
        "ERROR 11-22 02:03:14 [config.py:885] Error retrieving safetensors: Repo id must be in the form "
        "'repo_name' or 'namespace/repo_name': '/models/q'. Use `repo_type` argument if needed., retrying\n",
        "",
    ),
    "transformers": (
        "MXFP4 quantization is only supported on GPUs with compute capability >= 7.5 (e.g T4, A100, L4, "
        "H100, or B200) or XPUs We will default to dequantizing the model to bf16\n",
        "",
    ),
    "training": (
        "Using /root/.cache/torch_extensions/py311_cu128 as PyTorch extensions root...\n"
        + "".join(f"[rank{step % 8}]: step {step} loss 0.1\n" for step in range(100)),
        "",
    ),
}


def explained(log: str) -> Explanation:
    return explain(scan(rows(), [log.encode()]), "log")


@pytest.mark.parametrize(("log", "error"), LOGS.values(), ids=LOGS.keys())
def test_nothing_is_blamed_and_the_own_error_is_told(log: str, error: str | None) -> None:
    told = explained(log)
    assert told.root is None, told.root
    if error is not None:
        assert told.last_error == error


def test_a_cause_told_by_two_messages_is_not_listed_as_its_own_consequence() -> None:
    told = explained(
        "OSError: [Errno 28] No space left on device\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
        "dd: error writing 'x': No space left on device\n"
    )
    assert told.root is not None and told.root.cause == "disk-full"
    assert [each.cause for each in told.others] == ["cuda-oom"]
