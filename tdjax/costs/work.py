"""What one row of a step costs: arithmetic, and the memory of its values."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

from tdjax.costs.traffic import Traffic


class Product(NamedTuple):
    """Products of matrices that are alike.

    Attributes:
        flops: floating point operations of a row.
        once: those of one product alone.
        batched: whether each is of several pairs of matrices.
        one_place: whether each is a convolution whose window has one place.
    """

    flops: float
    once: float
    batched: bool = False
    one_place: bool = False


class Convolutions(NamedTuple):
    """Convolutions that are alike: of more than one place, with kernels of several channels.

    Attributes:
        flops: floating point operations of a row, zeros between pixels left out.
        packed_values: values that are put in order: for every output what it sees.
        narrow: whether they have so few output features, or so few values an output, that one core
            computes them.
        spaced: whether zeros lie between their pixels.
        apart: whether they can be taken apart into taps.
        tiled: whether they can be computed by tiles.
        naive: whether XLA for CPUs pulls them back for kernels in plain loops.
    """

    flops: float
    packed_values: float = 0.0
    narrow: bool = False
    spaced: bool = False
    apart: bool = False
    tiled: bool = False
    naive: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
    """What one row of a step costs.

    Attributes:
        products: products of matrices, convolutions of one place included.
        convolutions: other convolutions, but those of every channel with a kernel of its own.
        tiled_convs: how many of them can be computed by tiles, whatever the rows; none in a block
            of fewer rows than `tiled_from`.
        tiled_bytes: bytes of the images and outputs of these.
        tiled_part_bytes: bytes of what one of their products by tiles takes, the smallest one.
        channel_flops: floating point operations of convolutions of every channel with a kernel of
            its own.
        pooled_values: values that windows look at to find the largest, and twice those that they
            look at in all: what XLA for CPUs pulls back one after the other.
        transcendentals: values of exp, tanh and the like.
        patch_bytes: bytes of what the gradients of convolutions bring into another order, their
            images and their outputs, summed.
        largest_patch_bytes: bytes of those of one of them.
        gathered_bytes: bytes of what is looked up in tables.
        traffic: what its operations read and write, weights left out.
        stored_bytes: of the bytes of that, those of operations that XLA fuses with no others.
        live_bytes: the most bytes that are in use at one time, input and output included.
        spread_bytes: how many more may be in use, if XLA writes out what it repeats for every row.
        kept_bytes: bytes of what is in memory at some time, or takes long to compute: what a
            gradient keeps.
        input_bytes, output_bytes: bytes of the arguments and outputs that have rows.
        weight_bytes: bytes of what has no rows and is read by every block of them; not a row's.
        operations: how many operations run, whatever the rows.
        equations: how many equations the step has, those inside of others included.
        own_equations, part_equations: how many more it has, about, where convolutions of every
            channel with a kernel of its own are tdjax's, and where others are taken apart.
        fused: the same forward, where XLA for CPUs gives parts of it to its library: from how many
            rows of a block on it does, and what a row costs there. Larger blocks have more parts.
    """

    products: tuple[Product, ...] = ()
    convolutions: tuple[Convolutions, ...] = ()
    tiled_convs: int = 0
    tiled_from: float = 0.0
    tiled_bytes: float = 0.0
    tiled_part_bytes: float = math.inf
    channel_flops: float = 0.0
    pooled_values: float = 0.0
    transcendentals: float = 0.0
    patch_bytes: float = 0.0
    largest_patch_bytes: float = 0.0
    gathered_bytes: float = 0.0
    traffic: tuple[Traffic, ...] = ()
    stored_bytes: float = 0.0
    live_bytes: float = 0.0
    spread_bytes: float = 0.0
    kept_bytes: float = 0.0
    input_bytes: float = 0.0
    output_bytes: float = 0.0
    weight_bytes: float = 0.0
    operations: int = 0
    equations: int = 0
    own_equations: int = 0
    part_equations: int = 0
    fused: tuple[tuple[float, Work], ...] = ()

    def forward(self, rows: float) -> Work:
        """Return what a row costs on a CPU, in a block of so many, where nothing is kept."""
        return next((work for least, work in reversed(self.fused) if rows >= least), self)

    @property
    def dot_flops(self) -> float:
        """Floating point operations of matrix products."""
        return sum(each.flops for each in self.products)

    @property
    def conv_flops(self) -> float:
        """Floating point operations of convolutions, those of one place or by channel left out."""
        return sum(each.flops for each in self.convolutions)

    @property
    def moved_bytes(self) -> float:
        """Bytes that its operations read and write, weights left out."""
        return sum(each.bytes for each in self.traffic)

    @property
    def convolves(self) -> bool:
        """Whether there is a convolution."""
        places = any(each.one_place for each in self.products)
        return places or self.conv_flops + self.channel_flops > 0

    @property
    def has_own_forms(self) -> bool:
        """Whether there is a convolution, or pooling: blocks have forms of their own of these."""
        return self.convolves or self.pooled_values > 0
