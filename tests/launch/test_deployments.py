"""The five deployments, as their owners wrote them: each launch is read whole."""

from __future__ import annotations

from cudadoctor.launch import dockerfile
from tests.launch.read import composed, host, noted, scripted, small, typed, values


def test_a_3090_under_conda_with_its_variables_in_a_script() -> None:
    text = """#!/bin/bash
# Qwen2.5-32B on one RTX 3090
set -e
source ~/miniconda3/etc/profile.d/conda.sh
conda activate vllm
export CUDA_HOME=$CONDA_PREFIX
export LIBRARY_PATH="$CUDA_HOME/lib:$LIBRARY_PATH"
MODEL="Qwen/Qwen2.5-32B-Instruct-AWQ"
UTIL=${GPU_UTIL:-0.90}

exec vllm serve "$MODEL" \\
    --quantization awq \\
    --max-model-len 2048 \\
    --gpu-memory-utilization $UTIL \\
    --kv-cache-dtype fp8 \\
    --max-num-batched-tokens 8192 --max-num-seqs 64 \\
    --enable-prefix-caching --trust-remote-code
"""
    launch = scripted(text, "serve.sh", small(), CONDA_PREFIX="/home/ada/miniconda3/envs/vllm")
    assert (launch.kind, launch.model) == ("vllm-serve", "Qwen/Qwen2.5-32B-Instruct-AWQ")
    assert values(launch) == {
        "--quantization": "awq", "--max-model-len": "2048", "--gpu-memory-utilization": "0.90",
        "--kv-cache-dtype": "fp8", "--max-num-batched-tokens": "8192", "--max-num-seqs": "64",
        "--enable-prefix-caching": "True", "--trust-remote-code": "True",
    }  # fmt: skip
    assert launch.variables["CUDA_HOME"].value == "/home/ada/miniconda3/envs/vllm"
    assert (
        launch.refused == () and launch.options["--gpu-memory-utilization"].origin == "/home/ada/serve.sh:14"
    )


def test_a_laptop_s_80b_model_started_from_python_with_offload() -> None:
    text = """import os
os.environ["VLLM_USE_V1"] = "1"
from vllm import LLM, SamplingParams

MODEL_PATH = "/home/ada/models/Qwen3-Next-80B-A3B-Instruct-FP8"

def main():
    llm = LLM(
        model=MODEL_PATH,
        quantization="compressed-tensors",
        gpu_memory_utilization=0.5,
        cpu_offload_gb=90,
        max_model_len=1024,
        trust_remote_code=True,
    )
    print(llm.generate(["hello"], SamplingParams(max_tokens=8)))

if __name__ == "__main__":
    main()
"""
    launch = scripted(text, "run.py")
    assert (launch.kind, launch.model) == ("vllm-llm", "/home/ada/models/Qwen3-Next-80B-A3B-Instruct-FP8")
    assert (launch.number("--gpu-memory-utilization"), launch.number("--cpu-offload-gb")) == (0.5, 90)
    assert launch.integer("--max-model-len") == 1024 and launch.variables["VLLM_USE_V1"].value == "1"


def test_a_stack_chosen_on_paper_with_an_option_that_is_gone() -> None:
    text = """from vllm import LLM
settings = dict(
    model="Qwen/Qwen3-4B-Instruct-2507-FP8",
    quantization="fp8",
    kv_cache_dtype="fp8_e5m2",
    max_model_len=131072,
    gpu_memory_utilization=0.85,
    max_num_batched_tokens=8192,
    max_num_seqs=256,
    use_v2_block_manager=True,
)
llm = LLM(**settings)
"""
    launch = scripted(text, "serve.py", small())
    assert launch.integer("--max-model-len") == 131072 and launch.text("--kv-cache-dtype") == "fp8_e5m2"
    named = [(each.name, each.why, each.origin) for each in launch.refused]
    assert ("use_v2_block_manager", "unknown", "/home/ada/serve.py:10") in named
    line = "VLLM_ATTENTION_BACKEND=XFORMERS vllm serve m --use-v2-block-manager --kv-cache-dtype fp8_e5m2"
    served = typed(line, known=small())
    assert [each.name for each in served.refused] == ["--use-v2-block-manager"]
    assert served.variables["VLLM_ATTENTION_BACKEND"].value == "XFORMERS"


