"""Read a row of handwritten digits and name its check digit: a real training on real images.

    pip install '.[examples]'  # in a checkout
    python examples/digit_sequences.py [--out DIR] [--steps N] [--seed N] [--strategy NAME]

The images are scikit-learn's handwritten digits (8x8 pixels, they come with its wheel). A sequence
is a row of one to six of them, its label the sum of their digits modulo ten, and nothing else
is told: not where a digit is, not which digit it is. The label needs the whole sequence: miss one
image and every answer is equally likely, so that reading all images but one is worth no more than
a guess, 10%.

The network is what Keras' TimeDistributed was made for: a small conv net with batch normalization
and dropout, applied to every image with the same weights, and an LSTM over its features. Rows are
padded to six images, and the padding holds NaN: `seq_lengths` keeps it out of the features, of
the batch statistics and of the gradients. Training begins with single images and ends with rows
of up to six. The images are divided first, so that no held-out image is ever trained on.

Writes into DIR (tdjax-results/digit_sequences): sequences.png, learning_curve.png, and an Orbax
checkpoint, which is restored under the other strategies to compare their predictions.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import linen as nn
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from scipy import ndimage
from sklearn.datasets import load_digits

from tdjax import StrategyError
from tdjax.comparison.system.extras import leave_out_absent
from tdjax.linen import TimeDistributed

LONGEST = 6
BATCH = 128
HELD_OUT_SEQUENCES = 2000
STRATEGIES = ("auto", "fold", "vmap", "map", "unroll")


# Data


class Images(NamedTuple):
    pixels: np.ndarray  # (count, 8, 8, 1), 0 to 1
    digits: np.ndarray  # (count,)


class Sequences(NamedTuple):
    images: np.ndarray  # (count, 6, 8, 8, 1): batch, time, height, width, channels
    lengths: np.ndarray  # (count,)
    picked: np.ndarray  # (count, 6): which image is where, and in the padding some number
    labels: np.ndarray  # (count,)


def load_images(seed: int, held_out: int = 400) -> tuple[Images, Images]:
    """Return the images to train on, and those that are kept for the end."""
    data = load_digits()
    pixels = (data.images[..., None] / 16).astype(np.float32)
    order = np.random.default_rng([seed, 0]).permutation(len(pixels))
    kept, trained_on = order[:held_out], order[held_out:]
    return Images(pixels[trained_on], data.target[trained_on]), Images(
        pixels[kept], data.target[kept]
    )


def distort(images: Images, copies: int, rng: np.random.Generator) -> Images:
    """Return `copies` of every image, each a little turned, slanted, scaled and moved."""
    middle = np.array([3.5, 3.5])
    distorted = []
    for pixels in np.tile(images.pixels[..., 0], (copies, 1, 1)):
        angle, slant = np.deg2rad(rng.uniform(-10, 10)), rng.uniform(-0.1, 0.1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ [[1, 0], [slant, 1]] * np.exp(rng.uniform(-0.1, 0.1, (2, 1)))
        offset = middle - matrix @ middle + rng.uniform(-0.75, 0.75, 2)
        distorted.append(ndimage.affine_transform(pixels, matrix, offset, order=3))
    return Images(np.stack(distorted)[..., None], np.tile(images.digits, copies))


def draw_sequences(images: Images, count: int, longest: int, rng: np.random.Generator) -> Sequences:
    """Draw rows of 1 to `longest` images, padded to `LONGEST` with NaN."""
    lengths = rng.integers(1, longest + 1, count)
    picked = rng.integers(0, len(images.digits), (count, LONGEST))
    real = np.arange(LONGEST) < lengths[:, None]
    pixels = np.where(real[..., None, None, None], images.pixels[picked], np.float32(np.nan))
    labels = (images.digits[picked] * real).sum(1) % 10
    return Sequences(pixels, lengths, picked, labels)


# Model


class DigitFeatures(nn.Module):
    """Features of one image; it knows nothing of sequences."""

    @nn.compact
    def __call__(self, x, train=False):  # (batch, 8, 8, 1)
        for channels, stride in ((16, 1), (32, 2), (32, 1)):
            x = nn.Conv(channels, (3, 3), strides=stride, use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1)))
        return nn.Dropout(0.2, deterministic=not train)(x)  # (batch, 64)


class CheckDigit(nn.Module):
    """The check digit of a sequence of images."""

    strategy: Any = "auto"

    @nn.compact
    def __call__(self, images, seq_lengths, train=False):  # (batch, time, 8, 8, 1), (batch,)
        features = TimeDistributed(DigitFeatures(name="features"), strategy=self.strategy)(
            images, seq_lengths=seq_lengths, train=train
        )  # (batch, time, 64)
        lstm = nn.RNN(nn.OptimizedLSTMCell(128), return_carry=True)
        (_, last), _ = lstm(features, seq_lengths=seq_lengths)
        return nn.Dense(10)(last)  # (batch, 10)


@partial(jax.jit, static_argnums=0)
def compute_logits(model: CheckDigit, variables: Any, images: Any, lengths: Any) -> jax.Array:
    return model.apply(variables, images, lengths)


def predict(model: CheckDigit, variables: Any, sequences: Sequences) -> np.ndarray:
    """Return the check digits that the model reads."""
    logits = compute_logits(model, variables, sequences.images, sequences.lengths)
    return np.asarray(logits).argmax(-1)


def read_alone(model: CheckDigit, variables: Any, images: Images) -> np.ndarray:
    """Return how the model reads single images: as sequences of one, with the same weights."""
    ones = np.ones(len(images.digits), int)
    return np.asarray(compute_logits(model, variables, images.pixels[:, None], ones)).argmax(-1)


def accuracy(model: CheckDigit, variables: Any, sequences: Sequences) -> float:
    return float((predict(model, variables, sequences) == sequences.labels).mean())


# Training


class Curve(NamedTuple):
    longest: list[int]  # of each step
    losses: list[float]  # of each step
    evaluated: list[int]  # after how many steps
    accuracies: list[float]  # on held-out images


def longest_at(step: int, steps: int) -> int:
    """Return the longest row drawn at a step: 1 at first, `LONGEST` after three fifths."""
    return min(LONGEST, 1 + int(LONGEST * step / (0.6 * steps)))


def train(
    model: CheckDigit,
    images: Images,
    held_out: Sequences,
    steps: int,
    seed: int,
    console: Console,
    evaluations: int = 12,
) -> tuple[Any, Curve]:
    """Return the trained variables, and how the training went."""
    rng = np.random.default_rng([seed, 1])
    init_key, dropout_key = jax.random.split(jax.random.key(seed))
    distorted = distort(images, 16, rng)
    first = draw_sequences(images, 2, LONGEST, rng)
    variables = jax.jit(model.init)(init_key, first.images, first.lengths)

    schedule = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 20, steps, 3e-5)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4)
    )
    opt_state = optimizer.init(variables["params"])

    @jax.jit
    def train_step(variables, opt_state, batch, step):
        def mean_loss(params):
            logits, updates = model.apply(
                {**variables, "params": params},
                batch.images,
                batch.lengths,
                train=True,
                rngs={"dropout": jax.random.fold_in(dropout_key, step)},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
            return losses.mean(), updates

        grad = jax.value_and_grad(mean_loss, has_aux=True)
        (loss, updates), gradients = grad(variables["params"])
        changes, opt_state = optimizer.update(gradients, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], changes)
        return {"params": params, **updates}, opt_state, loss

    curve = Curve([], [], [0], [accuracy(model, variables, held_out)])
    due = {round(steps * (n + 1) / evaluations) for n in range(evaluations)}
    columns = (
        BarColumn(bar_width=32),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    terminal = console.is_terminal
    with Progress(*columns, console=console, disable=not terminal, transient=True) as bar:
        task = bar.add_task("compiling", total=steps)
        for step in range(steps):
            longest = longest_at(step, steps)
            batch = draw_sequences(distorted, BATCH, longest, rng)
            variables, opt_state, loss = train_step(variables, opt_state, batch, step)
            curve.longest.append(longest)
            curve.losses.append(float(loss))
            if step + 1 in due:
                curve.evaluated.append(step + 1)
                curve.accuracies.append(accuracy(model, variables, held_out))
            told = (
                f"longest row {longest}   loss {curve.losses[-1]:.3f}   "
                f"held out {curve.accuracies[-1]:.1%}"
            )
            bar.update(task, advance=1, description=told)
            if step + 1 in due and not terminal:
                console.print(f"step {step + 1:4}   {told}")
    return variables, curve


# Checkpoint


def save_checkpoint(path: Path, variables: Any) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), variables, force=True)


def restore_checkpoint(path: Path, model: CheckDigit) -> Any:
    """Restore variables for a model that has none yet; its strategy does not matter."""
    images = np.zeros((1, LONGEST, 8, 8, 1), np.float32)
    expected = jax.eval_shape(model.init, jax.random.key(0), images, np.ones(1, int))
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), expected)


# Pictures

INK, SOFT, LINE, PAPER = "#1b2330", "#5d6879", "#dde2ea", "#ffffff"
RIGHT, WRONG, SECOND, FAINT = "#0f8a7e", "#c2372b", "#b9722a", "#b5d8d3"


def draw_grid(
    path: Path, sequences: Sequences, images: Images, found: np.ndarray, alone: np.ndarray
) -> None:
    """Draw the first sequences of these images, and below them the first wrong answers.

    `found` is what the model says of each sequence, `alone` of each image by itself.
    """
    first = np.arange(min(20, len(found)))
    wrong = np.flatnonzero(found != sequences.labels)
    answers = f"{len(wrong)} wrong answers to {len(found)} sequences"
    parts = [(first, f"The first {len(first)} of {len(found)} held-out sequences")]
    if len(wrong):
        parts.append((wrong[:6], answers if len(wrong) <= 6 else f"The first 6 of {answers}"))

    figure = Figure(facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    y, right = 0.0, 1.08 * LONGEST + 0.66  # where the circles are
    for chosen, title in parts:
        axes.text(0, y + 0.7, title, fontsize=14, fontweight="bold", color=INK)
        y += 1.15
        rows = -(-len(chosen) // 2)
        for n, index in enumerate(chosen):
            length = sequences.lengths[index]
            picked = sequences.picked[index, :length]
            left, top = (right + 3.9) * (n // rows), y + 1.16 * (n % rows)
            for place, image in enumerate(picked):
                draw_image(axes, left + 1.08 * place, top, images, image, alone)
            label, total = sequences.labels[index], images.digits[picked].sum()
            color, says = (
                (RIGHT, f"sum {total}")
                if found[index] == label
                else (WRONG, f"sum {total}, so {label}")
            )
            axes.add_patch(Circle((left + right, top + 0.5), 0.43, facecolor=color))
            axes.text(
                left + right, top + 0.52, str(found[index]),
                fontsize=13, fontweight="bold", color=PAPER, ha="center", va="center",
            )  # fmt: skip
            axes.text(left + right + 0.65, top + 0.52, says, fontsize=11, color=SOFT, va="center")
        y += 1.16 * rows + 0.35
    shown = np.concatenate([chosen for chosen, _ in parts])
    misread = (alone != images.digits)[sequences.picked[shown]]
    note = "In the circle: the network's check digit, which should be the sum modulo ten."
    if misread[np.arange(LONGEST) < sequences.lengths[shown, None]].any():
        note += "   Framed: an image that it misreads by itself, and as what."
    axes.text(0, y + 0.3, note, fontsize=11, color=SOFT, va="center")
    width, height = 2 * right + 7.3, y + 1.3
    axes.set(xlim=(-0.5, width - 0.5), ylim=(y + 0.8, -0.5))
    axes.set_axis_off()
    figure.set_size_inches(0.5 * width, 0.5 * height)
    figure.savefig(path, dpi=120)


def draw_image(axes: Any, x: float, y: float, images: Images, image: int, alone: Any) -> None:
    """Draw one image, framed if the model misreads it."""
    axes.imshow(
        images.pixels[image, ..., 0], cmap="gray_r", vmin=0, vmax=1,
        extent=(x, x + 1, y + 1, y), interpolation="nearest",
    )  # fmt: skip
    misread = alone[image] != images.digits[image]
    edge, width = (WRONG, 2.2) if misread else (LINE, 0.8)
    axes.add_patch(
        Rectangle((x, y), 1, 1, fill=False, edgecolor=edge, linewidth=width, zorder=2 + misread)
    )
    if misread:
        axes.text(
            x + 0.97, y + 0.97, str(alone[image]), fontsize=8.5, fontweight="bold", color=PAPER,
            ha="right", va="bottom", zorder=4, bbox={"color": WRONG, "pad": 1.5},
        )  # fmt: skip


def draw_learning_curve(path: Path, curve: Curve) -> None:
    """Draw held-out accuracy and training loss over steps, and how long the rows were."""
    figure = Figure(figsize=(9.2, 5.8), layout="constrained", facecolor=PAPER)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    above, below = figure.subplots(2, sharex=True)
    losses, longest = np.array(curve.losses), np.array(curve.longest)

    above.plot(
        curve.evaluated, 100 * np.array(curve.accuracies),
        color=RIGHT, linewidth=2.4, marker="o", markersize=5, clip_on=False, zorder=3,
    )  # fmt: skip
    above.axhline(95, color=SECOND, linewidth=1, linestyle=(0, (4, 3)))
    above.text(0, 92.5, "95%", color=SECOND, fontsize=9, va="top")
    above.set(ylim=(0, 100), yticks=range(0, 101, 20))
    above.yaxis.set_major_formatter("{x:.0f}%")
    set_title(above, f"Right answers to held-out rows of 1 to {LONGEST} images")
    above.set_title(f"{curve.accuracies[-1]:.1%} at the end", loc="right", color=RIGHT, pad=10)

    for length in np.unique(longest):
        drawn = np.flatnonzero(longest == length)
        window = np.ones(min(15, len(drawn)))
        means = np.convolve(losses[drawn], window, "same") / np.convolve(
            np.ones(len(drawn)), window, "same"
        )
        below.plot(drawn + 1, losses[drawn], color=FAINT, linewidth=0.8)
        below.plot(drawn + 1, means, color=RIGHT, linewidth=2.2)
        below.text(
            drawn.mean() + 1, 0.97, f"1 to {length}" if length > 1 else "1",
            transform=below.get_xaxis_transform(),
            fontsize=9, color=SOFT, ha="center", va="top",
        )  # fmt: skip
        for axes in (above, below):
            axes.axvline(drawn[0], color=LINE, linewidth=0.8, zorder=0)
    below.set_yscale("log")
    below.set_ylim(losses.min() / 1.3, losses.max() * 2.5)
    below.yaxis.set_major_formatter("{x:g}")
    below.yaxis.set_minor_formatter("")
    below.set_xlabel("step", color=SOFT)
    set_title(below, "Training loss, and how many images the rows had")
    for axes in (above, below):
        axes.set_xlim(0, len(losses))
        axes.tick_params(which="both", length=0, labelsize=9, colors=SOFT)
        axes.grid(axis="y", color=LINE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)


def set_title(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=10)


# The whole of it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("tdjax-results/digit_sequences"))
    parser.add_argument("--steps", type=int, default=900, help="training steps (900)")
    parser.add_argument("--seed", type=int, default=0, help="split, weights and batches (0)")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, default="auto",
        help="how the images are distributed in training (auto)",
    )  # fmt: skip
    options = parser.parse_args()
    leave_out_absent()
    if options.steps < 1 or options.seed < 0:
        parser.error("--steps must be at least 1, and --seed at least 0")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {error}")
    began, console = time.perf_counter(), Console(highlight=False)

    images, kept_images = load_images(options.seed)
    rng = np.random.default_rng([options.seed, 2])
    held_out = draw_sequences(kept_images, HELD_OUT_SEQUENCES, LONGEST, rng)
    console.print(f"{len(images.digits)} images to train on, {len(kept_images.digits)} held out")
    model = CheckDigit(strategy=options.strategy)
    try:
        variables, curve = train(model, images, held_out, options.steps, options.seed, console)
    except StrategyError as error:
        parser.error(f"--strategy {options.strategy}: {error}")
    found = predict(model, variables, held_out)
    right = found == held_out.labels
    alone = read_alone(model, variables, kept_images)
    draw_grid(options.out / "sequences.png", held_out, kept_images, found, alone)
    draw_learning_curve(options.out / "learning_curve.png", curve)

    by_length = Table("images in a row", "sequences", "right", box=box.SIMPLE_HEAD)
    for length in range(1, LONGEST + 1):
        of_length = right[held_out.lengths == length]
        by_length.add_row(str(length), str(len(of_length)), f"{of_length.mean():.1%}")
    console.print(by_length)

    save_checkpoint(options.out / "checkpoint", variables)
    restored = Table("restored under", "right", "changed predictions", box=box.SIMPLE_HEAD)
    for strategy in STRATEGIES:
        other = CheckDigit(strategy=strategy)
        again = predict(other, restore_checkpoint(options.out / "checkpoint", other), held_out)
        share = (again == held_out.labels).mean()
        restored.add_row(strategy, f"{share:.1%}", str((again != found).sum()))
    console.print(restored)
    single = (alone == kept_images.digits).mean()
    console.print(
        f"{right.mean():.1%} of {len(right)} held-out sequences right, {single:.1%} of single "
        f"images, in {time.perf_counter() - began:.0f} s"
    )
    console.print(f"pictures and checkpoint: {options.out}")


if __name__ == "__main__":
    main()
