"""`time_distributed`, the public function."""

from __future__ import annotations

import copy
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from tdjax.core.axes import Axes
from tdjax.core.call import Call
from tdjax.core.mask import MaskLike
from tdjax.flax_dispatch import lift_method, wrap_module
from tdjax.function import OwnKeyword, TimeOptions, bind, run_over_time
from tdjax.layers.options import Arguments
from tdjax.strategies import StrategyLike, parse

if TYPE_CHECKING:
    import flax.linen
    import flax.nnx

    import tdjax.linen
    import tdjax.nnx

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
F = TypeVar("F")


class _Options(TypedDict, total=False):
    in_axes: Axes
    out_axes: Axes
    strategy: StrategyLike
    axis_name: Any
    pooled: bool
    masked_output: Literal["zero", "keep"]
    partition: Any
    axis_size: Any


# A module is callable as well, if its class says so: checkers take the first that fits.
@overload
def time_distributed(  # type: ignore[overload-overlap]
    fun: flax.linen.Module, **options: Unpack[_Options]
) -> tdjax.linen.TimeDistributed: ...
@overload
def time_distributed(  # type: ignore[overload-overlap]
    fun: flax.nnx.Module, **options: Unpack[_Options]
) -> tdjax.nnx.TimeDistributed: ...
@overload
def time_distributed(fun: Callable[P, F], **options: Unpack[_Options]) -> TimeDistributed[P, F]: ...
@overload
def time_distributed(
    fun: None = None, **options: Unpack[_Options]
) -> Callable[[Callable[P, F]], TimeDistributed[P, F]]: ...


def time_distributed(
    fun: Callable[..., Any] | None = None,
    *,
    in_axes: Axes = 1,
    out_axes: Axes = 1,
    strategy: StrategyLike = "auto",
    axis_name: Any = None,
    pooled: bool = False,
    masked_output: Literal["zero", "keep"] = "zero",
    partition: Any = None,
    axis_size: Any = None,
) -> Any:
    """Apply a step function to every step of `(batch, time, ...)` arrays.

    The meaning is a loop, whichever strategy computes it::

        outs = [fun(*[take(a, t) for a in args], **kwargs) for t in range(time)]
        return tree_map(lambda *y: stack(y, axis=1), *outs)

    `fun` sees one step, `(batch, *features)`. Use it as `@time_distributed`, as
    `@time_distributed(...)` or as `time_distributed(fun, ...)`, on functions and methods. A Flax
    module is wrapped by `tdjax.linen.TimeDistributed` or `tdjax.nnx.TimeDistributed`.

    Call it under `jax.jit`, as everything in JAX: outside, `fun` is traced at every call, which
    takes about as long as an eager call of `jax.vmap`. What `fun` prints by `jax.debug.print` is
    printed for each step, in folds once all steps are computed; there masked rows print as zeros.

    Args:
        fun: the step function; it must be pure. A parameter called `mask` gets its step's mask.
        in_axes: where time is in each positional argument: an int, None (shared by all steps), or a
            pytree prefix of these; negative axes count from the end. Leaves that are not arrays are
            never mapped. Keyword arguments are passed to every step as they are.
        out_axes: where time goes in the outputs, in the same way; None for an output that is the
            same for every step.
        strategy: a name ("vmap", "map", "unroll", "fold", "packed", "auto"), an object
            (`tdjax.Vmap`, `tdjax.Fold`, `tdjax.Packed`, `tdjax.Auto`), or its text, such as
            "Fold(64, unroll)". It never changes the answer. (A type checker takes names and
            objects; `tdjax.strategies.parse` gives the object of any text.)
        axis_name: a name for the time axis, for `jax.lax.pmean` and the like inside `fun`.
        pooled: let `fun` see all steps as one batch of `batch * time` rows instead (Haiku's and
            Flax's `BatchApply`): its statistics are then taken over both.
        masked_output: the output of masked steps: "zero", or "keep" for what was computed there,
            which "packed" does not do.
        partition: on a mesh, the axes of it that the batch and the steps are spread over,
            `jax.sharding.PartitionSpec("data", "seq")`: every device runs the strategy on its own
            block, and nothing moves between them. On a mesh of explicit axes it is not needed: the
            types of the arguments tell. Mesh axes that are not named stay automatic.
        axis_size: the number of steps, needed when nothing is mapped.

    Returns:
        The wrapped function. It takes the arguments of `fun`, and `mask` (bool `(batch, time)`,
        True for real steps; with more axes, a step is real if any of its entries is) or
        `seq_lengths` (int `(batch,)`). Masked steps give 0, and no gradient, unless they are kept
        or `fun` mixes rows: such a function sees the padding, as it does in the loop.

    Raises:
        ValueError, TypeError: options that do not fit, here, or arguments, at the call.
        StrategyError: the strategy cannot keep the meaning for this function.

    >>> import jax.numpy as jnp
    >>> @time_distributed
    ... def normalize(frame):              # (batch, features)
    ...     return frame / jnp.linalg.norm(frame, axis=-1, keepdims=True)
    >>> normalize(jnp.ones((8, 10, 3))).shape
    (8, 10, 3)
    """
    options = TimeOptions(
        in_axes,
        out_axes,
        parse(strategy),
        axis_name,
        pooled,
        masked_output,
        partition,
        axis_size,
    )
    options.check()
    if fun is None:
        return functools.partial(time_distributed, **vars(options))
    if not callable(fun):
        raise TypeError(
            f"fun is {fun!r} ({type(fun).__name__}); it must be a function of one step."
        )
    module = wrap_module(fun, options)
    return TimeDistributed(fun, options) if module is None else module