SPARK = """services:
  vllm:
    image: nvcr.io/nvidia/vllm:25.09-py3
    container_name: qwen3-32b
    restart: unless-stopped
    ipc: host
    ulimits: {memlock: -1, stack: 67108864}
    ports:
      - "${VLLM_PORT:-8000}:8000"
    environment:
      - HF_TOKEN=${HF_TOKEN}
      - HF_HOME=/models
    volumes:
      - ./models:/models
    command: >
      vllm serve Qwen/Qwen3-32B-FP8
      --download-dir /models
      --max-model-len 32000
      --gpu-memory-utilization 0.90
      --max-num-batched-tokens 16384
      --max-num-seqs 64
      --enable-prefix-caching
      --trust-remote-code
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              count: all
              capabilities: [gpu]
"""


def test_a_spark_s_compose_file_with_its_token_from_env() -> None:
    launch = composed(SPARK, {".env": "HF_TOKEN=\nVLLM_PORT=8080\n"})
    assert (launch.kind, launch.model, launch.image) == (
        "vllm-serve", "Qwen/Qwen3-32B-FP8", "nvcr.io/nvidia/vllm:25.09-py3"
    )  # fmt: skip
    assert (launch.integer("--max-model-len"), launch.integer("--max-num-seqs")) == (32000, 64)
    token = launch.variables["HF_TOKEN"]
    assert (token.value, token.origin) == ("", "/home/ada/compose.yaml:11")
    assert launch.nearby["HF_TOKEN"].origin == "/home/ada/.env:1"
    container = launch.container
    assert container is not None and (container.gpus, container.ipc) == ("all", "host")
    assert [(port.host, port.container) for port in container.ports] == [("8080", "8000")]
    assert container.mounts[0].source == "/home/ada/models"
    assert noted(launch) == set()
    assert noted(composed(SPARK)) == {"variable-empty"}


FACTORY = """FROM nvidia/cuda:12.4.1-devel-ubuntu22.04
ENV DEBIAN_FRONTEND=noninteractive \\
    VLLM_WORKER_MULTIPROC_METHOD=spawn
RUN apt-get update && \\
    apt-get install -y python3-pip && \\
    pip install vllm
WORKDIR /app
EXPOSE 8000
CMD ["python3", "-m", "vllm.entrypoints.openai.api_server", \\
     "--model", "Qwen/Qwen2.5-7B-Instruct-AWQ", \\
     "--quantization", "awq", \\
     "--kv-cache-dtype", "fp8",            # half the size \\
     "--max-model-len", "12288",           # long window, \\
     "--max-num-seqs", "2",                # low concurrency \\
     "--gpu-memory-utilization", "0.88", \\
     "--enforce-eager", \\
     "--dtype", "auto", "--port", "8000", "--host", "0.0.0.0"]
"""


def test_a_3060_s_dockerfile_whose_command_is_no_json() -> None:
    files = {
        "Dockerfile": FACTORY,
        ".env": "LLM_MAX_MODEL_LEN=12288\nLLM_OUTPUT_RESERVE=3000\nLLM_SAFETY_MARGIN=128\n",
    }
    launch = dockerfile.read(host(files), "/home/ada/Dockerfile")
    assert (launch.kind, launch.model) == ("vllm-api-server", "Qwen/Qwen2.5-7B-Instruct-AWQ")
    assert values(launch) == {
        "--model": "Qwen/Qwen2.5-7B-Instruct-AWQ", "--quantization": "awq", "--kv-cache-dtype": "fp8",
        "--max-model-len": "12288", "--max-num-seqs": "2", "--gpu-memory-utilization": "0.88",
        "--enforce-eager": "True", "--dtype": "auto", "--port": "8000", "--host": "0.0.0.0",
    }  # fmt: skip
    assert launch.nearby["LLM_MAX_MODEL_LEN"].value == "12288"
    (note,) = launch.notes
    assert (note.name, note.origin) == ("cmd-not-json", "/home/ada/Dockerfile:12")
    assert launch.options["--max-model-len"].origin == "/home/ada/Dockerfile:13"
