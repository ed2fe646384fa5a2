// Vectors from and to memory of each storage type: widened exactly, rounded once (R0).
#pragma once

#include <type_traits>

#include "../dtypes.h"
#include "vec.h"
#include "vec_double.h"
#if defined(BNINV_NEON)
#include "vec_dtypes_neon.h"
#endif

namespace bninv {
namespace BNINV_LEVEL {

// What one step of a loop over elements of T works on: a vector of the arithmetic type.
template <typename T>
struct Lanes {
  using Value = Vec;
  static constexpr int kCount = kWidth;
};
template <>
struct Lanes<double> {
  using Value = VecDouble;
  static constexpr int kCount = kDoubleWidth;
};

BNINV_INLINE Vec load(const float* p) { return Vec::load(p); }
BNINV_INLINE void store(float* p, Vec a) { a.store(p); }

#if defined(BNINV_NEON)
// vec_dtypes_neon.h has the rest.
#elif BNINV_VEC_WIDTH > 1

typedef uint16_t ShortLanes __attribute__((vector_size(BNINV_VEC_WIDTH * 2)));
typedef uint32_t UnsignedLanes __attribute__((vector_size(BNINV_VEC_WIDTH * 4)));

template <typename T>
BNINV_INLINE ShortLanes load_bits(const T* p) {
  ShortLanes bits;
  memcpy(&bits, p, sizeof(bits));
  return bits;
}

// The low halves of the lanes, which are less than 2^16.
BNINV_INLINE ShortLanes low_halves(UnsignedLanes a) {
#if defined(__x86_64__) && BNINV_VEC_WIDTH == 8 && !defined(BNINV_EMULATED_VECTORS)
  // GCC makes more instructions of __builtin_convertvector, here and below.
  const __m256i lanes = __m256i(a);
  return ShortLanes(
      _mm_packus_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1)));
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 16 && !defined(BNINV_EMULATED_VECTORS)
  return ShortLanes(_mm512_maskz_cvtepi32_epi16(0xffff, __m512i(a)));  // masked: see store(Half*)
#else
  return __builtin_convertvector(a, ShortLanes);
#endif
}

BNINV_INLINE UnsignedLanes widened_halves(ShortLanes a) {
#if defined(__x86_64__) && BNINV_VEC_WIDTH == 8 && !defined(BNINV_EMULATED_VECTORS)
  return UnsignedLanes(_mm256_cvtepu16_epi32(__m128i(a)));
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 16 && !defined(BNINV_EMULATED_VECTORS)
  return UnsignedLanes(
      _mm512_maskz_cvtepu16_epi32(0xffff, __m256i(a)));  // masked: see store(Half*)
#else
  return __builtin_convertvector(a, UnsignedLanes);
#endif
}

// A NaN becomes the one of all ones: rounding could carry it into infinity or beyond.
BNINV_INLINE UnsignedLanes bfloat16_bits(Vec a) {
  const UnsignedLanes bits = UnsignedLanes(a.v);
  const UnsignedLanes nan = UnsignedLanes(a.v != a.v);
  return ((bits + 0x7fff + ((bits >> 16) & 1)) | nan) >> 16;
}

BNINV_INLINE Vec load(const BFloat16* p) { return FloatLanes(widened_halves(load_bits(p)) << 16); }
BNINV_INLINE void store(BFloat16* p, Vec a) {
  const ShortLanes bits = low_halves(bfloat16_bits(a));
  memcpy(p, &bits, sizeof(bits));
}

