// binary64.h for vectors: a vector of binary32 becomes two of binary64.
#pragma once

#include "../binary64.h"
#include "../division.h"
#include "vec_double.h"

namespace bninv {
namespace BNINV_LEVEL {

#if BNINV_VEC_WIDTH > 1

// Half a Vec, which has as many lanes.
typedef float HalfOfVec __attribute__((vector_size(BNINV_VEC_WIDTH * 2)));

BNINV_INLINE VecDouble load_widened(const float* p) {
  HalfOfVec lanes;
  memcpy(&lanes, p, sizeof(lanes));
  return __builtin_convertvector(lanes, DoubleLanes);
}
BNINV_INLINE void store_narrowed(float* p, VecDouble a) {
  const HalfOfVec lanes = __builtin_convertvector(a.v, HalfOfVec);
  memcpy(p, &lanes, sizeof(lanes));
}

// binary64.h's, lane by lane where any lane asks for it.
template <int kCount, typename F>
BNINV_INLINE void replace_where(VecLong condition, const F& f, VecDouble x,
                                VecDouble (&values)[kCount]) {
  int64_t any = 0;
  for (int l = 0; l < kDoubleWidth; ++l) any |= condition.v[l];
  if (any == 0) return;
  for (int l = 0; l < kDoubleWidth; ++l) {
    if (condition.v[l] == 0) continue;
    double lane[kCount];
    f(x.v[l], lane);
    for (int i = 0; i < kCount; ++i) values[i].v[l] = lane[i];
  }
}

#else  // the scalar level

BNINV_INLINE double load_widened(const float* p) { return static_cast<double>(*p); }
BNINV_INLINE void store_narrowed(float* p, double a) { *p = static_cast<float>(a); }

#endif

template <typename F, typename... Vecs>
BNINV_INLINE Vec narrowed_from_binary64(const F& f, Vec first, Vecs... rest) {
  constexpr int kCount = 1 + sizeof...(rest);
  const Vec vectors[kCount] = {first, rest...};
  float lanes[kCount][kWidth], result[kWidth];
  for (int i = 0; i < kCount; ++i) vectors[i].store(lanes[i]);
  for (int l = 0; l < kWidth; l += kDoubleWidth) {
    if constexpr (kCount == 1)
      store_narrowed(result + l, f(load_widened(lanes[0] + l)));
    else
      store_narrowed(result + l, f(load_widened(lanes[0] + l), load_widened(lanes[1] + l)));
  }
  return Vec::load(result);
}

// division.h's, number by number.
template <typename F>
BNINV_INLINE Vec each_lane(const F& f, Vec x, Vec y) {
  float lanes[2][kWidth];
  x.store(lanes[0]);
  y.store(lanes[1]);
  for (int l = 0; l < kWidth; ++l) lanes[0][l] = f(lanes[0][l], lanes[1][l]);
  return Vec::load(lanes[0]);
}

#if BNINV_VEC_WIDTH > 1
template <typename F>
BNINV_INLINE VecDouble each_lane(const F& f, VecDouble x, VecDouble y) {
  for (int l = 0; l < kDoubleWidth; ++l) x.v[l] = f(x.v[l], y.v[l]);
  return x;
}
#endif

}  // namespace BNINV_LEVEL
}  // namespace bninv
