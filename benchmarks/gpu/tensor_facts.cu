// Does this GPU's tensor core compute what csrc/tensor_block.h says? Stands alone: no torch.
//
//   tensor_facts mma|speed|wgmma|wgmma_speed FOLDER
//
// writes FOLDER/<part>.json and, for `mma` and `wgmma`, samples of inputs and results.
// benchmarks/gpu/tensor_facts.py runs the parts, each in a process of its own: a part that hangs or
// faults takes nothing of the others with it.
//
// Tiles of operands are drawn on the device, category by category (Category), multiplied by the
// instruction and by the model beside it, and compared bit by bit. Where they differ, the rules of
// kVariants show which other rule would fit; where they don't, they show that the draws could have
// told. The exit status says whether the machine worked, not whether the model is right.

#include <cuda_runtime.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "../../csrc/tensor_block.h"

namespace tensor_facts {

using namespace bninv::common;

#define CHECK(call) check((call), #call, __LINE__)
void check(cudaError_t error, const char* what, int line) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "line %d: %s: %s\n", line, what, cudaGetErrorString(error));
  exit(2);
}

// After a launch: its own error, then that of its run.
void finish(const char* what, int line) {
  check(cudaGetLastError(), what, line);
  check(cudaDeviceSynchronize(), what, line);
}
#define FINISH(what) finish(what, __LINE__)

// ---- The instructions ----------------------------------------------------------------------------

constexpr int kM = 16, kN = 8, kOutputs = kM * kN;
constexpr int kTiles = 16384;  // 2,097,152 outputs
constexpr int kHostTiles = 192;  // 24,576 outputs that the host recomputes, each category
constexpr int kSampleTiles = 32;
constexpr int kShare = 4;  // tiles with the same B, as wgmma's 64 rows have

struct F16K16 {
  using Operand = HalfOperand;
  static constexpr int kK = 16, kFormat = 0;
  static const char* name() { return "m16n8k16_f16"; }
};
struct F16K8 {
  using Operand = HalfOperand;
  static constexpr int kK = 8, kFormat = 0;
  static const char* name() { return "m16n8k8_f16"; }
};
struct BF16K16 {
  using Operand = BFloat16Operand;
  static constexpr int kK = 16, kFormat = 1;
  static const char* name() { return "m16n8k16_bf16"; }
};
struct BF16K8 {
  using Operand = BFloat16Operand;
  static constexpr int kK = 8, kFormat = 1;
  static const char* name() { return "m16n8k8_bf16"; }
};
struct TF32K8 {
  using Operand = Tf32Operand;
  static constexpr int kK = 8, kFormat = 2;
  static const char* name() { return "m16n8k8_tf32"; }
};
struct TF32K4 {
  using Operand = Tf32Operand;
  static constexpr int kK = 4, kFormat = 2;
  static const char* name() { return "m16n8k4_tf32"; }
};

// A pattern in memory: f16 and bf16 in the low 16 bits, tf32 as a binary32 with all its bits.
template <typename I>
constexpr int kDropped = I::kFormat == 2 ? 13 : 0;

// A lane's share of A and B. a(row, k) and b(k, column) give patterns. As the PTX manual has them:
// g = lane / 4, t = lane % 4; A's rows are g and g + 8, B's column is g; k is 2 t, 2 t + 1 (and 8
// more) for 16-bit types, t (and 4 more) for tf32. D's rows are g and g + 8, its columns 2 t, 2 t + 1.
template <typename I, typename A, typename B>
__device__ __forceinline__ void load_fragments(uint32_t (&x)[4], uint32_t (&y)[2], A a, B b) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  constexpr bool kFour = I::kFormat == 2 ? I::kK == 8 : I::kK == 16;  // registers of A, else two
  const auto left = [&](int row, int k) {
    if constexpr (I::kFormat == 2) return a(row, k + t);
    return a(row, 2 * (k + t)) | a(row, 2 * (k + t) + 1) << 16;
  };
  const auto right = [&](int k) {
    if constexpr (I::kFormat == 2) return b(k + t, g);
    return b(2 * (k + t), g) | b(2 * (k + t) + 1, g) << 16;
  };
  x[0] = left(g, 0), x[1] = left(g + 8, 0), y[0] = right(0);
  if constexpr (kFour) {
    x[2] = left(g, 4), x[3] = left(g + 8, 4), y[1] = right(4);
  } else {
    x[2] = x[3] = y[1] = 0;
  }
}

template <typename I>
__device__ __forceinline__ void issue(float (&d)[4], const uint32_t (&a)[4],
                                      const uint32_t (&b)[2]) {
  if constexpr (I::kFormat == 0 && I::kK == 16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else if constexpr (I::kFormat == 0) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  } else if constexpr (I::kFormat == 1 && I::kK == 16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else if constexpr (I::kFormat == 1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  } else if constexpr (I::kK == 8) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  }
}

// d += a * b by one warp.
template <typename I, typename A, typename B>
__device__ __forceinline__ void multiply(float (&d)[4], A a, B b) {
  uint32_t x[4], y[2];
  load_fragments<I>(x, y, a, b);
  issue<I>(d, x, y);
}

// The position in a tile of a lane's value d[i].
__device__ __forceinline__ int output_index(int i) {
  const int lane = threadIdx.x % 32;
  return (lane / 4 + i / 2 * 8) * kN + lane % 4 * 2 + i % 2;
}

// ---- Draws ---------------------------------------------------------------------------------------

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
    "integers", "normal",  "wide",  "gap",  "cancel", "subnormal", "tiny",     "floor",  "overflow",
    "special",  "zeros",   "bits",  "sparse", "carry",  "positive",  "low_bits", "low_nan"};

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
    case 0: return sign | infinity;
    case 1: return sign | infinity | payload;  // quiet and signalling
    case 2: return sign;
    case 3: return sign | (infinity - 1);  // greatest finite
    case 4: return sign | 1;               // smallest subnormal
    default: return sign | 1u << kF;       // smallest normal
  }
}

// An operand before its low bits. `side` 0: A, `row` its row; 1: B, `row` its column.
template <typename I>
__device__ uint32_t draw_operand(int category, int side, int tile, int row, int k) {
  using F = typename I::Operand;
  constexpr bool kHalf = I::kFormat == 0;
  constexpr int kBias = (1 << (F::kExponentBits - 1)) - 1, kLeast = 1 - kBias;
  constexpr int kSign = F::kFractionBits + F::kExponentBits;
  const int group = tile / kShare;
  const uint64_t p = draw(2, category, group, 0);            // of the whole group
  const uint64_t q = draw(3, category, group, k + 1);        // of both factors of a product
  const uint64_t h = draw(side, category, side == 0 ? tile : group, row * 16 + k);
  const int mode = below(mix(p + 1), 8);
  const int fractions = below(mix(p + 2), 6);                // 0, 4, 5: any
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
        case 0: return side == 0 ? zero : any;
        case 1: return side == 0 ? positive : sign;  // every product is -0
        case 2: return side == 0 ? positive : 0;
        case 3: return zero;
        case 4: return side == 0 && below(mix(h + 1), 4) != 0 ? zero : any;
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
  if (I::kFormat != 2) return x;
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

template <typename I>
__device__ void load_terms(const uint32_t* a, const uint32_t* b, int64_t tile, int row, int column,
                           uint32_t (&x)[I::kK], uint32_t (&y)[I::kK]) {
  for (int k = 0; k < I::kK; ++k) {
    x[k] = a[(tile * kM + row) * I::kK + k] >> kDropped<I>;
    y[k] = b[(tile * I::kK + k) * kN + column] >> kDropped<I>;
  }
}

// Accumulators, which may look at the products they are added to. Kinds: Zero, Normal, near the Top,
// Gap about the cut, X cancels, Subnormal, Y tiny, Huge, Random bits, Infinity or NaN, All ones.
template <typename I>
__global__ void draw_accumulators(int category, const uint32_t* a, const uint32_t* b, uint32_t* c) {
  const char* const kinds[] = {"ZN", "NNZT", "TZNG", "GGTZ", "XXZT", "SZTYX", "ZSYX", "ZZZSY", "HHXT",
                               "NZII", "ZZZZ", "RXZT", "TGZS", "TANZ", "TNZN", "NZTX", "NZ"};
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= static_cast<int64_t>(kTiles) * kOutputs) return;
  const int64_t tile = i / kOutputs;
  const int row = i / kN % kM, column = i % kN;
  uint32_t x[I::kK], y[I::kK];
  load_terms<I>(a, b, tile, row, column, x, y);
  int top = -300;
  for (int k = 0; k < I::kK; ++k) {
    const Unpacked u = unpack<typename I::Operand>(x[k]), v = unpack<typename I::Operand>(y[k]);
    if (u.infinite || v.infinite || u.nan || v.nan || u.significand == 0 || v.significand == 0)
      continue;
    if (u.exponent + v.exponent > top) top = u.exponent + v.exponent;
  }
  if (top == -300) top = 0;
  const uint64_t h = draw(4, category, i, 0), p = draw(2, category, tile / kShare, 0);
  const int mode = below(mix(p + 1), 8);
  int count = 0;
  while (kinds[category][count] != 0) ++count;
  char kind = kinds[category][below(mix(h), count)];
  if (category == kZeros && (mode == 4 || mode == 5)) kind = (h >> 9 & 1) != 0 ? 'T' : 'Z';
  const bool negative = (h & 1) != 0;
  const uint32_t fraction = fraction_of(h, below(mix(h + 1), 5));
  const auto number = [&](int exponent) { return make<Binary32>(negative, exponent, fraction); };
  constexpr int kSign = I::Operand::kFractionBits + I::Operand::kExponentBits;
  uint32_t result = negative ? 0x80000000u : 0;
  if (category == kIntegers && kind == 'N') {
    result = make<Binary32>(negative, 8, static_cast<uint32_t>(h >> 8) << 15);
  } else if (kind == 'N') {
    result = number(below(mix(h + 2), 8) - 4);
  } else if (kind == 'T') {
    result = number(top + below(mix(h + 2), 9) - 4);
    if (category == kCarry) result = make<Binary32>(x[0] >> kSign != 0, top, ~0u);
  } else if (kind == 'A') {
    result = make<Binary32>(negative, top + below(mix(h + 2), 5), ~0u);
  } else if (kind == 'G') {
    const int gap = 21 + below(mix(h + 2), 9);
    result = number((h >> 1 & 1) != 0 ? top + gap : top - gap);
  } else if (kind == 'X') {
    result = tensor_block<typename I::Operand>(x, y, I::kK, 0, 25, -133) ^ 0x80000000u;
    const uint32_t size = result & 0x7fffffff;
    if (size > 8 && size < 0x7f7ffff0) result += below(mix(h + 3), 8) - 4;
    if (size > 0x7f800000) result = 0;
  } else if (kind == 'S') {
    result |= (fraction & 0x7fffff) >> ((h >> 7 & 1) != 0 ? below(mix(h + 2), 23) : 0);
  } else if (kind == 'Y') {
    result = number(below(mix(h + 2), 30) - 127);
  } else if (kind == 'H') {
    result = number(120 + below(mix(h + 2), 8));
    if ((h >> 40 & 7) == 0) result = result & 0x80000000u ? 0xff7fffffu : 0x7f7fffffu;
  } else if (kind == 'R') {
    result = static_cast<uint32_t>(h >> 16);
    if ((result & 0x7f800000) == 0x7f800000) result ^= 0x00800000;
  } else if (kind == 'I') {
    result = special_value<Binary32>(mix(h + 2), mode % 4);
  }
  c[i] = result;
}

