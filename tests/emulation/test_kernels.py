"""What the emulation of CUDA says it emulates, each part by a small kernel of self_test.cu."""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from tests.emulation import build as emulation_build
from tests.emulation.host import DEFAULT_SEED, KernelError
from tests.emulation.self_test import SelfTest
from tests.support.places import EMULATION

SELF_TEST = EMULATION / "self_test.cu"
SEEDS = [DEFAULT_SEED, 0, 1, 2, 3, 4, 5, 6]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEED", "LAUNCH"):
        monkeypatch.delenv(f"BNINV_EMULATION_{name}", raising=False)


@pytest.fixture(scope="module")
def small() -> SelfTest:
    return SelfTest()


@pytest.fixture(autouse=True)
def _defaults(request):
    yield
    if "small" in request.fixturenames:
        library = request.getfixturevalue("small").library
        library.seed(DEFAULT_SEED)
        library.device()


def test_threads_and_blocks_run_in_a_shuffled_order(small):
    orders = []
    for seed in (1, 2, 1):
        small.library.seed(seed)
        out = small.run("order", np.zeros(1 + 3 * 48, np.int32))
        phases = out[1:].reshape(3, 48)
        # Every thread once in each phase; that is the barrier. No phase repeats another.
        assert (np.sort(phases, axis=1) == np.arange(48)).all()
        assert len({tuple(p) for p in phases} | {tuple(range(48))}) == 4
        blocks = small.run("blocks", np.zeros(101, np.int32))[1:]
        assert sorted(blocks) == list(range(100)) and list(blocks) != list(range(100))
        orders.append((*out, *blocks))
    assert orders[0] == orders[2] != orders[1]


def test_launches_of_one_seed_differ_and_can_be_repeated_alone(small):
    small.library.seed(5)
    first, second = (small.run("order", np.zeros(145, np.int32)) for _ in range(2))
    assert (first != second).any()
    assert small.library.launches() == 2
    small.library.seed(5, launch=1)
    assert (small.run("order", np.zeros(145, np.int32)) == second).all()


def test_the_seed_is_taken_from_the_environment_and_stands_in_the_error():
    path = emulation_build.build([SELF_TEST])
    program = (
        f"import ctypes; f = ctypes.CDLL({str(path)!r}).run_self_test; "
        "f.restype = ctypes.c_char_p; print(f(b'lane_exited', None, None, 0).decode())"
    )

    def message(**environ: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environ
        ).stdout

    wanted = message(BNINV_EMULATION_SEED="77", BNINV_EMULATION_LAUNCH="12")
    assert wanted == message(BNINV_EMULATION_SEED="77", BNINV_EMULATION_LAUNCH="12")
    assert "BNINV_EMULATION_SEED=77" in wanted and "BNINV_EMULATION_LAUNCH=12" in wanted
    assert f"BNINV_EMULATION_SEED={DEFAULT_SEED} " in message()


def test_a_failure_is_repeated_by_the_seed_it_names(small):
    """Which lane meets the fault first depends on the order."""

    def message(seed: int) -> str:
        small.library.seed(seed)
        with pytest.raises(KernelError) as caught:
            small.run("mask_without_self")
        return str(caught.value)

    first = message(11)
    seed = int(re.search(r"BNINV_EMULATION_SEED=(\d+)", first)[1])
    assert message(seed) == first
    assert len({re.search(r"thread \(\d+", message(seed))[0] for seed in SEEDS}) > 1


def test_indices_in_three_dimensions(small):
    assert (small.run("dimensions", np.zeros(24 * 30, np.int32)) == 1).all()


def test_barriers_that_count(small):
    out = small.run("block_votes", np.zeros(100, np.int32))
    assert (out == 34 + 1000 * (1 + 4)).all()


