// Rows of elements in steps of a vector, and the parameters that belong to them.
#pragma once

#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// y[i] = f(x[i], i) for a row in steps of a vector. The last elements are done by a step that repeats
// some of the one before it, with equal bits: x and y must not overlap. `f` may read whole vectors of
// its own from i on, also in a row shorter than one.
template <typename T, typename Step>
BNINV_INLINE void map_row(const T* x, T* y, int64_t count, const Step& f) {
  constexpr int kCount = Lanes<T>::kCount;
  int64_t i = 0;
  for (; i + kCount <= count; i += kCount) store(y + i, f(load(x + i), i));
  if (i == count) return;
  if (count >= kCount) {
    i = count - kCount;
    store(y + i, f(load(x + i), i));
  } else {
    store_partial(y, f(load_partial(x, count), 0), count);
  }
}

// `count` values of a parameter from index `first` on, widened.
template <typename T>
void copy_parameter(const Parameter& parameter, Arithmetic<T> missing, int64_t first, int64_t count,
                    Arithmetic<T>* values) {
  if (parameter.data == nullptr) {
    for (int64_t i = 0; i < count; ++i) values[i] = missing;
  } else if (sizeof(T) < sizeof(float) && parameter.dtype != DType::kFloat) {
    const T* narrow = static_cast<const T*>(parameter.data) + first;
    for (int64_t i = 0; i < count; ++i) values[i] = widen(narrow[i]);
  } else {
    const Arithmetic<T>* own = static_cast<const Arithmetic<T>*>(parameter.data) + first;
    memcpy(values, own, static_cast<size_t>(count) * sizeof(*own));
  }
}

// `count` values of A and room for a whole vector from the last one on, all zero.
template <typename A>
struct PaddedScratch : Scratch<A> {
  explicit PaddedScratch(int64_t count) : Scratch<A>(count + 64) {
    for (int64_t i = 0; i < count + 64; ++i) this->data[i] = 0;
  }
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
