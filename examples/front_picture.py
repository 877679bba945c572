"""Draw the picture of the README: what TimeDistributed does, and what the ways to do it cost.

    pip install '.[compare]'  # in a checkout
    python examples/front_picture.py [--out DIR] [--result FILE]

The frames are windows that wander over the photograph that matplotlib ships; the features are what
a small conv net with random weights makes of them. The bars are read from a result of
`tdjax compare`, and the picture says where and when it was measured. Writes front.png and
front-dark.png into DIR (examples/pictures).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from tdjax import Comparison
from tdjax.comparison.rendering.pictures import style
from tdjax.comparison.system.extras import leave_out_absent
from tdjax.comparison.verdicts.metric import advantage
from tdjax.linen import TimeDistributed
from tdjax.workloads.faster_rcnn.photo import load_photo

EXAMPLES = Path(__file__).parent
RESULT = EXAMPLES / "results" / "cpu.json"
LENGTHS = (6, 3)
TIME, FEATURES, SIDE = 6, 12, 270
WORKLOADS = {
    "conv_net": "conv net\n3 convolutions, BatchNorm",
    "faster_rcnn_head": "Faster R-CNN's head\nbottlenecks over regions",
    "layer_norms": "normalization\n4 LayerNorms, gelu",
}
STRATEGIES = ("vmap", "fold", "auto")
MODES = {"forward": "forward", "grad": "forward + gradient"}
WIDTH, HEIGHT, DPI = 8.0, 4.3, 200
LARGE, MIDDLE, SMALL = 12, 9.5, 8.5


class Theme(NamedTuple):
    """The colors of one picture."""

    page: str
    ink: str
    soft: str
    line: str
    bar: str
    lead: str


LIGHT = Theme(style.PAGE, style.INK, style.SOFT, style.LINE, style.BAR, style.LEAD)
DARK = Theme("#0d1117", "#e6edf3", "#9aa7b8", "#30363d", "#56657f", "#2fb5a6")


class Net(nn.Module):
    """A frame, `(batch, side, side, 3)`, as features."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in (16, 32):
            x = nn.relu(nn.Conv(width, (5, 5), strides=(4, 4))(x))
        return nn.tanh(nn.Dense(FEATURES)(x.mean((1, 2))) * 4)


def wander() -> np.ndarray:
    """Return two clips, `(2, TIME, SIDE, SIDE, 3)`, of windows that move over the photograph."""
    photo = load_photo()
    frames = [
        [photo[y + dy * t :, x + dx * t :][:SIDE, :SIDE] for t in range(TIME)]
        for x, y, dx, dy in ((40, 20, 30, 16), (300, 420, -50, -30))
    ]
    return np.array(frames)


def features_of(clips: np.ndarray) -> np.ndarray:
    """Return the features of every frame, `(2, TIME, FEATURES)`; those of padding are 0."""
    model = TimeDistributed(Net())
    found, _ = model.init_with_output(jax.random.key(3), clips, seq_lengths=np.array(LENGTHS))
    return np.asarray(found)


def speeds(comparison: Comparison, mode: str) -> list[list[float]]:
    """Return how many times as fast as the reference each strategy is, for each workload."""
    found = []
    for workload in WORKLOADS:
        entries = {
            entry.strategy: entry
            for entry in comparison.entries
            if entry.workload == workload and entry.mode == mode and entry.evidence == "measured"
        }
        reference = entries[comparison.reference]
        ratios = (advantage(entries[name], reference, "time") for name in STRATEGIES)
        found.append([ratio.value if ratio else float("nan") for ratio in ratios])
    return found


def measured_on(comparison: Comparison) -> str:
    """Return where and when, in a line."""
    known: dict[str, Any] = comparison.environment
    cores, processor = known.get("cores"), known["processor"]
    return f"{processor}, {cores} cores, {str(known['date'])[:10]}, jax {known['jax']}, untuned"