// ---- Other rules ---------------------------------------------------------------------------------

constexpr int kNoFloor = -100000;

struct Variant {
  const char* name;
  int bits;
  int floor;
  int parts;       // blocks that the instruction's k is cut into
  int order;       // of them: 0 low k first, 1 high first, 2 interleaved
  int term;        // 0 toward zero, 1 down, 2 to nearest even, 3 toward zero with a sticky bit
  int result;      // 0 toward zero, 1 to nearest even, 2 down, 3 away from zero
  int exponents;   // 1 subnormals normalised, 2 products too, 3 zeros have one, 4 c normalised
  int late;        // c is added to the rounded sum
  int saturate;    // overflow gives the greatest finite number
  int flush;       // 1 subnormal operands, 2 subnormal c, 4 subnormal results are zero
  int early;       // a product of 2^128 or more is an infinity
  int low;         // tf32: 1 rounds half away, 2 half to even, 3 NaN by all 32 bits
};

constexpr Variant variant(const char* name, int bits, int floor, int parts = 1, int order = 0) {
  return {name, bits, floor, parts, order, 0, 0, 0, 0, 0, 0, 0, 0};
}
constexpr Variant with(const char* name, int Variant::*field, int value) {
  Variant v = variant(name, 25, -133);
  v.*field = value;
  return v;
}
constexpr Variant exact(const char* name, int result) {
  Variant v = variant(name, 34, kNoFloor);
  v.result = result;
  return v;
}

constexpr Variant kVariants[] = {
    variant("model H", 25, -133),
    variant("class A", 24, -132, 2),
    variant("F 22", 22, -133),
    variant("F 23", 23, -133),
    variant("F 24", 24, -133),
    variant("F 26", 26, -133),
    variant("F 27", 27, -133),
    variant("F 28", 28, -133),
    exact("34 bits, toward zero", 0),
    exact("34 bits, to nearest", 1),
    variant("floor -118", 25, -118),
    variant("floor -122", 25, -122),
    variant("floor -124", 25, -124),
    variant("floor -125", 25, -125),
    variant("floor -126", 25, -126),
    variant("floor -127", 25, -127),
    variant("floor -128", 25, -128),
    variant("floor -129", 25, -129),
    variant("floor -130", 25, -130),
    variant("floor -131", 25, -131),
    variant("floor -132", 25, -132),
    variant("floor -134", 25, -134),
    variant("floor -135", 25, -135),
    variant("floor -136", 25, -136),
    variant("floor -137", 25, -137),
    variant("floor -138", 25, -138),
    variant("floor -139", 25, -139),
    variant("floor -140", 25, -140),
    variant("floor -144", 25, -144),
    variant("floor -149", 25, -149),
    variant("no floor", 25, kNoFloor),
    variant("2 blocks, low first", 25, -133, 2),
    variant("2 blocks, high first", 25, -133, 2, 1),
    variant("2 blocks, interleaved", 25, -133, 2, 2),
    variant("4 blocks, low first", 25, -133, 4),
    variant("4 blocks, F 24", 24, -133, 4),
    with("terms down", &Variant::term, 1),
    with("terms to nearest", &Variant::term, 2),
    with("terms sticky", &Variant::term, 3),
    with("result to nearest", &Variant::result, 1),
    with("result down", &Variant::result, 2),
    with("result away", &Variant::result, 3),
    with("subnormals normalised", &Variant::exponents, 1),
    with("products normalised", &Variant::exponents, 2),
    with("zeros have exponents", &Variant::exponents, 3),
    with("subnormal c normalised", &Variant::exponents, 4),
    with("c added late", &Variant::late, 1),
    with("overflow saturates", &Variant::saturate, 1),
    with("subnormal operands flushed", &Variant::flush, 1),
    with("subnormal c flushed", &Variant::flush, 2),
    with("subnormal results flushed", &Variant::flush, 4),
    with("product overflows early", &Variant::early, 1),
    with("tf32 half away", &Variant::low, 1),
    with("tf32 half to even", &Variant::low, 2),
    with("tf32 NaN by 32 bits", &Variant::low, 3),
};
constexpr int kVariantCount = sizeof(kVariants) / sizeof(kVariants[0]);
__constant__ Variant device_variants[kVariantCount];

// magnitude * 2^exponent in units, by one of the ways to cut.
__host__ __device__ inline int64_t cut_by(int way, uint64_t magnitude, int exponent, int unit,
                                          bool negative) {
  const int64_t kept = cut(magnitude, exponent, unit, negative);
  if (way == 0 || magnitude == 0) return kept;
  const int down = unit - exponent;
  if (down <= 0) return kept;
  const uint64_t whole = down < 64 ? magnitude >> down : 0;
  const uint64_t rest = down < 64 ? magnitude - (whole << down) : magnitude;
  if (rest == 0) return kept;
  if (way == 1) return kept - (negative ? 1 : 0);
  if (way == 3) return negative ? -static_cast<int64_t>(whole | 1) : static_cast<int64_t>(whole | 1);
  const uint64_t half = down < 64 ? 1ULL << (down - 1) : ~0ULL;
  const bool up = rest > half || (rest == half && (whole & 1) != 0);
  return negative ? -static_cast<int64_t>(whole + up) : static_cast<int64_t>(whole + up);
}

__host__ __device__ inline uint32_t pack_by(const Variant& v, int64_t total, int unit) {
  uint32_t x = pack_toward_zero(total, unit);
  if (v.result != 0 && total != 0) {
    const uint64_t magnitude = static_cast<uint64_t>(total < 0 ? -total : total);
    int lead = 0;
    for (int step = 32; step > 0; step /= 2)
      if (magnitude >> lead >> step != 0) lead += step;
    const int ulp = lead + unit - 23 > -149 ? lead + unit - 23 : -149;
    const int down = ulp - unit;
    if (down > 0 && (x & 0x7fffffff) < 0x7f800000) {
      const uint64_t rest = down < 64 ? magnitude & ((1ULL << down) - 1) : magnitude;
      const uint64_t half = down < 65 ? 1ULL << (down - 1) : ~0ULL;
      const bool nearest = rest > half || (rest == half && (x & 1) != 0);
      const bool down_from_zero = rest != 0 && total < 0;
      if (v.result == 1 ? nearest : v.result == 2 ? down_from_zero : rest != 0) ++x;
    }
  }
  if (v.saturate && (x & 0x7fffffff) == 0x7f800000) x -= 1;
  if ((v.flush & 4) != 0 && (x & 0x7f800000) == 0) x &= 0x80000000u;
  return x;
}

__host__ __device__ inline int normal_exponent(const Unpacked& x, int fraction_bits) {
  if (x.significand == 0) return x.exponent;
  int lead = 0;
  while (x.significand >> lead > 1) ++lead;
  return x.exponent + lead - fraction_bits;
}

