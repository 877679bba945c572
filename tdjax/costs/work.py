"""What one row of a step costs, read from its trace: arithmetic, and the memory of its values.

Contractions, reductions, gathers and the like write their result to memory. Elementwise operations
are fused into what reads them, as XLA does: their result is in memory only where a contraction or
several operations read it. Reshapes and broadcasts are free.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from tdjax.core.jaxpr import inner_program, is_literal
from tdjax.independence.rules.rule import Cost, Form, traits_of

# Before jax 0.11 XLA for CPUs computed convolutions along several axes on one core where they were
# to so few features, or of so few values an output: measured (Zen 4, jax 0.10), of kernels
# (3, 3, 16 to 64, 128) and (7, 7, 8, 128), but not of (3, 3, 128, 128) and (7, 7, 16, 128).
_NARROW = 64
_FEW_VALUES = 700
# Pixels of fewer channels are put in order one value at a time, which takes so many times as long.
_FEW_CHANNELS, _SINGLY = 4, 12
# With fewer channels, or features, one is not taken apart.
_FEWEST = 16

LEAST_FOR_ALL_CORES = 2**18
"""Of what a product by tiles takes in bytes: XLA for CPUs computes what is smaller on one core."""

OF_TILES = 50
"""How many operations a convolution by tiles takes."""

# With fewer channels or features, what tiles take beside products is longer than what they save: of
# 16, gradients took up to three times as long by them.
_FEWEST_IN_TILES = 32

# Of a kernel a channel, what a tap sees is cut out, multiplied and added. Others are taken apart
# into convolutions along the last axis, which take as long to compile as so many equations each.
_FOR_A_PRODUCT, _FOR_A_PART = 3, 5

# A gradient needs nothing of what these read.
_LINEAR = ("add", "add_any", "sub", "neg", "reduce_sum", "concatenate", "gather")
# Of these it needs the result instead.
_OWN_DERIVATIVE = ("exp", "tanh", "logistic", "sqrt", "rsqrt")
_POOLS = ("reduce_window_max", "tdjax_window_max")
_PRODUCTS = ("dot_general", "tdjax_product", "tdjax_pushed")


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


class Traffic(NamedTuple):
    """What operations read and write of a row, a part of it that is alike.

    Attributes:
        bytes: how much that is.
        between: bytes of other values of a row, and of its own, that are used between two uses of
            one of these: a cache that holds so much still has it.
        weights_between: bytes of weights that are read between these two; not a row's.
        written: bytes that each of these operations writes.
    """

    bytes: float
    between: float
    weights_between: float
    written: float


@dataclasses.dataclass(frozen=True)
class Work:
    """What one row of a step costs.

    Attributes:
        products: products of matrices, convolutions of one place included.
        conv_flops: floating point operations of other convolutions, zeros between pixels left out.
        narrow_conv_flops: of these, what has so few output features that one core computes it.
        packed_values: values that convolutions put in order: for every output what it sees.
        apart_flops: of these, what can be taken apart into taps.
        tiled_flops: of these, what can be computed by tiles.
        tiled_convs: how many convolutions that is, whatever the rows; none in a block of fewer
            rows than `tiled_from`.
        tiled_bytes: bytes of their images and outputs.
        tiled_part_bytes: bytes of what one of their products by tiles takes, the smallest one.
        naive_flops: of these, what XLA for CPUs pulls back for kernels in plain loops.
        channel_flops: those of convolutions of every channel with a kernel of its own, not counted
            elsewhere.
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
        kept_bytes: bytes of what is in memory at some time, or takes long to compute: what a
            gradient keeps.
        input_bytes, output_bytes: bytes of the arguments and outputs that have rows.
        weight_bytes: bytes of what has no rows and is read by every block of them; not a row's.
        operations: how many operations run, whatever the rows.
        equations: how many equations the step has, those inside of others included.
        own_equations, part_equations: how many more it has, about, where convolutions of every
            channel with a kernel of its own are tdjax's, and where others are taken apart.
    """

    products: tuple[Product, ...] = ()
    conv_flops: float = 0.0
    narrow_conv_flops: float = 0.0
    packed_values: float = 0.0
    apart_flops: float = 0.0
    tiled_flops: float = 0.0
    tiled_convs: int = 0
    tiled_from: float = 0.0
    tiled_bytes: float = 0.0
    tiled_part_bytes: float = math.inf
    naive_flops: float = 0.0
    channel_flops: float = 0.0
    pooled_values: float = 0.0
    transcendentals: float = 0.0
    patch_bytes: float = 0.0
    largest_patch_bytes: float = 0.0
    gathered_bytes: float = 0.0
    traffic: tuple[Traffic, ...] = ()
    stored_bytes: float = 0.0
    live_bytes: float = 0.0
    kept_bytes: float = 0.0
    input_bytes: float = 0.0
    output_bytes: float = 0.0
    weight_bytes: float = 0.0
    operations: int = 0
    equations: int = 0
    own_equations: int = 0
    part_equations: int = 0

    @property
    def dot_flops(self) -> float:
        """Floating point operations of matrix products."""
        return sum(each.flops for each in self.products)

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


def work_of(program: Any, rows: int, has_rows: Sequence[bool]) -> Work:
    """Return what a row of a traced step costs.

    Args:
        program: the trace, an `Opened`, on a step of `rows` rows.
        rows: how many rows it was traced on.
        has_rows: for each input, whether it has rows.
    """
    reader = _Reader(rows)
    values = {variable: reader.given(variable, False) for variable in program.constvars}
    for variable, rowed in zip(program.invars, has_rows, strict=True):
        values[variable] = reader.given(variable, rowed)
    inputs = list(values.values())
    reader.run(program.eqns, values)
    outputs = [values[atom] for atom in program.outvars if not is_literal(atom)]
    for output in outputs:
        reader.store(output)
    return reader.total(inputs, outputs)


_SUMMED = (
    ("conv_flops", "narrow_conv_flops", "packed_values", "naive_flops")
    + ("apart_flops", "tiled_flops", "tiled_bytes")
    + ("channel_flops", "pooled_values", "transcendentals", "patch_bytes", "gathered_bytes")
    + ("stored_bytes",)
)  # fmt: skip


@dataclasses.dataclass(eq=False)
class _Value:
    """A value of the program.

    Attributes:
        bytes: of all of it.
        rowed: whether it depends on an input with rows.
        stored: whether it is in memory.
        sources: the values in memory that it is computed from, where it is not itself.
        born, died: the times of its first and last use.
        needed: whether a gradient needs it: something reads it that is not linear, or it is what
            its own derivative is computed from.
    """

    bytes: float
    rowed: bool
    stored: bool
    sources: tuple[_Value, ...] = ()
    born: int = 0
    died: int = 0
    needed: bool = False

    @property
    def memory(self) -> tuple[_Value, ...]:
        """What is in memory of it."""
        return (self,) if self.stored else self.sources


class _Move(NamedTuple):
    """An operation that reads and writes values with rows.

    Attributes:
        reads, writes: the values.
        weight_bytes: what it reads of weights.
        times: how often it runs.
    """

    reads: tuple[_Value, ...]
    writes: tuple[_Value, ...]
    weight_bytes: float
    times: float

    @property
    def bytes(self) -> float:
        """What it reads and writes of values with rows, once."""
        return sum(value.bytes for value in (*self.reads, *self.writes))


class _Reader:
    """Adds up the operations of a program."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._sums = dict.fromkeys(_SUMMED, 0.0)
        self._stored: list[_Value] = []
        self._weights: dict[int, _Value] = {}
        self._repeated: dict[Any, _Value] = {}
        self._slow: list[_Value] = []
        self._largest_patch = 0.0
        self._clock = 0
        self._products: dict[Product, float] = {}
        self._tiled_part = math.inf
        self._moves: list[_Move] = []
        self._operations = self._equations = self._tiled = 0
        self._tiled_from = 0.0
        self._own_equations = self._part_equations = 0

    def given(self, variable: Any, rowed: bool) -> _Value:
        """Return an input of the program, which is in memory."""
        value = _Value(_bytes(variable.aval), rowed, True)
        self._stored.append(value)
        return value

    def run(self, eqns: Iterable[Any], values: dict[Any, _Value], times: float = 1.0) -> None:
        """Count equations that run `times` times."""
        eqns = list(eqns)
        self._equations += len(eqns)
        users = Counter(a for eqn in eqns for a in {a for a in eqn.invars if not is_literal(a)})
        for eqn in eqns:
            inputs = [None if is_literal(a) else values[a] for a in eqn.invars]
            known = [value for value in inputs if value is not None]
            outputs = self._equation(eqn, inputs, known, times)
            for variable, output in zip(eqn.outvars, outputs, strict=True):
                values[variable] = output
                if users[variable] > 1 and traits_of(eqn.primitive).cost is not Cost.FREE:
                    self.store(output, times)

    def _equation(
        self, eqn: Any, inputs: list[_Value | None], known: list[_Value], times: float
    ) -> list[_Value]:
        traits = traits_of(eqn.primitive)
        if traits.form in (Form.LOOP, Form.BRANCH):
            return self._control(eqn, known, times)
        called = inner_program(eqn)
        if called is not None and len((inner := _plain(called)).invars) == len(inputs):
            return self._call(inner, inputs, times)
        if not eqn.outvars:  # it checks something, or tells it to the host
            return []
        rowed = any(value.rowed for value in known)
        size = sum(math.prod(v.aval.shape) for v in eqn.outvars)
        sources = tuple(dict.fromkeys(s for value in known for s in value.memory))
        outputs = [_Value(_bytes(v.aval), rowed, False, sources) for v in eqn.outvars]
        if traits.cost is Cost.FREE or not rowed:
            if not rowed:
                outputs = [dataclasses.replace(o, stored=True, sources=()) for o in outputs]
            return outputs
        if traits.cost is Cost.SLOW:
            self._add("transcendentals", size * times)
            self._slow += outputs
        if len(inputs) > 1 and traits.cost < Cost.STORED:
            self._spread(eqn)
        self._add_contraction(eqn, times)
        if eqn.primitive.name in _POOLS:
            seen = size * math.prod(eqn.params["window_dimensions"])
            pooled = seen + 2 * math.prod(eqn.invars[0].aval.shape)
            self._add("pooled_values", pooled * times)
        if eqn.primitive.name in _OWN_DERIVATIVE:
            for output in outputs:
                output.needed = True
        elif eqn.primitive.name not in _LINEAR:
            for value in (v for each in known for v in each.memory):
                value.needed = True
        if traits.cost >= Cost.WRITTEN:
            before = len(self._moves)
            if traits.cost >= Cost.STORED:
                for value in known:
                    self.store(value, times)
            if eqn.primitive.name == "gather":
                self._add("gathered_bytes", sum(output.bytes for output in outputs) * times)
                known = [value for value in known if value.rowed]  # of a table what is found
            for output in outputs:
                output.sources = tuple(dict.fromkeys(s for v in known for s in v.memory))
            self._write(outputs, times)
            if traits.cost >= Cost.STORED:
                moved = sum(each.bytes * each.times for each in self._moves[before:])
                self._add("stored_bytes", moved)
        return outputs

    def _spread(self, eqn: Any) -> None:
        """Note what an elementwise operation repeats for every row: XLA:CPU writes it out."""
        output = _bytes(eqn.outvars[0].aval)
        for atom in eqn.invars:
            key = repr(atom.val) if is_literal(atom) else atom
            if _bytes(atom.aval) < output:
                value = self._repeated.setdefault((key, output), _Value(output, True, True))
                value.born = min(value.born or self._clock, self._clock)
                value.died = self._clock + 1

    def _add_contraction(self, eqn: Any, times: float) -> None:
        if eqn.primitive.name in _PRODUCTS and "feature_group_count" not in eqn.params:
            (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
            left = eqn.invars[0].aval.shape
            inner = math.prod(left[axis] for axis in contracted)
            flops = 2.0 * math.prod(eqn.outvars[0].aval.shape) * inner
            self._add_product(flops, times, batched=bool(batched))
        elif "feature_group_count" in eqn.params:  # a convolution, JAX's or tdjax's own
            self._add_convolution(eqn, times)

    def _add_product(self, flops: float, times: float, **kind: bool) -> None:
        alike = Product(0.0, flops / self._rows, **kind)
        self._products[alike] = self._products.get(alike, 0.0) + flops / self._rows * times

    def _add_convolution(self, eqn: Any, times: float) -> None:
        images, kernel, output = (v.aval for v in (*eqn.invars[:2], *eqn.outvars))
        features, channels, *window = eqn.params["dimension_numbers"].rhs_spec
        groups, between = eqn.params["feature_group_count"], math.prod(eqn.params["lhs_dilation"])
        inner = math.prod(kernel.shape) / max(1, kernel.shape[features])
        flops = 2.0 * math.prod(output.shape) * inner / between
        taps = math.prod(kernel.shape[axis] for axis in window)
        if taps == 1:
            self._add_product(flops, times, one_place=True)
            return
        flops *= times
        if groups == kernel.shape[features] and kernel.shape[channels] == 1:
            self._add("channel_flops", flops)
            self._own_equations += _FOR_A_PRODUCT * math.prod(kernel.shape[a] for a in window)
            # Its images are in memory once more, padded.
            padded = _Value(_bytes(images), True, True, (), self._clock, self._clock + 1)
            self._repeated[id(eqn)] = padded
            return
        self._part_equations += _FOR_A_PART * math.prod(kernel.shape[a] for a in window[:-1])
        patch = _bytes(images) + _bytes(output)
        self._largest_patch = max(self._largest_patch, patch)
        self._add("patch_bytes", patch * times)
        self._add("conv_flops", flops)
        singly = _SINGLY if inner < _FEW_CHANNELS * taps else 1
        self._add("packed_values", flops / (2 * kernel.shape[features]) * singly)
        few = kernel.shape[features] <= _NARROW or inner < _FEW_VALUES
        if few and len(window) > 1:
            self._add("narrow_conv_flops", flops)
            whole = eqn.params["window_strides"][0] == between == groups == 1
            if whole and len(window) == 2 and kernel.shape[features] > _FEWEST:
                self._add("apart_flops", flops * (kernel.shape[channels] >= _FEWEST))
        if (least := images_for_tiles(images, kernel, eqn.params)) < math.inf:
            own = images.shape[eqn.params["dimension_numbers"].lhs_spec[0]] / self._rows
            self._tiled_from = max(self._tiled_from, least / own if own else 0.0)
            self._add("tiled_flops", flops)
            self._add("tiled_bytes", patch * times)
            self._tiled += 1
            self._tiled_part = min(self._tiled_part, _bytes(images) / 4)  # of 2 x 2 pixels
        if groups > 1 or between > 1 or len(window) > 2:
            self._add("naive_flops", flops)

    def store(self, value: _Value, times: float = 1.0) -> None:
        """Put a value in memory that was to be fused into what reads it."""
        if not value.stored and value.rowed:
            self._write([value], times)

    def _write(self, values: Sequence[_Value], times: float) -> None:
        """Run an operation that writes these values and reads what they are computed from."""
        self._clock += 1
        self._operations += 1
        read = dict.fromkeys(source for value in values for source in value.sources)
        weights = {id(source): source for source in read if not source.rowed}
        self._weights.update(weights)
        for source in read:
            source.died = self._clock
        for value in values:
            value.stored, value.sources = True, ()
            value.born = value.died = self._clock
            self._stored.append(value)
        shared = sum(weight.bytes for weight in weights.values())
        rowed = tuple(source for source in read if source.rowed)
        self._moves.append(_Move(rowed, tuple(values), shared, times))

    def _call(self, inner: Any, inputs: list[_Value | None], times: float) -> list[_Value]:
        values = dict(zip(inner.invars, map(_or_literal, inputs), strict=True))
        values.update({v: self._constant(v) for v in inner.constvars})
        self.run(inner.eqns, values, times)
        return [
            _Value(0.0, False, True) if is_literal(atom) else values[atom] for atom in inner.outvars
        ]

    def _control(self, eqn: Any, known: list[_Value], times: float) -> list[_Value]:
        """Count a loop's body as often as it runs, where that is known, and the worst branch."""
        for value in known:
            self.store(value, times)
        rowed = any(value.rowed for value in known)
        bodies, repeats = _bodies(eqn)
        for body in bodies:
            values = {v: _Value(_bytes(v.aval), rowed, True) for v in body.invars}
            values.update({v: self._constant(v) for v in body.constvars})
            self.run(body.eqns, values, times * repeats / len(bodies))
        outputs = [_Value(_bytes(v.aval), rowed, False, ()) for v in eqn.outvars]
        for output in outputs:
            output.sources = tuple(dict.fromkeys(s for v in known for s in v.memory))
        self._write(outputs, times)
        return outputs

    def _constant(self, variable: Any) -> _Value:
        return _Value(_bytes(variable.aval), False, True)

    def _add(self, what: str, amount: float) -> None:
        self._sums[what] += amount / self._rows

    def total(self, inputs: Sequence[_Value], outputs: Sequence[_Value]) -> Work:
        """Return the sums."""
        end = self._clock + 1
        for output in outputs:
            output.died = end
        rowed = [value for value in self._stored if value.rowed]
        # What takes long to compute is kept though it is fused: nothing computes it twice.
        kept = {id(v): v.bytes for v in (*rowed, *self._slow) if v.needed}
        in_use = [*rowed, *self._repeated.values()]
        live = max(
            (sum(v.bytes for v in in_use if v.born <= now <= v.died) for now in range(end + 1)),
            default=0.0,
        )
        weight_bytes = sum(value.bytes for value in self._weights.values())
        return Work(
            **self._sums,
            products=tuple(p._replace(flops=sum_) for p, sum_ in self._products.items()),
            tiled_part_bytes=self._tiled_part / self._rows,
            traffic=_traffic(self._moves, self._rows, live / self._rows, weight_bytes),
            largest_patch_bytes=self._largest_patch / self._rows,
            live_bytes=live / self._rows,
            kept_bytes=sum(kept.values()) / self._rows,
            input_bytes=sum(v.bytes for v in inputs if v.rowed) / self._rows,
            output_bytes=sum({id(v): v.bytes for v in outputs}.values()) / self._rows,
            weight_bytes=weight_bytes,
            operations=self._operations,
            equations=self._equations,
            own_equations=self._own_equations,
            part_equations=self._part_equations,
            tiled_convs=self._tiled,
            tiled_from=self._tiled_from,
        )


def _traffic(
    moves: Sequence[_Move], rows: int, most: float, most_weights: float
) -> tuple[Traffic, ...]:
    """Return what operations read and write of a row, by what is used between two uses of it.

    Operations go through values from end to end: between two uses of a byte lie half of what the
    first operation uses, half of what the second does, and all between these. A value is written
    where one was that is not used any more: the last such one that is large enough.

    Args:
        moves: the operations, in their order.
        rows: how many rows they were counted on.
        most, most_weights: what is in use at most, of a row and of weights: no more lies between.
    """
    last_use = {id(value): move for move, each in enumerate(moves) for value in each.reads}
    used: dict[int, tuple[float, float]] = {}  # where values were used last, in bytes before that
    free: list[tuple[float, tuple[float, float]]] = []
    at = weights_at = 0.0
    found: dict[tuple[int, ...], list[Traffic]] = {}

    def add(value: _Value, times: float, since: tuple[float, float] | None) -> None:
        between, weights = most, most_weights
        if since is not None:
            between = min(most, (middle[0] - since[0]) / rows)
            weights = min(most_weights, middle[1] - since[1])
        one = Traffic(value.bytes * times / rows, between, weights, written)
        found.setdefault(tuple(map(_scale, one[1:])), []).append(one)

    for number, move in enumerate(moves):
        middle = at + move.bytes / 2, weights_at + move.weight_bytes / 2
        at, weights_at = at + move.bytes, weights_at + move.weight_bytes
        written = sum(value.bytes for value in move.writes or move.reads) / rows
        for value in move.reads:
            add(value, move.times, used.get(id(value)))
            used[id(value)] = middle
        for value in move.writes:
            place = next((p for p in reversed(free) if p[0] >= value.bytes), None)
            if place is not None:
                free.remove(place)
            add(value, move.times, place and place[1])
            used[id(value)] = middle
        free += [(v.bytes, middle) for v in move.reads if last_use[id(v)] == number]
    return tuple(
        Traffic(sum(each.bytes for each in alike), *map(fmean, list(zip(*alike, strict=True))[1:]))
        for alike in found.values()
    )


def _scale(size: float) -> int:
    """Return the power of 2 that a size is next to."""
    return round(math.log2(size)) if size >= 1 else -1


def images_for_tiles(images: Any, kernel: Any, params: Any) -> float:
    """Return of how many images on a convolution gains by tiles of two outputs along two axes.

    From there on all of them have as many tiles as the kernel has channels or features: with fewer
    the sums over the kernel, at each of 16 places, take longer than those over images.

    Args:
        images, kernel: its arguments, or their types.
        params: those of `jax.lax.conv_general_dilated_p`.

    Returns:
        Infinity where tiles cannot compute it.
    """
    numbers = params["dimension_numbers"]
    features, channels, *window = numbers.rhs_spec
    ones = {
        *params["window_strides"], *params["lhs_dilation"], *params["rhs_dilation"],
        params["feature_group_count"], params["batch_group_count"],
    }  # fmt: skip
    sizes = [images.shape[axis] for axis in numbers.lhs_spec[2:]]
    widths = kernel.shape[features], kernel.shape[channels]
    padded = zip(sizes, params["padding"], strict=True)
    fits = (
        [kernel.shape[axis] for axis in window] == [3, 3]
        and ones == {1}
        and min(widths) >= _FEWEST_IN_TILES
        and str(images.dtype) == str(kernel.dtype) == "float32"
        and params["precision"] is params["preferred_element_type"] is None
        and all(type(size) is int and size + low + high >= 3 for size, (low, high) in padded)
    )
    if not fits:
        return math.inf
    outs = [size + sum(edges) - 2 for size, edges in zip(sizes, params["padding"], strict=True)]
    return max(widths) / math.prod(-(-out // 2) for out in outs)


def _or_literal(value: _Value | None) -> _Value:
    return _Value(0.0, False, True) if value is None else value


def _bodies(eqn: Any) -> tuple[list[Any], float]:
    """Return the programs inside a loop or branch, and how often each runs."""
    if "branches" in eqn.params:
        return [_plain(branch) for branch in eqn.params["branches"]], 1.0
    if "body_jaxpr" in eqn.params:
        return [_plain(eqn.params["body_jaxpr"])], 1.0
    return [_plain(eqn.params["jaxpr"])], float(eqn.params["length"])


def _plain(program: Any) -> Any:
    return getattr(program, "jaxpr", program)


def _bytes(aval: Any) -> float:
    size = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return float(math.prod(getattr(aval, "shape", ())) * size)
