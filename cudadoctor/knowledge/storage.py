"""How much room a build takes: what was measured, and from where on there is too little."""

#: FlashInfer 0.5.3's batch_prefill of one head size for compute capability 8.6, by nvcc 13.0 in two jobs,
#: took 11 MiB in the cache and up to 44 MiB of temporary files at once (measured 2026-11-21).
BUILD_BYTES = 64 << 20
#: An operator is a dozen files, vLLM's compiled graphs are hundreds.
BUILD_FILES = 500
#: From here on nothing can end: a lock file and a folder still go in, a library does not.
NOTHING_BYTES = 1 << 20
NOTHING_FILES = 16
