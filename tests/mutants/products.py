"""Faults in R1's products and in what follows them in the same kernel (epilogue.cuh)."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = [
    # ---- The main loop ----
    Mutant(
        "gemm-barrier-asynchronous",
        "no barrier between the wait for a stage and its use",
        "conv2d",
        "cuda/gemm.cuh",
        """      __syncthreads();
      if (step + Tile::kStages - 1 < steps)""",
        """      if (step + Tile::kStages - 1 < steps)""",
    ),
    Mutant(
        "gemm-barrier-widened",
        "no barrier between widening a stage of half types and its use",
        "conv2d",
        "cuda/gemm.cuh",
        """      __syncthreads();
      if (step + 1 < steps) start(step + 1);""",
        """      if (step + 1 < steps) start(step + 1);""",
    ),
    Mutant(
        "gemm-wait-asynchronous",
        "the wait leaves one group of copies too many under way",
        "linear",
        "cuda/gemm.cuh",
        "copy_async_wait<Tile::kStages - 2>();",
        "copy_async_wait<Tile::kStages - 1>();",
    ),
    Mutant(
        "gemm-wait-widened",
        "half types are widened before their copies were waited for",
        "linear",
        "cuda/gemm.cuh",
        "copy_async_wait<0>();\n    rows.land",
        "copy_async_wait<1>();\n    rows.land",
    ),
    Mutant(
        "gemm-order-in-stage",
        "the terms of a stage are added from the last to the first",
        "linear",
        "cuda/gemm.cuh",
        "for (int k = 0; k < Tile::kDepth; k += kTerms) {",
        "for (int k = Tile::kDepth - kTerms; k >= 0; k -= kTerms) {",
    ),
    Mutant(
        "gemm-segment-256",
        "a chain has 256 terms",
        "linear",
        "cuda/gemm.cuh",
        "constexpr int kStepsOfSegment = kSegment / Tile::kDepth;",
        "constexpr int kStepsOfSegment = 2 * kSegment / Tile::kDepth;",
    ),
    Mutant(
        "gemm-chain-not-cleared",
        "a segment's chain goes on from the last one's sum",
        "linear",
        "cuda/gemm.cuh",
        "if (split) write_segment<Tile>(args, segment, shared);\n    sums.clear();",
        "if (split) write_segment<Tile>(args, segment, shared);",
    ),
    Mutant(
        "gemm-total-from-first-sum",
        "without a split, every segment's sum replaces the total",
        "linear",
        "cuda/gemm.cuh",
        "if (!first) total = *slot;",
        "if (first) total = *slot;",
    ),
    Mutant(
        "gemm-zero-terms-skipped",
        "a term whose input is 0, as on padding, is skipped: an infinite weight is lost",
        "conv2d",
        "cuda/gemm.cuh",
        "sums[i][j] = fma(a[i].lane[l], b[j / 4].lane[j % 4], sums[i][j]);",
        "if (a[i].lane[l] != 0)\n"
        "              sums[i][j] = fma(a[i].lane[l], b[j / 4].lane[j % 4], sums[i][j]);",
    ),
    # ---- Edges ----
    Mutant(
        "gemm-rows-tail",
        "the last row of the output is not written",
        "linear",
        "cuda/gemm.cuh",
        "if (row >= gemm.rows) break;\n      finish_row",
        "if (row + 1 >= gemm.rows) break;\n      finish_row",
    ),
    Mutant(
        "gemm-rows-tail-split",
        "the last row of the workspace is not written",
        "linear",
        "cuda/gemm.cuh",
        "if (row >= gemm.rows) break;\n      sums[row",
        "if (row + 1 >= gemm.rows) break;\n      sums[row",
    ),
    Mutant(
        "gemm-columns-tail",
        "the last three columns of a group are stored as if they were four",
        "conv2d",
        "cuda/gemm.cuh",
        "count = left < 0 ? 0 : left < 4 ? static_cast<int>(left) : 4;",
        "count = left < 0 ? 0 : left < 3 ? static_cast<int>(left) : 4;",
    ),
    Mutant(
        "gemm-panel-columns-tail",
        "one column of the weight beside a group's last is missing from a copy",
        "conv2d",
        "cuda/tile_copy.cuh",
        "(whole_ || l < columns_)",
        "(whole_ || l + 1 < columns_)",
    ),
    Mutant(
        "gemm-panel-terms-tail",
        "one row of terms behind the weight's last is read",
        "conv2d",
        "cuda/tile_copy.cuh",
        "const bool inside = step < terms_;",
        "const bool inside = step <= terms_;",
    ),
    Mutant(
        "gemm-point-terms-tail",
        "four terms behind a pixel's last are read",
        "linear",
        "cuda/conv2d.cu",
        "return terms_ > 0 && next_[i] != nullptr;",
        "return terms_ >= 0 && next_[i] != nullptr;",
    ),
    Mutant(
        "conv2d-height",
        "a window takes the row below the input",
        "conv2d",
        "cuda/conv2d.cu",
        "static_cast<unsigned>(h) < static_cast<unsigned>(args.height)",
        "static_cast<unsigned>(h) <= static_cast<unsigned>(args.height)",
    ),
    Mutant(
        "conv2d-width",
        "a window takes the pixel right of the input",
        "conv2d",
        "cuda/conv2d.cu",
        "static_cast<unsigned>(w) < static_cast<unsigned>(args.width)",
        "static_cast<unsigned>(w) <= static_cast<unsigned>(args.width)",
    ),
    Mutant(
        "conv2d-tap-order",
        "taps go column by column",
        "conv2d",
        "cuda/conv2d.cu",
        "if (++s == kernel_w) s = 0, ++r;",
        "if (++r == kernel_w) r = 0, ++s;",
    ),
    # ---- Blocks that share an output ----
    Mutant(
        "split-right-to-left",
        "the segments' sums are added from the last to the first",
        "linear",
        "cuda/gemm.cuh",
        "sums[s * all];",
        "sums[(segments - 1 - s) * all];",
    ),
    Mutant(
        "split-group",
        "groups and segments change places in the workspace",
        "conv2d",
        "cuda/gemm.cuh",
        "(static_cast<int64_t>(block.segment + segment) * args.groups + block.group) *",
        "(block.segment + segment + static_cast<int64_t>(block.group) * args.groups) *",
    ),
    Mutant(
        "split-bias-first",
        "with a split, the total starts from the bias",
        "conv2d",
        "cuda/gemm.cuh",
        """  A totals[4] = {0, 0, 0, 0};
