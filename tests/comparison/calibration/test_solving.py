"""From pretended times the speeds that made them are found again."""

import dataclasses

import pytest

from tdjax.comparison.calibration.calibrating import _OF_CPUS
from tdjax.comparison.calibration.probes import PROBES
from tdjax.comparison.calibration.solving import bounds, solve
from tdjax.costs.machine import cpu_of, machine_elsewhere
from tdjax.devices.shipped import SPEEDS, devices

TRUE = cpu_of(
    {
        "dot_flops_s": 2e11, "conv_flops_s": 1.7e11, "transcendentals_s": 1e10,
        "near_bytes_s": 8e10, "far_bytes_s": 4e10, "memory_bytes_s": 1e10, "operation_s": 3e-6,
        "turn_s": 1e-6, "fresh_bytes_s": 2e10,
        "channel_flops_s": 3e10, "naive_flops_s": 2e9, "narrow_conv": 1.3, "apart_conv": 1.1,
        "back_conv": 1.2, "back_conv_2d": 1.4, "plain_conv": 2.0, "patch_passes": 2.0,
        "kept_passes": 1.5, "stacked_passes": 4.0, "plain_product": 1.7, "looped_passes": 5.0,
        "batched_product": 1.6, "packed_values_s": 8e9, "pooled_values_s": 9e8,
    },
    (2.0**21, 2.0**25),
    2,
)  # fmt: skip


# What is told apart on an accelerator, and how such a one answers.
TOLD = [speed for speed in SPEEDS if speed not in _OF_CPUS]
ACCELERATOR = machine_elsewhere(
    "gpu", "some GPU", {"dot_flops_s": 4e14, "conv_flops_s": 2e14, "transcendentals_s": 5e12,
    "memory_bytes_s": 3e12, "operation_s": 4e-6, "turn_s": 2e-5, "back_conv": 1.5,
    "patch_passes": 2.0, "kept_passes": 1.5, "stacked_passes": 3.0, "looped_passes": 4.0},
)  # fmt: skip


# What no small program tells, or follows another speed.
FOLLOWING = ("near_bytes_s", "channel_flops_s")
COUNTED = (
    *("turn_s", "tiled_back", "patch_passes"),
    *("kept_passes", "stacked_passes", "looped_passes"),
)


@pytest.fixture(scope="module")
def predictions():
    return {probe.speed: probe.cost().seconds for probe in PROBES}


def test_every_speed_has_one_program_but_those_that_count():
    assert sorted([*(probe.speed for probe in PROBES), *FOLLOWING, *COUNTED]) == sorted(SPEEDS)


@pytest.mark.parametrize("apart", [0.4, 2.5])
def test_the_speeds_that_made_the_times_are_found(predictions, apart):
    seconds = {name: predict(TRUE) for name, predict in predictions.items()}
    wrong = {name: TRUE.speeds[name] * apart for name in (*predictions, *FOLLOWING)}
    found = solve(dataclasses.replace(TRUE, **wrong), predictions, seconds)
    assert found.speeds == pytest.approx(TRUE.speeds, rel=0.02)


def test_the_speeds_of_an_accelerator_are_found(predictions):
    told = {name: predictions[name] for name in TOLD if name in predictions}
    seconds = {name: predict(ACCELERATOR) for name, predict in told.items()}
    counted = {name: ACCELERATOR.speeds[name] for name in COUNTED}
    start = machine_elsewhere("gpu", "some GPU", counted)
    found = solve(start, told, seconds).speeds
    wanted = {name: ACCELERATOR.speeds[name] for name in TOLD}
    assert {name: found[name] for name in TOLD} == pytest.approx(wanted, rel=0.02)


def test_a_time_that_no_speed_explains_gives_one_within_bounds(predictions):
    seconds = {name: predict(TRUE) for name, predict in predictions.items()}
    found = solve(TRUE, predictions, {**seconds, "operation_s": 1e-9, "fresh_bytes_s": 1e3})
    assert all(TRUE.speeds[n] / 31 <= s <= TRUE.speeds[n] * 31 for n, s in found.speeds.items())
    assert found.near_bytes_s >= found.far_bytes_s >= found.memory_bytes_s


def test_what_programs_said_is_of_the_speeds_that_are_shipped():
    """Another machine's calibration is relative to it; speeds fitted anew need it anew."""
    for device in devices():
        machine = machine_elsewhere(device.platform, device.kind, device.speeds)
        for name, said in device.probed.items():
            least, most = bounds(machine, name)
            assert 0.99 * least <= said <= 1.01 * most, (device.kind, device.versions, name)
        counted = {name: device.speeds[name] for name in COUNTED if name in device.probed}
        assert counted == pytest.approx({name: device.probed[name] for name in counted}, rel=1e-3)
