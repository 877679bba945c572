"""Reads from the trace of a step what one row of it costs.

Contractions, reductions, gathers and the like write their result to memory. Elementwise operations
are fused into what reads them, as XLA does: their result is in memory only where a contraction or
several operations read it. Reshapes and broadcasts are free. What XLA for CPUs gives to its library
as a whole is read a second time (`fusion.py`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tdjax.core.jaxpr import is_literal, scan_counts
from tdjax.costs.convolutions import Convolution
from tdjax.costs.flat import Flat, Line, flat, plain
from tdjax.costs.fusion import LEAST, Fusion, fusions
from tdjax.costs.traffic import Move, Value, bytes_of, traffic_of
from tdjax.costs.work import Convolutions, Product, Work
from tdjax.independence.rules.rule import Cost, Form, traits_of

# A gradient needs nothing of what is moved, as of what is added up; of these it needs the result.
_MOVES = ("concatenate", "gather")
_ADDS = ("linear", "additive")
_OWN_DERIVATIVE = ("exp", "tanh", "logistic", "sqrt", "rsqrt")
_POOLS = ("reduce_window_max", "reduce_window_min", "tdjax_window_best")
_PRODUCTS = ("dot_general", "tdjax_product", "tdjax_pushed")
# For so many sizes of blocks a step is read, the largest ones, if XLA's library takes more parts of
# larger blocks: reading once takes a third of the time of a trace.
_MOST_SIZES = 4


def work_of(program: Any, rows: int, has_rows: Sequence[bool]) -> Work:
    """Return what a row of a traced step costs.

    Args:
        program: the trace, an `Opened`, on a step of `rows` rows.
        rows: how many rows it was traced on.
        has_rows: for each input, whether it has rows.
    """
    opened = flat(program)
    avals = [variable.aval for variable in program.invars]

    def read(reader: _Reader) -> Work:
        values = {n: reader.given(each.aval, False) for n, each in opened.constants.items()}
        for number, aval, rowed in zip(opened.inputs, avals, has_rows, strict=True):
            values[number] = reader.given(aval, rowed)
        inputs = list(values.values())
        reader.run(opened, values)
        outputs = [values[each] for each in opened.outputs if not is_literal(each)]
        for output in outputs:
            reader.store(output)
        return reader.total(inputs, outputs)

    work = read(reader := _Reader(rows))
    if not reader.reduces:
        return work
    whole = read(reader := _Reader(rows, math.inf))
    if not reader.parts_from:
        return work
    *smaller, most = sorted(reader.parts_from)[-_MOST_SIZES:]
    fused = [(size, read(_Reader(rows, size))) for size in smaller]
    return dataclasses.replace(work, fused=(*fused, (most, whole)))


_SUMMED = (
    ("tiled_bytes", "channel_flops", "pooled_values", "transcendentals", "patch_bytes")
    + ("gathered_bytes", "stored_bytes")
)  # fmt: skip


class _Reader:
    """Adds up the operations of a program.

    Args:
        rows: of the program.
        block: rows of a block that XLA's library takes its parts of; none of one without rows.

    Attributes:
        reduces: whether there are reductions.
        parts_from: from how many rows of a block on the library takes what there is of parts.
    """

    def __init__(self, rows: int, block: float = 0.0) -> None:
        self._rows = rows
        self._block = block
        self.reduces = False
        self.parts_from: set[float] = set()
        self._sums: dict[str, Any] = dict.fromkeys(_SUMMED, 0.0)
        self._stored: list[Value] = []
        self._weights: dict[int, Value] = {}
        self._repeated: dict[Any, Value] = {}
        self._padded: list[Value] = []
        self._kept: list[Value] = []  # if needed, though it is fused: nothing computes it twice
        self._largest_patch = 0.0
        self._clock = 0
        self._turns = 1.0
        self._products: dict[Product, float] = {}
        self._convolutions: dict[Convolutions, Convolutions] = {}
        self._tiled_part = math.inf
        self._moves: list[Move] = []
        self._operations = self._equations = self._tiled = 0
        self._tiled_from = 0.0
        self._own_equations = self._part_equations = 0

    def given(self, aval: Any, rowed: bool) -> Value:
        """Return an input of the program, which is in memory."""
        value = Value(bytes_of(aval), rowed, True)
        self._stored.append(value)
        return value

    def run(self, program: Flat, values: dict[int, Value], times: float = 1.0) -> None:
        """Count the lines of a program that runs `times` times."""
        self._equations += len(program.lines)
        users = Counter(n for line in program.lines for n in set(filter(_is_number, line.reads)))
        fused = self._fusions_of(program, values) if self._block else {}
        repeated: dict[Any, Value] = {}
        for place, line in enumerate(program.lines):
            inputs = [values[read] if _is_number(read) else None for read in line.reads]
            known = [value for value in inputs if value is not None]
            if (fusion := fused.get(place)) is not None:
                (number,) = line.writes
                values[number] = self._fused(line, known, times)
                if place == fusion.last:
                    values[number].sources += self._repeat(fusion, repeated, times)
                    self._write([values[number]], times)
                continue
            outputs = self._line(line, inputs, known, times)
            for number, output in zip(line.writes, outputs, strict=True):
                values[number] = output
                if users[number] > 1 and traits_of(line.eqn.primitive).cost is not Cost.FREE:
                    self.store(output, times)

    def _fusions_of(self, program: Flat, values: dict[int, Value]) -> dict[int, Fusion]:
        """Return what is one operation, by the places of its lines."""
        with_rows = {number for number, value in values.items() if value.rowed}
        rowed = []
        for line in program.lines:
            rowed.append(any(read in with_rows for read in filter(_is_number, line.reads)))
            with_rows.update(line.writes if rowed[-1] else ())
        taken = {}
        for fusion in fusions(program, rowed):
            needed = LEAST * self._rows / fusion.least
            self.parts_from.add(needed)
            if needed <= self._block:
                taken.update(dict.fromkeys(fusion.inside, fusion))
        return taken

    def _fused(self, line: Line, known: list[Value], times: float) -> Value:
        """Return what a line gives that is a part of one operation."""
        aval = line.eqn.outvars[0].aval
        if traits_of(line.eqn.primitive).cost is Cost.SLOW:
            self._add("transcendentals", math.prod(aval.shape) * times)
        return Value(bytes_of(aval), True, False, _memory_of(known))

    def _repeat(
        self, fusion: Fusion, repeated: dict[Any, Value], times: float
    ) -> tuple[Value, ...]:
        """Return the constants that it reads from memory, which are written for the first one."""
        for key in fusion.constants:
            if key not in repeated:
                repeated[key] = Value(bytes_of(key[1]), True, False)
                self._write([repeated[key]], times)
        return tuple(repeated[key] for key in fusion.constants)

    def _line(
        self, line: Line, inputs: list[Value | None], known: list[Value], times: float
    ) -> list[Value]:
        eqn, traits = line.eqn, traits_of(line.eqn.primitive)
        if traits.form in (Form.LOOP, Form.BRANCH):
            return self._control(eqn, inputs, known, times)
        if not eqn.outvars:  # it checks something, or tells it to the host
            return []
        rowed = any(value.rowed for value in known)
        size = sum(math.prod(v.aval.shape) for v in eqn.outvars)
        sources = _memory_of(known)
        outputs = [
            Value(bytes_of(v.aval), rowed, False, sources, turns=self._turns) for v in eqn.outvars
        ]
        if traits.cost is Cost.FREE or not rowed:
            if not rowed:
                outputs = [dataclasses.replace(o, stored=True, sources=()) for o in outputs]
            return outputs
        for output in outputs:
            output.computed = True
        if traits.cost is Cost.SLOW:
            self._add("transcendentals", size * times)
            self._kept += outputs
        if len(inputs) > 1 and traits.cost < Cost.STORED and not self._block:
            self._spread(line)
        self._add_contraction(eqn, times)
        if eqn.primitive.name in _POOLS:
            seen = size * math.prod(eqn.params["window_dimensions"])
            pooled = seen + 2 * math.prod(eqn.invars[0].aval.shape)
            self._add("pooled_values", pooled * times)
        if eqn.primitive.name in _OWN_DERIVATIVE:
            for output in outputs:
                output.needed = True
        elif traits.sums not in _ADDS and eqn.primitive.name not in _MOVES:
            self._need(traits.sums == "bilinear" and traits.cost < Cost.STORED, known)
        self.reduces |= traits.cost is Cost.WRITTEN
        if traits.cost >= Cost.WRITTEN:
            before = len(self._moves)
            if traits.cost >= Cost.STORED:
                for value in known:
                    self.store(value, times)
            if eqn.primitive.name == "gather":
                self._add("gathered_bytes", sum(output.bytes for output in outputs) * times)
                known = [value for value in known if value.rowed]  # of a table what is found
            for output in outputs:
                output.sources = _memory_of(known)
            self._write(outputs, times)
            if traits.cost >= Cost.STORED:
                moved = sum(each.bytes * each.times for each in self._moves[before:])
                self._add("stored_bytes", moved)
        return outputs

    def _need(self, scales: bool, known: list[Value]) -> None:
        """Note what a gradient needs: what is in memory of these, and what weights scale."""
        for value in (v for each in known for v in each.memory):
            value.needed = True
        if scales and not all(value.rowed for value in known):
            for value in (v for v in known if v.rowed and v.computed):
                value.needed = True
                self._kept.append(value)

    def _spread(self, line: Line) -> None:
        """Note what an elementwise operation repeats for every row: XLA:CPU may write it out."""
        output = bytes_of(line.eqn.outvars[0].aval)
        for read, atom in zip(line.reads, line.eqn.invars, strict=True):
            key = read if _is_number(read) else repr(read.val)
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
        self._add_alike(found.work, times / self._rows)
        self._add("patch_bytes", found.bytes * times)
        self._part_equations += found.part_equations
        self._largest_patch = max(self._largest_patch, found.bytes)
        if found.is_tiled:
            self._add("tiled_bytes", found.bytes * times)
            own = found.rows / self._rows
            self._tiled_from = max(self._tiled_from, found.tiled_from / own if own else 0.0)
            self._tiled += 1
            self._tiled_part = min(self._tiled_part, found.image_bytes / 4)  # of 2 x 2 pixels

    def _add_alike(self, found: Convolutions, times: float) -> None:
        kind = found._replace(flops=0.0, packed_values=0.0)
        sums = self._convolutions.get(kind, kind)
        self._convolutions[kind] = kind._replace(
            flops=sums.flops + found.flops * times,
            packed_values=sums.packed_values + found.packed_values * times,
        )

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
            opened = flat(body)
            values = {
                n: Value(bytes_of(each.aval), False, True) for n, each in opened.constants.items()
            }
            given = inputs[len(inputs) - len(body.invars) :]
            for place, (variable, outer) in enumerate(zip(body.invars, given, strict=True)):
                number = opened.inputs[place]
                if place < first:  # of all turns, or a branch
                    values[number] = _or_literal(outer)
                elif place < end:  # of the turn before
                    values[number] = self._carry(variable, rowed)
                else:
                    one_turns = outer is not None and outer.rowed
                    values[number] = Value(bytes_of(variable.aval), one_turns, True)
            self.run(opened, values, inside)
            for number, outer in zip(opened.inputs[end:], given[end:], strict=True):
                for value in outer.memory if outer and values[number].needed else ():
                    value.needed = True
        self._turns = outside
        outputs = [Value(bytes_of(v.aval), rowed, False, ()) for v in eqn.outvars]
        for output in outputs:
            output.sources = _memory_of(known)
        self._write(outputs, times)
        return outputs

    def _carry(self, variable: Any, rowed: bool) -> Value:
        now = self._clock
        value = Value(bytes_of(variable.aval), rowed, True, (), now, now, turns=self._turns)
        self._stored.append(value)
        return value

    def _add(self, what: str, amount: float) -> None:
        self._sums[what] += amount / self._rows

    def total(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> Work:
        """Return the sums."""
        end = self._clock + 1
        for output in outputs:
            output.died = end
        rowed = [value for value in self._stored if value.rowed]
        kept = {id(v): v.bytes * v.turns for v in (*rowed, *self._kept) if v.needed}
        in_use = [*rowed, *self._padded]
        live = _most_at_once(in_use, end)
        most = _most_at_once([*in_use, *self._repeated.values()], end)
        weight_bytes = sum(value.bytes for value in self._weights.values())
        return Work(
            **self._sums,
            products=tuple(p._replace(flops=sum_) for p, sum_ in self._products.items()),
            convolutions=tuple(self._convolutions.values()),
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
    change = [0.0] * (end + 2)
    for value in values:
        change[value.born] += value.bytes
        change[value.died + 1] -= value.bytes
    return max(itertools.accumulate(change))


def _is_number(read: Any) -> bool:
    return isinstance(read, int)


def _memory_of(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(source for value in values for source in value.memory))


def _or_literal(value: Value | None) -> Value:
    return Value(0.0, False, True) if value is None else value


def _bodies(eqn: Any) -> tuple[list[Any], float]:
    """Return the programs inside a loop or branch, and how often each runs."""
    if "branches" in eqn.params:
        return [plain(branch) for branch in eqn.params["branches"]], 1.0
    if "body_jaxpr" in eqn.params:
        return [plain(eqn.params["body_jaxpr"])], 1.0
    return [plain(eqn.params["jaxpr"])], float(eqn.params["length"])


def _carried(eqn: Any) -> tuple[int, int]:
    """Return which inputs of a loop's body a turn has from the one before: from one up to another.

    Those before are the same in all turns, those after are of one turn.
    """
    if "length" in eqn.params:
        consts, carried = scan_counts(eqn)
        return consts, consts + carried
    return eqn.params.get("body_nconsts", len(eqn.invars)), len(eqn.invars)