#pragma unroll 4
  for (int64_t s = 0; s < segments; ++s) {
    const Elements<A, 4> sum = sums[s * all];
#pragma unroll
    for (int l = 0; l < 4; ++l) totals[l] = totals[l] + sum.lane[l];
  }
  const Channels channels(args, i / quads / gemm.rows, i % quads * 4);
  finish_row<T>(args,
                ChannelEpilogue<T, 4>(args.epilogue, args.bias,""",
        """  A totals[4] = {0, 0, 0, 0};
  const Channels channels(args, i / quads / gemm.rows, i % quads * 4);
  for (int l = 0; l < channels.count; ++l)
    if (args.bias != nullptr)
      totals[l] = widen(static_cast<const T*>(args.bias)[channels.first + l]);
  for (int64_t s = 0; s < segments; ++s) {
    const Elements<A, 4> sum = sums[s * all];
    for (int l = 0; l < 4; ++l) totals[l] = totals[l] + sum.lane[l];
  }
  finish_row<T>(args,
                ChannelEpilogue<T, 4>(args.epilogue, nullptr,""",
    ),
    # ---- What follows the product ----
    Mutant(
        "epilogue-residual-first",
        "the residual is added before batch_norm",
        "conv2d",
        "cuda/epilogue.cuh",
        """      if (args_.normalizes)
        y[l] = normalize(rounded<T>(y[l]), norm_[l].mean, norm_[l].scale, norm_[l].bias);
      if (args_.residual != nullptr) y[l] = rounded<T>(y[l]) + widen(residual.lane[l]);""",
        """      if (args_.residual != nullptr) y[l] = rounded<T>(y[l]) + widen(residual.lane[l]);
      if (args_.normalizes)
        y[l] = normalize(rounded<T>(y[l]), norm_[l].mean, norm_[l].scale, norm_[l].bias);""",
    ),
    Mutant(
        "epilogue-rounding-before-norm",
        "half types are not rounded between convolution and batch_norm",
        "conv2d",
        "cuda/epilogue.cuh",
        "normalize(rounded<T>(y[l]), ",
        "normalize(y[l], ",
    ),
    Mutant(
        "epilogue-rounding-before-residual",
        "half types are not rounded before the residual is added",
        "conv2d",
        "cuda/epilogue.cuh",
        "y[l] = rounded<T>(y[l]) + widen(residual.lane[l]);",
        "y[l] = y[l] + widen(residual.lane[l]);",
    ),
    Mutant(
        "epilogue-rounding-before-activation",
        "half types are not rounded before the activation",
        "conv2d",
        "cuda/epilogue.cuh",
        "activate_any(args_.activation, rounded<T>(y[l]), slope);",
        "activate_any(args_.activation, y[l], slope);",
    ),
    Mutant(
        "epilogue-bias-folded",
        "the bias is folded into batch_norm's mean",
        "conv2d",
        "cuda/epilogue.cuh",
        "normalize(rounded<T>(y[l]), norm_[l].mean, norm_[l].scale, norm_[l].bias);",
        "normalize(totals[l], norm_[l].mean - bias_[l], norm_[l].scale, norm_[l].bias);",
    ),
    # ---- Narrow groups and depthwise ----
    Mutant(
        "direct-segment-boundary",
        "all terms are one chain",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "        if (terms == kSegment) finish_segment();\n",
        "",
    ),
    Mutant(
        "direct-pixel-tail",
        "the pixel right of a row's last is written",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "if (ow + p >= args.out_width) break;",
        "if (ow + p > args.out_width) break;",
    ),
    Mutant(
        "direct-padding-skipped",
        "a depthwise tap on padding is skipped: an infinite weight is lost",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "sums[p][l] = fma(widen(x[p].lane[l]), widen(w.lane[l]), sums[p][l]);",
        "if (exists[p]) sums[p][l] = fma(widen(x[p].lane[l]), widen(w.lane[l]), sums[p][l]);",
    ),
    Mutant(
        "direct-padding-skipped-grouped",
        "a tap of a narrow group on padding is skipped: an infinite weight is lost",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "sums[p][l] = fma(widen(x[p].lane[k]), widen(w.lane[l]), sums[p][l]);",
        "if (exists[p]) sums[p][l] = fma(widen(x[p].lane[k]), widen(w.lane[l]), sums[p][l]);",
    ),
    Mutant(
        "direct-height",
        "a window takes the row below the input",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "h >= 0 && h < height",
        "h >= 0 && h <= height",
    ),
    Mutant(
        "direct-width",
        "a window takes the pixel right of the input",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "w >= 0 && w < width",
        "w >= 0 && w <= width",
    ),
    Mutant(
        "direct-two-roundings",
        "a product is rounded before it is added",
        "conv2d",
        "cuda/conv2d_direct.cu",
        "sums[p][l] = fma(widen(x[p].lane[l]), widen(w.lane[l]), sums[p][l]);",
        "sums[p][l] = sums[p][l] + widen(x[p].lane[l]) * widen(w.lane[l]);",
    ),
    # ---- conv3d and the transposed convolutions ----
    Mutant(
        "volume-absent-term",
        "a tap that a transposed convolution lacks is a term of +0: an infinite weight shows",
        "conv3d",
        "cuda/conv3d_direct.cu",
        "              if (kTransposed && !exists[p]) continue;\n",
        "",
    ),
    Mutant(
        "bmm-left",
        "a sample's rows are taken for the next group's channels",
        "bmm",
        "cuda/conv2d.cu",
        "const int64_t channel = block.group * args.plan.groups.input + block.first",
        "const int64_t channel = block.group * args.gemm.terms + block.first",
    ),
    Mutant(
        "bmm-right",
        "all samples have the first one's right operand, a column further",
        "bmm",
        "cuda/tile_copy.cuh",
        "block.group * args.plan.groups.weight + column",
        "block.group * args.gemm.columns + column",
    ),
    Mutant(
        "bmm-result",
        "a sample's result is written where a group's channels would be",
        "bmm",
        "cuda/gemm.cuh",
        "offset(group * args.plan.groups.output + column",
        "offset(group * args.gemm.columns + column",
    ),
    Mutant(
        "volume-one-chain",
        "all terms are one chain",
        "conv3d",
        "cuda/conv3d_direct.cu",
        "          if (k >= segment_end) {",
        "          if (k < 0) {",
    ),
    Mutant(
        "volume-depth",
        "a window takes the plane behind the input",
        "conv3d",
        "cuda/conv3d.cu",
        "static_cast<unsigned>(d) < static_cast<unsigned>(args.depth)",
        "static_cast<unsigned>(d) <= static_cast<unsigned>(args.depth)",
    ),
    Mutant(
        "volume-planes",
        "the row of a plane is taken for one of all planes",
        "conv3d",
        "cuda/conv3d.cu",
        "at.h % rows * args_.step_h",
        "at.h * args_.step_h",
    ),
]
