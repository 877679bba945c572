"""What a builder of a line of code sees: variables with their types, numbers, arrays on demand.

Every line runs as soon as it is written, on a small batch and on a large one, inside a trace: so
the types of all variables are known, and what does not run is taken back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .program import Array, Function, Node, namespace

LARGEST = 3000
"""Elements of a variable."""


class Unfit(Exception):
    """A builder finds nothing that it could be applied to."""


@dataclasses.dataclass(frozen=True)
class Type:
    """Shape and dtype of a variable, on the small batch and on the large one."""

    small: tuple[int, ...]
    large: tuple[int, ...]
    dtype: Any

    @property
    def row_axes(self) -> tuple[int, ...]:
        """The axes whose sizes follow the batch."""
        return tuple(
            i for i, (a, b) in enumerate(zip(self.small, self.large, strict=True)) if a != b
        )

    @property
    def rows(self) -> int | None:
        """The axis of its rows, if it has one."""
        axes = self.row_axes
        return axes[0] if len(axes) == 1 else None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.small)

    @property
    def kind(self) -> str:
        """The class of its dtype."""
        for name, parent in _KINDS.items():
            if jnp.issubdtype(self.dtype, parent):
                return name
        return "other"

    def without(self, axis: int) -> Type:
        """Return the type of what is left when an axis is taken away."""
        small, large = list(self.small), list(self.large)
        del small[axis], large[axis]
        return Type(tuple(small), tuple(large), self.dtype)

    def placeholder(self, large: bool) -> Any:
        """Return a value of this type, for the trace that is under way."""
        shape = self.large if large else self.small
        if self.kind == "key":
            impl = str(self.dtype).partition("<")[2].rstrip(">")
            one = jax.random.key(
                0, impl={"fry": "threefry2x32", "urbg": "unsafe_rbg"}.get(impl, impl)
            )
            return jax.random.split(one, shape) if shape else one
        return jax.lax.full(shape, 1, self.dtype)


_KINDS: dict[str, Any] = {
    "bool": jnp.bool_,
    "int": jnp.integer,
    "float": jnp.floating,
    "complex": jnp.complexfloating,
    "key": jax.dtypes.prng_key,
}
FLOAT, INT, BOOL, COMPLEX = (jnp.dtype(d) for d in ("float64", "int64", "bool", "complex128"))


@dataclasses.dataclass(frozen=True)
class Value:
    """A variable; formatted, it is its name."""

    name: str
    type: Type

    def __str__(self) -> str:
        return self.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape for the small batch."""
        return self.type.small

    @property
    def rank(self) -> int:
        """The number of axes."""
        return self.type.rank

    @property
    def rows(self) -> int | None:
        """The axis of its rows, if it has one."""
        return self.type.rows


@dataclasses.dataclass
class Setting:
    """What all scopes of a program share: sizes, odds, names, arrays.

    Attributes:
        rng: draws everything.
        batch: rows of a step.
        large: rows of the batch that lines are tried on as well.
        time: steps.
        weights: odds of every family of primitives.
        follow: odds that a number follows the batch.
        followed: how many do so far.
        mixing: odds that an operation mixes rows.
        wrong: odds that a derivative rule does what no fold may do.
        depth: of functions inside functions.
        arrays: the arguments so far.
        consts: what is closed over so far.
        counts: how many names begin with a letter.
    """

    rng: random.Random
    batch: int
    large: int
    time: int
    weights: dict[str, float]
    follow: float = 0.0
    followed: int = 0
    mixing: float = 0.0
    wrong: float = 0.4
    depth: int = 2
    arrays: list[Array] = dataclasses.field(default_factory=list)
    consts: list[Array] = dataclasses.field(default_factory=list)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def name(self, letter: str) -> str:
        """Return a name that nothing has."""
        self.counts[letter] = self.counts.get(letter, 0) + 1
        return f"{letter}{self.counts[letter]}"


