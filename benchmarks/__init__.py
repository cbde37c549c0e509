"""Speed against the floor and against peers, as ratios in one run: `python -m benchmarks`."""
