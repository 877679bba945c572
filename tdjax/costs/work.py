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
from typing import Any, NamedTuple

from tdjax.core.jaxpr import inner_program, is_literal, scan_counts
from tdjax.costs.convolutions import Convolution
from tdjax.costs.traffic import Move, Traffic, Value, bytes_of, traffic_of
from tdjax.independence.rules.rule import Cost, Form, traits_of

# A gradient needs nothing of what is moved, as of what is added up; of these it needs the result.
_MOVES = ("concatenate", "gather")
_ADDS = ("linear", "additive")
_OWN_DERIVATIVE = ("exp", "tanh", "logistic", "sqrt", "rsqrt")
_POOLS = ("reduce_window_max", "reduce_window_min", "tdjax_window_best")
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
        spread_bytes: how many more may be in use, if XLA writes out what it repeats for every row.
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
    spread_bytes: float = 0.0
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


class _Reader:
    """Adds up the operations of a program."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._sums = dict.fromkeys(_SUMMED, 0.0)
        self._stored: list[Value] = []
        self._weights: dict[int, Value] = {}
        self._repeated: dict[Any, Value] = {}
        self._padded: list[Value] = []
        self._slow: list[Value] = []
        self._largest_patch = 0.0
        self._clock = 0
        self._turns = 1.0
        self._products: dict[Product, float] = {}
        self._tiled_part = math.inf
        self._moves: list[Move] = []
        self._operations = self._equations = self._tiled = 0
        self._tiled_from = 0.0
        self._own_equations = self._part_equations = 0

    def given(self, variable: Any, rowed: bool) -> Value:
        """Return an input of the program, which is in memory."""
        value = Value(bytes_of(variable.aval), rowed, True)
        self._stored.append(value)
        return value

    def run(self, eqns: Iterable[Any], values: dict[Any, Value], times: float = 1.0) -> None:
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
        self, eqn: Any, inputs: list[Value | None], known: list[Value], times: float
    ) -> list[Value]:
        traits = traits_of(eqn.primitive)
        if traits.form in (Form.LOOP, Form.BRANCH):
            return self._control(eqn, inputs, known, times)
        called = inner_program(eqn)
        if called is not None and len((inner := _plain(called)).invars) == len(inputs):
            return self._call(inner, inputs, times)
        if not eqn.outvars:  # it checks something, or tells it to the host
            return []
        rowed = any(value.rowed for value in known)
        size = sum(math.prod(v.aval.shape) for v in eqn.outvars)
        sources = tuple(dict.fromkeys(s for value in known for s in value.memory))
        outputs = [
            Value(bytes_of(v.aval), rowed, False, sources, turns=self._turns) for v in eqn.outvars
        ]
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
        elif traits.sums not in _ADDS and eqn.primitive.name not in _MOVES:
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
        """Note what an elementwise operation repeats for every row: XLA:CPU may write it out."""
        output = bytes_of(eqn.outvars[0].aval)
        for atom in eqn.invars:
            key = repr(atom.val) if is_literal(atom) else atom
            if bytes_of(atom.aval) < output:
                value = self._repeated.setdefault((key, output), Value(output, True, True))
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
        found = Convolution.of(eqn)
        if found.is_product:
            self._add_product(found.flops, times, one_place=True)
            return
        if found.by_channel:
            self._add("channel_flops", found.flops * times)
            self._own_equations += found.own_equations
            # Its images are in memory once more, padded.
            padded = Value(found.image_bytes, True, True, (), self._clock, self._clock + 1)
            self._padded.append(padded)
            return
        for name, amount in found.sums.items():
            self._add(name, amount * times)
        self._part_equations += found.part_equations
        self._largest_patch = max(self._largest_patch, found.bytes)
        if found.tiled_from < math.inf:
            own = found.rows / self._rows
            self._tiled_from = max(self._tiled_from, found.tiled_from / own if own else 0.0)
            self._tiled += 1
            self._tiled_part = min(self._tiled_part, found.image_bytes / 4)  # of 2 x 2 pixels

    def store(self, value: Value, times: float = 1.0) -> None:
        """Put a value in memory that was to be fused into what reads it."""
        if not value.stored and value.rowed:
            self._write([value], times)

    def _write(self, values: Sequence[Value], times: float) -> None:
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
        self._moves.append(Move(rowed, tuple(values), shared, times))

    def _call(self, inner: Any, inputs: list[Value | None], times: float) -> list[Value]:
        values = dict(zip(inner.invars, map(_or_literal, inputs), strict=True))
        values.update({v: self._constant(v) for v in inner.constvars})
        self.run(inner.eqns, values, times)
        return [
            Value(0.0, False, True) if is_literal(atom) else values[atom] for atom in inner.outvars
        ]

    def _control(
        self, eqn: Any, inputs: list[Value | None], known: list[Value], times: float
    ) -> list[Value]:
        """Count a loop's body as often as it runs, where that is known, and the worst branch."""
        for value in known:
            self.store(value, times)
        rowed = any(value.rowed for value in known)
        bodies, repeats = _bodies(eqn)
        first, end = _carried(eqn)
        outside, self._turns = self._turns, self._turns * repeats
        for body in bodies:
            inside = times * repeats / len(bodies)
            values = {v: self._constant(v) for v in body.constvars}
            given = inputs[len(inputs) - len(body.invars) :]
            for number, (variable, outer) in enumerate(zip(body.invars, given, strict=True)):
                if number < first:  # of all turns, or a branch
                    values[variable] = _or_literal(outer)
                elif number < end:  # of the turn before
                    values[variable] = self._carry(variable, rowed)
                else:
                    one_turns = outer is not None and outer.rowed
                    values[variable] = Value(bytes_of(variable.aval), one_turns, True)
            self.run(body.eqns, values, inside)
            for variable, outer in zip(body.invars[end:], given[end:], strict=True):
                for value in outer.memory if outer and values[variable].needed else ():
                    value.needed = True
        self._turns = outside
        outputs = [Value(bytes_of(v.aval), rowed, False, ()) for v in eqn.outvars]
        for output in outputs:
            output.sources = tuple(dict.fromkeys(s for v in known for s in v.memory))
        self._write(outputs, times)
        return outputs

    def _carry(self, variable: Any, rowed: bool) -> Value:
        now = self._clock
        value = Value(bytes_of(variable.aval), rowed, True, (), now, now, turns=self._turns)
        self._stored.append(value)
        return value

    def _constant(self, variable: Any) -> Value:
        return Value(bytes_of(variable.aval), False, True)

    def _add(self, what: str, amount: float) -> None:
        self._sums[what] += amount / self._rows

    def total(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Work:
        """Return the sums."""
        end = self._clock + 1
        for output in outputs:
            output.died = end
        rowed = [value for value in self._stored if value.rowed]
        # What takes long to compute is kept though it is fused: nothing computes it twice.
        kept = {id(v): v.bytes * v.turns for v in (*rowed, *self._slow) if v.needed}
        in_use = [*rowed, *self._padded]
        live = _most_at_once(in_use, end)
        most = _most_at_once([*in_use, *self._repeated.values()], end)
        weight_bytes = sum(value.bytes for value in self._weights.values())
        return Work(
            **self._sums,
            products=tuple(p._replace(flops=sum_) for p, sum_ in self._products.items()),
            tiled_part_bytes=self._tiled_part / self._rows,
            traffic=traffic_of(self._moves, self._rows, most / self._rows, weight_bytes),
            largest_patch_bytes=self._largest_patch / self._rows,
            live_bytes=live / self._rows,
            spread_bytes=(most - live) / self._rows,
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


def _most_at_once(values: Sequence[Value], end: int) -> float:
    """Return the most bytes of these that are in use at one time."""
    times = range(end + 1)
    return max(sum(v.bytes for v in values if v.born <= now <= v.died) for now in times)


def _or_literal(value: Value | None) -> Value:
    return Value(0.0, False, True) if value is None else value


def _bodies(eqn: Any) -> tuple[list[Any], float]:
    """Return the programs inside a loop or branch, and how often each runs."""
    if "branches" in eqn.params:
        return [_plain(branch) for branch in eqn.params["branches"]], 1.0
    if "body_jaxpr" in eqn.params:
        return [_plain(eqn.params["body_jaxpr"])], 1.0
    return [_plain(eqn.params["jaxpr"])], float(eqn.params["length"])


def _carried(eqn: Any) -> tuple[int, int]:
    """Return which inputs of a loop's body a turn has from the one before: from one up to another.

    Those before are the same in all turns, those after are of one turn.
    """
    if "length" in eqn.params:
        consts, carried = scan_counts(eqn)
        return consts, consts + carried
    return eqn.params.get("body_nconsts", len(eqn.invars)), len(eqn.invars)


def _plain(program: Any) -> Any:
    return getattr(program, "jaxpr", program)
