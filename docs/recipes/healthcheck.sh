#!/bin/sh
# 0: healthy, 1: unhealthy. Docker reserves 2, so the doctor's own 2 and 3 are not passed on.
code=0
cudadoctor check -q driver-library-mismatch driver-not-answering gpu-not-visible || code=$?
[ "$code" -ne 1 ] || exit 1
curl --fail --silent --show-error --max-time 5 --output /dev/null http://127.0.0.1:8000/health || exit 1
