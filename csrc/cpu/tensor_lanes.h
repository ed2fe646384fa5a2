// R9's block on vectors: the arithmetic of tensor_block.h for one output a lane.
//
// A finite operand is a float of one binade and an exponent of its own. A product's significands
// multiply exactly, 22 bits at most; times a power of two made of the exponents it counts units of the
// block's last place, and the conversion to an integer cuts it toward zero. So nothing is rounded, and
// nothing comes near the limits of binary32: no operand is out of reach but infinities and NaN, for
// which tensor_block.h is called.
//
// GCC's vector extension and nothing else, so that every level compiles this text: SSE2 and NEON, whose
// registers hold four, are levels of four lanes here.
#pragma once

#include "../tensor_block.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {

#if BNINV_VEC_WIDTH > 1 && !defined(BNINV_NEON)
constexpr int kTensorLanes = BNINV_VEC_WIDTH;
#else
constexpr int kTensorLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kTensorLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kTensorLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kTensorLanes * 4)));

template <typename V, typename T>
BNINV_INLINE V load_lanes(const T* p) {
  V lanes;
  memcpy(&lanes, p, sizeof(lanes));
  return lanes;
}
template <typename V, typename T>
BNINV_INLINE void store_lanes(T* p, V lanes) {
  memcpy(p, &lanes, sizeof(lanes));
}

BNINV_INLINE Ints larger(Ints a, Ints b) { return a > b ? a : b; }
BNINV_INLINE Ints cut_to_integers(Floats a) { return __builtin_convertvector(a, Ints); }
BNINV_INLINE Floats power_of_two(Ints n) { return Floats((n + 127) << 23); }  // of normal numbers

// The exponent of a zero: with any other's it stays below every top.
constexpr int kNoExponent = -10000;

// Operands apart: `significands` with their signs and exponents. What is not finite is unpacked as a
// zero; the mask of such lanes is returned.
template <typename Operand>
BNINV_INLINE Ints unpack_lanes(Words bits, float* significands, int32_t* exponents) {
  constexpr int kFraction = Operand::kFractionBits, kFields = (1 << Operand::kExponentBits) - 1;
  const Words fraction = bits & ((1u << kFraction) - 1);
  const Ints field = Ints(bits >> kFraction & kFields);
  const Words one = bits >> (kFraction + Operand::kExponentBits) << 31 | 0x3f800000u;
  const Floats normal = Floats(one | fraction << (23 - kFraction));
  const Ints not_finite = Ints(field == kFields);
  const Ints nothing = Ints((field | Ints(fraction)) == 0) | not_finite;
  const Floats finite = field == 0 ? normal - Floats(one) : normal;
  store_lanes(significands, nothing ? Floats{} : finite);
  store_lanes(exponents, nothing ? Ints{} + kNoExponent : larger(field, Ints{} + 1) - kFields / 2);
  return not_finite;
}

// What a block is, as constants.
template <typename Operand, bool kIsH>
struct TensorRule {
  static constexpr TensorClass kClass = kIsH ? kTensorH : kTensorA;
  static constexpr int kTerms = Operand::kGroup / kClass.group_parts;
  static constexpr int kFractionBits = kClass.fraction_bits, kFloor = kClass.floor;
};

// (low + high) * 2^-scale as binary32, cut toward zero. Their sum may need 33 bits: 16 products of
// nearly 4 * 2^25 and an accumulator of 2^26.
BNINV_INLINE Floats pack_lanes(Ints low, Ints high, Ints scale) {
  const Ints sum = Ints(Words(low) + Words(high));
  const Ints negative = ((low & high) | ((low ^ high) & sum)) >> 31;
  Words magnitude = Words((sum ^ negative)) - Words(negative);
  // To a multiple of the least subnormal, which is at most 2^9 units here.
  const Ints lost = larger(scale - 149, Ints{});
  magnitude &= Words(-cut_to_integers(power_of_two(lost)));
  // To 24 bits: without the first bit that does not fit, a conversion to nearest cuts.
  magnitude &= ~(magnitude >> 24);
  const Floats upper = __builtin_convertvector(Ints(magnitude >> 8), Floats);
  const Floats lower = __builtin_convertvector(Ints(magnitude & 255), Floats);
  const Ints half = scale >> 1;  // all of it may not be a number
  const Floats value = (upper * 256.0f + lower) * power_of_two(-half) * power_of_two(half - scale);
  return negative ? 0.0f - value : value;  // a zero is +0
}

// Adds one block of kTerms products to kRows vectors of accumulators. Operands of `a` are one a row and
// term, rows kSegment apart; those of `b` a vector a term.
template <typename Rule, int kRows>
BNINV_INLINE void block_lanes(const float* a, const int32_t* a_exponents, const float* b,
                              const int32_t* b_exponents, Floats (&sums)[kRows]) {
  constexpr int kTerms = Rule::kTerms;
  Ints top[kRows], offset[kRows], low[kRows], high[kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const Ints magnitude = Ints(sums[i]) & 0x7fffffff;
    const Ints exponent = larger(magnitude >> 23, Ints{} + 1) - 127;
    top[i] = magnitude == 0 ? Ints{} + Rule::kFloor : exponent;
  }
#pragma GCC unroll 16
  for (int k = 0; k < kTerms; ++k) {
    const Ints exponents = load_lanes<Ints>(b_exponents + k * kTensorLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
      top[i] = larger(top[i], exponents + a_exponents[i * kSegment + k]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    // An infinity, which finite products left, stays; its lane's integers do not matter.
    const Floats start = (Ints(sums[i]) & 0x7fffffff) == 0x7f800000 ? Floats{} : sums[i];
    const Ints scale = Rule::kFractionBits - top[i], half = scale >> 1;
    offset[i] = scale + 127;
    high[i] = cut_to_integers(start * power_of_two(half) * power_of_two(scale - half));
    low[i] = Ints{};
  }
#pragma GCC unroll 16
  for (int k = 0; k < kTerms; ++k) {
    const Ints exponents = load_lanes<Ints>(b_exponents + k * kTensorLanes);
    const Floats factors = load_lanes<Floats>(b + k * kTensorLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      // From 2^-27 down a product of less than 4 is less than one unit.
      const Ints place =
          larger(exponents + (offset[i] + a_exponents[i * kSegment + k]), Ints{} + 100);
      const Floats product = factors * a[i * kSegment + k] * Floats(place << 23);
      (k < kTerms / 2 ? low[i] : high[i]) += cut_to_integers(product);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const Floats sum = pack_lanes(low[i], high[i], offset[i] - 127);
    sums[i] = (Ints(sums[i]) & 0x7fffffff) == 0x7f800000 ? sums[i] : sum;
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
