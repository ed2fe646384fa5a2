"""Faults in R3's sums and in what is built on them: pooling, softmax, normalization."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = [
    # ---- One sum by a warp, a block, a tile of columns ----
    Mutant(
        "lanes-fold-order",
        "a warp folds neighbouring lanes first",
        "sum",
        "cuda/lane_sum.cuh",
        "for (int h = lanes / 2; h > 0; h /= 2) lane",
        "for (int h = 1; h < lanes; h *= 2) lane",
    ),
    Mutant(
        "lanes-tail",
        "a segment's last term is not added",
        "sum",
        "cuda/lane_sum.cuh",
        "if (k + u * kApart < last) lanes[",
        "if (k + u * kApart + 1 < last) lanes[",
    ),
    Mutant(
        "columns-fold-order",
        "a thread folds its neighbouring lanes first",
        "pool2d",
        "cuda/column_sum.cuh",
        "for (int i = 0; i < h; ++i) lanes[i] = combine(lanes[i], lanes[i + h]);",
        "for (int i = 0; i < h; ++i) lanes[i] = combine(lanes[2 * i], lanes[2 * i + 1]);",
    ),
    Mutant(
        "columns-rows-fold-order",
        "neighbouring rows are folded first",
        "sum",
        "cuda/column_sum.cuh",
        """    for (int h = (kColumnThreads >> shift) / 2; h > 0; h /= 2) {
      __syncthreads();
      if (row < h)""",
        """    for (int h = 1; h < kColumnThreads >> shift; h *= 2) {
      __syncthreads();
      if (row % (2 * h) == 0)""",
    ),
    Mutant(
        "columns-barrier",
        "no barrier before rows are folded",
        "sum",
        "cuda/column_sum.cuh",
        "      __syncthreads();\n      if (row < h)",
        "      if (row < h)",
    ),
    Mutant(
        "columns-barrier-between-segments",
        "no barrier before the next segment's partial sums",
        "sum",
        "cuda/column_sum.cuh",
        "    if (last < terms) __syncthreads();\n",
        "",
    ),
    Mutant(
        "tile-barrier-lanes",
        "no barrier before a warp reads its column's lanes",
        "softmax",
        "cuda/column_tile.cuh",
        "tile.row() % 32] = value;\n  __syncthreads();",
        "tile.row() % 32] = value;",
    ),
    Mutant(
        "tile-barrier-sums",
        "no barrier before the segments' sums are read",
        "normalization",
        "cuda/column_tile.cuh",
        "parts[warp] = folded;\n  __syncthreads();",
        "parts[warp] = folded;",
    ),
    Mutant(
        "tile-segments-order",
        "segments that are summed together are added from the last to the first",
        "softmax",
        "cuda/column_tile.cuh",
        "for (int s = 0; s < tile.slots; ++s) total",
        "for (int s = tile.slots - 1; s >= 0; --s) total",
    ),
    Mutant(
        "block-segments-order",
        "segments that are summed together are added from the last to the first",
        "normalization",
        "cuda/block_sum.cuh",
        "for (int w = 0; w < kWarps; ++w) total",
        "for (int w = kWarps - 1; w >= 0; --w) total",
    ),
    Mutant(
        "block-barrier",
        "no barrier before the segments' sums are read",
        "normalization",
        "cuda/block_sum.cuh",
        "if (lane == 0) parts[warp] = part;\n    __syncthreads();",
        "if (lane == 0) parts[warp] = part;",
    ),
    Mutant(
        "block-barrier-between-segments",
        "no barrier before the next segments' sums are written",
        "normalization",
        "cuda/block_sum.cuh",
        "total = total + parts[w];\n    __syncthreads();",
        "total = total + parts[w];",
    ),
    # ---- sum, mean ----
    Mutant(
        "sum-segments-order",
        "the first thread adds the warps' segments from the last to the first",
        "sum",
        "cuda/sum.cu",
        """      for (int w = 0; w < warps && round + w * kSumSegment < args.terms; ++w)
        total""",
        """      for (int w = warps - 1; w >= 0; --w)
        if (round + w * kSumSegment < args.terms) total""",
    ),
    Mutant(
        "sum-barrier",
        "no barrier before the next segments' sums are written",
        "sum",
        "cuda/sum.cu",
        "total = total + sums.of_warp[w];\n    __syncthreads();",
        "total = total + sums.of_warp[w];",
    ),
    Mutant(
        "sum-narrow-group",
        "a sum of few terms gets half of the lanes that it needs",
        "sum",
        "cuda/sum.cu",
        "while (group < args.terms && group < kSumLanes) group *= 2;",
        "while (2 * group < args.terms && group < kSumLanes) group *= 2;",
    ),
    Mutant(
        "sum-reciprocal",
        "a mean is a product with the reciprocal",
        "sum",
        "cuda/sum.cu",
        "total / static_cast<Arithmetic<T>>(args.divisor)",
        "total * (1 / static_cast<Arithmetic<T>>(args.divisor))",
    ),
    # ---- Pooling ----
    Mutant(
        "pool-window-end",
        "a window takes what lies behind the input's edge",
        "pool2d",
        "pool2d.h",
        "return {first, last < size ? last : size, dilation, padded_count};",
        "return {first, last, dilation, padded_count};",
    ),
    Mutant(
        "pool-padding-divisor",
        "padding counts in the divisor where it should not",
        "pool2d",
        "pool2d.h",
        "return (rows.last - rows.first) * (columns.last - columns.first);",
        "return rows.padded_count * columns.padded_count;",
    ),
    Mutant(
        "pool-padding-term",
        "padding beside a window's columns is a term: those of the next row move on a lane",
        "pool2d",
        "cuda/pool2d.cu",
        """    const auto columns = static_cast<uint32_t>(taps.columns.count());
    const auto terms = static_cast<int>(taps.rows.count()) * static_cast<int>(columns);
    // k / columns is k * inverse / 2^16 rounded down, both being at most kThreadTerms.
    const uint32_t inverse = columns > 0 ? 65536 / columns + 1 : 0;
    const auto term = [&](uint32_t k) {
      const uint32_t h = k * inverse >> 16, w = k - h * columns;
""",
        """    const auto columns = static_cast<uint32_t>(taps.columns.padded_count);
    const auto terms = static_cast<int>(taps.rows.count()) * static_cast<int>(columns);
    const uint32_t inverse = columns > 0 ? 65536 / columns + 1 : 0;
    const auto term = [&](uint32_t k) {
      const uint32_t h = k * inverse >> 16, w = k - h * columns;
      if (w >= taps.columns.count()) return Channels<A, kVector>{};
""",
    ),
    Mutant(
        "pool-fold-order",
        "one thread folds neighbouring lanes first",
        "pool2d",
        "cuda/pool2d.cu",
        "for (int k = 0; k < h; ++k) combine_into(lanes[k], lanes[k + h], AddTerm{});",
        """for (int k = 0; k < h; ++k) {
        lanes[k] = lanes[2 * k];
        combine_into(lanes[k], lanes[2 * k + 1], AddTerm{});
      }""",
    ),
    Mutant(
        "pool-nan",
        "a maximum forgets NaN",
        "pool2d",
        "cuda/pool2d.cu",
        "return maximum(a, b);",
        "return a > b ? a : b;",
    ),
    Mutant(
        "pool-identity",
        "a maximum starts at the smallest finite number",
        "pool2d",
        "cuda/pool2d.cu",
        "return -static_cast<A>(__builtin_inff());",
        "return -static_cast<A>(__FLT_MAX__);",
    ),
    Mutant(
        "pool-columns-quotient",
        "a term's row in the window is rounded down once too often",
        "pool2d",
        "cuda/pool2d.cu",
        "65536 / columns + 1",
        "65536 / columns",
    ),
    # ---- Resampling ----
    Mutant(
        "resample-zero-weights",
        "taps of weight zero are left out",
        "resample",
        "cuda/resample.cu",
        "total = fma(rows.weight(k), row(p + rows.index(k) * args.stride[1]), total);",
        """if (rows.weight(k) != A(0))
        total = fma(rows.weight(k), row(p + rows.index(k) * args.stride[1]), total);""",
    ),
    Mutant(
        "resample-edge",
        "a tap beyond an edge is the element before the edge's",
        "resample",
        "resample.h",
        "i < size ? i : size - 1",
        "i < size ? i : size > 1 ? size - 2 : 0",
    ),
    Mutant(
        "grid-outside",
        "what lies behind the last column counts as inside",
        "grid_sample",
        "cuda/grid_sample.cu",
        "exists = depth >= 0 && rows.index[r] >= 0 && columns.index[s] >= 0;",
        "exists = depth >= 0 && rows.index[r] >= 0;",
    ),
    # ---- softmax ----
    Mutant(
        "softmax-exponential-rounded",
        "exponentials are rounded to the storage type before they are summed",
        "softmax",
        "cuda/softmax.cu",
        "const Arithmetic<T> e = row.exponential(value[u]);",
        "const Arithmetic<T> e = widen(narrow<T>(row.exponential(value[u])));",
    ),
    Mutant(
        "softmax-logarithm-association",
        "log_softmax subtracts the maximum and the logarithm at once",
        "softmax",
        "cuda/softmax.cu",
        "(x - greatest) - divisor",
        "x - (greatest + divisor)",
    ),
    Mutant(
        "softmax-barrier",
        "no barrier between the exponentials and their sum",
        "softmax",
        "cuda/softmax.cu",
        "  __syncthreads();  // the exponentials",
        "  // the exponentials",
    ),
    Mutant(
        "softmax-one-chain",
        "a thread adds a column's exponentials one after another",
        "softmax",
        "cuda/softmax.cu",
        "row.finish(thread_sum<Arithmetic<T>>(terms, term, AddTerm{}), args.log);",
        """Arithmetic<T> total = 0;
    for (int64_t k = 0; k < terms; ++k) total = total + term(k);
    row.finish(total, args.log);""",
    ),
    # ---- Scans ----
    Mutant(
        "scan-carry-restarts",
        "every tile of a row starts anew",
        "scan",
        "cuda/scan.cu",
        "first + k == 0 ?",
        "k == 0 ?",
    ),
    Mutant(
        "scan-carry-rounded",
        "what is carried on is rounded to the storage type",
        "scan",
        "cuda/scan.cu",
        "row[k] = carry;",
        "row[k] = carry = widen(narrow<T>(carry));",
    ),
    Mutant(
        "scan-barrier",
        "no barrier between the steps and the stores",
        "scan",
        "cuda/scan.cu",
        """    __syncthreads();
    if (column < columns)""",
        "    if (column < columns)",
    ),
    # ---- Normalization ----
    Mutant(
        "layer_norm-variance-two-roundings",
        "a squared distance is rounded before it is added",
        "normalization",
        "cuda/layer_norm.cu",
        "sum(AddSquare<A>(row.mean)) / count",
        "sum([&](A total, A x) { return total + (x - row.mean) * (x - row.mean); }) / count",
    ),
    Mutant(
        "layer_norm-eps",
        "eps is added to the square root",
        "normalization",
        "cuda/layer_norm.cu",
        "row.inverse = inverse_deviation(sum(AddSquare<A>(row.mean)) / count, eps);",
        "row.inverse = A(1) / (sqrt(A(sum(AddSquare<A>(row.mean)) / count)) + eps);",
    ),
    Mutant(
        "layer_norm-barrier",
        "no barrier between the copy of a row and its use",
        "normalization",
        "cuda/layer_norm.cu",
        "stage(source, terms, memory);\n    __syncthreads();",
        "stage(source, terms, memory);",
    ),
    Mutant(
        "layer_norm-row-tail",
        "a row's last terms behind the whole vectors are not copied",
        "normalization",
        "cuda/layer_norm.cu",
        "k = vectors * kVector + threadIdx.x; k < terms;",
        "k = vectors * kVector + threadIdx.x; k + 1 < terms;",
    ),
    Mutant(
        "group_norm-variance-two-roundings",
        "a squared distance is rounded before it is added",
        "normalization",
        "cuda/group_norm.cu",
        "return AddSquare<A>(own.means[own.group_of(c)]);",
        "return [m = own.means[own.group_of(c)]](A total, A x) "
        "{ return total + (x - m) * (x - m); };",
    ),
    Mutant(
        "group_norm-mean",
        "the variance of every group in a block is around the first one's mean",
        "normalization",
        "cuda/group_norm.cu",
        "AddSquare<A>(own.means[own.group_of(c)])",
        "AddSquare<A>(own.means[c < 0 ? 1 : 0])",
    ),
    Mutant(
        "group_norm-channels-segment",
        "of more than 4096 channels only the last are in the sum",
        "normalization",
        "cuda/group_norm.cu",
        "first == 0 ? part : values[g] + part",
        "part",
    ),
    Mutant(
        "group_norm-barrier",
        "no barrier between the sums of channels and those of groups",
        "normalization",
        "cuda/group_norm.cu",
        "order.sum(own, first, count, add_of);\n    __syncthreads();",
        "order.sum(own, first, count, add_of);",
    ),
    Mutant(
        "group_norm-planes-barrier",
        "no barrier before the next segments' sums are written",
        "normalization",
        "cuda/group_norm_orders.cuh",
        "          added = 0;\n        }\n      __syncthreads();",
        "          added = 0;\n        }",
    ),
    Mutant(
        "standardize-association",
        "the weight is multiplied with 1 / deviation first",
        "normalization",
        "cuda/layer_norm.cu",
        """standardize(x - row.mean, row.inverse, parameter_at<T>(args.weight, 1, k),""",
        """standardize(x - row.mean, parameter_at<T>(args.weight, 1, k), row.inverse,""",
    ),
]
