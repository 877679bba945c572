"""How often a loop runs, read from its condition where the compiler notes nothing."""

import pytest

from tdjax.comparison import hlo
from tdjax.comparison.hlo.trips import trip_count

pytestmark = pytest.mark.usefixtures("optimised")

# As libtpu writes it: the counter is copied between memories, and no trip count is noted.
LOOP = """\
HloModule jit_f

%step.1 (p: s32[], q: s32[]) -> s32[] {{
  %p = s32[] parameter(0)
  %q = s32[] parameter(1)
  ROOT %next = s32[] {grow}(%p, %q)
}}

%body (carried: (s32[], f32[8], s32[])) -> (s32[], f32[8], s32[]) {{
  %carried = (s32[], f32[8]{{0}}, s32[]) parameter(0)
  %by = s32[] constant({by})
  %counter = s32[] get-tuple-element(%carried), index=0
  %copied = s32[] copy(%counter)
  %grown = s32[] fusion(%copied, %by), kind=kLoop, calls=%step.1
  %x = f32[8]{{0}} get-tuple-element(%carried), index=1
  %y = f32[8]{{0}} negate(%x)
  %limit = s32[] get-tuple-element(%carried), index=2
  ROOT %out = (s32[], f32[8]{{0}}, s32[]) tuple(%grown, %y, {passed})
}}

%condition (given: (s32[], f32[8], s32[])) -> pred[] {{
  %given = (s32[], f32[8]{{0}}, s32[]) parameter(0)
  %at = s32[] get-tuple-element(%given), index=0
  %end = s32[] {end}
  ROOT %go = pred[] compare(%at, %end), direction={direction}
}}

ENTRY %main (a: f32[8], n: s32[]) -> f32[8] {{
  %a = f32[8]{{0}} parameter(0)
  %n = s32[] parameter(1)
  %begin = s32[] constant({begin})
  %ten = s32[] constant(10)
  %start = s32[] copy(%begin)
  %all = (s32[], f32[8]{{0}}, s32[]) tuple(%start, %a, {limit})
  %while.1 = (s32[], f32[8]{{0}}, s32[]) while(%all), condition=%condition, body=%body{note}
  ROOT %result = f32[8]{{0}} get-tuple-element(%while.1), index=1
}}
"""
COUNT_TO_TEN = {
    "grow": "add", "by": 1, "end": "constant(10)", "direction": "LT", "begin": 0,
    "limit": "%ten", "passed": "%limit", "note": "",
}  # fmt: skip


def trips(**change):
    module = hlo.parse(LOOP.format(**{**COUNT_TO_TEN, **change}))
    return trip_count(module.entry.instructions["while.1"], module.entry, module), module


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({}, 10),
        ({"begin": 10}, 0),
        ({"by": 3}, 4),
        ({"direction": "LE"}, 11),
        ({"direction": "NE", "by": 2}, 5),
        ({"grow": "subtract", "begin": 9, "end": "constant(-1)", "direction": "GT"}, 10),
        ({"end": "get-tuple-element(%given), index=2"}, 10),
        ({"note": ', backend_config={"known_trip_count":{"n":"77"}}'}, 77),
        # Not known: a limit from outside, one that changes, a counter that never arrives.
        ({"end": "get-tuple-element(%given), index=2", "limit": "%n"}, None),
        ({"end": "get-tuple-element(%given), index=2", "passed": "%grown"}, None),
        ({"direction": "NE", "by": 3}, None),
        ({"grow": "subtract"}, None),
        ({"by": 0}, None),
        ({"grow": "multiply"}, None),
    ],
)
def test_a_counter_is_followed_to_its_limit(change, count):
    found, module = trips(**change)
    assert found == count
    flops = hlo.costs(module).flops
    assert (flops is None) == (count is None)
    if count is not None:
        assert flops == 10 * count
