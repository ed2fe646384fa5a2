"""A case for each operator that `dispatch.exact` passes on: how it is called on a batch of images.

A case is a function of the operator and two batches x and y, of one shape (N, C, H, W) with
C >= 5 and H, W >= 4, whose result has the batch in front again, so that its rows can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Run = Callable[[Any, Tensor, Tensor], Any]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
FULL = (torch.float32, torch.float64)
MOVABLE = (*FLOATS, torch.int64, torch.bool)
COMPLEX = (torch.float32, torch.float64)  # those that stock PyTorch has complex numbers of


@dataclass(frozen=True)
class Case:
    operator: str
    run: Run
    dtypes: Sequence[torch.dtype]

    def __str__(self) -> str:
        return self.operator

    def __call__(self, x: Tensor, y: Tensor) -> list[Tensor]:
        result = self.run(getattr(torch.ops.aten, self.operator), x, y)
        return list(result) if isinstance(result, (tuple, list)) else [result]


def _cases(dtypes: Sequence[torch.dtype], table: dict[str, Run]) -> list[Case]:
    return [Case(name, run, dtypes) for name, run in table.items()]


def mask(x: Tensor) -> Tensor:
    """The same pattern for every sample."""
    return (torch.arange(x[0].numel()) % 3 == 0).view(1, *x.shape[1:]).expand(x.shape)


def _columns(x: Tensor) -> Tensor:
    """Indices into the last dimension, for every element of x; each twice at most."""
    size = x.shape[-1]
    rows = torch.arange(x[0].numel()) // size
    return ((torch.arange(x[0].numel()) * 2 + rows) % size).view(1, *x.shape[1:]).expand(x.shape)


def _index(*values: int) -> Tensor:
    return torch.tensor(values)


# ---- Views and copies: every element of the result is an element of x or y, or zero --------------

VIEWS = _cases(
    MOVABLE,
    {
        "view": lambda op, x, y: op(x, [len(x), 1, *x.shape[1:]]),
        "_unsafe_view": lambda op, x, y: op(x, [len(x), 1, *x.shape[1:]]),
        "reshape": lambda op, x, y: op(x, [len(x), -1]),
        "_reshape_alias": lambda op, x, y: op(x, x.shape, x.stride()),
        "flatten": lambda op, x, y: op(x, 1),
        "unflatten": lambda op, x, y: op(x, 1, [1, -1]),
        "permute": lambda op, x, y: op(x, [0, 3, 1, 2]),
        "transpose": lambda op, x, y: op(x, 1, 3),
        "t": lambda op, x, y: op(op(x.flatten(1))),
        "numpy_T": lambda op, x, y: op(x).permute(3, 0, 1, 2),
        "adjoint": lambda op, x, y: op(x),
        "expand": lambda op, x, y: op(x.unsqueeze(1), [-1, 3, -1, -1, -1]),
        "expand_as": lambda op, x, y: op(x[:, :1], y),
        "broadcast_to": lambda op, x, y: op(x[:, :1], y.shape),
        "slice": lambda op, x, y: op(x, 1, 1, 99, 2),
        "select": lambda op, x, y: op(x, 1, 2),
        "split": lambda op, x, y: op(x, 2, 1),
        "split_with_sizes": lambda op, x, y: op(x, [2, x.shape[1] - 2], 1),
        "chunk": lambda op, x, y: op(x, 2, 1),
        "unsafe_chunk": lambda op, x, y: op(x, 2, 1),
        "tensor_split": lambda op, x, y: op(x, 3, 1),
        "hsplit": lambda op, x, y: op(x, [1, 3]),
        "vsplit": lambda op, x, y: [s.transpose(0, 1) for s in op(x.transpose(0, 1), [1, 3])],
        "dsplit": lambda op, x, y: op(x, [1, 3]),
        "unbind": lambda op, x, y: op(x, 1),
        "squeeze": lambda op, x, y: op(x[:, :1], 1),
        "unsqueeze": lambda op, x, y: op(x, 1),
        "alias": lambda op, x, y: op(x),
        "detach": lambda op, x, y: op(x),
        "positive": lambda op, x, y: op(x.to(torch.int8) if x.dtype == torch.bool else x),
        "lift_fresh": lambda op, x, y: op(x),
        "narrow": lambda op, x, y: op(x, 1, 1, 3),
        "diagonal": lambda op, x, y: op(x, 0, 2, 3),
        "movedim": lambda op, x, y: op(x, 1, 3),
        "swapaxes": lambda op, x, y: op(x, 1, 2),
        "unfold": lambda op, x, y: op(x, 3, 3, 1),
        "as_strided": lambda op, x, y: op(x, x.shape, x.stride()),
        "view_as": lambda op, x, y: op(x, y.as_strided(x.shape, x.stride())),
        "squeeze_": lambda op, x, y: op(x[:, :1], 1),
        "unsqueeze_": lambda op, x, y: op(x[:], 1),
        "transpose_": lambda op, x, y: op(x[:], 1, 2),
        "t_": lambda op, x, y: op(op(x.flatten(1))),
        "detach_": lambda op, x, y: op(x.clone()),
    },
) + _cases(
    COMPLEX,
    {
        "view_as_real": lambda op, x, y: op(torch.complex(x, y)),
        "view_as_complex": lambda op, x, y: torch.view_as_real(op(torch.stack([x, y], -1))),
        "real": lambda op, x, y: op(torch.complex(x, y)),
        "imag": lambda op, x, y: op(torch.complex(x, y)),
    },
)

COPIES = _cases(
    MOVABLE,
    {
        "cat": lambda op, x, y: op([x, y, x], 1),
        "stack": lambda op, x, y: op([x, y], 1),
        "hstack": lambda op, x, y: op([x, y]),
        "column_stack": lambda op, x, y: op([x, y]),
        "vstack": lambda op, x, y: op([x.transpose(0, 1), y.transpose(0, 1)]).transpose(0, 1),
        "row_stack": lambda op, x, y: op([x.transpose(0, 1), y.transpose(0, 1)]).transpose(0, 1),
        "dstack": lambda op, x, y: op([x, y]),
        "clone": lambda op, x, y: op(x),
        "contiguous": lambda op, x, y: op(x),
        "index_select": lambda op, x, y: op(x, 1, _index(3, 1, 1, 4)),
        "index": lambda op, x, y: op(x, [None, _index(3, 1, 1, 4)]),
        "index_fill": lambda op, x, y: op(x, 1, _index(3, 1), 0),
        "gather": lambda op, x, y: op(x, 3, _columns(x)),
        "take_along_dim": lambda op, x, y: op(x, _columns(x), 3),
        "masked_select": lambda op, x, y: op(x, mask(x)).view(len(x), -1),
        "embedding": lambda op, x, y: (
            op(x.transpose(0, 1).flatten(1), _index(3, 0, 3)).view(3, len(x), -1).transpose(0, 1)
        ),
        "roll": lambda op, x, y: op(x, [1, -2], [2, 3]),
        "flip": lambda op, x, y: op(x, [1, 3]),
        "fliplr": lambda op, x, y: op(x),
        "flipud": lambda op, x, y: op(x.transpose(0, 1)).transpose(0, 1),
        "rot90": lambda op, x, y: op(x, 1, [2, 3]),
        "where": lambda op, x, y: op(mask(x), x, y),
        "masked_fill": lambda op, x, y: op(x, mask(x), 0),
        "masked_fill_": lambda op, x, y: op(x, mask(x), 0),
        "index_put": lambda op, x, y: op(x, [mask(x)], y[mask(x)]),
        "index_put_": lambda op, x, y: op(x, [mask(x)], y[mask(x)]),
        "scatter": lambda op, x, y: op(x, 3, _columns(x), y),
        "scatter_": lambda op, x, y: op(x, 3, _columns(x), y),
        "take": lambda op, x, y: op(x, torch.arange(x.numel()).view(x.shape).flip(3)),
        "index_fill_": lambda op, x, y: op(x, 1, _index(3, 1), 0),
        "masked_scatter": lambda op, x, y: op(x, mask(x), y[mask(x)]),
        "masked_scatter_": lambda op, x, y: op(x, mask(x), y[mask(x)]),
        "tril_": lambda op, x, y: op(x, 1),
        "triu_": lambda op, x, y: op(x, 1),
        "diagonal_scatter": lambda op, x, y: op(x, y.diagonal(0, 2, 3), 0, 2, 3),
        "slice_scatter": lambda op, x, y: op(x, y[:, 1:3], 1, 2, 4),
        "select_scatter": lambda op, x, y: op(x, y[:, 1], 1, 3),
        "constant_pad_nd": lambda op, x, y: op(x, [1, 2, 0, 3, -1, 1], 0),
        "pixel_shuffle": lambda op, x, y: op(x[:, :4], 2),
        "pixel_unshuffle": lambda op, x, y: op(x[:, :, :4, :4], 2),
        "channel_shuffle": lambda op, x, y: op(x[:, :4], 2),
        "repeat": lambda op, x, y: op(x, [1, 2, 1, 3]),
        "repeat_interleave": lambda op, x, y: op(x, 3, 2),
        "tile": lambda op, x, y: op(x, [1, 1, 2, 2]),
        "tril": lambda op, x, y: op(x, 1),
        "triu": lambda op, x, y: op(x, 1),
        "diag_embed": lambda op, x, y: op(x),
        "diagonal_copy": lambda op, x, y: op(x, 0, 2, 3),
        "block_diag": lambda op, x, y: torch.stack(
            [op([a[0], b[0]]) for a, b in zip(x, y, strict=True)]
        ),
        "index_copy": lambda op, x, y: op(x, 1, _index(3, 1), y[:, :2]),
        "index_copy_": lambda op, x, y: op(x, 1, _index(3, 1), y[:, :2]),
        "narrow_copy": lambda op, x, y: op(x, 1, 1, 3),
        "select_copy": lambda op, x, y: op(x, 1, 2),
        "split_copy": lambda op, x, y: op(x, 2, 1),
        "split_with_sizes_copy": lambda op, x, y: op(x, [2, x.shape[1] - 2], 1),
        "unbind_copy": lambda op, x, y: op(x, 1),
        "permute_copy": lambda op, x, y: op(x, [0, 3, 1, 2]),
        "view_copy": lambda op, x, y: op(x, [len(x), 1, *x.shape[1:]]),
        "expand_copy": lambda op, x, y: op(x[:, :1], y.shape),
        "lift": lambda op, x, y: op(x),
        "lift_fresh_copy": lambda op, x, y: op(x),
        "copy_": lambda op, x, y: op(x, y),
        "copy": lambda op, x, y: op(x, y),
        "meshgrid": lambda op, x, y: [
            torch.stack(part) for part in zip(*(op([a, b]) for a, b in _rows(x, y)), strict=True)
        ],
    },
) + _cases(
    FLOATS,
    {
        "native_channel_shuffle": lambda op, x, y: op(x[:, :4], 2),
        "pad": lambda op, x, y: [
            op(x, [1, 2, 1, 0], mode) for mode in ("reflect", "replicate", "circular")
        ],
        "reflection_pad1d": lambda op, x, y: op(x.flatten(1), [2, 3]),
        "reflection_pad2d": lambda op, x, y: op(x, [2, 1, 3, 0]),
        "reflection_pad3d": lambda op, x, y: op(x.unsqueeze(1), [2, 1, 3, 0, 1, 2]),
        "replication_pad1d": lambda op, x, y: op(x.flatten(1), [2, 3]),
        "replication_pad2d": lambda op, x, y: op(x, [2, 1, 3, 0]),
        "replication_pad3d": lambda op, x, y: op(x.unsqueeze(1), [2, 1, 3, 0, 1, 2]),
        "im2col": lambda op, x, y: op(x, [3, 2], [1, 1], [0, 0], [2, 1]),
        "dropout": lambda op, x, y: op(x, 0.3, False),
        "dropout_": lambda op, x, y: op(x, 0.3, False),
        "feature_dropout": lambda op, x, y: op(x, 0.3, False),
        "feature_dropout_": lambda op, x, y: op(x, 0.3, False),
        "alpha_dropout": lambda op, x, y: op(x, 0.3, False),
        "alpha_dropout_": lambda op, x, y: op(x, 0.3, False),
        "feature_alpha_dropout": lambda op, x, y: op(x, 0.3, False),
        "feature_alpha_dropout_": lambda op, x, y: op(x, 0.3, False),
        "native_dropout": lambda op, x, y: op(x, 0.3, False)[0],
        **{
            f"{name}1d": lambda op, x, y: [
                op(x.flatten(2), [n], s) for n, s in ((7, None), (53, None), (22, 1.1))
            ]
            for name in ("upsample_nearest", "_upsample_nearest_exact")
        },
        **{
            f"{name}2d": lambda op, x, y: [
                op(x, [2 * n for n in x.shape[2:]], None),
                op(x, [3, 11], None),
                op(x, [int(n * 1.3) for n in x.shape[2:]], 1.3, 1.3),
            ]
            for name in ("upsample_nearest", "_upsample_nearest_exact")
        },
        **{
            f"{name}3d": lambda op, x, y: op(x.unsqueeze(1), [7, 3, 11], None)
            for name in ("upsample_nearest", "_upsample_nearest_exact")
        },
    },
)


def _rows(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(a[0, 0], b[0, 0]) for a, b in zip(x, y, strict=True)]
