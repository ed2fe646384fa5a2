// Other rules beside the model's. Where the model is wrong they say which other one would fit; where
// it is right, that the draws could have told.
#pragma once

#include "mma.cuh"

namespace tensor_facts {

struct Rule {
  const char* name;
  int bits, floor, parts;  // as TensorClass has them
  bool terms_to_nearest, sum_to_nearest, signed_zeros;
};

constexpr int kRules = 10;
__constant__ Rule device_rules[kRules];

// The neighbours of a class, and the other class.
inline void list_rules(TensorClass own, Rule (&rules)[kRules]) {
  const bool h = own.group_parts == 1;
  const TensorClass other = h ? kTensorA : kTensorH;
  const int bits = own.fraction_bits, floor = own.floor, parts = own.group_parts;
  const Rule all[kRules] = {
      {"one bit fewer", bits - 1, floor, parts, false, false, false},
      {"one bit more", bits + 1, floor, parts, false, false, false},
      {"floor one lower", bits, floor - 1, parts, false, false, false},
      {"floor one higher", bits, floor + 1, parts, false, false, false},
      {h ? "two blocks" : "one block", bits, floor, 3 - parts, false, false, false},
      {h ? "class A" : "class H", other.fraction_bits, other.floor, other.group_parts, false, false,
       false},
      {"four blocks", bits, floor, 4, false, false, false},
      {"terms to nearest", bits, floor, parts, true, false, false},
      {"sum to nearest", bits, floor, parts, false, true, false},
      {"zeros with a sign", bits, floor, parts, false, false, true},
  };
  for (int i = 0; i < kRules; ++i) rules[i] = all[i];
}

// cut(), but to the nearest multiple.
__device__ inline int64_t cut_to_nearest(uint64_t magnitude, int exponent, int unit,
                                         bool negative) {
  const int64_t twice = cut(magnitude, exponent, unit - 1, negative);
  return (twice + (twice > 0) - (twice < 0)) / 2;
}

// pack_toward_zero(), but to the nearest, ties to even.
__device__ inline uint32_t pack_to_nearest(int64_t total, int unit) {
  if (total == 0) return 0;
  const int64_t size = total < 0 ? -total : total;
  const int lead = 63 - __clzll(size), down = max(lead - 23, -149 - unit);
  if (down <= 0 || down > 60) return pack_toward_zero(total, unit);
  const int64_t more = (int64_t{1} << (down - 1)) - 1 + (size >> down & 1);
  return pack_toward_zero(total < 0 ? total - more : total + more, unit);
}

template <typename Operand>
__device__ uint32_t block_by(const Rule& rule, const uint32_t* a, const uint32_t* b, int terms,
                             uint32_t c) {
  const uint32_t usual = tensor_block<Operand>(a, b, terms, c, rule.bits, rule.floor);
  const bool special = (usual & 0x7f800000) == 0x7f800000;
  if (special || !(rule.terms_to_nearest || rule.sum_to_nearest || rule.signed_zeros)) return usual;
  const Unpacked start = unpack<Binary32>(c);
  int top = start.significand != 0 ? max(start.exponent, rule.floor) : rule.floor;
  bool minus = start.negative && start.significand == 0;
  int64_t total = 0;
  for (int pass = 0; pass < 2; ++pass) {
    const int unit = top - rule.bits;
    const auto part = [&](uint64_t magnitude, int exponent, bool negative) {
      return rule.terms_to_nearest ? cut_to_nearest(magnitude, exponent, unit, negative)
                                   : cut(magnitude, exponent, unit, negative);
    };
    if (pass == 1) total = part(start.significand, start.exponent - 23, start.negative);
    for (int i = 0; i < terms; ++i) {
      const Unpacked x = unpack<Operand>(a[i]), y = unpack<Operand>(b[i]);
      const uint64_t product = static_cast<uint64_t>(x.significand) * y.significand;
      const bool negative = x.negative != y.negative;
      const int exponent = x.exponent + y.exponent;
      if (pass == 1) total += part(product, exponent - 2 * Operand::kFractionBits, negative);
      minus = minus && product == 0 && negative;
      if (pass == 0 && product != 0) top = max(top, exponent);
    }
  }
  const int unit = top - rule.bits;
  const uint32_t result =
      rule.sum_to_nearest ? pack_to_nearest(total, unit) : pack_toward_zero(total, unit);
  const bool signed_zero = rule.signed_zeros && result == 0 && (minus || total < 0);
  return signed_zero ? 0x80000000u : result;
}

// As tensor_multiply_add(), by a rule.
template <typename I>
__device__ uint32_t multiply_add_by(const Rule& rule, const uint32_t (&a)[I::kK],
                                    const uint32_t (&b)[I::kK], uint32_t c) {
  using Operand = typename I::Operand;
  const int size = min(I::kK, Operand::kGroup / rule.parts);
  for (int i = 0; i < I::kK; i += size) c = block_by<Operand>(rule, a + i, b + i, size, c);
  return c;
}

}  // namespace tensor_facts
