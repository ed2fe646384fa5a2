"""Faults in R7's kernel."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_FILE = "cuda/attention.cu"

MUTANTS = [
    Mutant(
        "attention-decay",
        "outputs of earlier blocks are not scaled down",
        "attention",
        _FILE,
        "rows.outputs[r][c] = fma(rows.outputs[r][c], decay, sums[r][c]);",
        "rows.outputs[r][c] = rows.outputs[r][c] + sums[r][c];",
    ),
    Mutant(
        "attention-excluded",
        "an excluded key's value is multiplied by zero",
        "attention",
        _FILE,
        "if (kExisting && weight.lane[l] == 0 && to_bits(weight.lane[l]) != 0) continue;",
        "",
    ),
    Mutant(
        "attention-causal",
        "a causal mask hides the query's own key",
        "attention",
        _FILE,
        "args.causal && j > i",
        "args.causal && j >= i",
    ),
    Mutant(
        "attention-segments",
        "terms beyond the first segment stay in its chain",
        "attention",
        _FILE,
        "if (k > 0 && k % kSegment == 0) {",
        "if (k < 0) {",
    ),
    Mutant(
        "attention-barrier",
        "the next block's terms are copied over weights that are read",
        "attention",
        _FILE,
        "    __syncthreads();  // weights and values have been read\n",
        "",
    ),
    Mutant(
        "attention-last-key",
        "a block's last key is not looked at",
        "attention",
        _FILE,
        "const bool exists = i < args.queries && j < args.keys;",
        "const bool exists = i < args.queries && j + 1 < args.keys;",
    ),
]
