#!/bin/sh
# srun --task-prolog=/etc/slurm/task-prolog.sh ...: the exports of `cudadoctor env` for the task.
# Slurm takes all behind `=` as it stands, so the quotes of a shell would become part of the value.
# A task prolog that does not exit with 0 has its task cancelled: this one says so, and lets it run.
exec </dev/null 2>/dev/null
found=$(/opt/cudadoctor/bin/cudadoctor env --shell json) || {
    echo "print cudadoctor env: exit code $?, no variables are set"
    exit 0
}
printf '%s' "$found" | /opt/cudadoctor/bin/python -c '
import json, sys
for name, value in json.load(sys.stdin).items():
    if value is None:
        print("unset", name)
    elif "\n" not in value:
        print(f"export {name}={value}")
'
exit 0
