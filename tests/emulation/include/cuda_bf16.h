// Stands in for CUDA's header of this name: bfloat16 as storage, without arithmetic.
#pragma once

#include "emulation/small_floats.h"

struct alignas(2) __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 a) {
  return bninv::emulation::bfloat16_to_float(a.bits);
}
inline __nv_bfloat16 __float2bfloat16_rn(float a) {
  return {bninv::emulation::float_to_bfloat16(a)};
}
inline __nv_bfloat16 __float2bfloat16(float a) { return __float2bfloat16_rn(a); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.bits; }