// One block by a variant, of the terms whose bit in `members` is set.
template <typename Operand, int kK>
__host__ __device__ uint32_t variant_block(const uint32_t (&a)[kK], const uint32_t (&b)[kK],
                                           uint32_t members, uint32_t c, const Variant& v) {
  Unpacked start = unpack<Binary32>(c);
  if ((v.flush & 2) != 0 && start.significand < 1u << 23) start.significand = 0;
  if (start.infinite || start.nan) start.significand = 0;
  const bool late = v.late != 0;
  bool nan = false, positive = false, negative = false, minus = true;
  int top = v.floor;
  if (!late) {
    nan = start.nan;
    positive = start.infinite && !start.negative, negative = start.infinite && start.negative;
    minus = start.significand == 0 && start.negative;
    const int e = v.exponents == 4 ? normal_exponent(start, 23) : start.exponent;
    if ((start.significand != 0 || v.exponents == 3) && e > top) top = e;
  }
  int64_t total = 0;
  bool any = !late && start.significand != 0;
  for (int pass = 0; pass < 2; ++pass) {
    const int unit = top - v.bits;
    if (pass == 1 && !late)
      total = cut_by(v.term, start.significand, start.exponent - 23, unit, start.negative);
    for (int i = 0; i < kK; ++i) {
      if ((members >> i & 1) == 0) continue;
      Unpacked x = unpack<Operand>(a[i]), y = unpack<Operand>(b[i]);
      const bool sign = x.negative != y.negative;
      if ((v.flush & 1) != 0 && x.significand < 1u << Operand::kFractionBits) x.significand = 0;
      if ((v.flush & 1) != 0 && y.significand < 1u << Operand::kFractionBits) y.significand = 0;
      const uint64_t product = static_cast<uint64_t>(x.significand) * y.significand;
      const int exponent = x.exponent + y.exponent - 2 * Operand::kFractionBits;
      if (pass == 1) {
        if (!x.infinite && !y.infinite) total += cut_by(v.term, product, exponent, unit, sign);
        continue;
      }
      bool infinite = x.infinite || y.infinite;
      nan = nan || x.nan || y.nan || (infinite && product == 0);
      if (v.early && product != 0) {
        int lead = 0;
        while (product >> lead > 1) ++lead;
        infinite = infinite || lead + exponent >= 128;
      }
      positive = positive || (infinite && !sign), negative = negative || (infinite && sign);
      minus = minus && product == 0 && sign;
      any = any || product != 0;
      int e = x.exponent + y.exponent;
      if (v.exponents == 1 || v.exponents == 2)
        e = normal_exponent(x, Operand::kFractionBits) + normal_exponent(y, Operand::kFractionBits);
      if (v.exponents == 2 && product >> (2 * Operand::kFractionBits + 1) != 0) ++e;
      if ((product != 0 || v.exponents == 3) && e > top) top = e;
    }
  }
  uint32_t result;
  if (nan || (positive && negative)) {
    result = kTensorNan;
  } else if (positive || negative) {
    result = positive ? 0x7f800000u : 0xff800000u;
  } else if (minus) {
    result = 0x80000000u;
  } else {
    result = any ? pack_by(v, total, top - v.bits) : 0;
  }
  if (!late) return result;
  // c joins by a block of two, the other one being the sum.
  const Unpacked sum = unpack<Binary32>(result);
  if (sum.nan || start.nan) return kTensorNan;
  if (sum.infinite && start.infinite && sum.negative != start.negative) return kTensorNan;
  if (sum.infinite) return result;
  if (start.infinite) return c;
  int both = v.floor;
  if (sum.significand != 0 && sum.exponent > both) both = sum.exponent;
  if (start.significand != 0 && start.exponent > both) both = start.exponent;
  if (sum.significand == 0 && start.significand == 0) return result & c;
  const int unit = both - v.bits;
  return pack_by(v,
                 cut(sum.significand, sum.exponent - 23, unit, sum.negative) +
                     cut(start.significand, start.exponent - 23, unit, start.negative),
                 unit);
}

template <typename I>
__host__ __device__ uint32_t variant_multiply_add(const uint32_t (&a)[I::kK],
                                                  const uint32_t (&b)[I::kK], uint32_t c,
                                                  const Variant& v) {
  // As many terms a block as the widest instruction would have.
  int parts = v.parts * I::kK / I::Operand::kGroup;
  if (parts < 1) parts = 1;
  const int size = I::kK / parts;
  for (int p = 0; p < parts; ++p) {
    uint32_t members = 0;
    for (int i = 0; i < size; ++i) {
      const int part = v.order == 1 ? parts - 1 - p : p;
      members |= 1u << (v.order == 2 ? i * parts + p : part * size + i);
    }
    c = variant_block<typename I::Operand, I::kK>(a, b, members, c, v);
  }
  return c;
}

// tf32 operands by another rule than dropping their low bits.
__host__ __device__ inline uint32_t round_tf32(uint32_t x, int low) {
  const bool finite = (x & 0x7f800000) != 0x7f800000;
  if (low == 1 && finite) x += 0x1000;
  if (low == 2 && finite) x += 0xfff + (x >> 13 & 1);
  if (low == 3 && (x & 0x7fffffff) > 0x7f800000) x |= 0x400000;
  return x >> 13;
}

// ---- Kernels of the comparison -------------------------------------------------------------------

constexpr int kCases = 20, kZeroCases = 6, kNanPatterns = 8;
constexpr int kZeroKinds = 8;
const char* const kZeroKindNames[] = {
    "all terms -0",       "all terms +0",      "zeros of both signs", "terms cancel",
    "positive cut to 0",  "negative cut to 0", "all cut, negative",   "all cut, others"};

struct Case {
  uint32_t a[16], b[16], c, hardware, model;
  int tile, row, column;
};
struct Tally {
  unsigned long long total, wrong, wrong_zero_sign, engine, normal, subnormal, zero, infinite, nan;
  unsigned long long nan_other;           // not kTensorNan
  unsigned long long expected_nan, spurious_nan, missed_nan, wrong_infinite;
  unsigned long long zeros[kZeroKinds][3];  // the hardware gave +0, -0, something else
  unsigned long long variants[kVariantCount], variants_of;
  unsigned long long wrong_of_exponent[10];   // wrong by the model's exponent, in steps of 32
  unsigned cases, zero_cases, nan_cases;
  Case wrong_case[kCases], zero_case[kZeroCases];
  uint32_t nan_pattern[kNanPatterns];
};

__host__ __device__ inline bool is_nan(uint32_t x) { return (x & 0x7fffffff) > 0x7f800000; }
__host__ __device__ inline bool agree(uint32_t x, uint32_t y) {
  return x == y || (is_nan(x) && is_nan(y));
}
__host__ __device__ inline bool agree_but_zero(uint32_t x, uint32_t y) {
  return agree(x, y) || ((x | y) & 0x7fffffff) == 0;
}

template <typename I>
__global__ void run_mma(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  const int64_t tile = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (tile >= kTiles) return;
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = __uint_as_float(c[tile * kOutputs + output_index(i)]);
  multiply<I>(
      sum, [&](int row, int k) { return a[(tile * kM + row) * I::kK + k]; },
      [&](int k, int column) { return b[(tile * I::kK + k) * kN + column]; });
  for (int i = 0; i < 4; ++i) d[tile * kOutputs + output_index(i)] = __float_as_uint(sum[i]);
}

// What became zero, and how.
template <typename I>
__device__ int zero_kind(const uint32_t (&x)[I::kK], const uint32_t (&y)[I::kK], uint32_t c) {
  bool all_zero = (c & 0x7fffffff) == 0, minus = c >> 31, plus = !(c >> 31);
  bool below_zero = c >> 31;
  for (int k = 0; k < I::kK; ++k) {
    const Unpacked u = unpack<typename I::Operand>(x[k]), v = unpack<typename I::Operand>(y[k]);
    const bool sign = u.negative != v.negative;
    all_zero = all_zero && (u.significand == 0 || v.significand == 0);
    minus = minus && sign, plus = plus && !sign;
    below_zero = below_zero && sign;
  }
  if (all_zero) return minus ? 0 : plus ? 1 : 2;
  int top = -133;
  Unpacked u = unpack<Binary32>(c);
  if (u.significand != 0 && u.exponent > top) top = u.exponent;
  for (int k = 0; k < I::kK; ++k) {
    const Unpacked s = unpack<typename I::Operand>(x[k]), t = unpack<typename I::Operand>(y[k]);
    if (s.significand && t.significand && s.exponent + t.exponent > top)
      top = s.exponent + t.exponent;
  }
  int64_t total = cut(u.significand, u.exponent - 23, top - 25, u.negative), kept = total != 0;
  for (int k = 0; k < I::kK; ++k) {
    const Unpacked s = unpack<typename I::Operand>(x[k]), t = unpack<typename I::Operand>(y[k]);
    const int64_t term = cut(static_cast<uint64_t>(s.significand) * t.significand,
                             s.exponent + t.exponent - 2 * I::Operand::kFractionBits, top - 25,
                             s.negative != t.negative);
    total += term, kept |= term != 0;
  }
  if (total != 0) return total > 0 ? 4 : 5;
  return kept != 0 ? 3 : below_zero ? 6 : 7;
}

