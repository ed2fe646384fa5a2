"""What a CheckResult is reported to say, in words and numbers, on a terminal and on a page."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from rich.text import Text

from bninv.checking.result import CheckResult, OutputRow, Row, Side
from bninv.report import detections

# How far rounding takes two ways of computing a model apart, in steps of its dtype, relative to the
# largest output. In float32 and float64 sums are rounded term by term: 10 steps in shallow models,
# 200 in resnet50, 800 in resnet101. Narrower dtypes are summed in float32 and rounded once a layer,
# so there are fewer: 1 to 3 in shallow models, 20 in resnet50, 70 in resnet101. For bfloat16 that
# would allow any difference at all: there half of the largest output is the limit.
_MOST_STEPS, _MOST_STEPS_NARROW, _MOST = 2**13, 2**8, 0.5
_ONLY_A_DOUBT = "Patched and stock outputs differ"
# Layers that are listed by name.
_MOST_LAYERS = 5
# What a user knows these operators as.
_FAMILIAR = {"addmm": " (linear)", "mm": " (linear)", "bmm": " (matmul)"}


def sides(result: CheckResult) -> list[tuple[str, list[Row]]]:
    """The parts of the table: what ran, and its rows."""
    found = [("stock", result.stock.rows), ("patched", result.patched.rows)]
    if result.cpu is not None and result.cpu.rows:
        found.append(("patched on the CPU", result.cpu.rows))
    return found


def legend(result: CheckResult) -> str:
    """What the table's rows count, but for the unit."""
    text = (
        f"Other bits than at batch size {result.batch_sizes[0]}, at any of several positions and "
        "beside any of several neighbours."
    )
    if result.cpu is not None and result.cpu.rows:
        text += f" On the CPU: other bits than on {result.device}, of {_compared(result)} samples."
    return text


def _compared(result: CheckResult) -> str:
    assert result.cpu is not None
    count, all_of_them = result.cpu.rows[0].batch_size, len(result.samples)
    return f"{count}" if count == all_of_them else f"{count} of the {all_of_them}"


def cells(row: Row) -> list[Text]:
    """A row's numbers as text, below the columns after "model"."""
    texts = [
        f"{row.batch_size}",
        f"{row.differing:,} of {row.elements:,}",
        _number(row),
        "NaN" if row.max_ulp is None else f"{row.max_ulp:,}",
        "-" if row.top1_changed is None else f"{row.top1_changed}",
    ]
    styles = ("", "red" if row.differing else "green", "", "", "")
    return [Text(text, style) for text, style in zip(texts, styles, strict=True)]


def most_rounding(dtype: str, tensor_cores: bool = False) -> float:
    """The largest deviation that is not remarked on: 1e-3 in float32, 0.25 in float16."""
    found = getattr(torch, dtype)
    if tensor_cores and found is torch.float32:
        found = torch.float16  # whose fraction TF32 has
    # Of a model that takes integers the dtype it computes in is not known.
    info = torch.finfo(found if found.is_floating_point else torch.float32)
    return min(_MOST, (_MOST_STEPS if info.bits >= 32 else _MOST_STEPS_NARROW) * info.eps)


def outputs(result: CheckResult) -> list[tuple[str, list[Text]]]:
    """Each output's name and numbers, stock and patched, if the model gives several."""
    found: dict[str, list[Text]] = {}
    for side in (result.stock, result.patched):
        worst: dict[str, OutputRow] = {}
        for output in (output for row in side.rows for output in row.outputs):
            if output.name not in worst or output.differing > worst[output.name].differing:
                worst[output.name] = output
        for name, row in worst.items():
            bits = Text(
                f"{row.differing:,} of {row.elements:,}", "red" if row.differing else "green"
            )
            found.setdefault(name, []).extend((bits, Text(_number(row))))
    return list(found.items())


def failure(result: CheckResult) -> str:
    """Why a result has not passed, in one line."""
    lines = [_patched_verdict(result, "")] if not result.invariant else []
    lines += [line for line in _cpu_verdict(result) if "red" in str(line.style)]
    lines += [line for line in detections.verdict(result) if "red" in str(line.style)]
    lines += [line for line in _reservations(result) if not line.plain.startswith(_ONLY_A_DOUBT)]
    if result.uncovered:
        names = ", ".join(dict.fromkeys(entry.operator for entry in result.uncovered))
        lines.append(Text(f"Uncovered: {names}."))
    return " ".join(line.plain for line in lines)


def _number(row: Row | OutputRow) -> str:
    if not row.differing:
        return "0"
    return f"{row.max_abs:.1e}" if math.isfinite(row.max_abs) else _none(row)


def _none(row: Row | OutputRow) -> str:
    """What stands where no distance can be told."""
    several = row.outputs if isinstance(row, Row) else [row]
    names = any(output.name.startswith("output[i]") for output in several)
    return "no number" if names else "NaN or Inf"


