"""Keras chooses its backend when it is first imported, which has to be after this."""

import os

os.environ["KERAS_BACKEND"] = "jax"
