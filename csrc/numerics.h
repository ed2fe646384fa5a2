// The contract's scalar arithmetic, once, for every backend.
//
// Everything here is written over a type V that is either `float` or a SIMD vector of floats with the
// same operators (csrc/cpu/vec.h): each function is one fixed expression of IEEE-754 binary32
// operations, so a vector lane, a scalar tail and a CUDA thread give the same bits. docs/numerics.md
// states each expression; changing one means a new CONTRACT_VERSION.
//
// Translation units that include this header are compiled without contraction (-ffp-contract=off,
// --fmad=false): a product and a sum are fused only where `fma` is written.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define BNINV_INLINE __host__ __device__ __forceinline__
#elif defined(BNINV_EMULATED_VECTORS)
#define BNINV_INLINE inline  // every lane in a loop of its own: code would grow beyond reason
#else
#define BNINV_INLINE inline __attribute__((always_inline))
#endif

// Kernels are compiled once per instruction-set level; a namespace of its own for each keeps the
// linker from sharing a function compiled for one level with code that runs on a lesser machine.
#if !defined(BNINV_LEVEL)
#if defined(__CUDACC__)
#define BNINV_LEVEL cuda
#else
#define BNINV_LEVEL common
#endif
#endif

namespace bninv {
namespace BNINV_LEVEL {

// R1: terms in one fma chain. R3: terms in one 32-lane sum.
constexpr int64_t kSegment = 128;
constexpr int64_t kSumLanes = 32;
constexpr int64_t kSumSegment = 4096;

// ---- Primitives for V = float and double; vec.h overloads them for vectors of floats. ------------

// BNINV_MARK_FMA is for looking at PTX: an fma without the mark is one that the compiler fused.

BNINV_INLINE float fma(float a, float b, float c) {
#if defined(__CUDA_ARCH__) && defined(BNINV_MARK_FMA)
  float result;
  asm("fma.rn.f32 %0, %1, %2, %3;  // written" : "=f"(result) : "f"(a), "f"(b), "f"(c));
  return result;
#elif defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

BNINV_INLINE float sqrt(float a) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}

BNINV_INLINE double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__) && defined(BNINV_MARK_FMA)
  double result;
  asm("fma.rn.f64 %0, %1, %2, %3;  // written" : "=d"(result) : "d"(a), "d"(b), "d"(c));
  return result;
#elif defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

BNINV_INLINE double sqrt(double a) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(a);
#else
  return __builtin_sqrt(a);
#endif
}

BNINV_INLINE int32_t to_bits(float a) {
  int32_t bits;
  memcpy(&bits, &a, sizeof(bits));
  return bits;
}

BNINV_INLINE float from_bits(int32_t bits) {
  float a;
  memcpy(&a, &bits, sizeof(a));
  return a;
}

BNINV_INLINE int64_t to_bits(double a) {
  int64_t bits;
  memcpy(&bits, &a, sizeof(bits));
  return bits;
}

BNINV_INLINE double from_bits(int64_t bits) {
  double a;
  memcpy(&a, &bits, sizeof(a));
  return a;
}

// A choice between two values already computed; lanes not chosen never trap or signal.
BNINV_INLINE float select(bool condition, float a, float b) { return condition ? a : b; }
BNINV_INLINE double select(bool condition, double a, double b) { return condition ? a : b; }

// Whether V is binary64 or a vector of it.
template <typename V>
inline constexpr bool kIsBinary64 = false;
template <>
inline constexpr bool kIsBinary64<double> = true;

template <typename V>
BNINV_INLINE V abs(V a) {
  if constexpr (kIsBinary64<V>)
    return from_bits(to_bits(a) & INT64_MAX);
  else
    return from_bits(to_bits(a) & INT32_MAX);
}

// ---- R0: comparisons -----------------------------------------------------------------------------

// NaN wins, +0 is greater than -0: the order of the operands cannot be told from the result.
// Where the values compare equal they are either the same bits or zeros, and `and` of two zeros'
// bits has a sign only if both have.
template <typename V>
BNINV_INLINE V maximum(V a, V b) {
  V larger = select(a > b, a, select(a == b, from_bits(to_bits(a) & to_bits(b)), b));
  return select(a != a, a, larger);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