class Scope:
    """The variables that a line can read, and the lines so far."""

    def __init__(self, setting: Setting, outer: Scope | None = None, closed: bool = False) -> None:
        self.setting, self.rng, self.outer = setting, setting.rng, outer
        self.closed = closed or (outer is not None and outer.closed)
        self.nodes: list[Node] = []
        self.pending: list[Function] = []
        self.before: list[Node] = []
        self.depth = outer.depth + 1 if outer else 0
        self.callables: list[tuple[str, tuple[Type, ...]]] = []
        if outer is None:
            self.values: list[Value] = []
            self.envs: tuple[dict[str, Any], dict[str, Any]] = (namespace(), namespace())
            return
        self.values = [] if closed else list(outer.values)
        self.envs = (dict(outer.envs[0]), dict(outer.envs[1]))
        self.callables = [] if closed else list(outer.callables)

    # --- numbers ------------------------------------------------------------------------------

    def chance(self, odds: float) -> bool:
        """Say yes with these odds."""
        return self.rng.random() < odds

    def number(self, value: int) -> str:
        """Return code for a number that a parameter takes: sometimes one that follows the batch."""
        row_values = [each for each in self.values if each.rows is not None]
        if not row_values or not self.chance(self.setting.follow):
            return str(value)
        anchor = self.rng.choice(row_values[-4:])
        size = anchor.shape[anchor.rows or 0]
        text = self.rng.choice([f"{anchor}.shape[{anchor.rows}]"] * 3 + [f"len({anchor})"])
        if anchor.rows != 0 and text.startswith("len"):
            text = f"{anchor}.shape[{anchor.rows}]"
        self.setting.followed += 1
        if size and value and value % size == 0:
            times = value // size
            return text if times == 1 else f"{times} * {text}"
        if value and size % value == 0 and self.chance(0.5):
            return f"{text} // {size // value}"
        return f"{text} - {size - value}" if size >= value else f"{text} + {value - size}"

    def size(self, low: int, high: int) -> str:
        """Return code for a number from a range; that of the batch is drawn more often."""
        return self.number(self.integer(low, high))

    def integer(self, low: int, high: int) -> int:
        """Return a number from a range, ends included; sizes that occur are drawn more often."""
        if low > high:
            raise Unfit
        likely = [n for n in (self.setting.batch, self.setting.time) if low <= n <= high]
        if likely and self.chance(0.3):
            return self.rng.choice(likely)
        return self.rng.randint(low, high)

    def scalar(self) -> str:
        """Return code for a float, sometimes one that follows the batch."""
        literal = self.rng.choice(["0.5", "1.5", "2.0", "-0.25", "0.0"])
        row_values = [each for each in self.values if each.rows is not None]
        if row_values and self.chance(self.setting.follow):
            anchor = self.rng.choice(row_values[-4:])
            self.setting.followed += 1
            return f"float({anchor}.shape[{anchor.rows}])"
        return literal

    # --- variables ----------------------------------------------------------------------------

    def pick(
        self,
        kind: str | Sequence[str] = "float",
        low: int = 0,
        high: int = 5,
        rows: bool | None = None,
        where: Callable[[Value], bool] = lambda value: True,
    ) -> Value:
        """Return a variable, the latest with better odds.

        Args:
            kind: of its dtype.
            low: the fewest axes.
            high: the most axes.
            rows: whether it has rows; None: as it comes, mostly with.
            where: what else it must be.
        """
        kinds = (kind,) if isinstance(kind, str) else kind
        fitting = [
            value
            for value in self.values
            if value.type.kind in kinds and low <= value.rank <= high and where(value)
        ]
        want = rows if rows is not None else self.chance(0.85)
        chosen = [value for value in fitting if (value.rows is not None) == want]
        if rows is None and not chosen:
            chosen = fitting
        if not chosen:
            return self._made(kinds, low, high, want, where)
        if self.chance(0.7):
            return chosen[-1]
        return self.rng.choice(chosen)

    def another(self, like: Value, kind: str | None = None) -> Value:
        """Return a variable of the same shape, itself included, that has rows in the same place."""
        kinds = (kind or like.type.kind,)
        shapes = like.type.small, like.type.large
        found = [
            each
            for each in self.values
            if (each.type.small, each.type.large) == shapes and each.type.kind in kinds
        ]
        if not found:
            return self.cast(like, kinds[0])
        return self.rng.choice(found)

    def _made(
        self,
        kinds: Sequence[str],
        low: int,
        high: int,
        rows: bool,
        where: Callable[[Value], bool],
    ) -> Value:
        """Make a variable that is wanted and not there."""
        base = self.rng.choice(list(kinds))
        same = [v for v in self.values if low <= v.rank <= high and v.type.kind != "key"]
        same = [v for v in same if (v.rows is not None) == rows]
        if same and base != "key" and (self.closed or self.chance(0.6)):
            made = self.cast(self.rng.choice(same), base)
        elif self.closed:
            raise Unfit
        else:
            rank = self.rng.randint(max(low, int(rows)), max(low, min(high, 3), int(rows)))
            if rank > high:
                raise Unfit
            shape = [self.feature() for _ in range(rank - int(rows))]
            made = self.rows_value(shape, base) if rows else self.shared(shape, base)
        if not (low <= made.rank <= high and where(made)):
            raise Unfit
        return made

    def cast(self, value: Value, kind: str) -> Value:
        """Return a variable of another kind made from this one."""
        if value.type.kind == kind:
            return value
        number = f"{value}.astype(float)" if value.type.kind != "complex" else f"{value}.real"
        code = {
            "float": number,
            "int": self.rng.choice([f"({number} * 2).astype(int)", f"({number} > 0).astype(int)"]),
            "bool": f"{number} > 0",
            "complex": f"jax.lax.complex({number}, {number} * 0.5)",
        }
        if kind not in code or value.type.kind == "key":
            raise Unfit
        return self.line(code[kind])

    def feature(self) -> int:
        """Return the size of an axis that holds no rows; often that of the batch or of time."""
        return self.rng.choice([2, 3, 4, self.setting.batch, self.setting.time])

    # --- arrays -------------------------------------------------------------------------------

    def rows_value(self, shape: Sequence[int], kind: str = "float", below: int = 3) -> Value:
        """Return an argument that has one entry for every row of every step."""
        batch, time = self.setting.batch, self.setting.time
        if self.chance(0.1) and kind != "key":
            return self._argument((time, batch, *shape), 0, kind, below, True)
        return self._argument((batch, time, *shape), 1, kind, below, True)

    def step_value(self, shape: Sequence[int], kind: str = "float", below: int = 3) -> Value:
        """Return an argument that has one entry for every step."""
        return self._argument((self.setting.time, *shape), 0, kind, below, False)

    def shared(self, shape: Sequence[int], kind: str = "float", below: int = 3) -> Value:
        """Return an array that all steps share: an argument, or one that is closed over."""
        if self.closed or (kind != "key" and self.chance(0.35)):
            return self.const(shape, kind, below)
        return self._argument(tuple(shape), None, kind, below, False)

    def const(self, shape: Sequence[int], kind: str = "float", below: int = 3) -> Value:
        """Return an array that the step closes over."""
        if kind == "key":
            raise Unfit
        setting = self.setting
        for known in setting.consts:
            if (known.shape, known.kind, known.below) == (tuple(shape), kind, below):
                return Value(known.name, _type(known.shape, known.shape, self.envs[0][known.name]))
        const = Array(setting.name("c"), tuple(shape), None, kind, len(setting.consts) + 50, below)
        setting.consts.append(const)
        array = eval(const.code(), namespace())
        self._everywhere(const.name, array, array)
        return Value(const.name, _type(const.shape, const.shape, array))

    def _argument(
        self, shape: tuple[int, ...], axis: int | None, kind: str, below: int, rows: bool
    ) -> Value:
        setting = self.setting
        if self.closed:
            raise Unfit
        impl = "threefry2x32" if self.chance(0.7) else self.rng.choice(["rbg", "unsafe_rbg"])
        array = Array(
            "", shape, axis, kind, len(setting.arrays), below, impl if kind == "key" else "", rows
        )
        for known in setting.arrays:
            same = dataclasses.replace(known, name="", seed=array.seed) == array
            if same and self.chance(0.6):
                return next(v for v in self._root().values if v.name == known.name)
        array = dataclasses.replace(array, name=setting.name("a"))
        setting.arrays.append(array)
        small = shape if axis is None else shape[:axis] + shape[axis + 1 :]
        large = (setting.large, *small[1:]) if rows else small
        dtype: Any = {"float": FLOAT, "int": INT, "bool": BOOL, "complex": COMPLEX}.get(kind)
        if kind == "key":
            dtype = jax.random.key(0, impl=impl).dtype
        given = Type(small, large, dtype)
        value = Value(array.name, given)
        self._everywhere(array.name, given.placeholder(False), given.placeholder(True))
        self._root().values.insert(0, value)
        return value

    def _everywhere(self, name: str, small: Any, large: Any) -> None:
        scope: Scope | None = self
        while scope is not None:
            scope.envs[0][name], scope.envs[1][name] = small, large
            scope = scope.outer

    def _root(self) -> Scope:
        return self if self.outer is None else self.outer._root()

    # --- lines --------------------------------------------------------------------------------

    def line(self, expression: str, primitive: str = "") -> Value:
        """Write a line, and return its variable.

        Raises:
            Unfit: it does not run, or its value is no array, or too large.
        """
        functions, self.pending = tuple(self.pending), []
        node = Node(self.setting.name("v"), expression, functions, None, primitive)
        small, large = self._run(node)
        if not all(hasattr(each, "dtype") and hasattr(each, "shape") for each in (small, large)):
            raise Unfit
        types = _type(tuple(small.shape), tuple(large.shape), small)
        if small.dtype != large.dtype or small.ndim != large.ndim:
            raise Unfit
        if small.size > LARGEST or small.ndim > 5 or 0 in small.shape or types.kind == "other":
            raise Unfit
        value = Value(node.target, types)
        self.nodes.append(dataclasses.replace(node, types=types))
        self.values.append(value)
        return value

    def define(self, letter: str, expression: str) -> str:
        """Write a line that defines a function, and return its name."""
        functions, self.pending = tuple(self.pending), []
        node = Node(self.setting.name(letter), expression, functions)
        self._run(node)
        self.nodes.append(node)
        return node.target

    def _run(self, node: Node) -> tuple[Any, Any]:
        code = compile(node.code(), "<line>", "exec")
        try:
            with quiet():
                for env in self.envs:
                    exec(code, env)
        except Exception as error:
            raise Unfit(f"{node.code()}: {type(error).__name__}: {error}") from None
        return self.envs[0][node.target], self.envs[1][node.target]

    # --- functions ----------------------------------------------------------------------------

    def function(
        self,
        params: Sequence[Type],
        body: Callable[[Scope, list[Value]], str],
        closed: bool = False,
        decorator: str = "",
        letter: str = "f",
    ) -> str:
        """Write a function that the next line uses, and return its name.

        Args:
            params: the types of its parameters.
            body: writes its lines, given its parameters, and returns the code of its result.
            closed: whether it may read nothing but its parameters and constants.
            decorator: a line before it.
            letter: of its name.
        """
        if self.depth >= self.setting.depth + 1:
            raise Unfit
        inner = Scope(self.setting, self, closed)
        values = [Value(self.setting.name("p"), each) for each in params]
        for value in values:
            inner.envs[0][value.name] = value.type.placeholder(False)
            inner.envs[1][value.name] = value.type.placeholder(True)
        inner.values.extend(values)
        result = body(inner, values)
        name = self.setting.name(letter)
        spelled = ", ".join(map(str, values))
        self.pending.append(Function(name, spelled, tuple(inner.nodes), result, decorator, closed))
        return name

    def undone(self) -> _Undone:
        """Return a context in which lines are taken back when a builder finds itself unfit."""
        return _Undone(self)


class _Undone:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __enter__(self) -> None:
        scope = self.scope
        self.kept = len(scope.nodes), list(scope.values), list(scope.callables)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        scope = self.scope
        scope.pending = []
        if kind is not None:
            count, values, scope.callables = self.kept
            del scope.nodes[count:]
            made = [v for v in scope.values if v.name.startswith("a") and v not in values]
            scope.values = [*made, *values]


def _type(small: tuple[int, ...], large: tuple[int, ...], value: Any) -> Type:
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    return Type(tuple(small), tuple(large), dtype)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out warnings: programs are odd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
