"""Recurrent layers as docs/numerics.md has them, in NumPy: one step after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tests.support.reference import Reals, linear
from tests.support.reference_functions import relu, sigmoid, tanh

Round = Callable[[Reals], Reals]  # to the type of storage and back
Parameters = Sequence[Reals | None]  # of input, of state, their biases, the projection


def step(kind: str, x: Reals, state: list[Reals], weights: Parameters, round: Round) -> list[Reals]:
    """The state after one step: [samples, hidden], an LSTM's cells behind it."""
    of_input, of_hidden, input_bias, hidden_bias, projection = weights
    assert of_input is not None and of_hidden is not None
    h, size = state[0], len(of_hidden)
    a, b = linear(x, of_input, input_bias), linear(h, of_hidden, hidden_bias)
    if kind == "lstm":
        i, f, g, o = np.split(b + a, 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return [round(h if projection is None else linear(h, projection)), round(c)]
    if kind == "gru":
        r, z = np.split(sigmoid((a + b)[:, : 2 * size // 3]), 2, -1)
        n = tanh(a[:, 2 * size // 3 :] + r * b[:, 2 * size // 3 :])
        return [round((np.float32(1) - z) * n + z * h)]
    return [round({"rnn_tanh": tanh, "rnn_relu": relu}[kind](b + a))]


def layer(
    kind: str,
    x: Reals,
    state: list[Reals],
    weights: Parameters,
    round: Round = lambda values: values,
    back: bool = False,
) -> tuple[Reals, list[Reals]]:
    """[steps, samples, features] -> all steps' hidden states, and the last state."""
    outputs: list[Reals] = []
    for inputs in x[::-1] if back else x:
        state = step(kind, inputs, state, weights, round)
        outputs.append(state[0])
    return np.stack(outputs[::-1] if back else outputs), state
