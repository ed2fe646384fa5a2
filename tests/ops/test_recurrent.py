"""nn.LSTM, nn.GRU, nn.RNN and their cells: the reference's bits, whatever a sample's neighbours."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import bninv
from bninv.checking.audit import find_uncovered
from bninv.testing import (
    assert_batch_invariant,
    assert_bitwise_equal,
    cpu_capabilities,
    cpu_capability,
)
from tests.support import emulated, reference_dtypes, reference_recurrent
from tests.support.properties import normal
from tests.support.stock_autocast import autocast

# Stock says which of its kernels it took.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

# An input wider than R1's segment, and sizes that divide nothing.
FEATURES, HIDDEN, STEPS, BATCH = 131, 9, 5, 4
X = normal("x", STEPS, BATCH, FEATURES)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *a, **o: nn.RNN(*a, nonlinearity="relu", **o),
}
CELLS: dict[str, Callable[..., nn.Module]] = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "rnn_tanh": nn.RNNCell,
    "rnn_relu": lambda *a, **o: nn.RNNCell(*a, nonlinearity="relu", **o),
}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in LAYERS},
    "lstm, two layers both ways": ("lstm", {"num_layers": 2, "bidirectional": True}),
    "lstm, projected": ("lstm", {"proj_size": 4, "num_layers": 2, "bidirectional": True}),
    "lstm, no bias": ("lstm", {"bias": False}),
    "lstm, no bias, projected": ("lstm", {"bias": False, "proj_size": 3}),
    "gru, both ways": ("gru", {"bidirectional": True, "bias": False}),
    "rnn, three layers": ("rnn_tanh", {"num_layers": 3, "dropout": 0.5}),
}
forms = pytest.mark.parametrize("form", FORMS)
kinds = pytest.mark.parametrize("kind", LAYERS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def made(form: str, **more: Any) -> tuple[nn.Module, nn.Module]:
    """A stock layer and its patched copy; every call that PyTorch computes raises."""
    kind, options = FORMS[form]
    torch.manual_seed(0)
    stock = LAYERS[kind](FEATURES, HIDDEN, **options, **more).eval()
    return stock, bninv.patch(copy.deepcopy(stock), strict=True)


def flat(result: Any) -> list[Tensor]:
    if isinstance(result, PackedSequence):
        return [result.data]
    return [result] if isinstance(result, Tensor) else [t for part in result for t in flat(part)]


def expected(module: Any, kind: str, x: Tensor) -> Iterator[Tensor]:
    """What the reference makes of it: all layers and directions, from a state of zeros."""
    dtype = x.dtype

    def wide(tensor: Tensor) -> Any:
        return reference_dtypes.widened(tensor, dtype)

    def rounded(values: Any) -> Any:
        return wide(reference_dtypes.rounded(values, dtype))

    values, lasts = wide(x), []
    for number in range(module.num_layers):
        outputs = []
        for back in range(2 if module.bidirectional else 1):
            suffix = f"_l{number}{'_reverse' if back else ''}"
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
            found = [getattr(module, name + suffix, None) for name in names]
            weights = [None if w is None else wide(w.detach()) for w in found]
            sizes = [module.proj_size or module.hidden_size, module.hidden_size]
            state = [0 * values[0, :, :1].repeat(s, -1) for s in sizes[: 1 + (kind == "lstm")]]
            output, last = reference_recurrent.layer(
                kind, values, state, weights, rounded, back == 1
            )
            outputs.append(output)
            lasts.append(last)
        values = rounded(outputs[0] if len(outputs) == 1 else _joined(outputs))
    yield reference_dtypes.rounded(values, dtype)
    for part in zip(*lasts, strict=True):
        yield torch.stack([reference_dtypes.rounded(p, dtype) for p in part])


def _joined(outputs: list[Any]) -> Any:
    return torch.cat([torch.from_numpy(o) for o in outputs], -1).numpy()


@dtypes
@forms
@torch.no_grad()
def test_it_is_the_reference(form: str, dtype: torch.dtype) -> None:
    _, patched = made(form)
    patched.to(dtype)
    x = X.to(dtype)
    found = flat(patched(x))
    for got, value in zip(found, expected(patched, FORMS[form][0], x), strict=True):
        assert_bitwise_equal(got, value)


@forms
@torch.no_grad()
def test_a_sample_does_not_know_its_batch(form: str) -> None:
    _, patched = made(form, batch_first=True)

    def run(x: Tensor) -> list[Tensor]:
        output, *last = flat(patched(x))
        return [output, *(t.transpose(0, 1) for t in last)]

    assert_batch_invariant(run, X.transpose(0, 1)[:2], batch_sizes=(1, 3))
    whole = run(X.transpose(0, 1))
    torch.set_num_threads(3)
    for level in cpu_capabilities():
        with cpu_capability(level), torch.inference_mode():
            for a, b in zip(run(X.transpose(0, 1)), whole, strict=True):
                assert_bitwise_equal(a, b, level)


@forms
@torch.no_grad()
def test_a_packed_sample_does_not_know_the_lengths_of_others(form: str) -> None:
    stock, patched = made(form)
    lengths = [2, 5, 1, 2]
    packed = pack_padded_sequence(X, lengths, enforce_sorted=False)
    shapes = [part.shape for part in flat(patched(packed)[1])]
    given = [normal(f"state {i}", *shape) for i, shape in enumerate(shapes)]

    def started(sample: slice | int) -> Any:
        parts = tuple(part[:, sample] for part in given)
        return parts if len(parts) > 1 else parts[0]

    output, state = patched(packed, started(slice(None)))
    padded, _ = pad_packed_sequence(output)
    for i, length in enumerate(lengths):
        alone, alone_state = patched(X[:length, i], started(i))
        assert_bitwise_equal(padded[:length, i], alone, f"sample {i}")
        for part, own in zip(flat(state), flat(alone_state), strict=True):
            assert_bitwise_equal(part[:, i], own, f"the state of sample {i}")
    for a, b in zip(flat(patched(packed)), flat(stock(packed)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@dtypes
@kinds
@torch.no_grad()
def test_a_layer_is_its_cell_step_by_step(kind: str, dtype: torch.dtype) -> None:
    _, patched = made(kind)
    cell = CELLS[kind](FEATURES, HIDDEN).eval()
    for name, parameter in cell.named_parameters():
        parameter.copy_(getattr(patched, f"{name}_l0"))
    own = bninv.patch(cell, strict=True).to(dtype)
    start = normal("state", 2, BATCH, HIDDEN).to(dtype)
    given = (start[:1], start[1:]) if kind == "lstm" else start[:1]
    output, last = patched.to(dtype)(X.to(dtype), given)
    state: Any = tuple(start) if kind == "lstm" else start[0]
    for t in range(STEPS):
        state = own(X[t].to(dtype), state)
        assert_bitwise_equal(output[t], state[0] if kind == "lstm" else state)
    for a, b in zip(flat(last), flat(state), strict=True):
        assert_bitwise_equal(a[0], b)


@dtypes
@forms
@torch.no_grad()
def test_it_is_about_as_near_as_stock(form: str, dtype: torch.dtype) -> None:
    stock, patched = made(form)
    stock, patched, x = stock.to(dtype), patched.to(dtype), X.to(dtype)
    if dtype == torch.float64:
        for a, b in zip(flat(patched(x)), flat(stock(x)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        return
    exact = flat(copy.deepcopy(stock).double()(x.double()))

    def error(module: nn.Module) -> float:
        parts = zip(flat(module(x)), exact, strict=True)
        return float(torch.cat([(a.double() - b).flatten() for a, b in parts]).square().mean())

    assert error(patched) ** 0.5 <= 2 * error(stock) ** 0.5


@kinds
def test_the_gpus_kernels_give_its_bits(kind: str) -> None:
    _, patched = made(kind)
    cell = bninv.patch(CELLS[kind](FEATURES, HIDDEN).eval(), strict=True)
    with torch.no_grad():
        whole = [*flat(patched(X[:2])), *flat(cell(X[0]))]
        with emulated.Redirected() as mode:
            got = [*flat(patched(X[:2])), *flat(cell(X[0]))]
    assert mode.seen >= {"linear"} and mode.seen & {"linear_fused", "tanh"}
    for a, b in zip(got, whole, strict=True):
        assert_bitwise_equal(a, b)


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_autocast_gives_stocks_types(low: torch.dtype) -> None:
    for form in FORMS:
        stock, patched = made(form)
        with autocast("cpu", low):
            pairs = [(stock(X), patched(X)), (stock(X.to(low)), patched(X.to(low)))]
        for theirs, ours in pairs:
            assert [t.dtype for t in flat(ours)] == [t.dtype for t in flat(theirs)], form
            for a, b in zip(flat(ours), flat(theirs), strict=True):
                torch.testing.assert_close(a, b, rtol=0.1, atol=0.03)


@torch.no_grad()
def test_what_runs_is_seen_and_covered() -> None:
    _, patched = made("lstm, projected")
    assert find_uncovered(patched, X) == [] and bninv.uncovered(patched) == []
    # Dropout between layers, in training mode, is PyTorch's.
    layers = bninv.patch(nn.GRU(FEATURES, HIDDEN, num_layers=2, dropout=0.5)).train()
    with pytest.warns(bninv.NotInvariantWarning):
        layers(X)
    assert bninv.uncovered(layers)
    single = bninv.patch(nn.GRU(FEATURES, HIDDEN)).train()
    single(X)
    assert bninv.uncovered(single) == []


@torch.no_grad()
def test_what_stock_refuses_is_refused_in_its_words() -> None:
    stock, patched = made("lstm")
    for x, state in (
        (X[..., 1:], None),
        (X[:0], None),
        (X, (normal("h", 1, 3, HIDDEN), normal("c", 1, 3, HIDDEN))),
        (X.double(), None),
    ):
        said = []
        for module in (stock, patched):
            with pytest.raises((RuntimeError, ValueError)) as raised:
                module(x, state)
            said.append(str(raised.value))
        assert said[0] == said[1]


def test_weights_are_laid_out_and_given_back_and_training_is_stock() -> None:
    torch.manual_seed(0)
    cell = bninv.patch(nn.GRUCell(6, 4))
    assert cell.weight_ih.stride() == (1, 12)
    x = normal("row", 3, 6)
    cell.train()(x).sum().backward()
    assert cell.weight_ih.grad is not None
    assert bninv.unpatch(cell).weight_ih.stride() == (6, 1)
