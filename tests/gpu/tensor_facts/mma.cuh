// The instructions mma.sync, and how a tile's operands lie in a warp's registers.
#pragma once

#include <cstdint>
#include <type_traits>

#include "tensor_block.h"

namespace tensor_facts {

using namespace bninv::common;

// A tile is what mma.sync computes at once: 16 rows, 8 columns.
constexpr int kM = 16, kN = 8, kOutputs = kM * kN;

template <typename Operand_, int kTerms>
struct Instruction {
  using Operand = Operand_;
  static constexpr int kK = kTerms;
  static constexpr bool kTf32 = std::is_same<Operand, Tf32Operand>::value;
  // In memory f16 and bf16 are in the low 16 bits, tf32 is a binary32 with all its bits.
  static constexpr int kDropped = kTf32 ? 13 : 0;
};
using F16K8 = Instruction<HalfOperand, 8>;
using F16K16 = Instruction<HalfOperand, 16>;
using BF16K8 = Instruction<BFloat16Operand, 8>;
using BF16K16 = Instruction<BFloat16Operand, 16>;
using TF32K4 = Instruction<Tf32Operand, 4>;
using TF32K8 = Instruction<Tf32Operand, 8>;

// A lane's share of A and B. a(row, k) and b(k, column) give patterns. As the PTX manual has them:
// g = lane / 4, t = lane % 4; A's rows are g and g + 8, B's column is g; k is 2 t, 2 t + 1 (and 8
// more) for 16-bit types, t (and 4 more) for tf32. D's rows are g and g + 8, its columns 2 t, 2 t + 1.
template <typename I, typename A, typename B>
__device__ __forceinline__ void load_fragments(uint32_t (&x)[4], uint32_t (&y)[2], A a, B b) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  constexpr bool kLong = I::kK == (I::kTf32 ? 8 : 16);  // four registers of A, else two
  const auto left = [&](int row, int k) {
    if constexpr (I::kTf32) return a(row, k + t);
    return a(row, 2 * (k + t)) | a(row, 2 * (k + t) + 1) << 16;
  };
  const auto right = [&](int k) {
    if constexpr (I::kTf32) return b(k + t, g);
    return b(2 * (k + t), g) | b(2 * (k + t) + 1, g) << 16;
  };
  x[0] = left(g, 0), x[1] = left(g + 8, 0), y[0] = right(0);
  x[2] = x[3] = y[1] = 0;
  if constexpr (kLong) x[2] = left(g, 4), x[3] = left(g + 8, 4), y[1] = right(4);
}

#define MMA_LONG(kind)                                                                           \
  asm volatile("mma.sync.aligned." kind " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                  \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#define MMA_SHORT(kind)                                                                 \
  asm volatile("mma.sync.aligned." kind " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                         \
               : "r"(a[0]), "r"(a[1]), "r"(b[0]))

template <typename I>
__device__ __forceinline__ void issue(float (&d)[4], const uint32_t (&a)[4],
                                      const uint32_t (&b)[2]) {
  if constexpr (std::is_same<I, F16K16>::value) MMA_LONG("m16n8k16.row.col.f32.f16.f16.f32");
  if constexpr (std::is_same<I, F16K8>::value) MMA_SHORT("m16n8k8.row.col.f32.f16.f16.f32");
  if constexpr (std::is_same<I, BF16K16>::value) MMA_LONG("m16n8k16.row.col.f32.bf16.bf16.f32");
  if constexpr (std::is_same<I, BF16K8>::value) MMA_SHORT("m16n8k8.row.col.f32.bf16.bf16.f32");
  if constexpr (std::is_same<I, TF32K8>::value) MMA_LONG("m16n8k8.row.col.f32.tf32.tf32.f32");
  if constexpr (std::is_same<I, TF32K4>::value) MMA_SHORT("m16n8k4.row.col.f32.tf32.tf32.f32");
}
#undef MMA_LONG
#undef MMA_SHORT

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

}  // namespace tensor_facts