template <typename I>
__global__ void compare(const uint32_t* a, const uint32_t* b, const uint32_t* c, const uint32_t* d,
                        uint32_t* model, Tally* tally) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= static_cast<int64_t>(kTiles) * kOutputs) return;
  const int64_t tile = i / kOutputs;
  const int row = i / kN % kM, column = i % kN;
  uint32_t x[I::kK], y[I::kK];
  load_terms<I>(a, b, tile, row, column, x, y);
  const uint32_t expected =
      tensor_multiply_add<typename I::Operand>(x, y, I::kK, c[i], kTensorH);
  const uint32_t got = d[i], size = got & 0x7fffffff;
  model[i] = expected;
  atomicAdd(&tally->total, 1ULL);
  if (!agree(expected, variant_multiply_add<I>(x, y, c[i], device_variants[0])))
    atomicAdd(&tally->engine, 1ULL);
  atomicAdd(size > 0x7f800000    ? &tally->nan
            : size == 0x7f800000 ? &tally->infinite
            : size == 0          ? &tally->zero
            : size < 0x00800000  ? &tally->subnormal
                                 : &tally->normal,
            1ULL);
  if (is_nan(got) && got != kTensorNan) {
    atomicAdd(&tally->nan_other, 1ULL);
    const unsigned slot = atomicAdd(&tally->nan_cases, 1u);
    if (slot < kNanPatterns) tally->nan_pattern[slot] = got;
  }
  if (is_nan(expected)) atomicAdd(&tally->expected_nan, 1ULL);
  if (is_nan(expected) && !is_nan(got)) atomicAdd(&tally->missed_nan, 1ULL);
  if (!is_nan(expected) && is_nan(got)) atomicAdd(&tally->spurious_nan, 1ULL);
  if ((expected & 0x7fffffff) == 0) {
    const int kind = zero_kind<I>(x, y, c[i]);
    atomicAdd(&tally->zeros[kind][got == 0 ? 0 : got == 0x80000000u ? 1 : 2], 1ULL);
  }
  if (agree(expected, got)) return;
  const bool sign_only = agree_but_zero(expected, got);
  if (!sign_only) {
    atomicAdd(&tally->wrong_of_exponent[(expected >> 23 & 255) / 32], 1ULL);
    if ((expected & 0x7fffffff) == 0x7f800000 || size == 0x7f800000)
      atomicAdd(&tally->wrong_infinite, 1ULL);
  }
  atomicAdd(sign_only ? &tally->wrong_zero_sign : &tally->wrong, 1ULL);
  const unsigned slot = atomicAdd(sign_only ? &tally->zero_cases : &tally->cases, 1u);
  if (slot >= (sign_only ? kZeroCases : kCases)) return;
  Case& record = sign_only ? tally->zero_case[slot] : tally->wrong_case[slot];
  for (int k = 0; k < I::kK; ++k) {
    record.a[k] = a[(tile * kM + row) * I::kK + k], record.b[k] = b[(tile * I::kK + k) * kN + column];
  }
  record.c = c[i], record.hardware = got, record.model = expected;
  record.tile = static_cast<int>(tile), record.row = row, record.column = column;
}

// How many of `tiles` each other rule gets wrong; signs of zeros aside.
template <typename I>
__global__ void compare_variants(int tiles, const uint32_t* a, const uint32_t* b, const uint32_t* c,
                                 const uint32_t* d, Tally* tally) {
  __shared__ unsigned wrong[kVariantCount];
  for (int v = threadIdx.x; v < kVariantCount; v += blockDim.x) wrong[v] = 0;
  __syncthreads();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < static_cast<int64_t>(tiles) * kOutputs) {
    const int64_t tile = i / kOutputs;
    const int row = i / kN % kM, column = i % kN;
    uint32_t x[I::kK], y[I::kK];
    load_terms<I>(a, b, tile, row, column, x, y);
    for (int n = 0; n < kVariantCount; ++n) {
      const Variant& v = device_variants[n];
      uint32_t s[I::kK], t[I::kK];
      for (int k = 0; k < I::kK; ++k) s[k] = x[k], t[k] = y[k];
      if constexpr (I::kFormat == 2) {
        if (v.low != 0) {
          for (int k = 0; k < I::kK; ++k) {
            s[k] = round_tf32(a[(tile * kM + row) * I::kK + k], v.low);
            t[k] = round_tf32(b[(tile * I::kK + k) * kN + column], v.low);
          }
        }
      }
      const uint32_t result = variant_multiply_add<I>(s, t, c[i], v);
      if (!agree_but_zero(result, d[i])) atomicAdd(&wrong[n], 1u);
    }
    if (i % 256 == 0) atomicAdd(&tally->variants_of, 256ULL);
  }
  __syncthreads();
  for (int v = threadIdx.x; v < kVariantCount; v += blockDim.x)
    if (wrong[v] != 0) atomicAdd(&tally->variants[v], static_cast<unsigned long long>(wrong[v]));
}

struct Pairs {
  unsigned long long total, differ;
};
__device__ void count(Pairs* pairs, uint32_t x, uint32_t y) {
  atomicAdd(&pairs->total, 1ULL);
  if (!agree(x, y)) atomicAdd(&pairs->differ, 1ULL);
}

// One dot of each tile, at every position of a tile, its neighbours 0: zeros, 1: any numbers, 2: NaN,
// 3: infinities, 4: both and numbers.
template <typename I>
__global__ void move_dots(const uint32_t* a, const uint32_t* b, const uint32_t* c, const uint32_t* d,
                          Pairs* pairs) {
  constexpr int kS = I::kFormat == 2 ? 13 : 0;
  using F = typename I::Operand;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  const int from_row = tile % kM, from_column = tile / kM % kN;
  unsigned differ = 0, total = 0;
  for (int position = 0; position < kOutputs; ++position) {
    const int row = position / kN, column = position % kN;
    for (int filler = 0; filler < 5; ++filler) {
      const auto fill = [&](int side, int i, int k) -> uint32_t {
        const uint64_t h = mix(draw(20 + side, filler, tile * kOutputs + position, i * 16 + k));
        if (filler == 0) return 0;
        const int kind = filler == 4 ? 1 + below(h, 3) : filler;
        uint32_t x = make<F>((h & 1) != 0, below(mix(h), 29) - 14, static_cast<uint32_t>(h >> 8));
        if (kind > 1) x = special_value<F>(h, kind == 2 ? 1 : 0);
        return x << kS;
      };
      float sum[4];
      for (int i = 0; i < 4; ++i) {
        const int at = output_index(i);
        uint32_t start = static_cast<uint32_t>(draw(22, filler, tile * kOutputs + position, at));
        if (filler == 0) start = 0;
        if (filler == 2) start |= 0x7fc00000;
        if (filler == 3) start = (start & 0x80000000u) | 0x7f800000;
        if (at == position) start = c[tile * kOutputs + from_row * kN + from_column];
        sum[i] = __uint_as_float(start);
      }
      multiply<I>(
          sum,
          [&](int i, int k) {
            return i == row ? a[(tile * kM + from_row) * I::kK + k] : fill(0, i, k);
          },
          [&](int k, int i) {
            return i == column ? b[(tile * I::kK + k) * kN + from_column] : fill(1, i, k);
          });
      for (int i = 0; i < 4; ++i) {
        if (output_index(i) != position) continue;
        ++total;
        const uint32_t expected = d[tile * kOutputs + from_row * kN + from_column];
        if (!agree(__float_as_uint(sum[i]), expected)) ++differ;
      }
    }
  }
  atomicAdd(&pairs->total, static_cast<unsigned long long>(total));
  atomicAdd(&pairs->differ, static_cast<unsigned long long>(differ));
}

// Every tile with its terms in another order.
template <typename I>
__global__ void permute_terms(const uint32_t* a, const uint32_t* b, const uint32_t* c,
                              const uint32_t* d, Pairs* pairs) {
  const int64_t tile = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (tile >= kTiles) return;
  uint64_t order = 0;  // four bits a place
  for (int k = 0; k < I::kK; ++k) order |= static_cast<uint64_t>(k) << (4 * k);
  for (int k = I::kK - 1; k > 0; --k) {
    const int other = below(draw(30, 0, tile, k), k + 1);
    const uint64_t change = (order >> (4 * k) ^ order >> (4 * other)) & 15;
    order ^= change << (4 * k);
    if (other != k) order ^= change << (4 * other);
  }
  const auto at = [&](int k) { return static_cast<int>(order >> (4 * k) & 15); };
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = __uint_as_float(c[tile * kOutputs + output_index(i)]);
  multiply<I>(
      sum, [&](int row, int k) { return a[(tile * kM + row) * I::kK + at(k)]; },
      [&](int k, int column) { return b[(tile * I::kK + at(k)) * kN + column]; });
  for (int i = 0; i < 4; ++i)
    count(pairs, __float_as_uint(sum[i]), d[tile * kOutputs + output_index(i)]);
}

