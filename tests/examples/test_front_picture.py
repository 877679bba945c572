"""The picture of the README: its bars are those of a result, and both files are written."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tdjax import Comparison

SCRIPT = Path(__file__).parents[2] / "examples" / "front_picture.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("front_picture", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "front_picture", module)  # where Flax looks for annotations
        spec.loader.exec_module(module)
        yield module


def test_its_bars_are_those_of_the_result(script):
    comparison = Comparison.load(script.RESULT)
    answers = {(answer.workload, answer.mode): answer for answer in comparison.answers}
    for mode in script.MODES:
        for workload, (vmap, fold, auto) in zip(
            script.WORKLOADS, script.speeds(comparison, mode), strict=True
        ):
            answer = answers[workload, mode]
            assert vmap == 1
            assert fold == answer.fold_over_vmap.value
            assert auto == answer.auto_over_vmap.value
    said = script.measured_on(comparison)
    assert comparison.environment["date"][:10] in said and comparison.environment["jax"] in said


def test_padding_has_no_features(script):
    found = script.features_of(script.wander()[:, :, ::8, ::8])
    real = np.arange(script.TIME) < np.array(script.LENGTHS)[:, None]
    assert not found[~real].any() and found[real].any(-1).all()


def test_it_is_drawn_light_and_dark(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "DPI", 20)
    monkeypatch.setattr(script, "features_of", lambda clips: np.zeros((2, 6, 12)))
    monkeypatch.setattr(sys, "argv", ["front_picture.py", "--out", str(tmp_path / "new")])
    script.main()
    written = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in written] == ["front.png", "front-dark.png"]
    first, second = (path.read_bytes() for path in written)
    assert first.startswith(b"\x89PNG") and first != second
