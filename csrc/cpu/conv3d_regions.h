// How the outputs of conv3d and of a transposed convolution are cut into regions of equal taps, and
// these into tasks. Host code; no bit depends on it.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "../conv3d.h"
#include "schedule.h"

namespace bninv {

// The gather form of a transposed convolution, along one dimension: output o takes tap r from the input
// at (o + pad - r * dilation) / step, where that is an integer and lies in the input. The outputs of one
// phase, o mod step, share a progression of taps, of which those near an edge have a part.
inline std::vector<ConvLine> transposed_lines(int64_t size, int64_t out_size, int64_t kernel,
                                              int64_t step, int64_t pad, int64_t dilation) {
  const int64_t divisor = std::gcd(step, dilation);
  const int64_t tap_step = step / divisor, back = dilation / divisor;
  const int64_t phases = std::min(step, out_size);
  std::vector<int64_t> first_tap(static_cast<size_t>(phases), -1);
  for (int64_t r = 0; r < std::min(kernel, tap_step); ++r) {
    const int64_t phase = ((r * dilation - pad) % step + step) % step;
    if (phase < phases) first_tap[static_cast<size_t>(phase)] = r;
  }
  std::vector<ConvLine> lines;
  for (int64_t phase = 0; phase < phases; ++phase) {
    const int64_t tap = first_tap[static_cast<size_t>(phase)];
    const int64_t taps = tap < 0 ? 0 : (kernel - 1 - tap) / tap_step + 1;
    const int64_t count = (out_size - 1 - phase) / step + 1;
    const int64_t input = taps > 0 ? (phase + pad - tap * dilation) / step : 0;
    // Output i's tap j reads input + i - j * back: the first and the last of its taps that do.
    const auto begin = [&](int64_t i) {
      const int64_t beyond = input + i - (size - 1);
      return std::min(taps, beyond > 0 ? (beyond + back - 1) / back : 0);
    };
    const auto end = [&](int64_t i) {
      return input + i < 0 ? 0 : std::min(taps, (input + i) / back + 1);
    };
    for (int64_t i = 0; i < count;) {
      const int64_t j = begin(i), last = std::max(j, end(i));
      int64_t next = i + 1;
      while (next < count && begin(next) == j && std::max(j, end(next)) == last) ++next;
      lines.push_back({phase + i * step, step, next - i, std::max<int64_t>(tap, 0) + j * tap_step,
                       tap_step, last - j, input + i - j * back, 1, -back});
      i = next;
    }
  }
  return lines;
}

inline ConvLine direct_line(int64_t out_size, int64_t kernel, int64_t step, int64_t pad,
                            int64_t dilation) {
  return {0, 1, out_size, 0, 1, kernel, -pad, step, dilation};
}

struct ConvRegions {
  std::vector<ConvRegion> regions;
  int64_t tasks = 0;
  int64_t work = 0;  // fmas, about, of all tasks
};

// A task of the depthwise kernel is one line of voxels; of the other, a block of the region's product.
inline ConvRegions conv_regions(const Conv3dArgs& a, bool depthwise, int64_t threads) {
  const auto lines = [&](int64_t size, int64_t out_size, int64_t kernel, int64_t step, int64_t pad,
                         int64_t dilation) {
    if (a.transposed) return transposed_lines(size, out_size, kernel, step, pad, dilation);
    return std::vector<ConvLine>{direct_line(out_size, kernel, step, pad, dilation)};
  };
  const auto of_depth = lines(a.depth, a.out_depth, a.kernel_d, a.step_d, a.pad_d, a.dilation_d);
  const auto of_height = lines(a.height, a.out_height, a.kernel_h, a.step_h, a.pad_h, a.dilation_h);
  const auto of_width = lines(a.width, a.out_width, a.kernel_w, a.step_w, a.pad_w, a.dilation_w);
  ConvRegions all;
  for (const ConvLine& d : of_depth)
    for (const ConvLine& h : of_height)
      for (const ConvLine& w : of_width) all.regions.push_back({d, h, w, {}, 0});

  const int64_t columns = a.out_channels / a.groups, channels = a.channels / a.groups;
  const auto work = [&](const ConvRegion& r) {
    return a.batch * r.d.count * r.h.count * r.w.count * a.out_channels * (r.taps() * channels + 1);
  };
  for (const ConvRegion& region : all.regions) all.work += work(region);
  for (ConvRegion& region : all.regions) {
    region.first_task = all.tasks;
    const int64_t rows = a.batch * region.d.count * region.h.count;
    // A region of little work need not feed all threads by itself.
    const double share = static_cast<double>(work(region)) / static_cast<double>(all.work);
    const auto own = static_cast<int64_t>(share * static_cast<double>(threads) + 0.5);
    region.gemm = gemm_schedule(rows * region.w.count, columns, region.taps() * channels, a.groups,
                                std::max<int64_t>(own, 1));
    all.tasks += depthwise ? rows : a.groups * region.gemm.row_blocks * region.gemm.column_blocks;
  }
  return all;
}

}  // namespace bninv
