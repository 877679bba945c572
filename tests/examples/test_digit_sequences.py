"""The training on handwritten digits, a few steps of it."""

import importlib.util
import io
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

SCRIPT = Path(__file__).parents[2] / "examples" / "digit_sequences.py"
SINGLE = 50  # steps on single images, before rows of up to three


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("digit_sequences", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "digit_sequences", module)  # where Flax looks for annotations
        spec.loader.exec_module(module)
        distort = module.distort  # image by image: most of the time of a short training
        patch.setattr(module, "distort", lambda images, _, rng: distort(images, 2, rng))
        patch.setattr(module, "LONGEST", 3)
        patch.setattr(module, "BATCH", 32)
        patch.setattr(module, "HELD_OUT_SEQUENCES", 64)
        patch.setattr(module, "STRATEGIES", ("auto", "map"))
        patch.setattr(module, "longest_at", lambda step, steps: 1 if step < SINGLE else 3)
        yield module


@pytest.fixture(scope="module")
def images(example):
    return example.load_images(0)


@pytest.fixture(scope="module")
def held_out(example, images):
    return example.draw_sequences(images[1], 64, 3, np.random.default_rng(1))


@pytest.fixture(scope="module")
def trained(example, images, held_out):
    lines = io.StringIO()
    variables, curve = example.train(
        example.CheckDigit(), images[0], held_out, SINGLE + 10, 0, Console(file=lines), 3
    )
    return variables, curve, lines.getvalue()


def test_no_image_is_both_trained_on_and_held_out(images):
    seen, kept = ({pixels.tobytes() for pixels in part.pixels} for part in images)
    assert len(seen) + len(kept) == 1797
    assert not seen & kept


def test_labels_count_every_real_image_and_padding_is_nan(example, images):
    drawn = example.draw_sequences(images[0], 200, 2, np.random.default_rng(0))
    assert set(drawn.lengths) == {1, 2}
    for pixels, length, picked, label in zip(*drawn, strict=True):
        np.testing.assert_array_equal(pixels[:length], images[0].pixels[picked[:length]])
        assert np.isnan(pixels[length:]).all()
        assert label == sum(images[0].digits[picked[:length]]) % 10


def test_loss_falls_over_nan_padding(trained):
    variables, curve, lines = trained
    assert np.isfinite(curve.losses).all()
    assert np.mean(curve.losses[SINGLE - 5 : SINGLE]) < 0.5 * curve.losses[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    assert curve.evaluated == [0, 20, 40, 60]
    assert [line.split()[1] for line in lines.splitlines()] == ["20", "40", "60"]


@pytest.mark.parametrize("padding", [0.0, 1e30])
def test_padding_never_changes_a_prediction(example, trained, held_out, padding):
    filled = held_out._replace(images=np.nan_to_num(held_out.images, nan=padding))
    model = example.CheckDigit()
    by_nan = example.compute_logits(model, trained[0], held_out.images, held_out.lengths)
    by_filled = example.compute_logits(model, trained[0], filled.images, filled.lengths)
    np.testing.assert_array_equal(by_nan, by_filled)


def test_a_checkpoint_predicts_the_same_under_every_strategy(example, trained, held_out, tmp_path):
    variables = trained[0]
    for _ in range(2):  # a second run writes over the first
        example.save_checkpoint(tmp_path / "checkpoint", variables)
    found = example.predict(example.CheckDigit(), variables, held_out)
    assert len(set(found)) > 1
    for strategy in ("vmap", "map"):
        model = example.CheckDigit(strategy=strategy)
        restored = example.restore_checkpoint(tmp_path / "checkpoint", model)
        jax.tree.map(np.testing.assert_array_equal, restored, variables)
        np.testing.assert_array_equal(example.predict(model, restored, held_out), found)


def test_single_images_are_read_as_sequences_of_one(example, trained, images):
    kept = images[1]
    some = example.Images(kept.pixels[:64], kept.digits[:64])
    alone = example.read_alone(example.CheckDigit(), trained[0], some)
    assert (alone == some.digits).mean() > 0.3  # a guess is 0.1


@pytest.mark.parametrize("wrong", [0, 3, 64])
def test_pictures_are_written(example, trained, images, held_out, tmp_path, wrong):
    found = held_out.labels.copy()
    found[:wrong] = (found[:wrong] + 1) % 10
    alone = (images[1].digits + (wrong == 3)) % 10
    example.draw_grid(tmp_path / "sequences.png", held_out, images[1], found, alone)
    example.draw_learning_curve(tmp_path / "learning_curve.png", trained[1])
    for name in ("sequences.png", "learning_curve.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_whole_of_it(example, trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(example, "train", lambda *_: trained[:2])
    monkeypatch.setattr(sys, "argv", ["digit_sequences.py", "--out", str(tmp_path)])
    example.main()
    told = capsys.readouterr().out
    assert "1397 images to train on, 400 held out" in told
    assert "of 64 held-out sequences right" in told
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["checkpoint", "learning_curve.png", "sequences.png"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--strategy", "map"], "--strategy map: "),
        (["--strategy", "quick"], "invalid choice"),
        (["--steps", "0"], "at least 1"),
        (["--out", str(SCRIPT)], "--out"),
    ],
)
def test_wrong_usage_is_one_line(example, tmp_path, capsys, monkeypatch, arguments, words):
    command = ["digit_sequences.py", "--out", str(tmp_path), "--steps", "2", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        example.main()
    assert stop.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
