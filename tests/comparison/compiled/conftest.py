"""XLA's compiler for CUDA weighs 4.6 GB: its tests run wherever it is installed."""

from tdjax.comparison.compiled import catalog

collect_ignore = [] if catalog.CUDA.installed else ["test_cuda.py"]
