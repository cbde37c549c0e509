"""Lines of healthy logs that hold the words of a failure: no cause may be named for any of them."""

import pytest

from cudadoctor.explain import Explanation
from cudadoctor.explain.cause import explain
from cudadoctor.explain.scan import scan
from cudadoctor.explain.signatures import rows

VLLM = """\
INFO 11-22 01:10:47 [__init__.py:216] Automatically detected platform cuda.
INFO 11-22 01:10:47 [cuda.py:411] Using Flash Attention backend on V1 engine.
INFO 11-22 01:11:02 [topk_topp_sampler.py:55] Using FlashInfer for top-p & top-k sampling.
INFO 11-22 01:11:20 [gpu_worker.py:298] Available KV cache memory: 17.42 GiB
INFO 11-22 01:11:20 [kv_cache_utils.py:1087] GPU KV cache size: 151,824 tokens
INFO 11-22 01:11:20 [kv_cache_utils.py:1091] Maximum concurrency for 32,768 tokens per request: 4.63x
INFO 11-22 01:11:21 [backends.py:559] Using cache directory: /root/.cache/vllm/torch_compile_cache/ab
INFO 11-22 01:11:21 [backends.py:577] Compiling a graph for dynamic shape takes 6.91 s
INFO 11-22 01:11:40 [gpu_model_runner.py:3480] Graph capturing finished in 14 secs, took 0.61 GiB
WARNING 11-22 01:11:40 [fp8.py:102] DeepGEMM not supported on the current platform.
WARNING 11-22 01:11:40 [cuda.py:92] Detected different devices in the system.
INFO 11-22 01:11:41 [scheduler.py:216] Chunked prefill is enabled with max_num_batched_tokens=8192.
INFO 11-22 01:11:41 [fp8.py:520] Selected CutlassFp8BlockScaledMMKernel for Fp8LinearMethod
INFO:     Application startup complete.
WARNING 11-22 01:13:00 [protocol.py:93] The following fields were present in the request but ignored: {'top'}
"""
TORCH = """\
torch.cuda.is_available() -> True
torch/utils/cpp_extension.py:2425: UserWarning: TORCH_CUDA_ARCH_LIST is not set
Building extension module fused_adam...
ninja: no work to do.
Loading extension module fused_adam...
Time to load fused_adam op: 0.06 seconds
# If CUDA out of memory occurs, lower the batch size.
Epoch 3: to avoid CUDA out of memory, gradients are accumulated over 4 steps
[rank0]:[W1122 10:00:00.1 ProcessGroupNCCL.cpp:4115] using GPU 0 to perform barrier
UserWarning: Can't initialize amdsmi - Error code: 34
PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
memory allocated: 12.3 GiB, peak 14.0 GiB, no out of memory events
W1122 10:00:00.1 torch/distributed/run.py:803] Setting OMP_NUM_THREADS to be 1
saved checkpoint to /data/killed_runs/epoch3.pt
SKIPPED [3] tests/test_gpu.py:5: No CUDA GPUs are available
skipping test: no CUDA-capable device is detected
PASSED tests/test_memory.py::test_out_of_memory - RuntimeError: CUDA out of memory
if "CUDA out of memory" in str(error):
WARNING: CUDA out of memory, retrying with batch size 8
"""
NCCL = """\
node1:100:140 [0] NCCL INFO NET/IB : No device found.
node1:100:140 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.2<0>
node1:100:140 [0] NCCL INFO NET/Plugin: Could not find: libnccl-net.so. Using internal net plugin.
node1:100:140 [0] NCCL INFO NCCL_SHM_DISABLE set by environment to 1.
node1:100:140 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via SHM/direct/direct
node1:100:140 [0] NCCL INFO ncclCommInitRank comm 0x55 rank 0 nranks 2 cudaDev 0 nvmlDev 0 - Init COMPLETE
node1:100:140 [0] NCCL INFO cudaDriverVersion 13000
node1:100:140 [0] NCCL INFO fallocate: Failed to extend /dev/shm/nccl-x to 9 bytes, error: - retrying
node1:100:140 [0] NCCL INFO comm 0x55 rank 0 nranks 2 - Abort COMPLETE
"""
PIP = """\
Collecting nvidia-cublas-cu12==12.8.4.1 (from torch==2.9.0)
Requirement already satisfied: triton==3.5.0 in ./env/lib/python3.12/site-packages (from torch==2.9.0) (3.5.0)
  Getting requirements to build wheel: finished with status 'done'
Building wheel for flash-attn (setup.py): finished with status 'done'
Successfully installed flash-attn-2.8.3 ninja-1.13.2 torch-2.9.0
Successfully installed torch-2.4.0+cpu torchvision-0.19.0+cpu
WARNING: Running pip as the 'root' user can result in broken permissions
No broken requirements found.
Resolved 148 packages in 1.21s
 + nvidia-nccl-cu12==2.27.5
Collecting protobuf>=3.20 (from tensorboard)
INFO: pip is looking at multiple versions of vllm to determine which version is compatible
"""
CMAKE = """\
-- Looking for a CUDA compiler - /usr/local/cuda/bin/nvcc
-- Found CUDAToolkit: /usr/local/cuda/targets/x86_64-linux/include (found version "13.0.88")
-- CUDA_nvToolsExt_LIBRARY: /usr/local/cuda/lib64/libnvToolsExt.so
-- Could NOT find NCCL (missing: NCCL_INCLUDE_DIR NCCL_LIBRARY)
-- Performing Test HAVE_FLAG - Failed
-- Could NOT find Python3 (missing: Development.Embed) (found version "3.12")
-- Could NOT find nvtx3 (missing: nvtx3_dir)
[ 12%] Building CUDA object CMakeFiles/a.dir/flash_fwd_hdim64_fp16_sm80.cu.o
[ 99%] Linking CUDA shared library libggml-cuda.so
[3/9] /usr/local/cuda/bin/nvcc -Xcompiler -fPIC -gencode arch=compute_90,code=sm_90 -c a.cu -o a.o
x.cu(12): warning #177-D: variable "killed" was declared but never referenced
checking for cublas_v2.h... no
/usr/bin/ld: skipping incompatible /usr/lib32/libm.so when searching for -lm
"""
DOCKER = """\
 => CACHED [builder 4/9] RUN pip install torch --index-url https://download.pytorch.org/whl/cu128
vllm-1 exited with code 0
Container vllm-1  Stopped
      Reason:       Completed
      OOMKilled: false
State: {"Status": "exited", "OOMKilled": false, "ExitCode": 0}
Status: Downloaded newer image for nvidia/cuda:13.0.1-devel-ubuntu24.04
== CUDA ==
NOTE: The SHMEM allocation limit is set to the default of 64MB.  This may be insufficient for vLLM.
10.0.0.9 - - "GET /healthz HTTP/1.1" 200 OK
nvidia-container-cli.real version 1.17.8
"""


def explained(log: str) -> Explanation:
    return explain(scan(rows(), [log.encode()]), "log")


def lines() -> list[str]:
    return [line for log in (VLLM, TORCH, NCCL, PIP, CMAKE, DOCKER) for line in log.splitlines()]


@pytest.mark.parametrize("line", lines())
def test_a_healthy_line_has_no_cause(line: str) -> None:
    told = explained(line + "\n")
    assert told.root is None, told.root


@pytest.mark.parametrize("log", [VLLM, TORCH, NCCL, PIP, CMAKE, DOCKER])
def test_a_healthy_log_has_no_cause(log: str) -> None:
    told = explained(log)
    assert told.root is None, told.root
