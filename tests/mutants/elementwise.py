"""Faults in batch_norm (R2) and in the elementwise functions (R6)."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "batch_norm-folded",
        "the mean is folded into the bias: fma(x, s, bias - mean * s)",
        "batch_norm",
        "cuda/batch_norm.cu",
        "A y = normalize(widen(x), c.mean, c.scale, c.bias);",
        "A y = fma(widen(x), c.scale, c.bias - c.mean * c.scale);",
    ),
    Mutant(
        "batch_norm-two-roundings",
        "the product is rounded before the bias is added",
        "batch_norm",
        "batch_norm.h",
        "return fma(x - mean, scale, bias);",
        "return (x - mean) * scale + bias;",
    ),
    Mutant(
        "batch_norm-reciprocal",
        "the scale is the weight times 1 / deviation",
        "batch_norm",
        "batch_norm.h",
        "return weight / sqrt(running_var + eps);",
        "return weight * (V(1) / sqrt(running_var + eps));",
    ),
    Mutant(
        "batch_norm-rounding-before-residual",
        "half types are not rounded before the residual is added",
        "batch_norm",
        "cuda/batch_norm.cu",
        "y = rounded<T>(y) + widen(residual);",
        "y = y + widen(residual);",
    ),
    Mutant(
        "batch_norm-tail",
        "the last element of the last vector is not written",
        "batch_norm",
        "cuda/batch_norm.cu",
        "if (e < elements)",
        "if (e + 1 < elements)",
    ),
    Mutant(
        "batch_norm-barrier",
        "no barrier between the channels' parameters and their use",
        "batch_norm",
        "cuda/batch_norm.cu",
        "    channel[c - first] = batch_norm_channel<T>(args, c);\n  __syncthreads();",
        "    channel[c - first] = batch_norm_channel<T>(args, c);",
    ),
    Mutant(
        "batch_norm-straddling",
        "the first element of the next channel is taken for one of the last",
        "batch_norm",
        "cuda/batch_norm.cu",
        "const bool first_channel = l < before_next[u];",
        "const bool first_channel = l <= before_next[u];",
    ),
    Mutant(
        "unary-tail",
        "the last element of the last chunk is not written",
        "unary",
        "cuda/unary.cu",
        "if (single(e) < count) y[single(e)] = elements[e];",
        "if (single(e) + 1 < count) y[single(e)] = elements[e];",
    ),
    Mutant(
        "unary-behind-tail",
        "the element behind the last is written",
        "unary",
        "cuda/unary.cu",
        "if (single(e) < count) y[single(e)] = elements[e];",
        "if (single(e) <= count) y[single(e)] = elements[e];",
        select="in_place_writes_nothing_else",
    ),
    Mutant(
        "unary-relu-nan",
        "relu of NaN is 0",
        "unary",
        "cuda/unary.cu",
        "each([](A x) { return relu(x); });",
        "each([](A x) { return x > 0 ? x : A(0); });",
    ),
]