#if defined(BNINV_EMULATED_VECTORS)
BNINV_INLINE Vec load(const Half* p) {
  Vec a;
  for (int l = 0; l < kWidth; ++l) a.v[l] = widen(p[l]);
  return a;
}
BNINV_INLINE void store(Half* p, Vec a) {
  for (int l = 0; l < kWidth; ++l) p[l] = narrow<Half>(a.v[l]);
}
BNINV_INLINE Vec rounded_to_half(Vec a) {
  for (int l = 0; l < kWidth; ++l) a.v[l] = rounded<Half>(a.v[l]);
  return a;
}
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 8
// These conversions keep subnormals whatever the control register says; 0: to nearest even.
BNINV_INLINE Vec load(const Half* p) { return FloatLanes(_mm256_cvtph_ps(__m128i(load_bits(p)))); }
BNINV_INLINE void store(Half* p, Vec a) {
  const __m128i bits = _mm256_cvtps_ph(__m256(a.v), 0);
  memcpy(p, &bits, sizeof(bits));
}
BNINV_INLINE Vec rounded_to_half(Vec a) {
  return FloatLanes(_mm256_cvtph_ps(_mm256_cvtps_ph(__m256(a.v), 0)));
}
#elif defined(__x86_64__) && BNINV_VEC_WIDTH == 16
// Without the asm GCC 12 keeps such values in half of the registers only, and the rest in memory.
BNINV_INLINE Vec load(const Half* p) {
  __m512 a = _mm512_cvtph_ps(__m256i(load_bits(p)));
  asm("" : "+v"(a));
  return FloatLanes(a);
}
// With a mask of all lanes, because GCC 12 suspects its own form without one of reading what nobody set.
BNINV_INLINE void store(Half* p, Vec a) {
  const __m256i bits = _mm512_maskz_cvtps_ph(0xffff, __m512(a.v), 0);
  memcpy(p, &bits, sizeof(bits));
}
BNINV_INLINE Vec rounded_to_half(Vec a) {
  const __m256i half = _mm512_maskz_cvtps_ph(0xffff, __m512(a.v), 0);
  return FloatLanes(_mm512_maskz_cvtph_ps(0xffff, half));
}
#else
#error "no conversion to and from half for this vector width on this architecture"
#endif

BNINV_INLINE Vec rounded_to_bfloat16(Vec a) { return FloatLanes(bfloat16_bits(a) << 16); }

#else  // the scalar level

BNINV_INLINE Vec load(const Half* p) { return widen(*p); }
BNINV_INLINE Vec load(const BFloat16* p) { return widen(*p); }
BNINV_INLINE void store(Half* p, Vec a) { *p = narrow<Half>(a.v); }
BNINV_INLINE void store(BFloat16* p, Vec a) { *p = narrow<BFloat16>(a.v); }
BNINV_INLINE Vec rounded_to_half(Vec a) { return rounded<Half>(a.v); }
BNINV_INLINE Vec rounded_to_bfloat16(Vec a) { return rounded<BFloat16>(a.v); }

#endif

// `rounded` for a step's value: to T and back.
template <typename T>
BNINV_INLINE typename Lanes<T>::Value rounded_lanes(typename Lanes<T>::Value a) {
  if constexpr (std::is_same_v<T, Half>)
    return rounded_to_half(a);
  else if constexpr (std::is_same_v<T, BFloat16>)
    return rounded_to_bfloat16(a);
  else
    return a;
}

// A last, partial step goes through a full one's memory, so that no element takes another way than its
// neighbours: what lies beyond `count` is +0 when loaded and not written when stored.
template <typename T>
BNINV_INLINE typename Lanes<T>::Value load_partial(const T* p, int64_t count) {
  T memory[Lanes<T>::kCount] = {};
  memcpy(memory, p, static_cast<size_t>(count) * sizeof(T));
  return load(memory);
}
template <typename T>
BNINV_INLINE void store_partial(T* p, typename Lanes<T>::Value a, int64_t count) {
  T memory[Lanes<T>::kCount];
  store(memory, a);
  memcpy(p, memory, static_cast<size_t>(count) * sizeof(T));
}

// `count` elements widened to the arithmetic type.
template <typename T>
inline void widen_run(const T* source, int64_t count, Arithmetic<T>* destination) {
  constexpr int64_t kCount = Lanes<T>::kCount;
  int64_t i = 0;
  for (; i + kCount <= count; i += kCount) store(destination + i, load(source + i));
  if (i == count) return;
  if (i > 0)  // the last ones by a vector that repeats some of the one before it
    store(destination + count - kCount, load(source + count - kCount));
  else
    for (; i < count; ++i) destination[i] = widen(source[i]);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
