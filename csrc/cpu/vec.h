// One SIMD vector of binary32 at the instruction-set level this translation unit is compiled for.
//
// bninv/building/recipe.py compiles every file of csrc/cpu/ once per level, with BNINV_LEVEL naming the
// level and BNINV_VEC_WIDTH its width in floats. A new level needs its fma, sqrt and permute below and a
// row there; the rest is written with GCC's vector extension, which GCC and clang share. NEON's vectors
// are two registers each, which GCC would keep in memory: they are classes of their own (vec_neon.h).
#pragma once

#include <cstdint>
#include <cstring>

#if BNINV_VEC_WIDTH > 1 && defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../numerics.h"

#if BNINV_VEC_WIDTH == 8 && defined(__aarch64__) && !defined(BNINV_EMULATED_VECTORS)
#define BNINV_NEON
#include "vec_neon.h"
#else

namespace bninv {
namespace BNINV_LEVEL {

#if BNINV_VEC_WIDTH > 1

constexpr int kWidth = BNINV_VEC_WIDTH;

typedef float FloatLanes __attribute__((vector_size(BNINV_VEC_WIDTH * 4)));
typedef int32_t IntLanes __attribute__((vector_size(BNINV_VEC_WIDTH * 4)));

// Lanes of 32-bit integers: bit patterns, and the masks that comparisons give (all ones or zero).
struct VecInt {
  IntLanes v;
  BNINV_INLINE VecInt(IntLanes lanes) : v(lanes) {}
  BNINV_INLINE VecInt(int32_t value) : v(IntLanes{} + value) {}
  friend BNINV_INLINE VecInt operator+(VecInt a, VecInt b) { return a.v + b.v; }
  friend BNINV_INLINE VecInt operator-(VecInt a, VecInt b) { return a.v - b.v; }
  friend BNINV_INLINE VecInt operator&(VecInt a, VecInt b) { return a.v & b.v; }
  friend BNINV_INLINE VecInt operator|(VecInt a, VecInt b) { return a.v | b.v; }
  friend BNINV_INLINE VecInt operator^(VecInt a, VecInt b) { return a.v ^ b.v; }
  friend BNINV_INLINE VecInt operator~(VecInt a) { return ~a.v; }
  friend BNINV_INLINE VecInt operator<<(VecInt a, int n) { return a.v << n; }
  friend BNINV_INLINE VecInt operator>>(VecInt a, int n) { return a.v >> n; }  // arithmetic
};

struct Vec {
  FloatLanes v;
  BNINV_INLINE Vec() = default;
  BNINV_INLINE Vec(FloatLanes lanes) : v(lanes) {}
  BNINV_INLINE Vec(float value) : v(value - FloatLanes{}) {}  // 0 + value would lose the sign of -0
  static BNINV_INLINE Vec zero() { return FloatLanes{}; }
  static BNINV_INLINE Vec load(const float* p) {
    Vec a;
    memcpy(&a.v, p, sizeof(a.v));
    return a;
  }
  // The first `count` lanes, the others +0; nothing beyond them is read.
  static BNINV_INLINE Vec load_partial(const float* p, int64_t count) {
    FloatLanes lanes{};
    memcpy(&lanes, p, static_cast<size_t>(count) * sizeof(float));
    return lanes;
  }
  BNINV_INLINE void store(float* p) const { memcpy(p, &v, sizeof(v)); }
  BNINV_INLINE void store_partial(float* p, int64_t count) const {
    memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
  }
  friend BNINV_INLINE Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend BNINV_INLINE Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend BNINV_INLINE Vec operator-(Vec a) { return -a.v; }  // flips the sign, of zeros too
  friend BNINV_INLINE Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend BNINV_INLINE Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend BNINV_INLINE VecInt operator>(Vec a, Vec b) { return IntLanes(a.v > b.v); }
  friend BNINV_INLINE VecInt operator>=(Vec a, Vec b) { return IntLanes(a.v >= b.v); }
  friend BNINV_INLINE VecInt operator<(Vec a, Vec b) { return IntLanes(a.v < b.v); }
  friend BNINV_INLINE VecInt operator<=(Vec a, Vec b) { return IntLanes(a.v <= b.v); }
  friend BNINV_INLINE VecInt operator==(Vec a, Vec b) { return IntLanes(a.v == b.v); }
  friend BNINV_INLINE VecInt operator!=(Vec a, Vec b) { return IntLanes(a.v != b.v); }
};

BNINV_INLINE VecInt to_bits(Vec a) { return IntLanes(a.v); }
BNINV_INLINE Vec from_bits(VecInt bits) { return FloatLanes(bits.v); }
BNINV_INLINE Vec select(VecInt condition, Vec a, Vec b) { return condition.v ? a.v : b.v; }

#if defined(BNINV_EMULATED_VECTORS)
// Any width on any machine, lane by lane, for tests: a level's tiles and tails can be run where its
// instructions are missing.
BNINV_INLINE Vec fma(Vec a, Vec b, Vec c) {
  for (int l = 0; l < kWidth; ++l) c.v[l] = __builtin_fmaf(a.v[l], b.v[l], c.v[l]);
  return c;
}
BNINV_INLINE Vec sqrt(Vec a) {
  for (int l = 0; l < kWidth; ++l) a.v[l] = __builtin_sqrtf(a.v[l]);
  return a;
}
BNINV_INLINE Vec permute(Vec a, VecInt lanes) {
  Vec b = a;
  for (int l = 0; l < kWidth; ++l) b.v[l] = a.v[lanes.v[l] % kWidth];
  return b;
}
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 8
BNINV_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return FloatLanes(_mm256_fmadd_ps(__m256(a.v), __m256(b.v), __m256(c.v)));
}
BNINV_INLINE Vec sqrt(Vec a) { return FloatLanes(_mm256_sqrt_ps(__m256(a.v))); }
// Lane l of the result is lane lanes[l] of a.
BNINV_INLINE Vec permute(Vec a, VecInt lanes) {
  return FloatLanes(_mm256_permutevar8x32_ps(__m256(a.v), __m256i(lanes.v)));
}
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 16
BNINV_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return FloatLanes(_mm512_fmadd_ps(__m512(a.v), __m512(b.v), __m512(c.v)));
}
BNINV_INLINE Vec sqrt(Vec a) { return FloatLanes(_mm512_sqrt_ps(__m512(a.v))); }
BNINV_INLINE Vec permute(Vec a, VecInt lanes) {
  return FloatLanes(_mm512_permutexvar_ps(__m512i(lanes.v), __m512(a.v)));
}
#else
#error "no fma, sqrt and permute for this vector width on this architecture"
#endif