// The same terms by two instructions of half the length, low k first. pairs[0]: against the one
// instruction; pairs[1]: against the model of the two.
template <typename I, typename Half>
__global__ void in_halves(const uint32_t* a, const uint32_t* b, const uint32_t* c, const uint32_t* d,
                          Pairs* pairs) {
  const int64_t tile = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  if (tile >= kTiles) return;
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = __uint_as_float(c[tile * kOutputs + output_index(i)]);
  for (int half = 0; half < 2; ++half) {
    multiply<Half>(
        sum,
        [&](int row, int k) { return a[(tile * kM + row) * I::kK + half * Half::kK + k]; },
        [&](int k, int column) { return b[(tile * I::kK + half * Half::kK + k) * kN + column]; });
  }
  for (int i = 0; i < 4; ++i) {
    const int at = output_index(i);
    const uint32_t got = __float_as_uint(sum[i]);
    count(pairs, got, d[tile * kOutputs + at]);
    uint32_t x[I::kK], y[I::kK];
    load_terms<I>(a, b, tile, at / kN, at % kN, x, y);
    uint32_t expected = c[tile * kOutputs + at];
    for (int half = 0; half < 2; ++half) {
      expected = tensor_multiply_add<typename I::Operand>(
          x + half * Half::kK, y + half * Half::kK, Half::kK, expected, kTensorH);
    }
    count(pairs + 1, got, expected);
  }
}

// A segment: 128 terms, one instruction after another, from +0.
template <typename I>
__global__ void run_segments(const uint32_t* a, const uint32_t* b, Pairs* pairs) {
  constexpr int kSteps = 128 / I::kK;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32 * kSteps;
  if (first >= kTiles) return;
  float sum[4] = {};
  for (int s = 0; s < kSteps; ++s) {
    const int64_t tile = first + s;
    multiply<I>(
        sum, [&](int row, int k) { return a[(tile * kM + row) * I::kK + k]; },
        [&](int k, int column) { return b[(tile * I::kK + k) * kN + column]; });
  }
  for (int i = 0; i < 4; ++i) {
    const int at = output_index(i);
    uint32_t x[I::kK], y[I::kK], expected = 0;
    for (int s = 0; s < kSteps; ++s) {
      load_terms<I>(a, b, first + s, at / kN, at % kN, x, y);
      expected = tensor_multiply_add<typename I::Operand>(x, y, I::kK, expected, kTensorH);
    }
    count(pairs, __float_as_uint(sum[i]), expected);
  }
}

// ---- JSON ----------------------------------------------------------------------------------------

class Json {
 public:
  explicit Json(const std::string& path) : file_(fopen(path.c_str(), "w")) {
    if (file_ == nullptr) {
      fprintf(stderr, "cannot write %s\n", path.c_str());
      exit(2);
    }
  }
  ~Json() { fclose(file_); }
  void open(const char* key = nullptr, char bracket = '{') {
    name(key);
    fputc(bracket, file_);
    first_ = true;
  }
  void close(char bracket = '}') {
    fputc(bracket, file_);
    first_ = false;
    fflush(file_);
  }
  void text(const char* key, const char* value) { name(key), fprintf(file_, "\"%s\"", value); }
  void integer(const char* key, unsigned long long value) {
    name(key), fprintf(file_, "%llu", value);
  }
  void real(const char* key, double value) { name(key), fprintf(file_, "%.6g", value); }
  void boolean(const char* key, bool value) { name(key), fputs(value ? "true" : "false", file_); }
  void pairs(const char* key, const Pairs& value) {
    open(key), integer("of", value.total), integer("differ", value.differ), close();
  }

 private:
  void name(const char* key) {
    if (!first_) fputs(",\n", file_);
    first_ = false;
    if (key != nullptr) fprintf(file_, "\"%s\": ", key);
  }
  FILE* file_;
  bool first_ = true;
};

void write_case(Json& json, const Case& value, int terms) {
  const auto list = [&](const uint32_t* from, int n) {
    std::string text;
    char word[16];
    for (int i = 0; i < n; ++i) {
      snprintf(word, sizeof(word), i == 0 ? "%x" : " %x", from[i]);
      text += word;
    }
    return text;
  };
  json.open();
  json.text("a", list(value.a, terms).c_str());
  json.text("b", list(value.b, terms).c_str());
  json.text("c", list(&value.c, 1).c_str());
  json.text("hardware", list(&value.hardware, 1).c_str());
  json.text("model", list(&value.model, 1).c_str());
  json.integer("tile", value.tile), json.integer("row", value.row);
  json.integer("column", value.column);
  json.close();
}

void write_tally(Json& json, const Tally& t, int terms, int format) {
  json.integer("outputs", t.total);
  json.integer("wrong", t.wrong);
  json.integer("wrong_sign_of_zero", t.wrong_zero_sign);
  json.integer("second_model_differs", t.engine);
  json.open("results");
  json.integer("normal", t.normal), json.integer("subnormal", t.subnormal);
  json.integer("zero", t.zero), json.integer("infinite", t.infinite), json.integer("nan", t.nan);
  json.close();
  json.open("nan");
  json.integer("expected", t.expected_nan), json.integer("missed", t.missed_nan);
  json.integer("spurious", t.spurious_nan), json.integer("other_than_7fffffff", t.nan_other);
  json.open("patterns", '[');
  for (unsigned i = 0; i < t.nan_cases && i < kNanPatterns; ++i)
    json.integer(nullptr, t.nan_pattern[i]);
  json.close(']');
  json.close();
  json.integer("wrong_with_infinity", t.wrong_infinite);
  json.open("zeros");
  for (int i = 0; i < kZeroKinds; ++i) {
    if (t.zeros[i][0] + t.zeros[i][1] + t.zeros[i][2] == 0) continue;
    json.open(kZeroKindNames[i]);
    json.integer("plus", t.zeros[i][0]), json.integer("minus", t.zeros[i][1]);
    json.integer("other", t.zeros[i][2]);
    json.close();
  }
  json.close();
  if (t.wrong != 0) {
    json.open("wrong_by_exponent_field", '[');
    for (int i = 0; i < 8; ++i) json.integer(nullptr, t.wrong_of_exponent[i]);
    json.close(']');
  }
  json.integer("rules_of", t.variants_of);
  json.open("rules_wrong");
  for (int v = 0; v < kVariantCount; ++v)
    if (kVariants[v].low == 0 || format == 2) json.integer(kVariants[v].name, t.variants[v]);
  json.close();
  json.open("cases", '[');
  for (unsigned i = 0; i < t.cases && i < kCases; ++i) write_case(json, t.wrong_case[i], terms);
  json.close(']');
  json.open("zero_cases", '[');
  for (unsigned i = 0; i < t.zero_cases && i < kZeroCases; ++i)
    write_case(json, t.zero_case[i], terms);
  json.close(']');
}

void write_device(Json& json) {
  cudaDeviceProp properties;
  int driver = 0, clock = 0;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  CHECK(cudaDriverGetVersion(&driver));
  CHECK(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0));
  json.open("device");
  json.text("name", properties.name);
  json.integer("major", properties.major), json.integer("minor", properties.minor);
  json.integer("multiprocessors", properties.multiProcessorCount);
  json.integer("clock_khz", clock), json.integer("driver", driver);
  json.close();
}

// ---- The part `mma` ------------------------------------------------------------------------------

struct Buffers {
  uint32_t *a, *b, *c, *d, *model;
  Tally* tally;
  Pairs* pairs;
};

Buffers allocate() {
  Buffers x;
  const size_t tiles = kTiles;
  CHECK(cudaMalloc(&x.a, tiles * kM * 16 * 4));
  CHECK(cudaMalloc(&x.b, tiles * kN * 16 * 4));
  CHECK(cudaMalloc(&x.c, tiles * kOutputs * 4));
  CHECK(cudaMalloc(&x.d, tiles * kOutputs * 4));
  CHECK(cudaMalloc(&x.model, tiles * kOutputs * 4));
  CHECK(cudaMalloc(&x.tally, sizeof(Tally)));
  CHECK(cudaMalloc(&x.pairs, 2 * sizeof(Pairs)));
  CHECK(cudaMemcpyToSymbol(device_variants, kVariants, sizeof(kVariants)));
  return x;
}

void poison(uint32_t* d) { CHECK(cudaMemset(d, 0xa5, static_cast<size_t>(kTiles) * kOutputs * 4)); }

template <typename I>
void prepare(int category, const Buffers& x) {
  draw_operands<I><<<kTiles * kM * I::kK / 256, 256>>>(category, x.a, x.b);
  FINISH("draw_operands");
  draw_accumulators<I><<<kTiles * kOutputs / 256, 256>>>(category, x.a, x.b, x.c);
  FINISH("draw_accumulators");
  poison(x.d), poison(x.model);
}

