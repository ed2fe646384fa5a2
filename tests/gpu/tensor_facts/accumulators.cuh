// Accumulators that are hard for the products which they are added to.
#pragma once

#include "draws.cuh"

namespace tensor_facts {

template <typename I>
__device__ void load_terms(const uint32_t* a, const uint32_t* b, int64_t tile, int row, int column,
                           uint32_t (&x)[I::kK], uint32_t (&y)[I::kK]) {
  for (int k = 0; k < I::kK; ++k) {
    x[k] = a[(tile * kM + row) * I::kK + k] >> I::kDropped;
    y[k] = b[(tile * I::kK + k) * kN + column] >> I::kDropped;
  }
}

// Accumulators, which may look at the products they are added to. Kinds: Zero, Normal, near the Top,
// Gap about the cut, X cancels, Subnormal, Y tiny, Huge, Random bits, Infinity or NaN, All ones.
template <typename I>
__global__ void draw_accumulators(int category, const uint32_t* a, const uint32_t* b, uint32_t* c) {
  const char* const kinds[] = {"ZN",   "NNZT",  "TZNG", "GGTZ", "XXZT", "SZTYX",
                               "ZSYX", "ZZZSY", "HHXT", "NZII", "ZZZZ", "RXZT",
                               "TGZS", "TANZ",  "TNZN", "NZTX", "NZ"};
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

}  // namespace tensor_facts
