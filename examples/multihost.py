"""Train over several processes, as on several hosts, and survive the death of one.

    pip install '.[examples]'  # in a checkout
    python examples/multihost.py [--out DIR] [--processes 2] [--devices 4] [--steps 6]

Starts `processes` workers on this machine, each with `devices` CPU devices of its own, which find
each other through `jax.distributed` on localhost. Their devices make one mesh, ("data", "seq"),
and a convolutional net with batch normalization and dropout is distributed over clips spread over
both: `TimeDistributed(net, partition=PartitionSpec("data", "seq"))`. No frame leaves its device;
the statistics of the batch and the gradients of the weights are summed over all of them. The
losses are those of a single process with as many devices.

Every second step is kept by Orbax. If a worker dies, the run ends with an error that says so, and
the same command goes on from the last step that was kept, to the same numbers. `--dies-at STEP`
kills the last worker there, to see it. On hosts of your own, start one worker on each instead,
with `--worker NUMBER --coordinator HOST:PORT`.

Writes into DIR (tdjax-results/multihost): losses.jsonl and checkpoints/.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KEPT_EVERY = 2
BATCH, TIME, SIZE = 4, 16, 8  # clips, frames, pixels
SEQ = 4  # devices that share the frames of a clip
# Seconds after which the other hosts notice that one is gone, where no launcher watches them.
HEARTBEAT_S = 20


# Starting workers


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("tdjax-results/multihost"), metavar="DIR")
    parser.add_argument("--processes", type=_positive, default=2, metavar="N")
    parser.add_argument("--devices", type=_positive, default=4, metavar="N", help="of each process")
    parser.add_argument("--steps", type=_positive, default=6, metavar="N")
    parser.add_argument("--dies-at", type=int, metavar="STEP", help="the last worker dies there")
    parser.add_argument("--worker", type=int, metavar="NUMBER", help="be one of the processes")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where worker 0 listens")
    options = parser.parse_args()
    if options.processes * options.devices % SEQ:
        parser.error(f"processes times devices must be a multiple of {SEQ}")
    if options.worker is None:
        return launch(options)
    if options.coordinator is None:
        parser.error("--worker needs --coordinator")
    work(options)
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def launch(options: argparse.Namespace) -> int:
    """Start the workers and wait for them; if one dies, end the others and say so."""
    options.out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, __file__, *sys.argv[1:], "--coordinator", coordinator]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    workers = [
        subprocess.Popen([*command, "--worker", str(number)], env=environment)
        for number in range(options.processes)
    ]
    try:
        while any(worker.poll() is None for worker in workers):
            dead = [n for n, worker in enumerate(workers) if worker.poll() not in (None, 0)]
            if dead:
                print(_obituary(dead[0], workers[dead[0]].returncode), file=sys.stderr)
                return 1
            time.sleep(0.1)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    dead = [n for n, worker in enumerate(workers) if worker.returncode]
    if dead:
        print(_obituary(dead[0], workers[dead[0]].returncode), file=sys.stderr)
    return bool(dead)


def _obituary(number: int, code: int) -> str:
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return (
        f"error: worker {number} died {how}; the others were stopped. The same command goes on "
        f"from the last step that was kept."
    )


# One worker


def work(options: argparse.Namespace) -> None:
    """Train as one of the processes."""
    import jax

    from tdjax.comparison.system.extras import leave_out_absent

    keep_own_lines()
    leave_out_absent()
    jax.config.update("jax_num_cpu_devices", options.devices)
    jax.distributed.initialize(
        options.coordinator,
        options.processes,
        options.worker,
        heartbeat_timeout_seconds=HEARTBEAT_S,
    )
    from jax.sharding import AxisType

    count = options.processes * options.devices
    mesh = jax.make_mesh((count // SEQ, SEQ), ("data", "seq"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        train(mesh, options)
    jax.distributed.shutdown()


def keep_own_lines() -> None:
    """Leave standard output to Python: Gloo prints a line there for every connection."""
    sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def train(mesh: Any, options: argparse.Namespace) -> None:
    """Train from the last checkpoint on, if there is one."""
    import jax
    import orbax.checkpoint as ocp
    from jax.sharding import NamedSharding, PartitionSpec

    first, step = training(mesh)
    state = first()
    keeping = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    with ocp.CheckpointManager((options.out / "checkpoints").absolute(), options=keeping) as kept:
        start = kept.latest_step() or 0
        if start:
            shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            state = kept.restore(start, args=ocp.args.StandardRestore(shapes))
        say(f"{options.processes} processes, {jax.device_count()} devices, from step {start}")
        spread = NamedSharding(mesh, PartitionSpec("data", "seq"))
        for number in range(start, options.steps):
            if number == options.dies_at and options.worker == options.processes - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            clips, labels = batch(number)
            # Each process makes the part of it that its own devices have.
            clips = jax.make_array_from_callback(clips.shape, spread, lambda at, x=clips: x[at])
            state, loss = step(state, clips, labels, number)
            note(options.out, number, float(loss))
            if (number + 1) % KEPT_EVERY == 0:
                kept.save(number + 1, args=ocp.args.StandardSave(state))


def training(mesh: Any) -> tuple[Any, Any]:
    """Return the function that makes the first state, and the one that takes a step."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax
    from jax.sharding import NamedSharding, PartitionSpec

    from tdjax.linen import TimeDistributed

    class Frame(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:  # (batch, 8, 8, 1) -> (batch, 8)
            x = nn.Conv(8, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
            return nn.Dropout(0.2, deterministic=not train)(x.mean((1, 2)))

    class Clip(nn.Module):
        @nn.compact
        def __call__(self, clips: Any, train: bool) -> Any:  # (batch, time, 8, 8, 1) -> (batch,)
            frames = TimeDistributed(Frame(), partition=PartitionSpec("data", "seq"))
            return nn.Dense(1)(frames(clips, train=train).mean(1))[:, 0]

    model, optimizer = Clip(), optax.adam(1e-2)
    everywhere = NamedSharding(mesh, PartitionSpec())

    def first() -> Any:
        clips = jnp.zeros((BATCH, TIME, SIZE, SIZE, 1))
        variables = model.init(jax.random.key(0), clips, train=False)
        return {**variables, "optimizer": optimizer.init(variables["params"])}

    def step(state: Any, clips: Any, labels: Any, number: Any) -> Any:
        def loss_of(params: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(1), number)
            held = {"params": params, "batch_stats": state["batch_stats"]}
            scores, updated = model.apply(
                held, clips, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return ((scores - labels) ** 2).mean(), updated["batch_stats"]

        (loss, statistics), gradient = jax.value_and_grad(loss_of, has_aux=True)(state["params"])
        change, memory = optimizer.update(gradient, state["optimizer"])
        params = optax.apply_updates(state["params"], change)
        return {"params": params, "batch_stats": statistics, "optimizer": memory}, loss

    return jax.jit(first, out_shardings=everywhere), jax.jit(step, out_shardings=everywhere)


def batch(number: int) -> tuple[Any, Any]:
    """Return clips `(batch, time, 8, 8, 1)` with noise, and how bright each is."""
    import numpy as np

    rng = np.random.default_rng(number)
    bright = rng.permutation(np.linspace(-1, 1, BATCH, dtype=np.float32))
    noise = rng.normal(size=(BATCH, TIME, SIZE, SIZE, 1)).astype(np.float32)
    return bright[:, None, None, None, None] + noise / 2, bright


def say(text: str) -> None:
    """Print a line, once for all processes."""
    import jax

    if jax.process_index() == 0:
        print(text, flush=True)


def note(out: Path, number: int, loss: float) -> None:
    """Write the loss of a step, over what a run that died may have left of it."""
    import jax

    if jax.process_index():
        return
    path = out / "losses.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    # Written beside and renamed: a run that is killed here leaves the old losses or the new ones.
    written = out / "losses.jsonl.new"
    written.write_text(
        "\n".join([*lines[:number], json.dumps({"step": number, "loss": loss})]) + "\n"
    )
    written.replace(path)
    say(f"step {number}: loss {loss:.6f}")


if __name__ == "__main__":
    sys.exit(main())