// The other rules are slow: of a quarter of the tiles, of all where they decide something, of fewer
// when time runs out. `rules` false: only where the model is wrong.
template <typename I>
void compare_all(int category, bool rules, const Buffers& x, Tally* tally) {
  using Clock = std::chrono::steady_clock;
  static const Clock::time_point begin = Clock::now();
  CHECK(cudaMemset(x.tally, 0, sizeof(Tally)));
  compare<I><<<kTiles * kOutputs / 256, 256>>>(x.a, x.b, x.c, x.d, x.model, x.tally);
  FINISH("compare");
  CHECK(cudaMemcpy(tally, x.tally, sizeof(Tally), cudaMemcpyDeviceToHost));
  if (!rules && tally->wrong == 0) return;
  const bool all = tally->wrong != 0 || category == kTiny || category == kFloor;
  const bool late = Clock::now() - begin > std::chrono::seconds(10);
  const int tiles = late ? kTiles / 16 : all ? kTiles : kTiles / 4;
  compare_variants<I><<<tiles * kOutputs / 256, 256>>>(tiles, x.a, x.b, x.c, x.d, x.tally);
  FINISH("compare_variants");
  CHECK(cudaMemcpy(tally, x.tally, sizeof(Tally), cudaMemcpyDeviceToHost));
}

template <typename Launch>
Pairs count_pairs(const Buffers& x, const char* what, Launch launch, Pairs* second = nullptr) {
  CHECK(cudaMemset(x.pairs, 0, 2 * sizeof(Pairs)));
  launch();
  FINISH(what);
  Pairs result[2];
  CHECK(cudaMemcpy(result, x.pairs, sizeof(result), cudaMemcpyDeviceToHost));
  if (second != nullptr) *second = result[1];
  return result[0];
}

std::vector<uint32_t> fetch(const uint32_t* from, size_t count) {
  std::vector<uint32_t> result(count);
  CHECK(cudaMemcpy(result.data(), from, count * 4, cudaMemcpyDeviceToHost));
  return result;
}

// The first tiles once more on the host, and the very first ones into a file for NumPy.
template <typename I>
void check_on_host(Json& json, const Buffers& x, FILE* samples) {
  const auto a = fetch(x.a, kHostTiles * kM * I::kK), b = fetch(x.b, kHostTiles * kN * I::kK);
  const auto c = fetch(x.c, kHostTiles * kOutputs), d = fetch(x.d, kHostTiles * kOutputs);
  const auto model = fetch(x.model, kHostTiles * kOutputs);
  unsigned long long differ = 0, wrong = 0;
  for (int i = 0; i < kHostTiles * kOutputs; ++i) {
    const int tile = i / kOutputs, row = i / kN % kM, column = i % kN;
    uint32_t s[I::kK], t[I::kK];
    for (int k = 0; k < I::kK; ++k) {
      s[k] = a[(tile * kM + row) * I::kK + k] >> kDropped<I>;
      t[k] = b[(tile * I::kK + k) * kN + column] >> kDropped<I>;
    }
    const uint32_t expected =
        tensor_multiply_add<typename I::Operand>(s, t, I::kK, c[i], kTensorH);
    differ += expected != model[i], wrong += !agree(expected, d[i]);
  }
  json.open("host");
  json.integer("outputs", kHostTiles * kOutputs);
  json.integer("host_and_device_model_differ", differ), json.integer("wrong", wrong);
  json.close();
  bool written = true;
  const auto write = [&](const std::vector<uint32_t>& from, int each) {
    const size_t count = static_cast<size_t>(kSampleTiles) * each;
    written = written && fwrite(from.data(), 4, count, samples) == count;
  };
  write(a, kM * I::kK), write(b, kN * I::kK), write(c, kOutputs), write(d, kOutputs);
  write(model, kOutputs);
  if (!written) fprintf(stderr, "samples could not be written\n"), exit(2);
}

FILE* open_samples(const std::string& folder, const char* name) {
  FILE* file = fopen((folder + "/" + name + ".bin").c_str(), "wb");
  if (file == nullptr) fprintf(stderr, "cannot write into %s\n", folder.c_str()), exit(2);
  return file;
}

template <typename I>
bool draws_category(int category) {
  return I::kFormat == 2 || category < kLowBits;
}

template <typename I, typename Half>
void examine(Json& json, const Buffers& x, const std::string& folder) {
  constexpr int kBlocks = kTiles / 8;
  FILE* samples = open_samples(folder, I::name());
  json.open(I::name());
  json.integer("k", I::kK), json.integer("sample_tiles", kSampleTiles);
  bool layout = true;
  for (int category = 0; category < kCategories; ++category) {
    if (!draws_category<I>(category)) continue;
    prepare<I>(category, x);
    run_mma<I><<<kBlocks, 256>>>(x.a, x.b, x.c, x.d);
    FINISH(I::name());
    Tally tally;
    compare_all<I>(category, true, x, &tally);
    if (category == kIntegers) {
      layout = tally.wrong == 0;
      json.boolean("layout", layout);
      json.open("categories");
    }
    json.open(kCategoryNames[category]);
    write_tally(json, tally, I::kK, I::kFormat);
    check_on_host<I>(json, x, samples);
    json.pairs("moved", count_pairs(x, "move_dots", [&] {
                 move_dots<I><<<128, 256>>>(x.a, x.b, x.c, x.d, x.pairs);
               }));
    json.pairs("permuted", count_pairs(x, "permute_terms", [&] {
                 permute_terms<I><<<kBlocks, 256>>>(x.a, x.b, x.c, x.d, x.pairs);
               }));
    if constexpr (I::kK == 2 * Half::kK) {
      Pairs model{};
      json.pairs("in_halves", count_pairs(
                                  x, "in_halves",
                                  [&] {
                                    in_halves<I, Half>
                                        <<<kBlocks, 256>>>(x.a, x.b, x.c, x.d, x.pairs);
                                  },
                                  &model));
      json.pairs("in_halves_model", model);
    }
    json.pairs("segments", count_pairs(x, "run_segments", [&] {
                 run_segments<I><<<kBlocks / (128 / I::kK), 256>>>(x.a, x.b, x.pairs);
               }));
    json.close();
    printf("%s %s: %llu wrong, %llu signs of zero, of %llu\n", I::name(), kCategoryNames[category],
           tally.wrong, tally.wrong_zero_sign, tally.total);
    fflush(stdout);
  }
  json.close();
  json.close();
  fclose(samples);
  if (!layout) printf("%s: the layout is wrong, no statement\n", I::name());
}

void part_mma(const std::string& folder) {
  Json json(folder + "/mma.json");
  json.open();
  write_device(json);
  const Buffers x = allocate();
  json.open("instructions");
  examine<F16K16, F16K8>(json, x, folder);
  examine<BF16K16, BF16K8>(json, x, folder);
  examine<TF32K8, TF32K4>(json, x, folder);
  examine<F16K8, F16K8>(json, x, folder);
  examine<BF16K8, BF16K8>(json, x, folder);
  examine<TF32K4, TF32K4>(json, x, folder);
  json.close();
  json.boolean("complete", true);
  json.close();
}

// ---- The part `wgmma` ----------------------------------------------------------------------------

// Operands lie in shared memory without swizzling, k fastest: core matrices of 8 rows of 16 bytes,
// 128 bytes each, the two of one instruction's k (32 bytes) beside each other.
constexpr int kCore = 128, kAlongK = kCore, kAlongRows = 2 * kCore;

template <typename I>
__device__ __forceinline__ void store_operand(char* to, int row, int k, uint32_t pattern) {
  constexpr int kBytes = I::kFormat == 2 ? 4 : 2, kChunk = 16 / kBytes;
  char* at = to + row / 8 * kAlongRows + k / kChunk * kAlongK + row % 8 * 16 + k % kChunk * kBytes;
  if constexpr (kBytes == 4) {
    *reinterpret_cast<uint32_t*>(at) = pattern;
  } else {
    *reinterpret_cast<uint16_t*>(at) = static_cast<uint16_t>(pattern);
  }
}

// Which of the descriptor's two strides is which: `swapped` is tried where the other way fails.
__device__ __forceinline__ uint64_t descriptor(const char* at, bool swapped) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(at));
  const uint64_t leading = swapped ? kAlongRows : kAlongK, stride = swapped ? kAlongK : kAlongRows;
  return (address & 0x3ffff) >> 4 | leading >> 4 << 16 | stride >> 4 << 32;
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d = a * b, + d where `add`; A from shared memory, or from registers x.
template <typename I, bool kRegisters>
__device__ __forceinline__ void wgmma_n8(float (&d)[4], uint64_t a, const uint32_t (&x)[4],
                                         uint64_t b, int add) {
  if constexpr (kRegisters) {
    if constexpr (I::kFormat == 0) {
      asm volatile(
          "{ .reg .pred p; setp.ne.b32 p, %9, 0; "
          "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1, 0; }"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(b), "r"(add));
    } else if constexpr (I::kFormat == 1) {
      asm volatile(
          "{ .reg .pred p; setp.ne.b32 p, %9, 0; "
          "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1, 0; }"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(b), "r"(add));
    } else {
      asm volatile(
          "{ .reg .pred p; setp.ne.b32 p, %9, 0; "
          "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1; }"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "l"(b), "r"(add));
    }
  } else {
    if constexpr (I::kFormat == 0) {
      asm volatile(
          "{ .reg .pred p; setp.ne.b32 p, %6, 0; "
          "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 "
          "{%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, 0; }"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "l"(a), "l"(b), "r"(add));
    } else if constexpr (I::kFormat == 1) {
      asm volatile(
          "{ .reg .pred p; setp.ne.b32 p, %6, 0; "
          "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
          "{%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, 0; }"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "l"(a), "l"(b), "r"(add));
    } else {
      asm volatile(
          "{ .reg .pred p; setp.ne.b32 p, %6, 0; "
          "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 "
          "{%0, %1, %2, %3}, %4, %5, p, 1, 1; }"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "l"(a), "l"(b), "r"(add));
    }
  }
}

