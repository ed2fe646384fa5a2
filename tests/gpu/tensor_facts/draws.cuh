// Operands that are hard for a tensor core: tiles drawn on the device, category by category.
#pragma once

#include "mma.cuh"

namespace tensor_facts {

constexpr int kTiles = 16384;  // 2,097,152 outputs
constexpr int kShare = 4;      // tiles with the same B, as wgmma's 64 rows have

enum Category {
  kIntegers,  // exact whatever the arithmetic: shows that fragments are where they should be
  kNormal,
  kWide,
  kGap,
  kCancel,
  kSubnormal,
  kTiny,
  kFloor,  // a power of two and a little less: shows the last bit that counts
  kOverflow,
  kSpecial,
  kZeros,
  kBits,
  kSparse,
  kCarry,
  kPositive,
  kLowBits,  // tf32: the 13 bits that are not looked at
  kLowNan,   // tf32: NaN by those 13 bits only
  kCategories
};
const char* const kCategoryNames[] = {
    "integers", "normal", "wide", "gap",    "cancel", "subnormal", "tiny",     "floor",  "overflow",
    "special",  "zeros",  "bits", "sparse", "carry",  "positive",  "low_bits", "low_nan"};

__host__ __device__ inline uint64_t mix(uint64_t x) {
  x ^= x >> 33, x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33, x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ x >> 33;
}
__device__ inline uint64_t draw(int stream, int category, uint64_t a, uint64_t b) {
  return mix(mix(mix(static_cast<uint64_t>(stream) * 1000 + category + 0x9e3779b97f4a7c15ULL) ^ a) +
             b * 0xd1342543de82ef95ULL);
}
__device__ inline int below(uint64_t bits, int n) {
  return static_cast<int>(static_cast<uint32_t>(bits >> 32) % static_cast<uint32_t>(n));
}

// A number with a given exponent, subnormal or the greatest finite one where that is out of range.
template <typename Format>
__device__ uint32_t make(bool negative, int exponent, uint32_t fraction) {
  constexpr int kF = Format::kFractionBits, kBias = (1 << (Format::kExponentBits - 1)) - 1;
  fraction &= (1u << kF) - 1;
  uint32_t x;
  if (exponent > kBias) {
    x = static_cast<uint32_t>(2 * kBias + 1) << kF | ((1u << kF) - 1);
    x -= 1u << kF;
  } else if (exponent >= 1 - kBias) {
    x = static_cast<uint32_t>(exponent + kBias) << kF | fraction;
  } else {
    const int down = 1 - kBias - exponent;
    x = down > kF ? 1 : (1u << kF | fraction) >> down;
  }
  return x | static_cast<uint32_t>(negative) << (kF + Format::kExponentBits);
}

// Fractions: any, all ones, zero, few bits.
__device__ uint32_t fraction_of(uint64_t h, int mode) {
  const uint32_t any = static_cast<uint32_t>(h >> 8);
  if (mode == 1) return 0xffffffffu;
  if (mode == 2) return 0;
  if (mode == 3) return (h & 1) != 0 ? 0xffffffffu : any;
  return any;
}

template <typename Format>
__device__ uint32_t special_value(uint64_t h, int mode) {
  constexpr int kF = Format::kFractionBits;
  const uint32_t sign = static_cast<uint32_t>(h & 1) << (kF + Format::kExponentBits);
  const uint32_t infinity = ((1u << Format::kExponentBits) - 1) << kF;
  const uint32_t payload = 1 + static_cast<uint32_t>(h >> 16) % ((1u << kF) - 1);
  switch (mode == 0 ? 0 : mode == 1 ? 1 : mode == 2 ? 2 * below(h, 2) : below(h, 6)) {
    case 0:
      return sign | infinity;
    case 1:
      return sign | infinity | payload;  // quiet and signalling
    case 2:
      return sign;
    case 3:
      return sign | (infinity - 1);  // greatest finite
    case 4:
      return sign | 1;  // smallest subnormal
    default:
      return sign | 1u << kF;  // smallest normal
  }
}

// An operand before its low bits. `side` 0: A, `row` its row; 1: B, `row` its column.
template <typename I>
__device__ uint32_t draw_operand(int category, int side, int tile, int row, int k) {
  using F = typename I::Operand;
  constexpr bool kHalf = std::is_same<F, HalfOperand>::value;
  constexpr int kBias = (1 << (F::kExponentBits - 1)) - 1, kLeast = 1 - kBias;
  constexpr int kSign = F::kFractionBits + F::kExponentBits;
  const int group = tile / kShare;
  const uint64_t p = draw(2, category, group, 0);      // of the whole group
  const uint64_t q = draw(3, category, group, k + 1);  // of both factors of a product
  const uint64_t h = draw(side, category, side == 0 ? tile : group, row * 16 + k);
  const int mode = below(mix(p + 1), 8);
  const int fractions = below(mix(p + 2), 6);  // 0, 4, 5: any
  const bool negative = (h >> 5 & 1) != 0;
  const auto number = [&](int exponent) {
    return make<F>(negative, exponent, fraction_of(h, fractions));
  };
  switch (category) {
    case kIntegers: {
      const int value = below(h, 16);
      if (value == 0) return 0;
      const int lead = 31 - __clz(value);
      const uint32_t fraction = static_cast<uint32_t>(value) << F::kFractionBits >> lead;
      return make<F>(negative, lead, fraction);
    }
    case kWide: {
      const int widths[] = {1, 2, 4, 8, 12, 14, 40, 60};
      const int width = kHalf && widths[mode] > 14 ? 14 : widths[mode];
      return number(below(mix(h), 2 * width + 1) - width);
    }
    case kGap: {  // one product, or two, at the top; the others 20 to 30 below
      const int first = below(p, I::kK), base = 20 + below(mix(p + 3), 9);
      const int shift = kHalf ? 0 : below(mix(p + 4), 80) - 40;
      const int gap = base + below(q, 4) - 1 - (mode == 7 ? below(h, 3) : 0);
      const bool top = k == first || (mode == 6 && k == (first + 1) % I::kK);
      return number(15 + shift - (top ? 0 : side == 0 ? gap / 2 : gap - gap / 2));
    }
    case kCancel: {  // neighbours cancel; one pair is off by a little
      const int pair = k / 2 * 2, odd = k & 1, off = below(p, I::kK / 2) * 2;
      const uint64_t same = draw(side, category, side == 0 ? tile : group, row * 16 + pair);
      const uint64_t s = mode < 5 ? same : h;
      const int width = mode % 3 == 0 ? 2 : mode % 3 == 1 ? 6 : 12;
      int exponent = below(mix(s), 2 * width + 1) - width;
      const bool small = mode < 5 && pair == off && (p >> 60) != 0;
      if (small) exponent -= side == 0 ? below(mix(p + 5), 9) : below(mix(p + 6), 9);
      uint32_t fraction = fraction_of(s, fractions);
      if (small && odd && side == 0 && (p >> 59 & 1) != 0) fraction ^= 1;
      const bool flip = mode < 5 && odd && side == 1 && !(small && (p >> 58 & 1) != 0);
      return make<F>(((s >> 5 & 1) != 0) != flip, exponent, fraction);
    }
    case kSubnormal: {
      if ((h & 1) != 0 || mode == 0) {
        const uint32_t fraction = fraction_of(h, fractions == 2 ? 0 : fractions);
        const uint32_t cut_off = (1u << F::kFractionBits) - 1;
        const int zeros = below(mix(h + 1), 3) == 0 ? below(mix(h), F::kFractionBits) : 0;
        return (fraction & cut_off) >> zeros | static_cast<uint32_t>(negative) << kSign;
      }
      if (kHalf) return number(kLeast + below(mix(h), mode < 4 ? 30 : 4));
      const int low[] = {0, 100, 108, 116, kLeast, -20, 90, 60};
      return number(low[mode] + below(mix(h), mode == 4 ? 30 : 12));
    }
    case kTiny: {
      if (kHalf) return number(-24 + below(mix(h), 14));
      const int target = -112 - below(p, 60);  // of the products
      const int spread = mode % 4 == 0 ? 1 : mode % 4 == 1 ? 3 : 12;
      const int middle = side == 0 ? target / 2 : target - target / 2;
      const uint32_t fraction = fraction_of(h, fractions);
      if (mode == 7) {  // two that cancel hold the top up
        if (k < 2) return make<F>(side == 1 && k == 1, middle + 14, 0);
      }
      return make<F>(negative && mode >= 3, middle + below(mix(h), spread), fraction);
    }
    case kFloor: {
      if (kHalf) return number(-24 + below(mix(h), 4));
      const int top = -126 - below(mix(p + 3), 24), low = -148 - below(mix(p + 4), 32);
      const bool minus = (mode & 1) != 0 && side == 0;
      if (k == below(p, I::kK)) {
        const uint32_t fraction = mode < 5 ? 0 : fraction_of(h, 3);
        return make<F>(minus, side == 0 ? top / 2 : top - top / 2, fraction);
      }
      if (side == 0 && below(q, 4) > mode % 4) return 0;
      const bool opposite = mode < 6 ? side == 0 && !minus : negative;
      const int exponent = (side == 0 ? low / 2 : low - low / 2) + below(mix(h), 1 + mode / 3);
      return make<F>(opposite, exponent, mode < 3 ? 0 : fraction_of(h, 0));
    }
    case kOverflow: {
      if (kHalf) return number(10 + below(mix(h), 6));
      if (mode >= 6) {  // each product is far too large, but neighbours cancel
        const int pair = k / 2 * 2;
        const uint64_t s = draw(side, category, side == 0 ? tile : group, row * 16 + pair);
        const bool flip = side == 1 && (k & 1) != 0 && (mode == 6 || pair != 0);
        return make<F>(((s >> 5 & 1) != 0) != flip, 100 + below(mix(s), 28),
                       fraction_of(s, fractions));
      }
      const int target = 118 + below(p, 12);
      const int exponent = (side == 0 ? target / 2 : target - target / 2) + below(mix(h), 2);
      return make<F>(negative && mode >= 3, exponent, fraction_of(h, fractions));
    }
    case kSpecial: {
      const int rare[] = {64, 48, 32, 16, 64, 48, 24, 8};
      if (below(mix(h + 1), rare[mode]) == 0) return special_value<F>(mix(h + 2), mode % 4);
      return number(below(mix(h), 9) - 4);
    }
    case kZeros: {
      const uint32_t sign = 1u << kSign, any = number(below(mix(h), 9) - 4), positive = any & ~sign;
      const uint32_t zero = negative ? sign : 0;
      switch (mode) {
        case 0:
          return side == 0 ? zero : any;
        case 1:
          return side == 0 ? positive : sign;  // every product is -0
        case 2:
          return side == 0 ? positive : 0;
        case 3:
          return zero;
        case 4:
          return side == 0 && below(mix(h + 1), 4) != 0 ? zero : any;
        case 5:  // zero times huge beside moderate: does a zero have an exponent?
        case 6:
          if ((k & 1) == 0) return (side == 0) == ((q & 1) != 0) ? zero : make<F>(negative, 200, 0);
          return number((mode == 5 ? -2 : kHalf ? -6 : -40) - below(mix(h), 6));
        default: {
          const uint64_t s = draw(side, category, side == 0 ? tile : group, row * 16 + k / 2 * 2);
          const bool flip = side == 1 && (k & 1) != 0;
          return make<F>(((s >> 5 & 1) != 0) != flip, below(mix(s), 9) - 4, fraction_of(s, 0));
        }
      }
    }
    case kBits: {
      uint32_t x = static_cast<uint32_t>(h >> 20) & ((2u << kSign) - 1);
      const uint32_t field = ((1u << F::kExponentBits) - 1) << F::kFractionBits;
      if ((x & field) == field) x ^= 1u << F::kFractionBits;
      return x;
    }
    case kSparse:
      if (below(q, 8) > 1 && side == 0) return negative ? 1u << kSign : 0;
      return number(below(mix(h), kHalf ? 27 : 41) - (kHalf ? 13 : 20));
    case kCarry: {
      const bool sign = side == 0 && (mode & 1) != 0;
      const int spread = mode < 4 ? 1 : 2;
      return make<F>(sign, below(mix(h), spread), mode % 4 == 3 ? fraction_of(h, 0) : 0xffffffffu);
    }
    case kPositive: {
      if (side == 0 && (h & 1) != 0) return 0;
      const int geometric = __clz(static_cast<int>(mix(h) >> 33 | 1)) - 1;
      return make<F>(side == 1 && negative, 1 - (geometric < 10 ? geometric : 10),
                     fraction_of(h, 0));
    }
    case kLowBits:
      if (mode == 7) return make<F>(negative, 127 - below(mix(h), 80), 0xffffffffu);
      if (mode == 6) return static_cast<uint32_t>(negative) << kSign | below(mix(h), 3);
      return make<F>(negative, below(mix(h), mode < 3 ? 5 : 41) - (mode < 3 ? 2 : 20),
                     fraction_of(h, fractions));
    case kLowNan:
      if (below(mix(h + 1), 16) == 0) return special_value<F>(mix(h), 0);
      return number(below(mix(h), 9) - 4);
    default: {  // kNormal: exponents about as a normal distribution has them
      const int geometric = __clz(static_cast<int>(mix(h) >> 33 | 1)) - 1;
      return make<F>(negative, 1 - (geometric < 10 ? geometric : 10), fraction_of(h, 0));
    }
  }
}

template <typename I>
__device__ uint32_t draw_pattern(int category, int side, int tile, int row, int k) {
  uint32_t x = draw_operand<I>(category, side, tile, row, k);
  if (!I::kTf32) return x;
  x <<= 13;
  if (category == kLowBits || category == kLowNan) {
    const uint64_t h = draw(side + 10, category, side == 0 ? tile : tile / kShare, row * 16 + k);
    const bool nan = (x & 0x7fffffff) == 0x7f800000;
    if (category == kLowBits || nan) {
      x |= (h >> 50) == 0 ? 0x1fff : (h >> 49 & 1) != 0 ? 0x1000 : h >> 20 & 0x1fff;
    }
    if (nan && (x & 0x1fff) == 0) x |= 1;
  }
  return x;
}

template <typename I>
__global__ void draw_operands(int category, uint32_t* a, uint32_t* b) {
  constexpr int kK = I::kK;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < static_cast<int64_t>(kTiles) * kM * kK) {
    const int k = i % kK, row = i / kK % kM, tile = static_cast<int>(i / (kM * kK));
    a[i] = draw_pattern<I>(category, 0, tile, row, k);
  }
  if (i < static_cast<int64_t>(kTiles) * kN * kK) {
    const int column = i % kN, k = i / kN % kK, tile = static_cast<int>(i / (kN * kK));
    b[i] = draw_pattern<I>(category, 1, tile, column, k);
  }
}

}  // namespace tensor_facts