def draw_net(figure: Any, clips: np.ndarray, features: np.ndarray, theme: Theme) -> None:
    """Draw frames, the net and features, in inches from the lower left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.set_axis_off()

    def write(x: float, y: float, text: str, size: float = MIDDLE, **look: Any) -> None:
        look = {"color": theme.ink, "ha": "center", "va": "center", **look}
        axes.text(x, y, text, fontsize=size, **look)

    side, gap, left, right = 0.52, 0.07, 0.62, 5.42
    rows = (HEIGHT - 0.94, HEIGHT - 1.54)
    middle = (rows[0] + rows[1] + side) / 2
    write(left, HEIGHT - 0.2, "clips (batch, time, …)", LARGE, ha="left", weight="bold")
    write(right, HEIGHT - 0.2, "features (batch, time, …)", LARGE, ha="left", weight="bold")
    for clip, y in enumerate(rows):
        for step in range(TIME):
            x = left + step * (side + gap)
            if step < LENGTHS[clip]:
                axes.imshow(clips[clip, step], extent=(x, x + side, y, y + side), aspect="auto")
            else:
                look = {"facecolor": "none", "edgecolor": theme.line, "hatch": "////"}
                axes.add_patch(Rectangle((x, y), side, side, linewidth=0.8, **look))
        for step in range(TIME):
            x = right + 0.04 + step * 0.4
            shown = features[clip, step][:, None]
            axes.imshow(
                shown,
                extent=(x, x + 0.24, y, y + side),
                aspect="auto",
                cmap="PuOr",
                vmin=-1,
                vmax=1,
                interpolation="nearest",
            )
            if step >= LENGTHS[clip]:
                axes.add_patch(Rectangle((x, y), 0.24, side, color=theme.page))
                write(x + 0.12, y + side / 2, "0", color=theme.soft)
            edge = {"facecolor": "none", "edgecolor": theme.line, "linewidth": 0.8}
            axes.add_patch(Rectangle((x, y), 0.24, side, **edge))
    write(left + 4.5 * (side + gap), rows[1] - 0.12, "padding", SMALL, color=theme.soft)
    net = 4.27, middle - 0.42, 0.86, 0.84
    box = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": theme.lead, "linewidth": 0}
    axes.add_patch(FancyBboxPatch(net[:2], *net[2:], **box))
    write(4.7, middle + 0.1, "one net", MIDDLE, color=theme.page, weight="bold")
    write(4.7, middle - 0.13, "shared weights", SMALL - 1, color=theme.page)
    arrow = {"arrowstyle": "-|>", "mutation_scale": 10, "color": theme.soft, "linewidth": 1.2}
    for begin, end in (((4.12, middle), (4.26, middle)), ((5.15, middle), (5.4, middle))):
        axes.add_patch(FancyArrowPatch(begin, end, shrinkA=0, shrinkB=0, **arrow))
    write(left - 0.16, rows[0] + side / 2, "clip 1", SMALL, color=theme.soft, rotation=90)
    write(left - 0.16, rows[1] + side / 2, "clip 2", SMALL, color=theme.soft, rotation=90)


def draw_bars(axes: Any, ratios: list[list[float]], title: str, theme: Theme) -> None:
    """Draw three bars for each workload, longer is better."""
    longest = max(map(max, ratios))
    for group, values in enumerate(ratios):
        for place, (name, value) in enumerate(zip(STRATEGIES, values, strict=True)):
            y = group * 4 + place
            color = theme.lead if name == "auto" else theme.bar
            axes.barh(y, value, height=0.84, color=color)
            weight = "bold" if name == "auto" else "normal"
            axes.text(
                max(value, 1) + 0.02 * longest,  # clear of the line at 1
                y,
                f"{name} {value:.2f}",
                va="center",
                fontsize=SMALL,
                color=theme.ink,
                weight=weight,
            )
    axes.axvline(1, color=theme.soft, linestyle=style.DASHED, linewidth=0.9)
    axes.set(xlim=(0, 1.36 * longest), ylim=(4 * len(ratios) - 1.4, -0.6), xticks=[], yticks=[])
    axes.set_title(title, loc="left", fontsize=MIDDLE, color=theme.ink, weight="bold", pad=4)
    axes.set_facecolor("none")
    axes.spines[:].set_visible(False)


def draw(path: Path, comparison: Comparison, theme: Theme) -> None:
    """Draw the picture into a file."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor=theme.page)
    clips = wander()
    draw_net(figure, clips, features_of(clips), theme)
    for place, (mode, title) in enumerate(MODES.items()):
        axes = figure.add_axes((0.245 + 0.385 * place, 0.075, 0.36, 0.455))
        draw_bars(axes, speeds(comparison, mode), title, theme)
        if place == 0:
            for group, text in enumerate(WORKLOADS.values()):
                name, *rest = text.split("\n")
                axes.text(
                    -0.04,
                    group * 4 + 0.62,
                    name,
                    transform=axes.get_yaxis_transform(),
                    ha="right",
                    va="center",
                    fontsize=MIDDLE,
                    color=theme.ink,
                    weight="bold",
                )
                axes.text(
                    -0.04,
                    group * 4 + 1.5,
                    *rest,
                    transform=axes.get_yaxis_transform(),
                    ha="right",
                    va="center",
                    fontsize=SMALL - 1,
                    color=theme.soft,
                )
    figure.text(
        0.985,
        0.022,
        f"times as fast as jax.vmap · {measured_on(comparison)}",
        ha="right",
        fontsize=SMALL,
        color=theme.soft,
    )
    figure.savefig(path, dpi=DPI, facecolor=theme.page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=EXAMPLES / "pictures", help="a folder")
    parser.add_argument("--result", type=Path, default=RESULT, help="a file of `tdjax compare`")
    options = parser.parse_args()
    leave_out_absent()
    options.out.mkdir(parents=True, exist_ok=True)
    comparison = Comparison.load(options.result)
    for name, theme in (("front.png", LIGHT), ("front-dark.png", DARK)):
        draw(options.out / name, comparison, theme)
        print(options.out / name)


if __name__ == "__main__":
    main()
