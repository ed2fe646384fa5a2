// Stands in for CUDA's header of this name: binary16 as storage, without arithmetic.
#pragma once

#include "emulation/small_floats.h"

struct alignas(2) __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

inline float __half2float(__half a) { return bninv::emulation::half_to_float(a.bits); }
inline __half __float2half_rn(float a) { return {bninv::emulation::float_to_half(a)}; }
inline __half __float2half(float a) { return __float2half_rn(a); }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
