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
template <typename T>
BNINV_INLINE Arithmetic<T> greatest_lane(typename Lanes<T>::Value a) {
  Arithmetic<T> lanes[Lanes<T>::kCount];
  store(lanes, a);
  Arithmetic<T> greatest = lanes[0];
  for (int l = 1; l < Lanes<T>::kCount; ++l) greatest = maximum(greatest, lanes[l]);
  return greatest;
}

template <typename T>
BNINV_INLINE Arithmetic<T> greatest(const T* x, int64_t count) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  if (count < kCount) {
    Arithmetic<T> result = widen(x[0]);
    for (int64_t i = 1; i < count; ++i) result = maximum(result, widen(x[i]));
    return result;
  }
  V result = load(x + count - kCount);
  for (int64_t i = 0; i + kCount <= count; i += kCount) result = maximum(result, V(load(x + i)));
  return greatest_lane<T>(result);
}

// Dense rows: a task is one of them. The exponentials stay in the arithmetic type until they are divided.
template <typename T, bool kLog>
void dense_rows(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  const int64_t terms = args.terms;
  PaddedScratch<A> memory(terms);
  A* e = memory.data;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.input) + row * terms;
    T* y = static_cast<T*>(args.output) + row * terms;
    const V m = greatest(x, terms);
    for (int64_t i = 0; i < terms; i += kCount) {
      const int64_t count = min64(kCount, terms - i);
      const V value = count == kCount ? load(x + i) : load_partial(x + i, count);
      store(e + i, exp(V(value - m)));
    }
    const V total = sum_row(e, terms, AddTerm{});
    if constexpr (kLog) {
      const V log_total = log(total);
      map_row(x, y, terms, [=](V value, int64_t) { return (value - m) - log_total; });
    } else {
      map_row(x, y, terms, [=](V, int64_t i) { return load(e + i) / total; });
    }
  }
}

// Rows side by side, a vector of them at a time: a task is kTaskInner neighbours of one outer index.
template <typename T, bool kLog>
BNINV_INLINE void rows_across(const T* x, T* y, int64_t terms, int64_t stride, int64_t count,
                              Arithmetic<T>* memory) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  const auto term = [=](int64_t k) -> V {
    return count >= kCount ? load(x + k * stride) : load_partial(x + k * stride, count);
  };
  V m = term(0);
  for (int64_t k = 1; k < terms; ++k) m = maximum(m, term(k));
  for (int64_t k = 0; k < terms; ++k) store(memory + k * kCount, exp(V(term(k) - m)));
  V total;
  sum_across<1>(
      terms, [=](int64_t k, int) -> V { return load(memory + k * kCount); },
      [](V lane, V value, int) { return lane + value; }, &total);
  const V log_total = kLog ? log(total) : total;
  for (int64_t k = 0; k < terms; ++k) {
    const V result = kLog ? (term(k) - m) - log_total : load(memory + k * kCount) / total;
    if (count >= kCount)
      store(y + k * stride, result);
    else
      store_partial(y + k * stride, result, count);
  }
}

template <typename T, bool kLog>
void side_by_side(const SoftmaxArgs& args, int64_t begin, int64_t end) {
  constexpr int kCount = Lanes<T>::kCount;
  const int64_t terms = args.terms, inner = args.inner;
  const int64_t blocks = ceil_div(inner, AlongArgs::kTaskInner);
  Scratch<Arithmetic<T>> memory(terms * kCount);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t offset = task / blocks * terms * inner;
    const T* x = static_cast<const T*>(args.input) + offset;
    T* y = static_cast<T*>(args.output) + offset;
    const int64_t first = task % blocks * AlongArgs::kTaskInner;
    const int64_t last = min64(first + AlongArgs::kTaskInner, inner);
    for (int64_t i = first; i < last; i += kCount) {
      // The last rows of a task by a step that repeats some of the one before it.
      const int64_t at = last - i >= kCount ? i : max64(last - kCount, first);
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
  with_type(args.dtype,
            [&](auto type) { softmax_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
