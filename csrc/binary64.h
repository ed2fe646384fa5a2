// R6: functions that binary32 has from binary64: widened exactly, computed there, rounded once.
#pragma once

#include "format.h"

// Code of rare arguments, once in a kernel however often it is asked for.
#if defined(__CUDACC__)
#define BNINV_OUTLINE __host__ __device__ inline __attribute__((noinline))
#else
#define BNINV_OUTLINE inline __attribute__((noinline))
#endif

namespace bninv {
namespace BNINV_LEVEL {

// vec_double.h overloads these two for vectors.
template <typename F, typename... Floats>
BNINV_INLINE float narrowed_from_binary64(const F& f, float first, Floats... rest) {
  return static_cast<float>(f(static_cast<double>(first), static_cast<double>(rest)...));
}

// values = f(x), where the condition holds.
template <int kCount, typename F>
BNINV_INLINE void replace_where(bool condition, const F& f, double x, double (&values)[kCount]) {
  if (condition) f(x, values);
}

// `f` of numbers or vectors of either format.
template <typename F, typename V, typename... Rest>
BNINV_INLINE V in_binary64(const F& f, V first, Rest... rest) {
  if constexpr (kIsBinary64<V>)
    return f(first, rest...);
  else
    return narrowed_from_binary64(f, first, rest...);
}

namespace detail {

// A sum or a product with what its rounding lost.
template <typename V>
struct Pair {
  V high, low;
};

// Of any two numbers (Knuth), and where a is 0 or not the smaller one (Dekker).
template <typename V>
BNINV_INLINE Pair<V> two_sum(V a, V b) {
  V sum = a + b;
  V rest = sum - a;
  return {sum, (a - (sum - rest)) + (b - rest)};
}
template <typename V>
BNINV_INLINE Pair<V> fast_two_sum(V a, V b) {
  V sum = a + b;
  return {sum, (a - sum) + b};
}
template <typename V>
BNINV_INLINE Pair<V> two_product(V a, V b) {
  V product = a * b;
  return {product, fma(a, b, -product)};
}

}  // namespace detail
}  // namespace BNINV_LEVEL
}  // namespace bninv
