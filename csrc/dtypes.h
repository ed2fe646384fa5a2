// The types tensors are stored in, and how an element is widened to the arithmetic type and rounded
// back to it (docs/numerics.md, R0).
#pragma once

#include <cstdint>
#include <cstring>

#include "numerics.h"
#include "types.h"

#if defined(__CUDACC__)
#include "cuda/half.cuh"
#endif

// The levels above the baseline have F16C, whose conversions keep subnormals whatever the control
// register says.
#if defined(__x86_64__) && !defined(BNINV_EMULATED_VECTORS) && defined(BNINV_VEC_WIDTH)
#if BNINV_VEC_WIDTH > 1
#define BNINV_F16C
#include <immintrin.h>
#endif
#endif

namespace bninv {

namespace BNINV_LEVEL {

template <typename T>
struct ArithmeticType {
  using Type = float;
};
template <>
struct ArithmeticType<double> {
  using Type = double;
};
template <typename T>
using Arithmetic = typename ArithmeticType<T>::Type;

// ---- Widening: exact -----------------------------------------------------------------------------

BNINV_INLINE float widen(float x) { return x; }
BNINV_INLINE double widen(double x) { return x; }

BNINV_INLINE float widen(BFloat16 x) {
  return from_bits(static_cast<int32_t>(static_cast<uint32_t>(x.bits) << 16));
}

BNINV_INLINE float widen(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#elif defined(BNINV_F16C)
  return _cvtsh_ss(x.bits);
#else
  const int32_t magnitude = x.bits & 0x7fff;
  const int32_t sign = static_cast<int32_t>(static_cast<uint32_t>(x.bits & 0x8000) << 16);
  // A subnormal is a count of 2^-24; infinity and NaN have the greatest exponent in either format.
  const int32_t subnormal = to_bits(static_cast<float>(magnitude) * 0x1p-24f);
  const int32_t bias = magnitude >= 0x7c00 ? 0x70000000 : 0x38000000;
  const int32_t normal = (magnitude << 13) + bias;
  return from_bits(sign | (magnitude < 0x400 ? subnormal : normal));
#endif
}

// ---- Rounding once, to nearest even --------------------------------------------------------------

template <typename T>
struct Narrow {
  static BNINV_INLINE T from(T x) { return x; }
};

template <>
struct Narrow<BFloat16> {
  static BNINV_INLINE BFloat16 from(float x) {
#if defined(__CUDA_ARCH__)
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    // By integers: conversion instructions of some CPUs flush subnormals. A NaN stays one.
    const uint32_t bits = static_cast<uint32_t>(to_bits(x));
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40;
    return {static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : rounded)};
#endif
  }
};

template <>
struct Narrow<Half> {
  static BNINV_INLINE Half from(float x) {
#if defined(__CUDA_ARCH__)
    return {__half_as_ushort(__float2half_rn(x))};
#elif defined(BNINV_F16C)
    return {_cvtss_sh(x, 0)};
#else
    const uint32_t bits = static_cast<uint32_t>(to_bits(x));
    const uint32_t sign = (bits >> 16) & 0x8000;
    const uint32_t magnitude = bits & 0x7fffffff;
    // The last place of 1/2 is 2^-24, as that of the subnormal halves: adding it rounds there.
    const uint32_t subnormal =
        static_cast<uint32_t>(to_bits(from_bits(static_cast<int32_t>(magnitude)) + 0.5f)) -
        0x3f000000;
    const uint32_t normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
    if (magnitude >= 0x477ff000) result = 0x7c00;  // 65520 and more round to infinity
    if (magnitude > 0x7f800000) result = 0x7e00;
    return {static_cast<uint16_t>(sign | result)};
#endif
  }
};

template <typename T>
BNINV_INLINE T narrow(Arithmetic<T> x) {
  return Narrow<T>::from(x);
}

// The value an operator would store and the next one load: fused chains round here (contract, Fusion).
template <typename T>
BNINV_INLINE Arithmetic<T> rounded(Arithmetic<T> x) {
  return widen(narrow<T>(x));
}

// Element i of a parameter of an operator over T: its own dtype is T or, beside a narrower T, binary32.
template <typename T>
BNINV_INLINE Arithmetic<T> element(const void* data, DType dtype, int64_t i) {
  if constexpr (sizeof(T) < sizeof(float))
    if (dtype == DType::kFloat) return static_cast<const float*>(data)[i];
  return widen(static_cast<const T*>(data)[i]);
}

// Calls `body` with a value whose ::Type is the storage type.
template <typename T>
struct TypeConstant {
  using Type = T;
};

template <typename Body>
void with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat:
      return body(TypeConstant<float>{});
    case DType::kDouble:
      return body(TypeConstant<double>{});
    case DType::kHalf:
      return body(TypeConstant<Half>{});
    case DType::kBFloat16:
      return body(TypeConstant<BFloat16>{});
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
