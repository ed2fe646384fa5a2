// vec.h's vectors for NEON: eight floats in a pair of registers.
//
// Eight and not four: the kernels' tiles for a width of eight are made for 16 vectors, which as pairs
// are the 32 registers of aarch64.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "../numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

constexpr int kWidth = 8;

typedef float FloatHalf __attribute__((vector_size(16)));
typedef int32_t IntHalf __attribute__((vector_size(16)));

struct FloatLanes {
  FloatHalf low, high;
};
struct IntLanes {
  IntHalf low, high;
};

// Lanes of 32-bit integers: bit patterns, and the masks that comparisons give (all ones or zero).
struct VecInt {
  IntLanes v;
  BNINV_INLINE VecInt(IntHalf low, IntHalf high) : v{low, high} {}
  BNINV_INLINE VecInt(int32_t value) : VecInt(IntHalf{} + value, IntHalf{} + value) {}
  friend BNINV_INLINE VecInt operator+(VecInt a, VecInt b) {
    return {a.v.low + b.v.low, a.v.high + b.v.high};
  }
  friend BNINV_INLINE VecInt operator-(VecInt a, VecInt b) {
    return {a.v.low - b.v.low, a.v.high - b.v.high};
  }
  friend BNINV_INLINE VecInt operator&(VecInt a, VecInt b) {
    return {a.v.low & b.v.low, a.v.high & b.v.high};
  }
  friend BNINV_INLINE VecInt operator|(VecInt a, VecInt b) {
    return {a.v.low | b.v.low, a.v.high | b.v.high};
  }
  friend BNINV_INLINE VecInt operator^(VecInt a, VecInt b) {
    return {a.v.low ^ b.v.low, a.v.high ^ b.v.high};
  }
  friend BNINV_INLINE VecInt operator~(VecInt a) { return {~a.v.low, ~a.v.high}; }
  friend BNINV_INLINE VecInt operator<<(VecInt a, int n) { return {a.v.low << n, a.v.high << n}; }
  friend BNINV_INLINE VecInt operator>>(VecInt a, int n) {  // arithmetic
    return {a.v.low >> n, a.v.high >> n};
  }
};

struct Vec {
  FloatLanes v;
  BNINV_INLINE Vec() = default;
  BNINV_INLINE Vec(FloatHalf low, FloatHalf high) : v{low, high} {}
  BNINV_INLINE Vec(float value)
      : Vec(FloatHalf(vdupq_n_f32(value)), FloatHalf(vdupq_n_f32(value))) {}
  static BNINV_INLINE Vec zero() { return {FloatHalf{}, FloatHalf{}}; }
  static BNINV_INLINE Vec load(const float* p) {
    Vec a;
    memcpy(&a.v.low, p, sizeof(a.v.low));
    memcpy(&a.v.high, p + 4, sizeof(a.v.high));
    return a;
  }
  // The first `count` lanes, the others +0; nothing beyond them is read.
  static BNINV_INLINE Vec load_partial(const float* p, int64_t count) {
    float lanes[kWidth] = {};
    memcpy(lanes, p, static_cast<size_t>(count) * sizeof(float));
    return load(lanes);
  }
  BNINV_INLINE void store(float* p) const {
    memcpy(p, &v.low, sizeof(v.low));
    memcpy(p + 4, &v.high, sizeof(v.high));
  }
  BNINV_INLINE void store_partial(float* p, int64_t count) const {
    float lanes[kWidth];
    store(lanes);
    memcpy(p, lanes, static_cast<size_t>(count) * sizeof(float));
  }
  friend BNINV_INLINE Vec operator+(Vec a, Vec b) {
    return {a.v.low + b.v.low, a.v.high + b.v.high};
  }
  friend BNINV_INLINE Vec operator-(Vec a, Vec b) {
    return {a.v.low - b.v.low, a.v.high - b.v.high};
  }
  // Flips the sign, of zeros too.
  friend BNINV_INLINE Vec operator-(Vec a) { return {-a.v.low, -a.v.high}; }
  friend BNINV_INLINE Vec operator*(Vec a, Vec b) {
    return {a.v.low * b.v.low, a.v.high * b.v.high};
  }
  friend BNINV_INLINE Vec operator/(Vec a, Vec b) {
    return {a.v.low / b.v.low, a.v.high / b.v.high};
  }
  friend BNINV_INLINE VecInt operator>(Vec a, Vec b) {
    return {IntHalf(a.v.low > b.v.low), IntHalf(a.v.high > b.v.high)};
  }
  friend BNINV_INLINE VecInt operator>=(Vec a, Vec b) {
    return {IntHalf(a.v.low >= b.v.low), IntHalf(a.v.high >= b.v.high)};
  }
  friend BNINV_INLINE VecInt operator<(Vec a, Vec b) {
    return {IntHalf(a.v.low < b.v.low), IntHalf(a.v.high < b.v.high)};
  }
  friend BNINV_INLINE VecInt operator<=(Vec a, Vec b) {
    return {IntHalf(a.v.low <= b.v.low), IntHalf(a.v.high <= b.v.high)};
  }
  friend BNINV_INLINE VecInt operator==(Vec a, Vec b) {
    return {IntHalf(a.v.low == b.v.low), IntHalf(a.v.high == b.v.high)};
  }
  friend BNINV_INLINE VecInt operator!=(Vec a, Vec b) {
    return {IntHalf(a.v.low != b.v.low), IntHalf(a.v.high != b.v.high)};
  }
};

BNINV_INLINE VecInt to_bits(Vec a) { return {IntHalf(a.v.low), IntHalf(a.v.high)}; }
BNINV_INLINE Vec from_bits(VecInt bits) { return {FloatHalf(bits.v.low), FloatHalf(bits.v.high)}; }

// Bit by bit, which is lane by lane for a mask.
BNINV_INLINE FloatHalf select(IntHalf mask, FloatHalf a, FloatHalf b) {
  return FloatHalf(vbslq_f32(uint32x4_t(mask), float32x4_t(a), float32x4_t(b)));
}
BNINV_INLINE Vec select(VecInt condition, Vec a, Vec b) {
  return {select(condition.v.low, a.v.low, b.v.low), select(condition.v.high, a.v.high, b.v.high)};
}

BNINV_INLINE FloatHalf fma(FloatHalf a, FloatHalf b, FloatHalf c) {
  return FloatHalf(vfmaq_f32(float32x4_t(c), float32x4_t(a), float32x4_t(b)));
}
BNINV_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {fma(a.v.low, b.v.low, c.v.low), fma(a.v.high, b.v.high, c.v.high)};
}

BNINV_INLINE Vec sqrt(Vec a) {
  return {FloatHalf(vsqrtq_f32(float32x4_t(a.v.low))),
          FloatHalf(vsqrtq_f32(float32x4_t(a.v.high)))};
}

// Lane l of the result is lane lanes[l] of a, from 0 to 7: bytes are looked up in both registers.
BNINV_INLINE Vec permute(Vec a, VecInt lanes) {
  const uint8x16x2_t bytes = {{uint8x16_t(a.v.low), uint8x16_t(a.v.high)}};
  const VecInt first = lanes << 2;
  const VecInt each = first | (first << 8) | (first << 16) | (first << 24) | VecInt(0x03020100);
  return {FloatHalf(vqtbl2q_u8(bytes, uint8x16_t(each.v.low))),
          FloatHalf(vqtbl2q_u8(bytes, uint8x16_t(each.v.high)))};
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
