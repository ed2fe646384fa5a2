// What is asked of every drawn tile, and how often the answer was not the one expected. Bits are
// compared as they are: of zeros the sign, of NaN the pattern.
#pragma once

#include "draws.cuh"
#include "rules.cuh"
#include "wgmma.cuh"

namespace tensor_facts {

struct Pairs {
  unsigned long long of, differ;
};
struct Case {
  uint32_t a[kMaxBlock], b[kMaxBlock], c, hardware, model;
  int category, tile, row, column;
};
constexpr int kCases = 6;

struct Tally {
  Pairs model;         // the model
  Pairs moved;         // the same dot elsewhere in a tile, among other neighbours
  Pairs permuted;      // its terms in another order within a block
  Pairs halves;        // by two instructions of half the length: against the one
  Pairs halves_model;  // ... against the model of two
  Pairs segments;      // 128 terms by one instruction after another: against the model
  Pairs mma;           // wgmma: against mma.sync
  unsigned long long normal, subnormal, zero, infinite, nan;  // of the results
  unsigned long long rules[kRules];
  unsigned cases;
  Case first[kCases];
};

__device__ inline void count(Pairs& pairs, uint32_t x, uint32_t y) {
  atomicAdd(&pairs.of, 1ULL);
  if (x != y) atomicAdd(&pairs.differ, 1ULL);
}

__device__ inline int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <typename I>
__device__ uint32_t model_of(const uint32_t* a, const uint32_t* b, int64_t tile, int at, uint32_t c,
                             TensorClass rule) {
  uint32_t x[I::kK], y[I::kK];
  load_terms<I>(a, b, tile, at / kN, at % kN, x, y);
  return tensor_multiply_add<typename I::Operand>(x, y, I::kK, c, rule);
}

template <typename I>
__global__ void run_mma(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  const int64_t tile = thread_index() / 32;
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = __uint_as_float(c[tile * kOutputs + output_index(i)]);
  multiply<I>(
      sum, [&](int row, int k) { return a[(tile * kM + row) * I::kK + k]; },
      [&](int k, int column) { return b[(tile * I::kK + k) * kN + column]; });
  for (int i = 0; i < 4; ++i) d[tile * kOutputs + output_index(i)] = __float_as_uint(sum[i]);
}

__device__ inline void count_kind(Tally* tally, uint32_t x) {
  const uint32_t size = x & 0x7fffffff;
  atomicAdd(size > 0x7f800000    ? &tally->nan
            : size == 0x7f800000 ? &tally->infinite
            : size == 0          ? &tally->zero
            : size < 0x00800000  ? &tally->subnormal
                                 : &tally->normal,
            1ULL);
}

template <typename I>
__global__ void compare(int category, TensorClass rule, const uint32_t* a, const uint32_t* b,
                        const uint32_t* c, const uint32_t* d, Tally* tally) {
  const int64_t i = thread_index(), tile = i / kOutputs;
  const int at = i % kOutputs, row = at / kN, column = at % kN;
  uint32_t x[I::kK], y[I::kK];
  load_terms<I>(a, b, tile, row, column, x, y);
  const uint32_t got = d[i], expected = model_of<I>(a, b, tile, at, c[i], rule);
  count(tally->model, got, expected);
  count_kind(tally, got);
  for (int n = 0; n < kRules; ++n)
    if (multiply_add_by<I>(device_rules[n], x, y, c[i]) != got) atomicAdd(&tally->rules[n], 1ULL);
  if (got == expected) return;
  const unsigned slot = atomicAdd(&tally->cases, 1u);
  if (slot >= kCases) return;
  Case& first = tally->first[slot];
  for (int k = 0; k < I::kK; ++k) {
    first.a[k] = a[(tile * kM + row) * I::kK + k], first.b[k] = b[(tile * I::kK + k) * kN + column];
  }
  first.c = c[i], first.hardware = got, first.model = expected, first.category = category;
  first.tile = static_cast<int>(tile), first.row = row, first.column = column;
}

// One dot of each tile, at every position of a tile, its neighbours 0: zeros, 1: any numbers, 2: NaN,
// 3: infinities, 4: both and numbers.
template <typename I>
__global__ void move_dots(const uint32_t* a, const uint32_t* b, const uint32_t* c,
                          const uint32_t* d, Tally* tally) {
  using F = typename I::Operand;
  const int64_t tile = thread_index() / 32;
  const int from_row = tile % kM, from_column = tile / kM % kN;
  const int64_t from = tile * kOutputs + from_row * kN + from_column;
  for (int step = 0; step < kOutputs * 5; ++step) {
    const int position = step / 5, filler = step % 5, row = position / kN, column = position % kN;
    const auto fill = [&](int side, int i, int k) -> uint32_t {
      const uint64_t h = mix(draw(20 + side, filler, tile * kOutputs + position, i * 16 + k));
      if (filler == 0) return 0;
      const int kind = filler == 4 ? 1 + below(h, 3) : filler;
      if (kind > 1) return special_value<F>(h, kind == 2 ? 1 : 0) << I::kDropped;
      const int exponent = below(mix(h), 29) - 14;
      return make<F>((h & 1) != 0, exponent, static_cast<uint32_t>(h >> 8)) << I::kDropped;
    };
    float sum[4];
    for (int i = 0; i < 4; ++i) {
      const int at = output_index(i);
      uint32_t start = static_cast<uint32_t>(draw(22, filler, tile * kOutputs + position, at));
      if (filler == 0) start = 0;
      if (filler == 2) start |= 0x7fc00000;
      if (filler == 3) start = (start & 0x80000000u) | 0x7f800000;
      sum[i] = __uint_as_float(at == position ? c[from] : start);
    }
    multiply<I>(
        sum,
        [&](int i, int k) {
          return i == row ? a[(tile * kM + from_row) * I::kK + k] : fill(0, i, k);
        },
        [&](int k, int i) {
          return i == column ? b[(tile * I::kK + k) * kN + from_column] : fill(1, i, k);
        });
    for (int i = 0; i < 4; ++i)
      if (output_index(i) == position) count(tally->moved, __float_as_uint(sum[i]), d[from]);
  }
}

// Every tile with the terms of each block in another order.
template <typename I>
__global__ void permute_terms(int parts, const uint32_t* a, const uint32_t* b, const uint32_t* c,
                              const uint32_t* d, Tally* tally) {
  const int64_t tile = thread_index() / 32;
  const int block = min(I::kK, I::Operand::kGroup / parts);
  uint64_t order = 0;  // four bits a place
  for (int k = 0; k < I::kK; ++k) order |= static_cast<uint64_t>(k) << (4 * k);
  for (int k = I::kK - 1; k > 0; --k) {
    const int other = k / block * block + below(draw(30, 0, tile, k), k % block + 1);
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
    count(tally->permuted, __float_as_uint(sum[i]), d[tile * kOutputs + output_index(i)]);
}

// The same terms by two instructions of half the length, low k first.
template <typename I, typename Half>
__global__ void in_halves(TensorClass rule, const uint32_t* a, const uint32_t* b, const uint32_t* c,
                          const uint32_t* d, Tally* tally) {
  const int64_t tile = thread_index() / 32;
  float sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = __uint_as_float(c[tile * kOutputs + output_index(i)]);
  for (int k0 = 0; k0 < I::kK; k0 += Half::kK) {
    multiply<Half>(
        sum, [&](int row, int k) { return a[(tile * kM + row) * I::kK + k0 + k]; },
        [&](int k, int column) { return b[(tile * I::kK + k0 + k) * kN + column]; });
  }
  for (int i = 0; i < 4; ++i) {
    const int at = output_index(i);
    uint32_t x[I::kK], y[I::kK], expected = c[tile * kOutputs + at];
    load_terms<I>(a, b, tile, at / kN, at % kN, x, y);
    for (int k = 0; k < I::kK; k += Half::kK)
      expected = tensor_multiply_add<typename I::Operand>(x + k, y + k, Half::kK, expected, rule);
    count(tally->halves, __float_as_uint(sum[i]), d[tile * kOutputs + at]);
    count(tally->halves_model, __float_as_uint(sum[i]), expected);
  }
}

// A segment: 128 terms, one instruction after another, from +0.
template <typename I>
__global__ void run_segments(TensorClass rule, const uint32_t* a, const uint32_t* b, Tally* tally) {
  constexpr int kSteps = 128 / I::kK;
  const int64_t first = thread_index() / 32 * kSteps;
  float sum[4] = {};
  for (int64_t tile = first; tile < first + kSteps; ++tile) {
    multiply<I>(
        sum, [&](int row, int k) { return a[(tile * kM + row) * I::kK + k]; },
        [&](int k, int column) { return b[(tile * I::kK + k) * kN + column]; });
  }
  for (int i = 0; i < 4; ++i) {
    uint32_t expected = 0;
    for (int64_t tile = first; tile < first + kSteps; ++tile)
      expected = model_of<I>(a, b, tile, output_index(i), expected, rule);
    count(tally->segments, __float_as_uint(sum[i]), expected);
  }
}

__global__ void compare_with_mma(const uint32_t* d, const uint32_t* mma, Tally* tally) {
  count(tally->mma, d[thread_index()], mma[thread_index()]);
}

// One group of four warps: four tiles of rows, kSteps instructions one after another without waiting.
// kSteps 1: a b + c is stored. More: a segment from +0, which is compared with the model.
template <typename I, int kSteps, bool kRegisters>
__global__ void __launch_bounds__(128)
    run_wgmma(TensorClass rule, bool add_first, const uint32_t* a, const uint32_t* b,
              const uint32_t* c, uint32_t* d, Tally* tally) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
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
        [](int, int) { return 0u; });
  }
  publish_operands();
  wgmma_fence();
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    wgmma_n8<I, kRegisters>(sum, descriptor(left[s]), x[s], descriptor(right[s]),
                            s > 0 || add_first);
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
    uint32_t expected = 0;
    for (int s = 0; s < kSteps; ++s)
      expected = model_of<I>(a, b, mine + s * kShare, at, expected, rule);
    count(tally->segments, __float_as_uint(sum[i]), expected);
  }
#endif
}

}  // namespace tensor_facts
