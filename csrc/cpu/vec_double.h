// One SIMD vector of binary64: as wide in bytes as a Vec, so of half as many lanes. Included by
// vec_dtypes.h; written like vec.h, with GCC's vector extension but for fma and sqrt.
#pragma once

#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {

#if BNINV_VEC_WIDTH > 1

constexpr int kDoubleWidth = kWidth / 2;

typedef double DoubleLanes __attribute__((vector_size(BNINV_VEC_WIDTH * 4)));
typedef int64_t LongLanes __attribute__((vector_size(BNINV_VEC_WIDTH * 4)));

// Lanes of 64-bit integers: bit patterns and masks.
struct VecLong {
  LongLanes v;
  BNINV_INLINE VecLong(LongLanes lanes) : v(lanes) {}
  BNINV_INLINE VecLong(int64_t value) : v(LongLanes{} + value) {}
  friend BNINV_INLINE VecLong operator+(VecLong a, VecLong b) { return a.v + b.v; }
  friend BNINV_INLINE VecLong operator-(VecLong a, VecLong b) { return a.v - b.v; }
  friend BNINV_INLINE VecLong operator&(VecLong a, VecLong b) { return a.v & b.v; }
  friend BNINV_INLINE VecLong operator|(VecLong a, VecLong b) { return a.v | b.v; }
  friend BNINV_INLINE VecLong operator^(VecLong a, VecLong b) { return a.v ^ b.v; }
  friend BNINV_INLINE VecLong operator~(VecLong a) { return ~a.v; }
  friend BNINV_INLINE VecLong operator<<(VecLong a, int n) { return a.v << n; }
  friend BNINV_INLINE VecLong operator>>(VecLong a, int n) { return a.v >> n; }  // arithmetic
};

struct VecDouble {
  DoubleLanes v;
  BNINV_INLINE VecDouble() = default;
  BNINV_INLINE VecDouble(DoubleLanes lanes) : v(lanes) {}
  BNINV_INLINE VecDouble(double value) : v(value - DoubleLanes{}) {}  // as Vec: keeps -0
  friend BNINV_INLINE VecDouble operator+(VecDouble a, VecDouble b) { return a.v + b.v; }
  friend BNINV_INLINE VecDouble operator-(VecDouble a, VecDouble b) { return a.v - b.v; }
  friend BNINV_INLINE VecDouble operator-(VecDouble a) {
    return -a.v;
  }  // flips the sign, of zeros too
  friend BNINV_INLINE VecDouble operator*(VecDouble a, VecDouble b) { return a.v * b.v; }
  friend BNINV_INLINE VecDouble operator/(VecDouble a, VecDouble b) { return a.v / b.v; }
  friend BNINV_INLINE VecLong operator>(VecDouble a, VecDouble b) { return LongLanes(a.v > b.v); }
  friend BNINV_INLINE VecLong operator>=(VecDouble a, VecDouble b) { return LongLanes(a.v >= b.v); }
  friend BNINV_INLINE VecLong operator<(VecDouble a, VecDouble b) { return LongLanes(a.v < b.v); }
  friend BNINV_INLINE VecLong operator<=(VecDouble a, VecDouble b) { return LongLanes(a.v <= b.v); }
  friend BNINV_INLINE VecLong operator==(VecDouble a, VecDouble b) { return LongLanes(a.v == b.v); }
  friend BNINV_INLINE VecLong operator!=(VecDouble a, VecDouble b) { return LongLanes(a.v != b.v); }
};

template <>
inline constexpr bool kIsBinary64<VecDouble> = true;

BNINV_INLINE VecLong to_bits(VecDouble a) { return LongLanes(a.v); }
BNINV_INLINE VecDouble from_bits(VecLong bits) { return DoubleLanes(bits.v); }
BNINV_INLINE VecDouble select(VecLong condition, VecDouble a, VecDouble b) {
  return condition.v ? a.v : b.v;
}

#if defined(__x86_64__) && BNINV_VEC_WIDTH == 8 && !defined(BNINV_EMULATED_VECTORS)
BNINV_INLINE VecDouble fma(VecDouble a, VecDouble b, VecDouble c) {
  return DoubleLanes(_mm256_fmadd_pd(__m256d(a.v), __m256d(b.v), __m256d(c.v)));
}
BNINV_INLINE VecDouble sqrt(VecDouble a) { return DoubleLanes(_mm256_sqrt_pd(__m256d(a.v))); }
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 16 && !defined(BNINV_EMULATED_VECTORS)
BNINV_INLINE VecDouble fma(VecDouble a, VecDouble b, VecDouble c) {
  return DoubleLanes(_mm512_fmadd_pd(__m512d(a.v), __m512d(b.v), __m512d(c.v)));
}
BNINV_INLINE VecDouble sqrt(VecDouble a) { return DoubleLanes(_mm512_sqrt_pd(__m512d(a.v))); }
#else
// Any width on any machine, lane by lane.
BNINV_INLINE VecDouble fma(VecDouble a, VecDouble b, VecDouble c) {
  for (int l = 0; l < kDoubleWidth; ++l) c.v[l] = __builtin_fma(a.v[l], b.v[l], c.v[l]);
  return c;
}
BNINV_INLINE VecDouble sqrt(VecDouble a) {
  for (int l = 0; l < kDoubleWidth; ++l) a.v[l] = __builtin_sqrt(a.v[l]);
  return a;
}
#endif

BNINV_INLINE VecDouble load(const double* p) {
  VecDouble a;
  memcpy(&a.v, p, sizeof(a.v));
  return a;
}
BNINV_INLINE void store(double* p, VecDouble a) { memcpy(p, &a.v, sizeof(a.v)); }

#else  // the scalar level

using VecDouble = double;
constexpr int kDoubleWidth = 1;

BNINV_INLINE double load(const double* p) { return *p; }
BNINV_INLINE void store(double* p, double a) { *p = a; }

#endif

}  // namespace BNINV_LEVEL
}  // namespace bninv