// One warpgroup: four tiles of rows, kSteps instructions one after another without waiting.
// kSteps 1: d = a b + c is stored. More: from nothing (`add_first` 0) or +0; compared with the model.
template <typename I, int kSteps, bool kRegisters>
__global__ void __launch_bounds__(128) run_wgmma(bool swapped, int add_first, const uint32_t* a,
                                                 const uint32_t* b, const uint32_t* c, uint32_t* d,
                                                 Pairs* pairs) {
  __shared__ alignas(128) char left[kSteps][64 * 32];
  __shared__ alignas(128) char right[kSteps][8 * 32];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kSteps * kShare;
  for (int s = 0; s < kSteps; ++s) {
    const int64_t tile = first + s * kShare;
    for (int i = threadIdx.x; i < 64 * I::kK; i += 128)
      store_operand<I>(left[s], i / I::kK, i % I::kK, a[tile * kM * I::kK + i]);
    for (int i = threadIdx.x; i < 8 * I::kK; i += 128)
      store_operand<I>(right[s], i % kN, i / kN, b[tile * kN * I::kK + i]);
  }
  const int64_t mine = first + threadIdx.x / 32;
  float sum[4] = {};
  if (kSteps == 1) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = __uint_as_float(c[mine * kOutputs + output_index(i)]);
  }
  uint32_t x[kSteps][4], y[2];
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const int64_t tile = mine + s * kShare;
    load_fragments<I>(
        x[s], y, [&](int row, int k) { return a[(tile * kM + row) * I::kK + k]; },
        [&](int, int) { return 0u; });
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  wgmma_fence();
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    wgmma_n8<I, kRegisters>(sum, descriptor(left[s], swapped), x[s],
                            descriptor(right[s], swapped), s == 0 ? add_first : 1);
  }
  wgmma_commit();
  wgmma_wait<0>();
#pragma unroll  // sum stays in registers
  for (int i = 0; i < 4; ++i) {
    const int at = output_index(i);
    if (kSteps == 1) {
      d[mine * kOutputs + at] = __float_as_uint(sum[i]);
      continue;
    }
    uint32_t s[I::kK], t[I::kK], expected = 0;
    for (int step = 0; step < kSteps; ++step) {
      load_terms<I>(a, b, mine + step * kShare, at / kN, at % kN, s, t);
      expected = tensor_multiply_add<typename I::Operand>(s, t, I::kK, expected, kTensorH);
    }
    count(pairs, __float_as_uint(sum[i]), expected);
  }
}

__global__ void count_differing(const uint32_t* x, const uint32_t* y, Pairs* pairs) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < static_cast<int64_t>(kTiles) * kOutputs) count(pairs, x[i], y[i]);
}

template <typename I, bool kRegisters>
void examine_wgmma(Json& json, const Buffers& x, const std::string& folder, const char* name) {
  constexpr int kGroups = kTiles / kShare, kSteps = 128 / I::kK;
  uint32_t* other = nullptr;  // mma.sync's results
  CHECK(cudaMalloc(&other, static_cast<size_t>(kTiles) * kOutputs * 4));
  FILE* samples = open_samples(folder, name);
  json.open(name);
  json.integer("k", I::kK), json.integer("sample_tiles", kSampleTiles);
  bool swapped = false, layout = false;
  for (int category = 0; category < kCategories; ++category) {
    if (!draws_category<I>(category)) continue;
    prepare<I>(category, x);
    run_mma<I><<<kTiles / 8, 256>>>(x.a, x.b, x.c, other);
    FINISH("run_mma");
    Tally tally;
    for (int attempt = 0; attempt < (category == kIntegers ? 2 : 1); ++attempt) {
      if (category == kIntegers) swapped = attempt == 1;
      poison(x.d);
      run_wgmma<I, 1, kRegisters>
          <<<kGroups, 128>>>(swapped, 1, x.a, x.b, x.c, x.d, x.pairs);
      FINISH(name);
      compare_all<I>(category, false, x, &tally);
      layout = layout || (category == kIntegers && tally.wrong == 0);
      if (layout) break;
    }
    if (category == kIntegers) {
      json.boolean("layout", layout), json.boolean("strides_swapped", swapped);
      json.open("categories");
    }
    json.open(kCategoryNames[category]);
    write_tally(json, tally, I::kK, I::kFormat);
    check_on_host<I>(json, x, samples);
    json.pairs("against_mma_sync", count_pairs(x, "count_differing", [&] {
                 count_differing<<<kTiles * kOutputs / 256, 256>>>(x.d, other, x.pairs);
               }));
    for (int add = 0; add < 2; ++add) {
      json.pairs(add == 0 ? "segments_scale_d_0" : "segments", count_pairs(x, "segments", [&] {
                   run_wgmma<I, kSteps, kRegisters><<<kGroups / kSteps, 128>>>(
                       swapped, add, x.a, x.b, x.c, x.d, x.pairs);
                 }));
    }
    json.close();
    printf("%s %s: %llu wrong, %llu signs of zero, of %llu\n", name, kCategoryNames[category],
           tally.wrong, tally.wrong_zero_sign, tally.total);
    fflush(stdout);
    if (!layout) break;
  }
  json.close();
  json.close();
  fclose(samples);
  CHECK(cudaFree(other));
  if (!layout) printf("%s: the layout is wrong, no statement\n", name);
}

void part_wgmma(const std::string& folder) {
  Json json(folder + "/wgmma.json");
  json.open();
  const Buffers x = allocate();
  json.open("instructions");
  examine_wgmma<F16K16, false>(json, x, folder, "wgmma_m64n8k16_f16");
  examine_wgmma<BF16K16, false>(json, x, folder, "wgmma_m64n8k16_bf16");
  examine_wgmma<TF32K8, false>(json, x, folder, "wgmma_m64n8k8_tf32");
  examine_wgmma<F16K16, true>(json, x, folder, "wgmma_m64n8k16_f16_registers");
  examine_wgmma<BF16K16, true>(json, x, folder, "wgmma_m64n8k16_bf16_registers");
  examine_wgmma<TF32K8, true>(json, x, folder, "wgmma_m64n8k8_tf32_registers");
  json.close();
  json.boolean("complete", true);
  json.close();
}

// ---- Throughput ----------------------------------------------------------------------------------

// Random numbers about 1 of both signs: what a tensor core draws in power depends on its operands.
template <typename I>
__device__ uint32_t speed_operand(int side, int row, int k) {
  return draw_pattern<I>(kNormal, side, 4 * (row / 16), row % 16, k);
}

template <typename I, int kRows, int kColumns>
__global__ void mma_loop(int iterations, float* out) {
  float sum[kRows][kColumns][4] = {};
  uint32_t a[kRows][4], b[kColumns][2], unused_a[4], unused_b[2];
  const int warp = threadIdx.x / 32 + blockIdx.x % 7 * 16;
  const auto left = [&](int row, int k) { return speed_operand<I>(0, row + warp * 16, k); };
  const auto right = [&](int k, int column) { return speed_operand<I>(1, column + warp * 16, k); };
  const auto none = [](int, int) { return 0u; };
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    load_fragments<I>(a[i], unused_b, [&](int r, int k) { return left(r + i * 1600, k); }, none);
#pragma unroll
  for (int j = 0; j < kColumns; ++j)
    load_fragments<I>(unused_a, b[j], none, [&](int k, int c) { return right(k, c + j * 1600); });
  for (int n = 0; n < iterations; ++n) {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) issue<I>(sum[i][j], a[i], b[j]);
  }
  float total = 0;
#pragma unroll
  for (int i = 0; i < kRows; ++i)
#pragma unroll
    for (int j = 0; j < kColumns; ++j)
      total += sum[i][j][0] + sum[i][j][1] + sum[i][j][2] + sum[i][j][3];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

// Milliseconds of launch(iterations), and as many iterations as take about `wanted` of them.
template <typename Launch>
double time_loop(const char* what, double wanted, int* iterations, Launch launch) {
  cudaEvent_t start, stop;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));
  float ms = 0;
  const auto run = [&](int n) {
    CHECK(cudaEventRecord(start));
    launch(n);
    CHECK(cudaEventRecord(stop));
    FINISH(what);
    CHECK(cudaEventElapsedTime(&ms, start, stop));
  };
  run(200);  // loads the kernel
  run(1000);
  const double each = ms / 1000.0;
  double n = wanted / (each > 1e-7 ? each : 1e-7);
  n = n < 1000 ? 1000 : n > 2e7 ? 2e7 : n;
  *iterations = static_cast<int>(n);
  run(*iterations);
  CHECK(cudaEventDestroy(start));
  CHECK(cudaEventDestroy(stop));
  return ms;
}

int multiprocessors() {
  int count = 0;
  CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0));
  return count;
}

