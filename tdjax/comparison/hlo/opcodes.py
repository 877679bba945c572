"""HLO's operations by what they do."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLLECTIVES = _words(
    """all-gather all-reduce all-to-all collective-broadcast collective-permute
    ragged-all-to-all reduce-scatter"""
)
ELEMENTWISE = _words(
    """abs add and ceil clamp clz compare complex convert count-leading-zeros divide floor imag
    is-finite maximum minimum multiply negate not or popcnt real reduce-precision remainder
    round-nearest-afz round-nearest-even select shift-left shift-right-arithmetic
    shift-right-logical sign stochastic-convert subtract xor"""
)
TRANSCENDENTAL = _words(
    """acos acosh asin asinh atan2 atanh cbrt cosine cosh erf exponential
    exponential-minus-one log log-plus-one logistic power rsqrt sine sinh sqrt tan tanh"""
)
# Other names for values that exist already: no byte is read or written.
VIEWS = _words(
    """add-dependency after-all bitcast constant domain get-dimension-size get-tuple-element
    opt-barrier optimization-barrier parameter partition-id replica-id reshape tuple"""
)
MOVEMENT = (
    VIEWS
    | COLLECTIVES
    | _words(
        """bitcast-convert broadcast concatenate copy dynamic-slice dynamic-update-slice gather
        infeed iota outfeed pad recv reverse rng rng-bit-generator rng-get-and-update-state send
        set-dimension-size slice transpose"""
    )
)
# Custom calls that compute and move nothing: requests for buffers, parts that lie side by side
# already, marks of the partitioner.
IDLE_CALLS = _words(
    "AllocateBuffer ConcatBitcast Sharding SPMDFullToShardShape SPMDShardToFullShape"
)


def starts(opcode: str) -> bool:
    """Whether it is the first half of an asynchronous operation, as `copy-start`."""
    return opcode.endswith("-start")


def ends(opcode: str) -> bool:
    """Whether it is a later part of an asynchronous operation, as `copy-done`."""
    return opcode.endswith(("-done", "-update"))
