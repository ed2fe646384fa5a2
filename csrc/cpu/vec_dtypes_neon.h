// vec_dtypes.h's conversions for NEON.
#pragma once

#include "../types.h"
#include "vec_neon.h"

namespace bninv {
namespace BNINV_LEVEL {

// ---- float16: with FPCR at its default the conversions round to nearest even and keep subnormals,
// infinities and NaN; under its AHP bit there would be neither infinities nor NaN ------------------

BNINV_INLINE Vec widened_halves(float16x8_t a) {
  return {FloatHalf(vcvt_f32_f16(vget_low_f16(a))), FloatHalf(vcvt_high_f32_f16(a))};
}
BNINV_INLINE float16x8_t narrowed_to_half(Vec a) {
  return vcvt_high_f16_f32(vcvt_f16_f32(float32x4_t(a.v.low)), float32x4_t(a.v.high));
}

BNINV_INLINE Vec load(const Half* p) {
  uint16x8_t bits;
  memcpy(&bits, p, sizeof(bits));
  return widened_halves(vreinterpretq_f16_u16(bits));
}
BNINV_INLINE void store(Half* p, Vec a) {
  const uint16x8_t bits = vreinterpretq_u16_f16(narrowed_to_half(a));
  memcpy(p, &bits, sizeof(bits));
}
BNINV_INLINE Vec rounded_to_half(Vec a) { return widened_halves(narrowed_to_half(a)); }

// ---- bfloat16: by integers, as on every CPU ------------------------------------------------------

// Rounded; the result is the upper half of each lane, below it lies garbage. A NaN becomes the one of
// all ones: rounding could carry it into infinity or beyond.
BNINV_INLINE uint32x4_t rounded_upper_halves(FloatHalf a) {
  const uint32x4_t bits = uint32x4_t(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t sum = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
  return vornq_u32(sum, vceqq_f32(float32x4_t(a), float32x4_t(a)));
}

BNINV_INLINE Vec load(const BFloat16* p) {
  uint16x8_t bits;
  memcpy(&bits, p, sizeof(bits));
  return {FloatHalf(vshll_n_u16(vget_low_u16(bits), 16)), FloatHalf(vshll_high_n_u16(bits, 16))};
}
BNINV_INLINE void store(BFloat16* p, Vec a) {
  const uint16x4_t low = vshrn_n_u32(rounded_upper_halves(a.v.low), 16);
  const uint16x8_t bits = vshrn_high_n_u32(low, rounded_upper_halves(a.v.high), 16);
  memcpy(p, &bits, sizeof(bits));
}
BNINV_INLINE Vec rounded_to_bfloat16(Vec a) {
  const uint32x4_t upper = vdupq_n_u32(0xffff0000);
  return {FloatHalf(vandq_u32(rounded_upper_halves(a.v.low), upper)),
          FloatHalf(vandq_u32(rounded_upper_halves(a.v.high), upper))};
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
