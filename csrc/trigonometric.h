// R6, continued: sin, cos and tan, in binary64 for both formats.
#pragma once

#include "binary64.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace detail {

// pi/2 in three parts.
constexpr double kHalfPi = 0x1.921fb54442d18p+0, kHalfPiLow = 0x1.1a62633145c07p-54;
constexpr double kHalfPiLowest = -0x1.f1976b7ed8fbcp-110;
constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;
// From here on an argument is reduced by integers.
constexpr double kLargeAngle = 0x1p30;

BNINV_INLINE uint64_t high_product(uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
}

BNINV_INLINE int leading_zeros(uint64_t a) {
#if defined(__CUDA_ARCH__)
  return __clzll(static_cast<long long>(a));
#else
  return __builtin_clzll(a);
#endif
}

// {n, r, r_low} with |x| = n pi/2 + r + r_low for |x| >= 1, n modulo 4, by Payne and Hanek's method:
// the significand times those bits of 2/pi that matter modulo 4. Of the product 126 bits behind the
// point are kept; no double is nearer to a multiple of pi/2 than 2^-61. Anything for what is not finite.
BNINV_OUTLINE void reduce_large(double x, double (&reduced)[3]) {
  // 64 zeros and the first 1280 bits of 2/pi.
  static constexpr uint64_t kBits[] = {0x0000000000000000, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0,
                                       0xdb6295993c439041, 0xfe5163abdebbc561, 0xb7246e3a424dd2e0,
                                       0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484,
                                       0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b,
                                       0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7,
                                       0x4f463f669e5fea2d, 0x7527bac7ebe5f17b, 0x3d0739f78a5292ea,
                                       0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab, 0xf0cfbc209af4361d};
  const int64_t pattern = to_bits(x);
  const int64_t fraction = pattern & Format64::kFractionMask;
  const uint64_t significand = static_cast<uint64_t>(fraction | (int64_t{1} << 52));
  // x = significand * 2^exponent; the first bit wanted has the weight 2 after that scaling.
  const int exponent = static_cast<int>((pattern & INT64_MAX) >> 52) - 1075;
  const int first = exponent + 62, word = first / 64, shift = first % 64;
  const auto bits = [&](int i) {
    const uint64_t above = kBits[word + i] << shift;
    return shift == 0 ? above : above | (kBits[word + i + 1] >> (64 - shift));
  };
  // The upper 128 of the product's 192 bits.
  const uint64_t middle = bits(1);
  uint64_t low = significand * middle;
  const uint64_t carried = high_product(significand, bits(2));
  low += carried;
  uint64_t high = significand * bits(0) + high_product(significand, middle) + (low < carried);
  // To the nearest integer, and the distance from it.
  uint64_t quadrant = (high + (uint64_t{1} << 61)) >> 62;
  high -= quadrant << 62;
  bool negative = (high >> 63) != 0;
  if (negative) {
    low = 0 - low;
    high = ~high + (low == 0);
  }
  // Its leading 53 bits and the 53 behind them.
  const int zeros = leading_zeros(high | 1);
  if (zeros != 0) {
    high = (high << zeros) | (low >> (64 - zeros));
    low <<= zeros;
  }
  const double unit = from_bits(static_cast<int64_t>(1023 - 51 - zeros) << 52);
  const double a = static_cast<double>(static_cast<int64_t>(high >> 11)) * unit;
  const double b = static_cast<double>(static_cast<int64_t>(((high & 0x7ff) << 42) | (low >> 22))) *
                   (unit * 0x1p-53);
  const Pair<double> r = two_product(a, kHalfPi);
  const double r_low = r.low + fma(a, kHalfPiLow, b * kHalfPi);
  if (pattern < 0) {
    quadrant = (0 - quadrant) & 3;
    negative = !negative;
  }
  reduced[0] = static_cast<double>(static_cast<int64_t>(quadrant));
  reduced[1] = negative ? -r.high : r.high;
  reduced[2] = negative ? -r_low : r_low;
}

struct ReduceLarge {
  BNINV_INLINE void operator()(double x, double (&reduced)[3]) const { reduce_large(x, reduced); }
};

// sin and cos of the distance r + r_low from a multiple n of pi/2, each as a sum of two numbers.
template <typename D>
struct Angle {
  decltype(to_bits(D())) n;  // modulo 4
  Pair<D> sine, cosine;
};

