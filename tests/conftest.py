"""What all tests share."""

import atexit
import contextlib
import dataclasses
import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest
from compiling import compile_quickly, optimise
from processes import end_processes, share_processes

from tdjax.comparison.system.extras import leave_out_absent
from tdjax.comparison.targets.cuda import CUDA
from tdjax.costs.machine import _machine, assume_machine, machine_of
from tdjax.devices.attached import assume

# What a user has tuned must not choose here, nor be changed.
os.environ["TDJAX_CACHE_DIR"] = tempfile.mkdtemp(prefix="tdjax-tests-")
atexit.register(shutil.rmtree, os.environ["TDJAX_CACHE_DIR"], ignore_errors=True)

# Nor does a test wait for half a minute because it is the first to compare something.
os.environ["TDJAX_CALIBRATE"] = "never"

os.environ["KERAS_BACKEND"] = "jax"  # Keras chooses its backend when it is first imported

# XLA's compiler for CUDA weighs 4.6 GB: its tests run wherever it is installed.
collect_ignore = [] if CUDA.installed else ["comparison/compiling/test_cuda.py"]

compile_quickly()
share_processes()
atexit.register(end_processes)

# Meshes are tested on devices that a CPU plays; not by XLA_FLAGS, which programs started by tests
# would inherit.
jax.config.update("jax_num_cpu_devices", 8)

# The tests install libtpu for its compiler; without a TPU it complains when it is asked for one.
leave_out_absent()

HERE = Path(__file__).parent
CORE = {HERE, HERE / "core", HERE / "independence", HERE / "strategies"}


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep the garbage collector from walking through all that is imported, again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Refuse implicit rank and dtype promotion, except where Flax and plots are at work."""
    if request.path.parent not in CORE:
        yield
        return
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def on_cpu():
    """Run on the CPU, whatever else is attached: for what is only done there."""
    with jax.default_device(jax.devices("cpu")[0]), assume("cpu"):
        yield


@pytest.fixture
def on_two_cores(on_cpu, monkeypatch):
    """Choose for a CPU of two cores, however many this one has."""
    monkeypatch.setattr("tdjax.costs.machine.cpu_caches", lambda: (2.0**20, 2.0**25))
    _machine.cache_clear()
    yield
    _machine.cache_clear()


@pytest.fixture
def at_once():
    """Give a context manager: a device without caches, where small rows take longer than launches.

    A turn of a loop takes longer than they, so that packed steps are computed at once there.
    """
    machine = dataclasses.replace(machine_of("gpu"), memory_bytes_s=1e5, turn_s=2e-3)
    return lambda: assume_machine(machine)


@pytest.fixture
def count_compilations():
    """Give a context manager whose list holds every compilation inside it."""

    @contextlib.contextmanager
    def counting():
        compiled, active = [], [True]

        def listen(event, duration, **details):
            if active[0] and event == "/jax/core/compile/backend_compile_duration":
                compiled.append(details)

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            yield compiled
        finally:
            active[0] = False

    return counting


@pytest.fixture(scope="module")
def optimised():
    """Optimise programs: for modules that look at them."""
    optimise(True)
    yield
    optimise(False)
