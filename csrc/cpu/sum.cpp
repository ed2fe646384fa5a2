// sum and mean over any dimensions under R3: the terms of one output are the reduced elements in
// row-major order of their logical indices, whatever the strides.
#include "kernels.h"
#include "scratch.h"
#include "sum_lanes.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Calls visit(pointer) for each reduced element of one output, in row-major order.
template <typename T, typename Visit>
BNINV_INLINE void for_each_term(const ReduceArgs& args, const T* base, const Visit& visit) {
  const int last = args.reduced_dims - 1;
  int64_t index[ReduceArgs::kMaxDims] = {};
  const T* row = base;
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
template <typename T>
Arithmetic<T> sum_dense(const T* x, int64_t terms) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount, kVectors = kSumLanes / kCount;
  A total = 0;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = min64(first + kSumSegment, terms);
    V sums[kVectors];
    for (int j = 0; j < kVectors; ++j) sums[j] = V(0);
    int64_t i = first;
    for (; i + kSumLanes <= last; i += kSumLanes)
      for (int j = 0; j < kVectors; ++j) sums[j] = sums[j] + load(x + i + j * kCount);
    A lanes[kSumLanes];
    for (int j = 0; j < kVectors; ++j) store(lanes + j * kCount, sums[j]);
    for (int64_t j = 0; i + j < last; ++j) lanes[j] = lanes[j] + widen(x[i + j]);
    for (int64_t h = kSumLanes / 2; h > 0; h /= 2)
      for (int64_t j = 0; j < h; ++j) lanes[j] = lanes[j] + lanes[j + h];
    total = total + lanes[0];
  }
  return total;
}

template <typename T>
Arithmetic<T> sum_of_one(const ReduceArgs& args, const T* base) {
  if (args.reduced_dims == 1 && args.reduced_strides[0] == 1) return sum_dense(base, args.terms);
  LaneSum<Arithmetic<T>> sum;
  for_each_term(args, base, [&](const T* p) { sum.push(widen(*p)); });
  return sum.total();
}

template <typename T>
void sum_of(const ReduceArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  const A divisor = static_cast<A>(args.divisor);
  const int last = args.kept_dims - 1;
  const int64_t row = args.kept_sizes[last], stride = args.kept_strides[last];
  const int64_t blocks = ceil_div(row, ReduceArgs::kTaskOutputs);
  for (int64_t task = begin; task < end; ++task) {
    const T* base = static_cast<const T*>(args.input);
    int64_t rest = task / blocks;
    for (int d = last - 1; d >= 0; --d) {
      base += rest % args.kept_sizes[d] * args.kept_strides[d];
      rest /= args.kept_sizes[d];
    }
    int64_t i = task % blocks * ReduceArgs::kTaskOutputs;
    const int64_t stop = min64(i + ReduceArgs::kTaskOutputs, row);
    T* output = static_cast<T*>(args.output) + task / blocks * row;
    if (stride == 1)
      for (; i + kCount <= stop; i += kCount) {
        LaneSum<V> sums;
        for_each_term(args, base + i, [&](const T* p) { sums.push(load(p)); });
        store(output + i, V(sums.total() / V(divisor)));
      }
    for (; i < stop; ++i) output[i] = narrow<T>(sum_of_one(args, base + i * stride) / divisor);
  }
}

}  // namespace

void sum(const ReduceArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { sum_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
