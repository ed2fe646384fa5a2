"""Recurrent layers and cells, of R1's products and R6's functions: docs/numerics.md.

`nn.LSTM`, `nn.GRU`, `nn.RNN` and their cells stay what they are, and check what they are given;
what they call becomes the functions here. A step is one operator: half-precision tensors are
widened, and its state is rounded once, at the step's end. So a layer has the bits of its cell,
called step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bninv import _torch
from bninv._arguments import promoted
from bninv._autocast import cast, policy_of, without
from bninv.operators.adapters import Adapter, need
from bninv.operators.linear import linear, linear_fused
from bninv.operators.operator import Operator
from bninv.operators.unary import sigmoid, tanh

State = tuple[Tensor, ...]  # the hidden state; an LSTM's has its cell state, too


@dataclass(frozen=True)
class Weights:
    """Of one layer in one direction, as panels in the arithmetic type.

    `dtype` is what a step's operands of products have been rounded to.
    """

    dtype: torch.dtype
    input: Tensor  # [gates * hidden, features]
    hidden: Tensor  # [gates * hidden, projected or hidden]
    input_bias: Tensor | None
    hidden_bias: Tensor | None
    projection: Tensor | None = None  # [projected, hidden]

    def of_input(self, x: Tensor) -> Tensor:
        """`x @ input.T + input_bias`, of all steps at once."""
        return linear(self._operand(x), self.input, self.input_bias)

    def of_hidden(self, h: Tensor) -> Tensor:
        """`h @ hidden.T + hidden_bias`."""
        return linear(self._operand(h), self.hidden, self.hidden_bias)

    def gates(self, x: Tensor, h: Tensor, activation: Any = "none") -> Tensor:
        """`activation(of_hidden(h) + x)`, where `x` is what `of_input` gave of the step."""
        return linear_fused(
            self._operand(h), self.hidden, self.hidden_bias, residual=x, activation=activation
        )

    def projected(self, h: Tensor) -> Tensor:
        """`h @ projection.T`, if there is one."""
        return h if self.projection is None else linear(h, self.projection)

    def _operand(self, x: Tensor) -> Tensor:
        if x.dtype is self.dtype is self.input.dtype:
            return x  # a step's calls of nothing cost as much as its arithmetic
        return x.to(self.dtype).to(self.input.dtype)


# From what `Weights.of_input` gave of a step, and the state before it, all in the arithmetic type,
# to the state after it.
Step = Callable[[Weights, Tensor, State], State]


def _lstm_step(weights: Weights, x: Tensor, state: State) -> State:
    h, c = state
    gates, size = weights.gates(x, h), c.shape[-1]
    # Of all four, since that is one call: the cell's own part is not looked at.
    i, f, _, o = sigmoid(gates).split(size, -1)
    c = f * c + i * tanh(gates[..., 2 * size : 3 * size])
    return weights.projected(o * tanh(c)), c


def _gru_step(weights: Weights, x: Tensor, state: State) -> State:
    (h,) = state
    size = h.shape[-1]
    own = weights.of_hidden(h)
    r, z = sigmoid(x[..., : 2 * size] + own[..., : 2 * size]).chunk(2, -1)
    n = tanh(x[..., 2 * size :] + r * own[..., 2 * size :])
    return ((1 - z) * n + z * h,)


def _tanh_step(weights: Weights, x: Tensor, state: State) -> State:
    return (weights.gates(x, state[0], "tanh"),)


def _relu_step(weights: Weights, x: Tensor, state: State) -> State:
    return (weights.gates(x, state[0], "relu"),)


# ---- One step after the other --------------------------------------------------------------------


def _stepped(step: Step, weights: Weights, x: Tensor, state: State, dtypes: Any) -> State:
    """The state after a step, each part rounded once."""
    if all(dtype is x.dtype for dtype in dtypes):
        return step(weights, x, state)
    wide = tuple(part.to(x.dtype) for part in state)
    after = step(weights, x, wide)
    return tuple(part.to(dtype) for part, dtype in zip(after, dtypes, strict=True))


def _direction(
    step: Step, weights: Weights, x: Tensor, state: State, dtypes: Any, rows: list[int], back: bool
) -> tuple[Tensor, State]:
    """All steps of a layer in one direction.

    Args:
        x: [steps, samples, features], or the rows of all steps one after another.
        state: [samples, hidden] each.
        dtypes: of the state's parts.
        rows: how many samples each step has: the first ones.
        back: from the last step to the first.

    Returns:
        The hidden states of all steps, [rows of all, hidden]; and each sample's last state.
    """
    inputs = weights.of_input(x.reshape(-1, x.shape[-1])).split(rows)
    start = tuple(part.to(dtype) for part, dtype in zip(state, dtypes, strict=True))
    order = range(len(rows))[::-1] if back else range(len(rows))
    outputs: dict[int, Tensor] = {}
    ended: list[State] = []  # of samples that have no more steps, the last samples first
    state = tuple(part[: rows[order[0]]] for part in start)
    for t in order:
        now = state[0].shape[0]
        if rows[t] < now:
            ended.append(tuple(part[rows[t] :] for part in state))
            state = tuple(part[: rows[t]] for part in state)
        elif rows[t] > now:
            begun = (part[now : rows[t]] for part in start)
            state = tuple(torch.cat(parts) for parts in zip(state, begun, strict=True))
        state = _stepped(step, weights, inputs[t], state, dtypes)
        outputs[t] = state[0]
    last = (torch.cat(parts) for parts in zip(state, *ended[::-1], strict=True))
    return torch.cat([outputs[t] for t in range(len(rows))]), tuple(last)


def _layers(
    step: Step,
    x: Tensor,
    state: State,
    params: Sequence[Tensor],
    of_each: int,
    has_biases: bool,
    bidirectional: bool,
    dtypes: tuple[torch.dtype, ...],
    product: torch.dtype,
    rows: list[int],
) -> tuple[Tensor, ...]:
    """All layers; the result as PyTorch's, with all steps' rows one after another."""
    lasts: list[State] = []
    parts = [params[i : i + of_each] for i in range(0, len(params), of_each)]
    directions = 2 if bidirectional else 1
    for layer in range(len(parts) // directions):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            weights = _weights(parts[number], has_biases, product)
            own = tuple(part[number] for part in state)
            output, last = _direction(step, weights, x, own, dtypes, rows, direction == 1)
            outputs.append(output)
            lasts.append(last)
        x = torch.cat(outputs, -1) if bidirectional else outputs[0]
    return (x, *(torch.stack(part) for part in zip(*lasts, strict=True)))


def _weights(params: Sequence[Tensor], has_biases: bool, dtype: torch.dtype) -> Weights:
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    made = [p.to(dtype).to(wide) for p in params]
    biases = made[2:4] if has_biases else (None, None)
    projection = made[4 if has_biases else 2 :]
    panels = [_panel(m) for m in (*made[:2], *projection)]
    return Weights(dtype, *panels[:2], *biases, *panels[2:])


def _panel(weight: Tensor) -> Tensor:
    """As the kernel reads it in place: a weight is packed once for all steps."""
    return weight.t().contiguous().t()


# ---- PyTorch's signatures ------------------------------------------------------------------------


def _as_under_autocast(
    stock: dict[str, str], tensors: list[Tensor]
) -> tuple[list[Tensor], AbstractContextManager[Any], torch.dtype]:
    """The tensors as PyTorch's operator has them, a context without autocast, and the dtype that
    its products round to.

    Args:
        stock: by device, the operator that autocast knows; none: it knows the products in it.
    """
    device, dtype = tensors[0].device.type, tensors[0].dtype
    need(dtype.is_floating_point)
    if not _torch.any_autocast() or not torch.is_autocast_enabled(device):
        need(all(t.dtype == dtype for t in tensors))
        return tensors, nullcontext(), dtype
    name = stock.get(device, "")
    if policy_of(name, device) is not None:
        tensors = list(cast(name, tuple(tensors), {})[0])
        need(all(t.dtype == tensors[0].dtype for t in tensors))
        return tensors, without(device), tensors[0].dtype
    low = torch.float64 if dtype is torch.float64 else torch.get_autocast_dtype(device)
    need(all((t.dtype is torch.float64) == (dtype is torch.float64) for t in tensors))
    return tensors, without(device), low


def _state_dtypes(
    kind: str, state: State, product: torch.dtype, projects: bool
) -> tuple[torch.dtype, ...]:
    """What the parts of a state are stored in: under autocast what PyTorch's products, narrowed,
    and its sums of them with the state before make of that.
    """
    dtypes = [promoted(part.dtype, product) for part in state]
    if kind == "rnn":
        return (product,)
    if kind == "lstm":
        return (product if projects else dtypes[1], dtypes[1])
    return tuple(dtypes)


def _layer(kind: str, step: Step, stock: dict[str, str]) -> Adapter:
    """ATen's `lstm`, `gru`, `rnn_tanh` or `rnn_relu`, of tensors and of packed sequences."""

    def padded(
        input: Tensor,
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        need(input.dim() == 3)
        x = input.transpose(0, 1) if batch_first else input
        steps, samples = x.shape[:2]
        need(steps > 0)
        given = (num_layers, dropout, train, bidirectional)
        output, *last = run(x, [samples] * steps, hx, params, has_biases, *given)
        output = output.reshape(steps, samples, output.shape[-1])
        return (output.transpose(0, 1) if batch_first else output, *last)

    def packed(
        data: Tensor,
        batch_sizes: Tensor,
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[Tensor, ...]:
        rows = batch_sizes.tolist()
        need(data.dim() == 2 and bool(rows) and rows == sorted(rows, reverse=True))
        need(sum(rows) == data.shape[0])
        return run(data, rows, hx, params, has_biases, num_layers, dropout, train, bidirectional)

    def run(
        x: Tensor,
        rows: list[int],
        hx: Any,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[Tensor, ...]:
        # Dropout is between layers.
        need(not (train and dropout > 0 and num_layers > 1))
        state: State = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        need(len(state) == (2 if kind == "lstm" else 1))
        directions = 2 if bidirectional else 1
        of_each, left = divmod(len(params), num_layers * directions)
        projects = of_each == (5 if has_biases else 3)
        need(left == 0 and of_each - projects == (4 if has_biases else 2))
        # What does not fit PyTorch answers.
        need(all(p.dim() == 3 and p.shape[0] == num_layers * directions for p in state))
        need(all(p.shape[1] == max(rows) for p in state))
        known = {} if projects and kind == "lstm" and x.device.type == "cpu" else stock
        tensors, quiet, product = _as_under_autocast(known, [x, *state, *params])
        x, state = tensors[0], tuple(tensors[1 : 1 + len(state)])
        params = tensors[1 + len(state) :]
        with quiet:
            dtypes = _state_dtypes(kind, state, product, projects)
            given = (of_each, has_biases, bidirectional, dtypes, product, rows)
            return _layers(step, x, state, params, *given)

    def layer(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        # Of a packed sequence, the number of samples at each step comes before the state.
        state = kwargs.get("hx", args[1] if len(args) > 1 else None)
        follows = args[2] if len(args) > 2 else None
        of_packed = isinstance(state if kind == "lstm" else follows, Tensor)
        return (packed if of_packed or "batch_sizes" in kwargs else padded)(*args, **kwargs)

    return layer


def _cell(kind: str, step: Step, stock: dict[str, str]) -> Adapter:
    """ATen's `lstm_cell`, `gru_cell`, `rnn_tanh_cell` or `rnn_relu_cell`."""

    def cell(
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        state: State = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        need(len(state) == (2 if kind == "lstm" else 1) and (b_ih is None) == (b_hh is None))
        need(input.dim() == 2 and all(p.shape[:1] == input.shape[:1] for p in state))
        biases = [b for b in (b_ih, b_hh) if b is not None]
        given, quiet, product = _as_under_autocast(stock, [input, *state, w_ih, w_hh, *biases])
        x, state, params = given[0], tuple(given[1 : 1 + len(state)]), given[1 + len(state) :]
        with quiet:
            weights = _weights(params, bool(biases), product)
            dtypes = _state_dtypes(kind, state, product, False)
            after = _stepped(step, weights, weights.of_input(x), state, dtypes)
        return after if kind == "lstm" else after[0]

    return cell


_STEPS: dict[str, tuple[str, Step]] = {
    "lstm": ("lstm", _lstm_step),
    "gru": ("gru", _gru_step),
    "rnn_tanh": ("rnn", _tanh_step),
    "rnn_relu": ("rnn", _relu_step),
}


def _adapters() -> Iterator[tuple[str, Adapter]]:
    for name, (kind, step) in _STEPS.items():
        # On the CPU PyTorch takes oneDNN's for what it has there.
        stock = {"cuda": "_cudnn_rnn", **({"cpu": "mkldnn_rnn_layer"} if kind == "lstm" else {})}
        yield name, _layer(kind, step, stock)
        yield f"{name}_cell", _cell(kind, step, {"cuda": f"{name}_cell"})


OPERATORS: list[Operator] = []
ATEN: dict[str, Adapter] = dict(_adapters())
PYTHON: dict[str, Adapter] = {}

__all__: list[str] = []
