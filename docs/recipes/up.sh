#!/bin/sh
# `docker compose up`, where the launch will start here.
set -eu
code=0
cudadoctor preflight --compose compose.yaml vllm || code=$?
# 1: findings, 2: the file cannot be read. A doctor that crashed (3) stops nothing.
[ "$code" -eq 0 ] || [ "$code" -eq 3 ] || exit "$code"
exec docker compose --file compose.yaml up --detach vllm
