// softmax and log_softmax under R4 over outer x terms x inner elements, dense in that order.
#include "../softmax.h"
#include "../functions.h"
#include "../normalization.h"
#include "rows.h"
#include "sum_rows.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// maximum() of a vector's lanes; in which order they are compared cannot be told from the result.
BNINV_INLINE float greatest_lane(Vec a) {
  float lanes[kWidth];
  store(lanes, a);
  float greatest = lanes[0];
  for (int l = 1; l < kWidth; ++l) greatest = maximum(greatest, lanes[l]);
  return greatest;
}

template <typename T>
BNINV_INLINE float greatest(const T* x, int64_t count) {
  if (count < kWidth) {
    float result = widen(x[0]);
    for (int64_t i = 1; i < count; ++i) result = maximum(result, widen(x[i]));
    return result;
  }
  Vec result = load(x + count - kWidth);
  for (int64_t i = 0; i + kWidth <= count; i += kWidth) result = maximum(result, load(x + i));
  return greatest_lane(result);
}

// Dense rows: a task is one of them. The exponentials stay in binary32 until they are divided.
template <typename T, bool kLog>
void dense_rows(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const int64_t terms = args.terms;
  PaddedScratch<float> memory(terms);
  float* e = memory.data;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.input) + row * terms;
    T* y = static_cast<T*>(args.output) + row * terms;
    const Vec m = greatest(x, terms);
    for (int64_t i = 0; i < terms; i += kWidth) {
      const int64_t count = min64(kWidth, terms - i);
      const Vec value = count == kWidth ? load(x + i) : load_partial(x + i, count);
      store(e + i, exp(Vec(value - m)));
    }
    const Vec total = sum_row(e, terms, AddTerm{});
    if constexpr (kLog) {
      const Vec log_total = log(total);
      map_row(x, y, terms, [=](Vec value, int64_t) { return (value - m) - log_total; });
    } else {
      map_row(x, y, terms, [=](Vec, int64_t i) { return load(e + i) / total; });
    }
  }
}

// Rows side by side, a vector of them at a time: a task is kTaskInner neighbours of one outer index.
template <typename T, bool kLog>
BNINV_INLINE void rows_across(const T* x, T* y, int64_t terms, int64_t stride, int64_t count,
                              float* memory) {
  const auto term = [=](int64_t k) {
    return count >= kWidth ? load(x + k * stride) : load_partial(x + k * stride, count);
  };
  Vec m = term(0);
  for (int64_t k = 1; k < terms; ++k) m = maximum(m, term(k));
  for (int64_t k = 0; k < terms; ++k) store(memory + k * kWidth, exp(Vec(term(k) - m)));
  Vec total;
  sum_across<1>(
      terms, [=](int64_t k, int) { return load(memory + k * kWidth); },
      [](Vec lane, Vec value, int) { return lane + value; }, &total);
  const Vec log_total = kLog ? log(total) : total;
  for (int64_t k = 0; k < terms; ++k) {
    const Vec result = kLog ? (term(k) - m) - log_total : load(memory + k * kWidth) / total;
    if (count >= kWidth)
      store(y + k * stride, result);
    else
      store_partial(y + k * stride, result, count);
  }
}

template <typename T, bool kLog>
void side_by_side(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  const int64_t terms = args.terms, inner = args.inner;
  const int64_t blocks = ceil_div(inner, SoftmaxArgs::kTaskInner);
  Scratch<float> memory(terms * kWidth);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t offset = task / blocks * terms * inner;
    const T* x = static_cast<const T*>(args.input) + offset;
    T* y = static_cast<T*>(args.output) + offset;
    const int64_t first = task % blocks * SoftmaxArgs::kTaskInner;
    const int64_t last = min64(first + SoftmaxArgs::kTaskInner, inner);
    for (int64_t i = first; i < last; i += kWidth) {
      // The last rows of a task by a step that repeats some of the one before it.
      const int64_t at = last - i >= kWidth ? i : max64(last - kWidth, first);
      rows_across<T, kLog>(x + at, y + at, terms, inner, last - at, memory.data);
    }
  }
}

template <typename T>
void softmax_of(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  if (args.inner == 1)
    args.log ? dense_rows<T, true>(args, begin, end) : dense_rows<T, false>(args, begin, end);
  else
    args.log ? side_by_side<T, true>(args, begin, end) : side_by_side<T, false>(args, begin, end);
}

}  // namespace

void softmax(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return softmax_of<float>(args, begin, end);
    case DType::kHalf:
      return softmax_of<Half>(args, begin, end);
    case DType::kBFloat16:
      return softmax_of<BFloat16>(args, begin, end);
    case DType::kDouble:
      return;  // not defined: refused before a kernel is chosen
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
