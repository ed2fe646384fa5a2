"""Timing on a CUDA device: events around graph replays, over more memory than the L2 holds; and
what a caller waits for.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.candidate import Candidate
from benchmarks.common.harness import summarize

Times = dict[str, dict[str, float]]
Inputs = Sequence[tuple[Any, ...]]

# A replay costs a few microseconds itself: less than a hundredth of this, in milliseconds.
REPLAY_MS = 1.0
# Enough short calls to the same end; a larger graph only takes longer to capture.
MOST_CALLS = 1000
MOST_ROUNDS = 200


def describe() -> dict[str, Any]:
    """What a reader needs to place the figures of this GPU."""
    properties = torch.cuda.get_device_properties()
    return {
        "gpu": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": properties.L2_cache_size / 2**20,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def slug() -> str:
    """This GPU's name as a folder: nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


def sets_past_l2(moved: int) -> int:
    """How many calls, each moving so many bytes, until the first one's bytes have left the L2."""
    return max(2, 3 * torch.cuda.get_device_properties().L2_cache_size // moved + 1)


def interleave(
    candidates: Mapping[str, Candidate],
    inputs: Inputs,
    seconds: float,
    expected_ms: float,
    least: int = 5,
) -> Times:
    """Run the candidates in turn for about `seconds` in all; milliseconds a call of each.

    Each candidate's turn is the replay of one CUDA graph of many calls, so that neither Python nor
    the launches from the host are timed.

    Args:
        candidates: each called with one of `inputs`.
        inputs: taken in turn; enough of them that none is still in the L2 when its turn comes.
        expected_ms: of one call, roughly; decides how many calls make a replay.
    """
    # Whole passes over the inputs: the next replay begins with the one that was used longest ago.
    passes = math.ceil(min(MOST_CALLS, REPLAY_MS / expected_ms) / len(inputs))
    calls = passes * len(inputs)
    # The graphs share their memory: nobody reads their outputs, and they never run at once.
    pool = torch.cuda.graph_pool_handle()
    graphs = {name: _capture(c, inputs, calls, pool) for name, c in candidates.items()}

    def one_round() -> dict[str, tuple[torch.cuda.Event, torch.cuda.Event]]:
        marks = {}
        for name, graph in graphs.items():
            marks[name] = (
                torch.cuda.Event(enable_timing=True),
                torch.cuda.Event(enable_timing=True),
            )
            marks[name][0].record()
            graph.replay()
            marks[name][1].record()
        return marks

    one_round()
    torch.cuda.synchronize()
    start = time.perf_counter()
    one_round()
    torch.cuda.synchronize()
    rounds = int(seconds / max(time.perf_counter() - start, 1e-6))
    # Queued without waiting, so that the GPU never waits for the host between two events.
    marks = [one_round() for _ in range(max(least, min(rounds, MOST_ROUNDS)))]
    torch.cuda.synchronize()
    return {
        name: summarize([m[name][0].elapsed_time(m[name][1]) / calls for m in marks])
        for name in candidates
    }


def _capture(candidate: Candidate, inputs: Inputs, calls: int, pool: Any) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    # Outputs stay alive for a pass, so that they rotate through memory as the inputs do.
    outputs: deque[Tensor] = deque(maxlen=len(inputs))
    with candidate.switches.on():
        # Kernels are loaded when first launched, which a capture does not allow.
        for arguments in inputs[:2]:
            candidate.run(*arguments)
        with torch.cuda.graph(graph, pool=pool):
            for i in range(calls):
                outputs.append(candidate.run(*inputs[i % len(inputs)]))
    return graph


def interleave_calls(
    candidates: Mapping[str, Candidate], inputs: Inputs, seconds: float, least: int = 3
) -> Times:
    """As `interleave`, but what a caller waits for: one call, its launches, and the GPU's end."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    start = time.perf_counter()
    rounds = 0
    while rounds < least or (rounds < MOST_ROUNDS and time.perf_counter() - start < seconds):
        for name, candidate in candidates.items():
            with candidate.switches.on():
                torch.cuda.synchronize()
                before = time.perf_counter()
                candidate.run(*inputs[rounds % len(inputs)])
                torch.cuda.synchronize()
                times[name].append((time.perf_counter() - before) * 1e3)
        rounds += 1
    return {name: summarize(values) for name, values in times.items()}


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that a call holds at once beside what was there before it."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
