// sum and mean over any dimensions under R3: the terms of one output are the reduced elements in
// row-major order of their logical indices, whatever the strides.
#include "kernels.h"
#include "scratch.h"
#include "sum_lanes.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Calls visit(pointer) for each reduced element of one output, in row-major order.
template <typename Visit>
BNINV_INLINE void for_each_term(const ReduceArgs& args, const float* base, const Visit& visit) {
  const int last = args.reduced_dims - 1;
  int64_t index[ReduceArgs::kMaxDims] = {};
  const float* row = base;
  for (int64_t done = 0; done < args.terms; done += args.reduced_sizes[last]) {
    for (int64_t i = 0; i < args.reduced_sizes[last]; ++i)
      visit(row + i * args.reduced_strides[last]);
    for (int d = last - 1; d >= 0; --d) {
      row += args.reduced_strides[d];
      if (++index[d] < args.reduced_sizes[d]) break;
      row -= args.reduced_strides[d] * args.reduced_sizes[d];
      index[d] = 0;
    }
  }
}

// Dense terms: the lanes of R3 are the lanes of vectors. Filling up the last 32 terms with +0 cannot
// be told, since no lane is ever -0.
float sum_dense(const float* x, int64_t terms) {
  constexpr int kVectors = kSumLanes / kWidth;
  float total = 0.0f;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = min64(first + kSumSegment, terms);
    Vec sums[kVectors];
    for (int j = 0; j < kVectors; ++j) sums[j] = Vec::zero();
    int64_t i = first;
    for (; i + kSumLanes <= last; i += kSumLanes)
      for (int j = 0; j < kVectors; ++j) sums[j] = sums[j] + Vec::load(x + i + j * kWidth);
    float lanes[kSumLanes];
    for (int j = 0; j < kVectors; ++j) sums[j].store(lanes + j * kWidth);
    for (int64_t j = 0; i + j < last; ++j) lanes[j] = lanes[j] + x[i + j];
    for (int64_t h = kSumLanes / 2; h > 0; h /= 2)
      for (int64_t j = 0; j < h; ++j) lanes[j] = lanes[j] + lanes[j + h];
    total = total + lanes[0];
  }
  return total;
}

float sum_of_one(const ReduceArgs& args, const float* base) {
  if (args.reduced_dims == 1 && args.reduced_strides[0] == 1) return sum_dense(base, args.terms);
  LaneSum<float> sum;
  for_each_term(args, base, [&](const float* p) { sum.push(*p); });
  return sum.total();
}

}  // namespace

void sum(const ReduceArgs& args, int64_t begin, int64_t end) {
  const int last = args.kept_dims - 1;
  const int64_t row = args.kept_sizes[last], stride = args.kept_strides[last];
  const int64_t blocks = ceil_div(row, ReduceArgs::kTaskOutputs);
  for (int64_t task = begin; task < end; ++task) {
    const float* base = args.input;
    int64_t rest = task / blocks;
    for (int d = last - 1; d >= 0; --d) {
      base += rest % args.kept_sizes[d] * args.kept_strides[d];
      rest /= args.kept_sizes[d];
    }
    int64_t i = task % blocks * ReduceArgs::kTaskOutputs;
    const int64_t stop = min64(i + ReduceArgs::kTaskOutputs, row);
    float* output = args.output + task / blocks * row;
    if (stride == 1)
      for (; i + kWidth <= stop; i += kWidth) {
        LaneSum<Vec> sums;
        for_each_term(args, base + i, [&](const float* p) { sums.push(Vec::load(p)); });
        (sums.total() / Vec(args.divisor)).store(output + i);
      }
    for (; i < stop; ++i) output[i] = sum_of_one(args, base + i * stride) / args.divisor;
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
