// R9: what a tensor core computes, in integers, once for the host and the device.
//
// One block adds the products a[i] * b[i] of a few terms to an accumulator c:
//   1. every product is exact and has the exponent e_a + e_b; it is not normalised. A subnormal
//      operand counts with the smallest normal exponent, and keeps its value.
//   2. top is the greatest exponent among the nonzero products and c, and at least `floor`.
//   3. each product and c is cut toward zero to a multiple of 2^(top - fraction_bits).
//   4. these are added exactly, so their order is nothing, and the sum is cut toward zero to
//      binary32, subnormals kept. What is zero then is +0, whatever the signs of the terms.
// GPUs differ in how many bits stay below the top and in how many terms make a block: two classes.
//
// The model is of measured behaviour, not of documents: Khattak and Mikaitis, "Accurate models of
// NVIDIA tensor cores" (arXiv 2512.07004), and MMA-Sim (arXiv 2511.10909), which differ in `floor`.
// tests/gpu/tensor_facts asks the hardware; an H100 agrees with class H in every bit.
//
// Floating-point operations would need an environment (rounding, flushing of subnormals); integers
// need none.
#pragma once

#include <cstdint>

#include "numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

// An operand is a bit pattern: sign, exponent, fraction, as IEEE 754 has them. kGroup: the terms of
// R9's group, as many as the widest instruction takes at once.
struct HalfOperand {
  static constexpr int kExponentBits = 5, kFractionBits = 10, kGroup = 16;
};
struct BFloat16Operand {
  static constexpr int kExponentBits = 8, kFractionBits = 7, kGroup = 16;
};
// The upper 19 bits of a binary32. Hardware does not look at the other 13.
struct Tf32Operand {
  static constexpr int kExponentBits = 8, kFractionBits = 10, kGroup = 8;
};
struct Binary32 {
  static constexpr int kExponentBits = 8, kFractionBits = 23;
};

struct TensorClass {
  int fraction_bits;  // kept below the greatest exponent
  int floor;          // of the greatest exponent
  int group_parts;    // blocks that a group of kGroup terms is cut into
};
constexpr TensorClass kTensorA{24, -132, 2};  // 8.0, 8.6, 8.9; 7.5 for float16
constexpr TensorClass kTensorH{25, -133, 1};  // 9.0, 10.0, 12.0

constexpr int kMaxBlock = 16;
constexpr uint32_t kTensorNan = 0x7fffffff;  // the one NaN that tensor cores give

// (-1)^negative * significand * 2^(exponent - kFractionBits), or not finite.
struct Unpacked {
  uint32_t significand;
  int exponent;
  bool negative, infinite, nan;
};

template <typename Format>
BNINV_INLINE Unpacked unpack(uint32_t bits) {
  constexpr int kFraction = Format::kFractionBits, kExponents = (1 << Format::kExponentBits) - 1;
  const uint32_t fraction = bits & ((1u << kFraction) - 1);
  const int field = static_cast<int>(bits >> kFraction) & kExponents;
  Unpacked x;
  x.significand = field == 0 ? fraction : fraction | 1u << kFraction;
  x.exponent = (field == 0 ? 1 : field) - kExponents / 2;
  x.negative = bits >> (kFraction + Format::kExponentBits) & 1;
  x.infinite = field == kExponents && fraction == 0;
  x.nan = field == kExponents && fraction != 0;
  return x;
}

// magnitude * 2^exponent as a multiple of 2^unit, cut toward zero.
BNINV_INLINE int64_t cut(uint64_t magnitude, int exponent, int unit, bool negative) {
  if (magnitude == 0) return 0;  // whose exponent may be above the top
  const int left = exponent - unit;
  const uint64_t kept = left >= 0 ? magnitude << left : left > -64 ? magnitude >> -left : 0;
  return negative ? -static_cast<int64_t>(kept) : static_cast<int64_t>(kept);
}

// total * 2^unit as binary32, cut toward zero; too large: an infinity; zero: +0.
BNINV_INLINE uint32_t pack_toward_zero(int64_t total, int unit) {
  const uint32_t sign = total < 0 ? 0x80000000u : 0;
  uint64_t magnitude = static_cast<uint64_t>(total < 0 ? -total : total);
  int lead = 0;
  for (int step = 32; step > 0; step /= 2) {
    if (magnitude >> lead >> step != 0) lead += step;
  }
  const int ulp = lead + unit - 23 > -149 ? lead + unit - 23 : -149;
  const int left = unit - ulp;
  magnitude = left >= 0 ? magnitude << left : left > -64 ? magnitude >> -left : 0;
  if (magnitude == 0) return 0;
  // A subnormal's magnitude is its pattern; a normal one's leading bit adds one to the exponent.
  if (ulp + 150 > 254) return sign | 0x7f800000u;
  return sign | ((static_cast<uint32_t>(ulp + 149) << 23) + static_cast<uint32_t>(magnitude));
}

// c + a[0] * b[0] + ... in one block of at most kMaxBlock terms. c and the result are patterns of
// binary32.
template <typename Operand>
BNINV_INLINE uint32_t tensor_block(const uint32_t* a, const uint32_t* b, int terms, uint32_t c,
                                   int fraction_bits, int floor) {
  const Unpacked start = unpack<Binary32>(c);
  bool nan = start.nan;
  bool positive = start.infinite && !start.negative, negative = start.infinite && start.negative;
  int top = start.significand != 0 && start.exponent > floor ? start.exponent : floor;
  for (int i = 0; i < terms; ++i) {
    const Unpacked x = unpack<Operand>(a[i]), y = unpack<Operand>(b[i]);
    const bool infinite = x.infinite || y.infinite, sign = x.negative != y.negative;
    const bool zero = x.significand == 0 || y.significand == 0;
    nan = nan || x.nan || y.nan || (infinite && zero);
    positive = positive || (infinite && !sign);
    negative = negative || (infinite && sign);
    const int exponent = x.exponent + y.exponent;
    if (!zero && exponent > top) top = exponent;
  }
  if (nan || (positive && negative)) return kTensorNan;
  if (positive || negative) return positive ? 0x7f800000u : 0xff800000u;
  const int unit = top - fraction_bits;
  int64_t total = cut(start.significand, start.exponent - 23, unit, start.negative);
  for (int i = 0; i < terms; ++i) {
    const Unpacked x = unpack<Operand>(a[i]), y = unpack<Operand>(b[i]);
    const uint64_t product = static_cast<uint64_t>(x.significand) * y.significand;
    const int exponent = x.exponent + y.exponent - 2 * Operand::kFractionBits;
    total += cut(product, exponent, unit, x.negative != y.negative);
  }
  return pack_toward_zero(total, unit);
}

// `terms` terms, kGroup or fewer, as one instruction takes them: low terms first.
template <typename Operand>
BNINV_INLINE uint32_t tensor_multiply_add(const uint32_t* a, const uint32_t* b, int terms,
                                          uint32_t c, TensorClass rule) {
  const int block = Operand::kGroup / rule.group_parts;
  for (int i = 0; i < terms; i += block) {
    const int n = terms - i < block ? terms - i : block;
    c = tensor_block<Operand>(a + i, b + i, n, c, rule.fraction_bits, rule.floor);
  }
  return c;
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
