// R6: what binary32 and binary64 differ in, for expressions that are written once for both: V is a scalar
// of one of them or a vector of it.
#pragma once

#include <limits>
#include <type_traits>

#include "numerics.h"

namespace bninv {
namespace BNINV_LEVEL {

struct Format32 {
  using Scalar = float;
  using Bits = int32_t;
  static constexpr int kFraction = 23, kBias = 127;
  static constexpr Bits kMagnitude = INT32_MAX, kSign = INT32_MIN, kFractionMask = 0x007fffff;
  static constexpr float kLeastNormal = 0x1p-126f;
  // What makes a subnormal number normal, and its exponent.
  static constexpr float kFromSubnormal = 0x1p+23f, kFromSubnormalExponent = 23.0f;
  // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the sum.
  static constexpr float kRounder = 0x1.8p+23f;
  static constexpr Bits kRounderBits = 0x4b400000, kSqrtHalfBits = 0x3f3504f3;
  static constexpr float kLog2E = 0x1.715476p+0f;
  // ln 2 in two parts. The high one has 16 bits, so its product with an exponent is exact.
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  // exp is infinite above the first and +0 below the second.
  static constexpr float kGreatestExp = 89.0f, kLeastExp = -104.0f;
  static constexpr float kGreatestExp2 = 129.0f, kLeastExp2 = -151.0f;
  static constexpr float kExpm1IsMinusOne = -20.0f;
  static constexpr float kLn2 = 0x1.62e43p-1f, kLog2ELow = 0x1.4ae0cp-26f;
  static constexpr float kLog10E = 0x1.bcb7b2p-2f, kLog10ELow = -0x1.5b235ep-27f;
  static constexpr float kLog10Of2High = 0x1.344p-2f, kLog10Of2Low = 0x1.3509f8p-18f;
  // Exponentials that reach down to the subnormals carry this shift, so that their scale stays a
  // normal number from n = 0 to n = -158 and is +0 at -159, where all results are zero.
  static constexpr int kTailShift = 32;
  static constexpr float kTailUnshift = 0x1p-32f;
  // Arguments are kept above this. Here n is -159 and the fraction is negative, so x (1 + fraction)
  // does not overflow, and times the scale it is -0, or NaN at -infinity.
  static constexpr float kLeastExponent = -110.25f;
  static constexpr float kTanhIsOne = -20.0f;  // tanh rounds to 1 where -2 |x| is below
  static constexpr float kErfIsOne = 4.0f;     // erf rounds to 1 above
  // gelu: where its two expressions meet, its rational variable, and the least -|x|.
  static constexpr float kGeluBreak = -0.65f, kGeluPole = 2.5f, kGeluShift = 0.4375f;
  static constexpr float kGeluLeast = -14.8375f, kGeluTanhLeast = -10.92f;
  // gelu_tanh: 0.08943 sqrt(2 / pi) and 1 / 0.044715, each in two parts.
  static constexpr float kC = 0x1.2444f2p-4f, kCLow = 0x1.49b16ap-29f;
  static constexpr float kK = 0x1.65d2p+4f, kKLow = 0x1.7b767cp-14f;
};

// The same in binary64: 42 bits of ln 2, and scales that are +0 at n = -1087.
struct Format64 {
  using Scalar = double;
  using Bits = int64_t;
  static constexpr int kFraction = 52, kBias = 1023;
  static constexpr Bits kMagnitude = INT64_MAX, kSign = INT64_MIN;
  static constexpr Bits kFractionMask = 0x000fffffffffffff;
  static constexpr double kLeastNormal = 0x1p-1022;
  static constexpr double kFromSubnormal = 0x1p+52, kFromSubnormalExponent = 52.0;
  static constexpr double kRounder = 0x1.8p+52;
  static constexpr Bits kRounderBits = 0x4338000000000000, kSqrtHalfBits = 0x3fe6a09e667f3bcd;
  static constexpr double kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  static constexpr double kGreatestExp = 710.0, kLeastExp = -746.0;
  static constexpr double kGreatestExp2 = 1025.0, kLeastExp2 = -1076.0;
  static constexpr double kExpm1IsMinusOne = -40.0;
  static constexpr double kLn2 = 0x1.62e42fefa39efp-1, kLog2ELow = 0x1.777d0ffda0d24p-56;
  static constexpr double kLog10E = 0x1.bcb7b1526e50ep-2, kLog10ELow = 0x1.95355baaafad3p-57;
  static constexpr double kLog10Of2High = 0x1.34413509f8p-2, kLog10Of2Low = -0x1.80433b83b532ap-44;
  static constexpr int kTailShift = 64;
  static constexpr double kTailUnshift = 0x1p-64;
  static constexpr double kLeastExponent = -753.625;
  static constexpr double kTanhIsOne = -40.0;
  static constexpr double kErfIsOne = 6.0;
  static constexpr double kGeluBreak = -0.65, kGeluPole = 2.25, kGeluShift = 0.59375;
  static constexpr double kGeluLeast = -38.8125, kGeluTanhLeast = -21.6;
  static constexpr double kC = 0x1.2444f2a4d8b4bp-4, kCLow = -0x1.6c843a29d1c7p-61;
  static constexpr double kK = 0x1.65d25ep+4, kKLow = 0x1.bb3db03fa9e4dp-21;
};

template <typename V>
using FormatOf = std::conditional_t<kIsBinary64<V>, Format64, Format32>;
template <typename V>
using Scalar = typename FormatOf<V>::Scalar;

namespace detail {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A parameter of this type takes no part in the deduction of V, so it accepts a float as well.
template <typename V>
struct SameType {
  using Type = V;
};

template <typename V>
BNINV_INLINE V negative_abs(V x) {
  return from_bits(to_bits(x) | FormatOf<V>::kSign);
}

// magnitude >= 0 with the sign of x.
template <typename V>
BNINV_INLINE V with_sign_of(V magnitude, V x) {
  return from_bits(to_bits(magnitude) | (to_bits(x) & FormatOf<V>::kSign));
}

// max(x, floor) and min(x, ceiling) for a bound that is no zero; NaN stays.
template <typename V>
BNINV_INLINE V at_least(V x, Scalar<V> floor) {
  return select(x < V(floor), V(floor), x);
}
template <typename V>
BNINV_INLINE V at_most(V x, Scalar<V> ceiling) {
  return select(x > V(ceiling), V(ceiling), x);
}

// A chain of fma; the coefficient of the highest power comes first.
template <typename V, typename... Rest>
BNINV_INLINE V polynomial(V x, Scalar<V> first, Rest... rest) {
  V sum = V(first);
  ((sum = fma(sum, x, V(rest))), ...);
  return sum;
}

}  // namespace detail

}  // namespace BNINV_LEVEL
}  // namespace bninv
