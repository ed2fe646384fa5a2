// binary16 and bfloat16 to binary32 and back, in integers: no instruction set is asked for them.
#pragma once

#include <bit>
#include <cstdint>

namespace bninv {
namespace emulation {

// `bits` without its last `count` bits, rounded to nearest even. A carry may run into the exponent,
// where it gives the next power of two or infinity, as it should.
constexpr uint32_t round_off(uint32_t bits, int count) {
  const uint32_t last = (bits >> count) & 1, half = (1u << (count - 1)) - 1;
  return (bits + half + last) >> count;
}

constexpr float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | (fraction << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 127 - 15) << 23) | (fraction << 13));
  // Subnormal, or zero: fraction * 2^-24 is exact.
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

constexpr uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;          // NaN, as the GPU writes it
  if (magnitude >= 0x47800000) return sign | 0x7c00;  // 2^16 and more
  if (magnitude < 0x33000000) return sign;            // less than half of 2^-24
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  if (exponent >= -14)  // from 65520 on the carry gives infinity
    return sign | static_cast<uint16_t>(round_off(magnitude - ((127 - 15) << 23), 13));
  const uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  return sign | static_cast<uint16_t>(round_off(significand, -1 - exponent));
}

constexpr float bfloat16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

constexpr uint16_t float_to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return static_cast<uint16_t>((bits & 0x80000000) >> 16 | round_off(bits & 0x7fffffff, 16));
}

}  // namespace emulation
}  // namespace bninv
