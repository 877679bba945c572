"""Sentences of Python's own language reference find the page that they come from.

python examples/ragged_documents.py

The pages ship with Python (`pydoc_data.topics`, what `help("with")` shows). They have from one to
hundreds of sentences, and sentences from three to dozens of words, so that in a batch of pages most
"time" steps are padding. A sentence encoder is distributed over the sentences of every page, and
trained to name the page. With strategy="packed" the padding costs nothing, forward and backward;
the script measures what that saves over a fold, which computes all of it.
"""

import argparse
import re
import time
import zlib
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import tdjax
from tdjax.comparison.system.extras import leave_out_absent
from tdjax.linen import TimeDistributed

SENTENCES, WORDS, BUCKETS = 128, 24, 4096


def sentences_of(text):
    """Return the sentences of a page, each a list of words."""
    cut = re.split(r"(?<=[.!?:])\s+", " ".join(text.split()))
    words = [re.findall(r"[a-z_]+", sentence.lower()) for sentence in cut]
    return [sentence for sentence in words if len(sentence) > 2]


def read_pages(most):
    """Return the names of the pages, word numbers `(pages, sentences, words)`, and lengths."""
    names = sorted(topics)[:most]
    pages = [sentences_of(topics[name])[:SENTENCES] for name in names]
    numbers = np.zeros((len(pages), SENTENCES, WORDS), np.int32)
    for page, sentences in enumerate(pages):
        for place, words in enumerate(sentences):
            hashed = [1 + zlib.crc32(word.encode()) % (BUCKETS - 1) for word in words[:WORDS]]
            numbers[page, place, : len(hashed)] = hashed
    return names, numbers, np.array([len(sentences) for sentences in pages])


class Encoder(nn.Module):
    """A sentence, `(batch, words)` numbers with 0 as padding, as scores of all pages."""

    pages: int

    @nn.compact
    def __call__(self, words):
        x = nn.Embed(BUCKETS, 64)(words)
        for _ in range(2):
            x = nn.gelu(nn.Dense(192)(x))
        real = (words != 0)[..., None]
        x = (x * real).sum(1) / jnp.maximum(real.sum(1), 1)
        return nn.Dense(self.pages)(nn.LayerNorm()(x))


def training_step(strategy, pages, optimizer):
    """Return a compiled step of training under a strategy."""
    model = TimeDistributed(Encoder(pages), strategy=strategy)

    def loss(params, words, mask):
        scores = model.apply({"params": params}, words, mask=mask)  # (pages, sentences, pages)
        logs = nn.log_softmax(scores)
        own = jnp.take_along_axis(logs, jnp.arange(pages)[:, None, None], -1)[..., 0]
        return -(own * mask).sum() / mask.sum()

    @jax.jit
    def step(params, state, words, mask):
        value, gradients = jax.value_and_grad(loss)(params, words, mask)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    return model, step


def seconds_a_step(step, *arguments):
    """Return the median of three calls, after one that compiles."""
    jax.block_until_ready(step(*arguments))
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps of training (40)")
    parser.add_argument("--pages", type=int, help="take no more pages than this")
    options = parser.parse_args()
    leave_out_absent()

    names, words, lengths = read_pages(options.pages)
    real = tdjax.lengths_to_mask(lengths, SENTENCES)  # bool (pages, sentences)
    held_out = real & (np.arange(SENTENCES) % 5 == 4)
    mask = real & ~held_out  # no prefix: any mask will do
    print(
        f"{len(names)} pages of {lengths.min()} to {lengths.max()} sentences: {real.sum()} in all"
    )
    print(f"as one array {real.shape}: {real.mean():.0%} of its steps are real")
    print(f"to train on, without every fifth sentence: {mask.mean():.0%}")

    optimizer = optax.adam(3e-3)
    model, step = training_step("packed", len(names), optimizer)
    params = model.init(jax.random.key(0), words[:, :1])["params"]
    state = optimizer.init(params)
    packed = seconds_a_step(step, params, state, words, mask)
    _, folded_step = training_step("fold", len(names), optimizer)
    folded = seconds_a_step(folded_step, params, state, words, mask)
    print(f"a step of training: fold {1e3 * folded:.0f} ms, packed {1e3 * packed:.0f} ms")
    print(f"saved: {1 - packed / folded:.0%} of the time, {folded / packed:.1f} times as fast")

    for _ in range(options.steps):
        params, state, value = step(params, state, words, mask)
    scores = jax.jit(model.apply)({"params": params}, words, mask=real)
    found = np.asarray(scores.argmax(-1)) == np.arange(len(names))[:, None]
    print(f"after {options.steps} steps the loss is {value:.2f}")
    print(
        f"sentences that it has not seen, given to their page: {found[held_out].mean():.0%} "
        f"(by chance {1 / len(names):.0%})"
    )


if __name__ == "__main__":
    main()