def test_shuffles_and_votes(small):
    out = small.run("warp_operations", np.zeros((64, 12), np.int32))
    i = np.arange(64)
    lane, warp = i % 32, i // 32 * 32
    assert (out[:, 0] == warp + 3).all()
    assert (out[:, 1] == i // 8 * 8 + (lane + 1) % 8).all()
    assert (out[:, 2] == np.where(lane >= 5, i - 5, i)).all()
    assert (out[:, 3] == np.where(lane < 27, i + 5, i)).all()
    assert (out[:, 4] == np.where(i % 16 >= 3, i - 3, i)).all()
    assert (out[:, 5] == np.where(i % 16 < 13, i + 3, i)).all()
    assert (out[:, 6] == i ^ 9).all()
    assert (out[:, 7].view(np.uint32) == sum(1 << j for j in range(0, 32, 5))).all()
    assert (out[:, 8] == 1).all() and (out[:, 9] == 1).all()
    assert (out[:, 10] == np.where(lane < 16, i ^ 1, i ^ 2)).all()
    assert (out[:, 11] == -1).all()  # poison
    assert small.run("shuffle_double", np.zeros(1))[0] == _tree(1.0 / np.arange(1, 33))


def _tree(values):
    while len(values) > 1:
        values = values[: len(values) // 2] + values[len(values) // 2 :]
    return values[0]


def test_masks_that_overlap_are_met_one_after_the_other(small):
    for seed in SEEDS:
        small.library.seed(seed)
        assert (small.run("overlapping_masks", np.zeros(32, np.int32)) == np.arange(32)).all()


def test_atomics(small):
    fields: list[Any] = [
        *((name, np.int32) for name in ("sum", "least", "most", "swapped", "chosen"))
    ]
    fields += [("all", np.int32), ("any", np.uint32), ("flipped", np.uint32)]
    fields += [("large", np.uint64), ("f", np.float32), ("d", np.float64)]
    out = np.zeros(1, np.dtype(fields, align=True))
    out["all"] = -1
    small.run("atomics", out)
    assert out[0].item() == (2016, -63, 63, 7, 11, -16, 15, 0, 64 << 33, 32.0, 16.0)


def test_shared_memory_is_poisoned_for_every_block(small):
    out = small.run("shared_objects", np.zeros(64, np.int32))
    assert (out == 3 * (300 + 3 * np.arange(63, -1, -1))).all()


DISTURBED = {
    1: "source of the asynchronous copy of self_test.cu:.* was written",
    2: "destination of the asynchronous copy of self_test.cu:.* was written",
    3: "ends before a copy_async_wait",
    4: "copy_async to outside of shared memory",
    5: "copy_async from shared memory",
}


def test_a_copy_lands_at_the_wait_that_covers_it(small):
    start = np.arange(8, dtype=np.int32)
    assert small.run("copies", start.copy(), n=0).tolist() == [0, 0, 2, 4, 4, 8, 6, 12]
    assert small.run("copies", start.copy(), n=6)[1::2].tolist() == [-1] * 4
    for disturb, message in DISTURBED.items():
        with pytest.raises(KernelError, match=message):
            small.run("copies", start.copy(), n=disturb)


ERRORS = {
    "some_exit": r"59 are at __syncthreads, self_test_\w+.cuh:\d+.*\n.*5 are finished",
    "other_barrier": r"(?s)5 are at __syncthreads.*59 are at __syncthreads",
    "barrier_against_warp": r"(?s)at __syncthreads.*at __syncwarp with mask 0xffffffff",
    "lane_exited": r"(?s)62 are at __syncwarp.*2 are finished, such as \(7, 0, 0\)",
    "mask_without_self": r"__syncwarp: lane (1[6-9]|2\d|3[01]) is not in its own mask 0xffff",
    "masks_differ": r"(?s)with mask 0x55555555.*with mask 0xffffffff|.*32 are finished",
    "operations_differ": r"(?s)32 are at __shfl_sync.*32 are at __shfl_xor_sync",
    "bad_width": r"width is 12",
    "partial_syncwarp": r"__syncwarp with mask 0xffffffff",
    "static_over_limit": r"49168 bytes of static shared memory; the limit is 49152",
    "static_with_dynamic": r"49152 bytes of static and 16 of dynamic",
    "past_dynamic": r"outside of its dynamic shared memory of 256 bytes\n.*\n  block \(0, 0, 0\)",
    "before_static": r"outside of a static shared object",
    "misaligned": r"load16 of 16 bytes at a misaligned address",
    "throws": r"^thread 9$",
    "traps": r"__trap\n  at self_test.cu:\d+\n  kernel .*traps\(int\*\)\n  block .*, thread",
    "asserts": r"assertion failed: out == nullptr",
    "null_pointer": r"memory that is not there, 0x0",
    "overflow": r"stack overflows",
    "launches": r"a kernel launches a kernel",
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(small, name):
    out = np.zeros(64, np.int32)
    for seed in SEEDS:
        small.library.seed(seed)
        with pytest.raises(KernelError, match=ERRORS[name]):
            small.run(name, out)
        # The next launch starts afresh.
        assert small.run("order", np.zeros(145, np.int32))[0] == 3 * 48


def test_static_memory_up_to_the_limit(small):
    small.run("static_limit")


INVALID, TOO_MUCH = "cudaErrorInvalidConfiguration", "cudaErrorInvalidValue"


@pytest.mark.parametrize(
    ("grid", "block", "error"),
    [
        ((1, 1, 1), (1024, 1, 1), "cudaSuccess"),
        ((1, 1, 1), (16, 1, 64), "cudaSuccess"),
        ((1, 65535, 1), (1, 1, 1), "cudaSuccess"),
        ((70000, 1, 1), (1, 1, 1), "cudaSuccess"),
        ((1, 65536, 1), (1, 1, 1), INVALID),
        ((1, 1, 65536), (1, 1, 1), INVALID),
        ((0, 1, 1), (1, 1, 1), INVALID),
        ((1 << 31, 1, 1), (1, 1, 1), INVALID),
        ((1, 1, 1), (0, 1, 1), INVALID),
        ((1, 1, 1), (1025, 1, 1), INVALID),
        ((1, 1, 1), (32, 33, 1), INVALID),
        ((1, 1, 1), (1, 1, 65), INVALID),
    ],
)
def test_limits_of_grid_and_block(small, grid, block, error):
    assert small.launch_error(grid, block) == error


@pytest.mark.parametrize(
    ("arch", "kilobytes"),
    [(750, 64), (800, 163), (860, 99), (890, 99), (900, 227), (1000, 227), (1200, 99)],
)
def test_limits_of_shared_memory(small, arch, kilobytes):
    small.library.device(arch)
    assert small.launch_error(shared=48 * 1024) == "cudaSuccess"
    assert small.launch_error(shared=48 * 1024 + 1) == TOO_MUCH
    assert small.launch_error(shared=kilobytes * 1024, allow=True) == "cudaSuccess"
    assert small.launch_error(shared=kilobytes * 1024 + 1, allow=True) == TOO_MUCH
    attributes = {97: kilobytes * 1024, 16: 3, 75: arch // 100, 76: arch // 10 % 10}
    for attribute, value in attributes.items():
        assert small.library.functions.device_attribute(attribute) == value


def test_subnormals_are_kept_whatever_the_host_does(small):
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine cannot flush subnormal numbers")
    out = np.array([0x00800000], np.int32)  # the smallest normal number
    small.run("subnormal", out)
    assert out[0] == 0x00400000


# ---- Half and bfloat16 ---------------------------------------------------------------------------

PATTERNS = np.arange(1 << 16, dtype=np.uint32)


def _interesting_floats() -> np.ndarray:
    """Every half and bfloat16 number, the midpoints between them, all neighbours, and random."""
    with np.errstate(over="ignore", invalid="ignore"):
        halves = PATTERNS.astype(np.uint16).view(np.float16).astype(np.float64)
        numbers = np.sort(halves[np.isfinite(halves)])
        middles = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
        exact = np.concatenate([numbers.astype(np.float32), middles, [65520, -65520, np.inf]])
    bits = exact.astype(np.float32).view(np.uint32)
    bits = np.concatenate([bits, PATTERNS << 16, PATTERNS << 16 | 0x8000])
    near = [bits, bits + 1, bits - 1]
    rng = np.random.default_rng(0)
    near.append(rng.integers(0, 1 << 32, 500_000, np.uint64).astype(np.uint32))
    return np.concatenate(near).view(np.float32)


def _assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    nan = np.isnan(expected)
    assert (np.isnan(found) == nan).all()
    bits = np.dtype(f"u{found.dtype.itemsize}")
    assert (found.view(bits) == expected.view(bits))[~nan].all()


def test_half_is_numpys(small):
    halves = PATTERNS.astype(np.uint16)
    widened = small.run("widen_half", np.empty(1 << 16, np.float32), halves)
    _assert_same(widened, halves.view(np.float16).astype(np.float32))
    floats = _interesting_floats()
    narrowed = small.run("narrow_half", np.empty(len(floats), np.uint16), floats, len(floats))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        _assert_same(narrowed.view(np.float16), floats.astype(np.float16))


def test_bfloat16_rounds_to_nearest_even(small):
    patterns = PATTERNS.astype(np.uint16)
    widened = small.run("widen_bfloat16", np.empty(1 << 16, np.float32), patterns)
    _assert_same(widened, (PATTERNS << 16).view(np.float32))
    floats = _interesting_floats()
    narrowed = small.run("narrow_bfloat16", np.empty(len(floats), np.uint16), floats, len(floats))
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(floats).to(torch.bfloat16).to(torch.float32).numpy()
    _assert_same((narrowed.astype(np.uint32) << 16).view(np.float32), expected)


# ---- Guards, threads, speed ----------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [4, 16, 256])
def test_guarded_arrays(small, alignment):
    for count in (0, 1, 3, 64, 1025):
        guarded = small.library.guarded((count,), np.float32, alignment)
        assert guarded.address % alignment == 0 != guarded.address % (2 * alignment)
        assert np.isnan(guarded.array).all() and guarded.written_outside() is None
        guarded.array[:] = 1
        assert guarded.written_outside() is None
        for offset, side in ((-1, "in front of"), (4 * count, "behind")):
            if (guarded.address + offset) % mmap.PAGESIZE == 0:
                continue  # the page that cannot be touched follows at once
            byte = ctypes.c_ubyte.from_address(guarded.address + offset)
            byte.value = 3
            assert side in (guarded.written_outside("x") or "")
            byte.value = 0xFF


def test_launches_from_several_host_threads(small):
    """Stacks are handed on from one to the other."""
    results = []

    def work() -> None:
        for _ in range(20):
            results.append(small.run("block_votes", np.zeros(100, np.int32)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 60 and all((out == 5034).all() for out in results)


def test_speed(small):
    """Generous bounds: a slow emulation would go unused."""
    out = np.zeros(2_000_000, np.int32)
    timed = {}
    for name, n, switches in [
        ("add_one", out.size, out.size),
        ("many_barriers", 4000, 4000 * 256),
        ("many_shuffles", 4000, 4000 * 256),
    ]:
        start = time.perf_counter()
        small.run(name, out, n=n)
        timed[name] = switches / (time.perf_counter() - start) / 1e6
    print({name: f"{rate:.1f} M/s" for name, rate in timed.items()})
    assert timed["add_one"] > 5 and timed["many_barriers"] > 0.5 and timed["many_shuffles"] > 0.3
