"""Reading a profile of a device."""

import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData

from tdjax.comparison.measuring.device_time import busiest, device_seconds
from tdjax.comparison.measuring.program import Building
from tdjax.comparison.measuring.rotation import Rotation


def plane(name, *lines):
    text = "".join(lines)
    return f'planes {{ name: "{name}" {text} event_metadata {{ key: 1 value {{ id: 1 }} }} }}'


def line(name, *spans):
    events = "".join(
        f"events {{ metadata_id: 1 offset_ps: {start}000000 duration_ps: {end - start}000000 }}"
        for start, end in spans
    )
    return f'lines {{ name: "{name}" timestamp_ns: 5 {events} }}'


@pytest.mark.parametrize(
    ("planes", "expected"),
    [
        # Two streams of a GPU at work at once count once; what its host does counts for nothing.
        (
            [
                plane("/host:CPU", line("python", (0, 900))),
                plane(
                    "/device:GPU:0",
                    line("Stream #14(Compute)", (0, 40), (60, 100)),
                    line("Stream #15(MemcpyD2D)", (30, 70)),
                    line("XLA Modules", (0, 500)),
                ),
            ],
            100e-6,
        ),
        (
            [
                plane("/device:GPU:0", line("Stream #1", (0, 40))),
                plane("/device:GPU:1", line("Stream #1", (0, 70), (80, 90))),
            ],
            80e-6,
        ),
        ([plane("/device:TPU:0", line("Steps", (0, 99)), line("XLA Ops", (5, 25)))], 20e-6),
        ([plane("/host:CPU", line("Stream", (0, 10)))], None),
        ([plane("/device:GPU:0", line("Stream #1"))], None),
    ],
)
def test_the_time_in_which_the_busiest_device_works(planes, expected):
    found = busiest(ProfileData.from_text_proto("".join(planes)))
    assert found == (expected if expected is None else pytest.approx(expected))


def test_a_device_whose_profile_does_not_tell_has_no_time():
    arguments = ([jnp.ones(8)], [])
    program = Building(lambda arrays, _: [jnp.tanh(arrays[0])], arguments).finish()
    assert device_seconds(program, Rotation(arguments, (), 0), call_s=1e-3) is None  # a CPU
