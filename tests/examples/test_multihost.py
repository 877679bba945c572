"""Training over two processes: the numbers of one, and of a run that nothing interrupted."""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from jax.sharding import AxisType

SCRIPT = Path(__file__).parents[2] / "examples" / "multihost.py"
STEPS = 4


def run(out, *arguments):
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--steps", str(STEPS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1])


def losses(out):
    return [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]


def alone(out, steps=STEPS):
    """Train in this process."""
    spec = importlib.util.spec_from_file_location("multihost", SCRIPT)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    out.mkdir()
    mesh = jax.make_mesh((2, 4), ("data", "seq"), axis_types=(AxisType.Auto,) * 2)
    options = argparse.Namespace(out=out, processes=1, steps=steps, dies_at=None, worker=0)
    with jax.set_mesh(mesh):
        example.train(mesh, options)


def test_a_worker_dies_and_the_run_goes_on_to_the_same_numbers(tmp_path):
    died = run(tmp_path / "two", "--dies-at", "3")
    last_step = (tmp_path / "two" / "losses.jsonl").stat().st_mtime
    assert time.time() - last_step < 60, "the others noticed too late"
    assert died.returncode == 1
    assert "error: worker 1 died by signal SIGKILL; the others were stopped" in died.stderr
    # The worker that writes may be stopped before it has written the step that both have taken.
    assert len(losses(tmp_path / "two")) in (2, 3)
    restarted = run(tmp_path / "two")
    assert restarted.returncode == 0, restarted.stderr
    steps = losses(tmp_path / "two")
    assert restarted.stdout.splitlines() == [
        "2 processes, 8 devices, from step 2",
        *(f"step {number}: loss {steps[number]['loss']:.6f}" for number in (2, 3)),
    ]
    alone(tmp_path / "one")
    for ours, theirs in zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True):
        assert ours == {"step": theirs["step"], "loss": pytest.approx(theirs["loss"], rel=1e-5)}


def test_the_loss_falls_from_step_to_step(tmp_path):
    alone(tmp_path / "one", steps=6)
    found = [line["loss"] for line in losses(tmp_path / "one")]
    assert len(found) == 6 and found == sorted(found, reverse=True)
    assert found[-1] < found[0] / 2


def test_wrong_usage(tmp_path):
    done = run(tmp_path, "--devices", "3")
    assert done.returncode == 2 and "multiple of 4" in done.stderr
