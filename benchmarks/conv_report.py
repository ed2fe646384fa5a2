"""What bench_conv.py makes of its rows: sums over networks, and tables."""

from __future__ import annotations

import itertools
from operator import itemgetter
from typing import Any

from benchmarks.common.harness import digits
from benchmarks.common.tables import plain
from benchmarks.conv_candidates import BASELINES

Row = dict[str, Any]
KIND = ("dtype", "batch_size", "operation")
TITLES = {"conv": "convolution", "conv_bn_relu": "convolution, BatchNorm and ReLU"}


def summaries(rows: list[Row], known: list[dict[str, int]]) -> dict[str, list[Row]]:
    return {"networks": sum_networks(rows, known)}


def sum_networks(rows: list[Row], known: list[dict[str, int]]) -> list[Row]:
    """Medians of a network's layers, each as often as it occurs; of networks measured whole.

    Args:
        known: each distinct layer's counts by network.
    """
    sums = []
    for kind, some in itertools.groupby(rows, itemgetter(*KIND)):
        measured = list(some)
        for model in dict.fromkeys(model for counts in known for model in counts):
            own = [row for row in measured if model in row["counts"]]
            if len(own) < sum(model in counts for counts in known):
                continue
            total = {
                name: digits(
                    sum(r["counts"][model] * r["milliseconds"][name]["median"] for r in own)
                )
                for name in own[0]["milliseconds"]
            }
            # A user chooses one setting for the network, not one for each layer.
            best = min(BASELINES, key=total.__getitem__)
            entry = {"model": model, **dict(zip(KIND, kind, strict=True))}
            entry |= {"ratio": digits(total[best] / total["bninv"], 4), "best_stock": best}
            sums.append({**entry, "milliseconds": total})
    return sums


def show(rows: list[Row], known: list[dict[str, int]], measured: Row) -> None:
    for (dtype, batch, operation), some in itertools.groupby(rows, itemgetter(*KIND)):
        own = list(some)
        names = list(own[0]["milliseconds"])
        lines = [
            (
                row["conv"],
                *(f"{row['milliseconds'][name]['median'] * 1e3:#.4g}" for name in names),
                f"{row['ratio']:.2f}",
                f"{row['tflops']['bninv']:#.3g}",
                f"{row['fraction_of_gemm']['bninv']:.2f}",
                f"{row['fraction_of_copy']['bninv']:.2f}",
            )
            for row in own
        ]
        title = f"{TITLES[operation]}, {dtype}, batch {batch}: microseconds, bninv's rates"
        headings = [name.replace(" ", "\n") for name in names]
        rates = ("ratio", "TFLOP/s", "of the\nGEMM", "of the\ncopy")
        print(plain(title, ("layer", *headings, *rates), lines))
    networks = sum_networks(rows, known)
    if networks:
        lines = [
            (
                entry["model"],
                TITLES[entry["operation"]],
                entry["dtype"],
                str(entry["batch_size"]),
                f"{min(entry['milliseconds'][name] for name in BASELINES):#.4g}",
                f"{entry['milliseconds']['bninv']:#.4g}",
                f"{entry['ratio']:.2f}",
            )
            for entry in networks
        ]
        columns = ("network", "operation", "dtype", "batch", "best stock ms", "bninv ms", "ratio")
        print(plain("All such layers of a network, as often as they occur", columns, lines, left=3))
    print(
        "\nA large float32 GEMM makes {gemm_tflops:g} TFLOP/s here, "
        "a large copy moves {copy_gb_per_s:g} GB/s.".format(**measured)
    )