class _Shown:
    """The signature of a decorated function, when `inspect` or `help` asks; not its class's."""

    def __get__(self, instance: Any, owner: type) -> inspect.Signature:
        if instance is None:
            raise AttributeError("__signature__")
        return _with_own(inspect.signature(instance.__wrapped__))


class TimeDistributed(Generic[P, R]):
    """A step function applied over time; what `time_distributed` returns.

    To type checkers it has the parameters and the result of the function. With `mask` or
    `seq_lengths` they know the result alone: nothing can add keywords to a `ParamSpec`.
    """

    __signature__ = _Shown()

    def __init__(self, fun: Callable[P, R], options: TimeOptions) -> None:
        functools.update_wrapper(self, fun)
        self.__dict__.pop("__signature__", None)  # of a function that shows another one
        self.__wrapped__ = fun
        self.options = options

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, mask: MaskLike, **kwargs: Any) -> R: ...
    @overload
    def __call__(self, *args: Any, seq_lengths: MaskLike, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, mask: Any = None, seq_lengths: Any = None, **kwargs: Any) -> Any:
        """Run every step; see `time_distributed`."""
        given = Arguments(args, kwargs, mask, seq_lengths)
        lifted = lift_method(self.__wrapped__, self.options, given)
        if lifted is not None:
            return lifted()
        return run_over_time(self.__wrapped__, self.options, args, kwargs, mask, seq_lengths)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> TimeDistributed[P, R]: ...
    @overload
    def __get__(
        self: TimeDistributed[Concatenate[Any, Q], F], instance: object, owner: type | None = None
    ) -> TimeDistributed[Q, F]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind to an instance, so that methods can be decorated."""
        if instance is None:
            return self
        bound: Any = self.__wrapped__
        return type(self)(bound.__get__(instance, owner), self.options)

    def __repr__(self) -> str:
        name = getattr(self.__wrapped__, "__qualname__", repr(self.__wrapped__))
        return f"time_distributed({name}, strategy={str(self.options.strategy)!r})"

    def __reduce__(self) -> Any:
        """Pickle it as functions are: by its name, or with the function, by that one's name."""
        fun, name = self.__wrapped__, getattr(self, "__qualname__", "")
        if inspect.ismethod(fun):
            named = getattr(fun.__self__, fun.__name__, None)
            if isinstance(named, TimeDistributed) and vars(named) == vars(self):
                return getattr, (fun.__self__, fun.__name__)
        elif _found(self.__module__, name) is self:
            if self.__module__ != "__main__" or not isinstance(fun, types.FunctionType):
                return name
            return _unpickle, (self._by_value, name, self.options)
        return type(self), (fun, self.options)

    @functools.cached_property
    def _by_value(self) -> Callable[P, R]:
        """The function under a name of its own; pickle finds it, cloudpickle sends its code.

        cloudpickle sends what stands in `__main__` by value, but can be told so of functions only,
        and under the function's own name pickle would find what has replaced it.
        """
        fun: Any = self.__wrapped__
        found = types.FunctionType(
            fun.__code__, fun.__globals__, fun.__name__, fun.__defaults__, fun.__closure__
        )
        found.__kwdefaults__, found.__annotations__ = fun.__kwdefaults__, fun.__annotations__
        found.__qualname__ = f"{fun.__qualname__}._by_value"
        return found

    def __copy__(self) -> TimeDistributed[P, R]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TimeDistributed[P, R]:
        if inspect.ismethod(self.__wrapped__):
            return type(self)(copy.deepcopy(self.__wrapped__, memo), self.options)
        return self

    def bind(self, args: tuple, kwargs: dict[str, Any], mask: Any, seq_lengths: Any) -> Call:
        """Check the arguments of a call and find their time axes, rows and sizes."""
        return bind(self.__wrapped__, self.options, args, kwargs, mask, seq_lengths)


def _found(module: str | None, name: str) -> Any:
    """Return what a module has under a qualified name, if anything."""
    try:
        return operator.attrgetter(name)(sys.modules[module or ""])
    except (AttributeError, KeyError):
        return None


def _unpickle(fun: Any, name: str, options: TimeOptions) -> Any:
    """Return what `__main__` has under a name; what was sent by value is not there."""
    named = _found("__main__", name)
    if isinstance(named, TimeDistributed) and named._by_value is fun:
        return named
    fun.__qualname__ = name
    return TimeDistributed(fun, options)


def _with_own(signature: inspect.Signature) -> inspect.Signature:
    """Return the signature of a step function with what a call over time takes beside."""
    parameters = list(signature.parameters.values())
    rest = [each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    for name in ("mask", "seq_lengths"):
        if name not in signature.parameters:
            parameters.append(OwnKeyword(name, inspect.Parameter.KEYWORD_ONLY, default=None))
    parameters = [each for each in parameters if each not in rest] + rest
    return signature.replace(parameters=parameters)