#else  // the scalar level: a Vec is a float

constexpr int kWidth = 1;

struct Vec {
  float v;
  BNINV_INLINE Vec() = default;
  BNINV_INLINE Vec(float value) : v(value) {}
  static BNINV_INLINE Vec zero() { return 0.0f; }
  static BNINV_INLINE Vec load(const float* p) { return *p; }
  static BNINV_INLINE Vec load_partial(const float* p, int64_t count) { return count ? *p : 0.0f; }
  BNINV_INLINE void store(float* p) const { *p = v; }
  BNINV_INLINE void store_partial(float* p, int64_t count) const {
    if (count) *p = v;
  }
  friend BNINV_INLINE Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend BNINV_INLINE Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend BNINV_INLINE Vec operator-(Vec a) { return -a.v; }  // flips the sign, of zeros too
  friend BNINV_INLINE Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend BNINV_INLINE Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend BNINV_INLINE bool operator>(Vec a, Vec b) { return a.v > b.v; }
  friend BNINV_INLINE bool operator>=(Vec a, Vec b) { return a.v >= b.v; }
  friend BNINV_INLINE bool operator<(Vec a, Vec b) { return a.v < b.v; }
  friend BNINV_INLINE bool operator<=(Vec a, Vec b) { return a.v <= b.v; }
  friend BNINV_INLINE bool operator==(Vec a, Vec b) { return a.v == b.v; }
  friend BNINV_INLINE bool operator!=(Vec a, Vec b) { return a.v != b.v; }
};

// from_bits(int32_t) gives a float; both choices of `select` are then Vecs by conversion.
BNINV_INLINE int32_t to_bits(Vec a) { return to_bits(a.v); }
BNINV_INLINE Vec fma(Vec a, Vec b, Vec c) { return fma(a.v, b.v, c.v); }
BNINV_INLINE Vec sqrt(Vec a) { return sqrt(a.v); }
BNINV_INLINE Vec select(bool condition, Vec a, Vec b) { return condition ? a : b; }

#endif

}  // namespace BNINV_LEVEL
}  // namespace bninv

#endif  // BNINV_NEON