def familiar(kind: str) -> str:
    """An operator's name, and what a user knows it as."""
    return kind + _FAMILIAR.get(kind, "")


def module_name(name: str) -> str:
    """A module's qualified name, or what to say of the model itself, which has none."""
    return name or "(the model's own forward)"


def verdict(result: CheckResult) -> list[Text]:
    """What was found, in sentences: about stock, about patched, reservations, and notes."""
    sizes = _listed([str(size) for size in result.batch_sizes])
    return [
        _stock_verdict(result, sizes),
        _patched_verdict(result, sizes),
        *_cpu_verdict(result),
        *detections.verdict(result),
        *_reservations(result),
        *_tensor_cores(result),
        *_fusion(result),
        *(Text(note, "dim") for note in result.notes),
    ]


def _tensor_cores(result: CheckResult) -> Iterator[Text]:
    found = result.patched.tensor_cores
    if found is None:
        return
    reached = found.layers - len(found.left_out)
    yield Text(
        f"Patched: precision {found.precision}: {reached} of {found.layers} convolutions and "
        f"linear layers in the arithmetic of tensor cores (R9, {found.arithmetic})."
    )
    for layer in found.left_out[:_MOST_LAYERS]:
        yield Text(f"  IEEE: {layer}", "dim")
    more = len(found.left_out) - _MOST_LAYERS
    if more > 0:
        yield Text(f"  and {more} more", "dim")


def _stock_verdict(result: CheckResult, sizes: str) -> Text:
    if result.stock.invariant:
        return Text(f"Stock: no bit moved at batch sizes {sizes}, on this machine.")
    return Text(f"Stock: the batch changed the bits of {_most(result.stock)} outputs.")


def _patched_verdict(result: CheckResult, sizes: str) -> Text:
    if not result.invariant:
        moved = _most(result.patched)
        return Text(f"Patched: NOT invariant, the bits of {moved} outputs moved.", "bold red")
    still = (
        f"Patched: not one bit moved at batch sizes {sizes}, at any position, beside any neighbour"
    )
    if result.passed:
        return Text(f"{still}; every operator is covered.", "bold green")
    return Text(f"{still}. But:", "bold yellow")


def _cpu_verdict(result: CheckResult) -> Iterator[Text]:
    cpu = result.cpu
    if cpu is None:
        return
    if cpu.equal is None:
        yield Text(f"Patched: not compared with the CPU: {cpu.reason}", "yellow")
        return
    (row,) = cpu.rows
    where = f"outputs of {_compared(result)} samples"
    if cpu.equal:
        text = f"Patched: the CPU has the bits of {result.device} in all {row.elements:,} {where}."
        yield Text(text, "bold green")
        return
    moved = f"{row.differing:,} of {row.elements:,} {where}"
    yield Text(f"Patched: the CPU has OTHER bits than {result.device} in {moved}.", "bold red")
    if result.uncovered:
        text = "Uncovered operators are PyTorch's own, with other kernels on each device."
        yield Text(text, "yellow")


def _most(side: Side) -> str:
    worst = max(side.rows, key=lambda row: row.differing)
    return f"{worst.differing:,} of {worst.elements:,}"


def _reservations(result: CheckResult) -> Iterator[Text]:
    side = result.patched
    if side.uncovered:
        calls = sum(entry.count for entry in side.uncovered)
        what = "1 uncovered operator call" if calls == 1 else f"{calls} uncovered operator calls"
        yield Text(f"{what} may move on another machine, thread count or batch.", "yellow")
    if not side.finite:
        yield Text("The patched model's outputs hold NaN or Inf.", "bold red")
    if not side.distinct and (side.detections is None or side.detections[0].detections):
        yield Text("The patched model's outputs do not differ between samples.", "bold red")
    if side.deviation > most_rounding(result.dtype, side.tensor_cores is not None):
        text = (
            f"{_ONLY_A_DOUBT} by {side.deviation:.1e} of the largest output: "
            "more than rounding explains in most models"
        )
        if result.device.startswith("cuda") and result.dtype == "float32":
            text += (
                ", but for rounding to TF32, which stock convolutions do on a GPU unless "
                "torch.backends.cudnn.allow_tf32 is False"
            )
        yield Text(f"{text}.", "yellow")


def _fusion(result: CheckResult) -> Iterator[Text]:
    fusion = result.patched.fusion
    if fusion.chains or fusion.unfused:
        yield Text(f"Patched: {fusion}.")
    for (kind, reason), names in fusion.reasons().items():
        example = names[0] or "the model itself"
        where = example if len(names) == 1 else f"{example} and {len(names) - 1} more"
        yield Text(f"{kind} unfused ({where}): {reason}", "dim")


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