template <typename I>
void time_mma(Json& json, float* out) {
  constexpr int kRows = 4, kColumns = 4;
  const int count = multiprocessors();
  json.open(I::name());
  double best = 0;
  int best_warps = 8;
  const auto measure = [&](int warps, double wanted) {
    int iterations = 0;
    const double ms = time_loop(I::name(), wanted, &iterations, [&](int n) {
      mma_loop<I, kRows, kColumns><<<count, warps * 32>>>(n, out);
    });
    const double flop = 2.0 * kM * kN * I::kK * kRows * kColumns * iterations * warps * count;
    return flop / ms * 1e-9;
  };
  for (const int warps : {4, 8, 12, 16}) {
    char key[32];
    snprintf(key, sizeof(key), "%d warps", warps);
    const double tflops = measure(warps, 40);
    json.real(key, tflops);
    if (tflops > best) best = tflops, best_warps = warps;
  }
  const double sustained = measure(best_warps, 250);
  json.real("best", best), json.real("sustained", sustained);
  json.close();
  printf("%s: best %.1f, sustained %.1f TFLOP/s\n", I::name(), best, sustained);
  fflush(stdout);
}

void part_speed(const std::string& folder) {
  Json json(folder + "/speed.json");
  json.open();
  float* out = nullptr;
  CHECK(cudaMalloc(&out, 1 << 22));
  json.open("tflops");
  time_mma<BF16K16>(json, out);
  time_mma<F16K16>(json, out);
  time_mma<TF32K8>(json, out);
  time_mma<BF16K8>(json, out);
  time_mma<TF32K4>(json, out);
  json.close();
  json.boolean("complete", true);
  json.close();
}

template <typename I>
__device__ __forceinline__ void wgmma_n256(float (&d)[128], uint64_t a, uint64_t b) {
  if constexpr (I::kFormat == 0) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; "
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, p, 1, 1, 0, 0; }"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]),
          "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
          "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
          "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
          "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
          "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]),
          "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
          "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
          "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]),
          "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
          "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]),
          "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
          "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]),
          "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
          "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]),
          "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
          "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]),
          "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
          "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]),
          "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
          "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]),
          "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
          "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]),
          "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
        : "l"(a), "l"(b), "r"(1));
  } else if constexpr (I::kFormat == 1) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; "
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, p, 1, 1, 0, 0; }"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]),
          "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
          "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
          "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
          "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
          "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]),
          "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
          "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
          "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]),
          "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
          "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]),
          "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
          "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]),
          "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
          "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]),
          "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
          "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]),
          "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
          "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]),
          "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
          "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]),
          "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
          "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]),
          "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
        : "l"(a), "l"(b), "r"(1));
  } else {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; "
        "wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, p, 1, 1; }"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]),
          "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
          "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
          "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
          "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
          "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
          "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
          "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
          "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]),
          "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
          "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
          "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
          "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]),
          "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
          "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]),
          "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
          "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]),
          "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
          "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]),
          "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
          "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]),
          "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
          "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]),
          "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
          "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]),
          "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
          "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]),
          "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
        : "l"(a), "l"(b), "r"(1));
  }
}

constexpr int kSlices = 4;  // instructions along k before the operands come again

// Warpgroups of 64 x 256 outputs, B in common. Results of the first block where `out` is not null.
template <typename I>
__global__ void __launch_bounds__(256, 1) wgmma_loop(int iterations, bool swapped, float* sink,
                                                     float* out) {
  extern __shared__ __align__(128) char shared[];
  const int group = threadIdx.x / 128, groups = blockDim.x / 128;
  char* right = shared;
  char* left = shared + kSlices * 256 * 32;
  for (int s = 0; s < kSlices; ++s) {
    for (int i = threadIdx.x; i < 256 * I::kK; i += blockDim.x)
      store_operand<I>(right + s * 256 * 32, i / I::kK, i % I::kK,
                       speed_operand<I>(1, i / I::kK + s * 256, i % I::kK));
    for (int i = threadIdx.x; i < 64 * groups * I::kK; i += blockDim.x)
      store_operand<I>(left + s * 64 * groups * 32, i / I::kK, i % I::kK,
                       speed_operand<I>(0, i / I::kK + s * 128, i % I::kK));
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  uint64_t a[kSlices], b[kSlices];
#pragma unroll
  for (int s = 0; s < kSlices; ++s) {
    a[s] = descriptor(left + s * 64 * groups * 32 + group * 64 * 32, swapped);
    b[s] = descriptor(right + s * 256 * 32, swapped);
  }
  float sum[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) sum[i] = 0;
  for (int n = 0; n < iterations; ++n) {
    wgmma_fence();
#pragma unroll
    for (int s = 0; s < kSlices; ++s) wgmma_n256<I>(sum, a[s], b[s]);
    wgmma_commit();
    wgmma_wait<1>();
  }
  wgmma_wait<0>();
  float total = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) total += sum[i];
  sink[blockIdx.x * blockDim.x + threadIdx.x] = total;
  if (out == nullptr || blockIdx.x != 0) return;
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < 128; ++i)
    out[(row + i % 4 / 2 * 8) * 256 + i / 4 * 8 + lane % 4 * 2 + i % 2] = sum[i];
}

// One iteration against the model: every column of a wide instruction.
template <typename I>
__global__ void check_wgmma_n256(int rows, const float* out, Pairs* pairs) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, row = i / 256, column = i % 256;
  if (row >= rows) return;
  uint32_t expected = 0;
  for (int s = 0; s < kSlices; ++s) {
    uint32_t x[I::kK], y[I::kK];
    for (int k = 0; k < I::kK; ++k) {
      x[k] = speed_operand<I>(0, row + s * 128, k) >> kDropped<I>;
      y[k] = speed_operand<I>(1, column + s * 256, k) >> kDropped<I>;
    }
    expected = tensor_multiply_add<typename I::Operand>(x, y, I::kK, expected, kTensorH);
  }
  count(pairs, __float_as_uint(out[i]), expected);
}

template <typename I>
void time_wgmma(Json& json, const Buffers& x, const char* name) {
  const int count = multiprocessors();
  json.open(name);
  float *sink = nullptr, *out = nullptr;
  CHECK(cudaMalloc(&sink, 1 << 22));
  CHECK(cudaMalloc(&out, 128 * 256 * 4));
  bool swapped = false;
  Pairs result{};
  for (int attempt = 0; attempt < 2; ++attempt) {
    swapped = attempt == 1;
    CHECK(cudaMemset(out, 0xa5, 128 * 256 * 4));
    wgmma_loop<I><<<1, 256, kSlices * (256 + 128) * 32>>>(1, swapped, sink, out);
    FINISH(name);
    result = count_pairs(x, "check_wgmma_n256", [&] {
      check_wgmma_n256<I><<<128, 256>>>(128, out, x.pairs);
    });
    if (result.differ * 2 < result.total) break;
  }
  json.boolean("strides_swapped", swapped);
  json.pairs("against_model", result);
  double best = 0, sustained = 0;
  int best_groups = 2;
  const auto measure = [&](int groups, double wanted) {
    int iterations = 0;
    const double ms = time_loop(name, wanted, &iterations, [&](int n) {
      wgmma_loop<I><<<count, groups * 128, kSlices * (256 + 64 * groups) * 32>>>(n, swapped, sink,
                                                                                nullptr);
    });
    return 2.0 * 64 * 256 * I::kK * kSlices * iterations * groups * count / ms * 1e-9;
  };
  for (const int groups : {1, 2}) {
    const double tflops = measure(groups, 60);
    json.real(groups == 1 ? "1 warpgroup" : "2 warpgroups", tflops);
    if (tflops > best) best = tflops, best_groups = groups;
  }
  sustained = measure(best_groups, 250);
  json.real("best", best), json.real("sustained", sustained);
  json.close();
  printf("%s: %llu of %llu differ; best %.1f, sustained %.1f TFLOP/s\n", name, result.differ,
         result.total, best, sustained);
  fflush(stdout);
  CHECK(cudaFree(sink));
  CHECK(cudaFree(out));
}

void part_wgmma_speed(const std::string& folder) {
  Json json(folder + "/wgmma_speed.json");
  json.open();
  const Buffers x = allocate();
  json.open("tflops");
  time_wgmma<BF16K16>(json, x, "wgmma_m64n256k16_bf16");
  time_wgmma<F16K16>(json, x, "wgmma_m64n256k16_f16");
  time_wgmma<TF32K8>(json, x, "wgmma_m64n256k8_tf32");
  json.close();
  json.boolean("complete", true);
  json.close();
}

}  // namespace tensor_facts

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: tensor_facts mma|speed|wgmma|wgmma_speed FOLDER\n");
    return 2;
  }
  const std::string part = argv[1], folder = argv[2];
  if (part == "mma") {
    tensor_facts::part_mma(folder);
  } else if (part == "speed") {
    tensor_facts::part_speed(folder);
  } else if (part == "wgmma") {
    tensor_facts::part_wgmma(folder);
  } else if (part == "wgmma_speed") {
    tensor_facts::part_wgmma_speed(folder);
  } else {
    fprintf(stderr, "no part is called %s\n", part.c_str());
    return 2;
  }
  return 0;
}
