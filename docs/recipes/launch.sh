#!/bin/sh
# Looks, sets the variables that help, and becomes vLLM; or says why not, and exits with 1.
set -eu
. /opt/vllm/bin/activate
exec /opt/cudadoctor/bin/cudadoctor run -- \
    vllm serve Qwen/Qwen2.5-7B-Instruct-AWQ --max-model-len 12288 --max-num-seqs 2 "$@"