template <typename D>
BNINV_INLINE Angle<D> angle(D x) {
  constexpr double kRounder = Format64::kRounder;
  // x - n pi/2 by Cody and Waite: the first difference is exact.
  D n = fma(x, D(kTwoOverPi), D(kRounder)) - D(kRounder);
  D first = fma(-n, D(kHalfPi), x);
  Pair<D> second = two_product(n, D(kHalfPiLow));
  Pair<D> difference = two_sum(first, D(-second.high));
  D rest = (difference.low - second.low) - n * D(kHalfPiLowest);
  Pair<D> r = fast_two_sum(difference.high, rest);
  D reduced[3] = {n, r.high, r.low};
  replace_where(abs(x) >= D(kLargeAngle), ReduceLarge{}, x, reduced);
  D high = reduced[1], low = reduced[2];

  D square = high * high;
  D sine_rest = fma(square * high,
                    polynomial(square, -0x1.ab17a79237a19p-41, 0x1.61217ec01749dp-33,
                               -0x1.ae64541266378p-26, 0x1.71de3a54605eep-19,
                               -0x1.a01a01a019936p-13, 0x1.1111111111110p-7, -0x1.5555555555555p-3),
                    low * fma(square, D(-0.5), D(1.0)));
  D half = square * D(0.5);
  D near = D(1.0) - half;
  D cosine_rest =
      ((D(1.0) - near) - half) +
      fma(square * square,
          polynomial(square, -0x1.907d7aebd5e3dp-37, 0x1.1eeb68b109173p-29, -0x1.27e4fa17a41b4p-22,
                     0x1.a01a019f4e867p-16, -0x1.6c16c16c16966p-10, 0x1.5555555555555p-5),
          -(high * low));
  return {to_bits(D(reduced[0] + D(kRounder))), fast_two_sum(high, sine_rest),
          fast_two_sum(near, cosine_rest)};
}

// `even` where n is, else `odd`: by patterns, which serve numbers and vectors alike.
template <typename Bits, typename D>
BNINV_INLINE D by_parity(Bits n, D even, D odd) {
  auto mask = (n & 1) - 1;
  return from_bits((to_bits(even) & mask) | (to_bits(odd) & ~mask));
}

// NaN of an infinity.
template <typename D>
BNINV_INLINE D of_finite(D x, D y) {
  return select(abs(x) < D(kInfinity), y, D(x - x));
}

struct Sin {
  template <typename D>
  BNINV_INLINE D operator()(D x) const {
    Angle<D> a = angle(x);
    D y = by_parity(a.n, a.sine.high, a.cosine.high);
    y = from_bits(to_bits(y) ^ ((a.n & 2) << 62));
    return of_finite(x, D(select(x == D(0.0), x, y)));
  }
};

struct Cos {
  template <typename D>
  BNINV_INLINE D operator()(D x) const {
    Angle<D> a = angle(x);
    D y = by_parity(a.n, a.cosine.high, a.sine.high);
    // Negative in the second and third quadrant.
    y = from_bits(to_bits(y) ^ (((a.n + 1) & 2) << 62));
    return of_finite(x, y);
  }
};

struct Tan {
  template <typename D>
  BNINV_INLINE D operator()(D x) const {
    Angle<D> a = angle(x);
    D over = by_parity(a.n, a.sine.high, -a.cosine.high);
    D over_low = by_parity(a.n, a.sine.low, -a.cosine.low);
    D under = by_parity(a.n, a.cosine.high, a.sine.high);
    D under_low = by_parity(a.n, a.cosine.low, a.sine.low);
    // The quotient, and what it leaves.
    D quotient = over / under;
    D rest = fma(-quotient, under, over) + fma(-quotient, under_low, over_low);
    D y = quotient + rest / under;
    return of_finite(x, D(select(x == D(0.0), x, y)));
  }
};

}  // namespace detail

template <typename V>
BNINV_INLINE V sin(V x) {
  return in_binary64(detail::Sin{}, x);
}

template <typename V>
BNINV_INLINE V cos(V x) {
  return in_binary64(detail::Cos{}, x);
}

template <typename V>
BNINV_INLINE V tan(V x) {
  return in_binary64(detail::Tan{}, x);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
