// R3 over any storage type: sums of dense terms, whose lanes are the lanes of vectors, and sums side by
// side, where every lane of a vector is a sum of its own. `add(lane, x)` is what a term does to a lane.
#pragma once

#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {

// The last steps of R3, within one vector: lane[j] + lane[j + h] for h = kCount / 2, ..., 1.
#if BNINV_VEC_WIDTH > 1
BNINV_INLINE double fold_lanes(VecDouble a) {
  for (int h = kDoubleWidth / 2; h > 0; h /= 2)
    for (int l = 0; l < h; ++l) a.v[l] = a.v[l] + a.v[l + h];
  return a.v[0];
}
#if defined(BNINV_NEON)
// A Vec is a pair of registers there, whose lanes no compiler extension names.
BNINV_INLINE float fold_lanes(Vec a) {
  float lanes[kWidth];
  a.store(lanes);
  for (int h = kWidth / 2; h > 0; h /= 2)
    for (int l = 0; l < h; ++l) lanes[l] = lanes[l] + lanes[l + h];
  return lanes[0];
}
#else
template <int kHalf = kWidth / 2>
BNINV_INLINE float fold_lanes(Vec a) {
  if constexpr (kHalf > 0) {
    IntLanes other{};
    for (int l = 0; l < kWidth; ++l) other[l] = (l + kHalf) % kWidth;
    return fold_lanes<kHalf / 2>(a + permute(a, VecInt(other)));
  } else {
    return a.v[0];
  }
}
#endif
#else
BNINV_INLINE float fold_lanes(Vec a) { return a.v; }
BNINV_INLINE double fold_lanes(double a) { return a; }
#endif

// The first `count` lanes with the elements x[first], ... added, fewer than a vector of them; the other
// lanes keep what they hold. A row long enough is read backwards from its end, which spares a copy.
template <typename T, typename V, typename Add>
BNINV_INLINE V add_some(V lane, const T* x, int64_t first, int64_t count, const Add& add) {
#if BNINV_VEC_WIDTH > 1 && !defined(BNINV_NEON)
  if constexpr (std::is_same_v<V, Vec>) {
    IntLanes index{};
    for (int l = 0; l < kWidth; ++l) index[l] = l;
    const int32_t some = static_cast<int32_t>(count);
    const V values = first + count >= kWidth ? permute(load(x + first + count - kWidth),
                                                       VecInt((index - some) & (kWidth - 1)))
                                             : load_partial(x + first, count);
    return select(VecInt(IntLanes(index < some)), add(lane, values), lane);
  }
#endif
  Arithmetic<T> memory[Lanes<T>::kCount];
  store(memory, lane);
  store_partial(memory, add(lane, load_partial(x + first, count)), count);
  return load(memory);
}

// One sum of `terms` neighbours.
template <typename T, typename Add>
BNINV_INLINE Arithmetic<T> sum_row(const T* x, int64_t terms, const Add& add) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  constexpr int kVectors = kSumLanes / kCount;
  A total = 0;
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t last = min64(first + kSumSegment, terms);
    V lanes[kVectors];
    for (int j = 0; j < kVectors; ++j) lanes[j] = V(0.0f);
    int64_t i = first;
    for (; i + kSumLanes <= last; i += kSumLanes)
      for (int j = 0; j < kVectors; ++j) lanes[j] = add(lanes[j], load(x + i + j * kCount));
#pragma GCC unroll 32
    for (int j = 0; j < kVectors; ++j) {
      const int64_t rest = last - i - j * kCount;
      if (rest <= 0) break;
      lanes[j] = rest >= kCount ? add(lanes[j], load(x + i + j * kCount))
                                : add_some(lanes[j], x, i + j * kCount, rest, add);
    }
    for (int h = kVectors / 2; h > 0; h /= 2)
      for (int j = 0; j < h; ++j) lanes[j] = lanes[j] + lanes[j + h];
    total = total + fold_lanes(lanes[0]);
  }
  return total;
}

// kSteps neighbouring vectors of sums; `term(k, s)` is term k of vector s.
//
// Of lanes that no term reached, only those in use are added: they are +0, and no lane is ever -0.
template <int kSteps, typename V, typename Term, typename Add>
BNINV_INLINE void sum_across(int64_t terms, const Term& term, const Add& add, V* totals) {
  V lanes[kSumLanes][kSteps];
  for (int s = 0; s < kSteps; ++s) totals[s] = V(0.0f);
  for (int64_t first = 0; first < terms; first += kSumSegment) {
    const int64_t count = min64(kSumSegment, terms - first);
    int64_t used = min64(count, kSumLanes);
    for (int64_t j = 0; j < used; ++j)
      for (int s = 0; s < kSteps; ++s) lanes[j][s] = add(V(0.0f), term(first + j, s), s);
    for (int64_t i = kSumLanes; i < count; i += kSumLanes)
      for (int64_t j = 0; j < min64(kSumLanes, count - i); ++j)
        for (int s = 0; s < kSteps; ++s) lanes[j][s] = add(lanes[j][s], term(first + i + j, s), s);
    for (int64_t h = kSumLanes / 2; h > 0; h /= 2) {
      for (int64_t j = 0; j + h < used; ++j)
        for (int s = 0; s < kSteps; ++s) lanes[j][s] = lanes[j][s] + lanes[j + h][s];
      used = min64(used, h);
    }
    for (int s = 0; s < kSteps; ++s) totals[s] = totals[s] + lanes[0][s];
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
