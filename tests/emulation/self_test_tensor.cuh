// Kernels that look at the collectives of tensor cores.
#pragma once

#include "cuda/tensor_core.cuh"

namespace bninv {
namespace cuda {
namespace {

// What goes wrong on the way of a warp's operands.
enum TensorFault {
  kNoTensorFault,
  kNotTransposed,
  kHalvesSwapped,
  kRowsSwapped,
  kMisalignedRow,
  kHalfAWarp,
};

// out = out + a b: 16 x 8 sums, 16 rows of 32 bytes of a, and of b as many terms of 8 columns.
template <typename T>
__global__ void tensor_product(float* out, const uint4* in, int fault) {
  constexpr unsigned kTerms = 32 / sizeof(T), kRowBytes = 8 * sizeof(T);
  const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const uint32_t rows = tensor_address(), columns = rows + 16 * 32;
  const int swap = fault == kRowsSwapped ? 1 : 0;
  store_chunk(rows + lane * 16, in[lane ^ (swap * 16)]);
  if (lane < kTerms * kRowBytes / 16) store_chunk(columns + lane * 16, in[32 + lane]);
  __syncthreads();
  if (fault == kHalfAWarp && lane < 16) return;
  uint32_t a[4], b[4];
  load_matrices(a, rows + lane % 16 * 32 + lane / 16 * 16 + (fault == kMisalignedRow ? 4 : 0));
  if constexpr (sizeof(T) == 2) {
    const uint32_t row = columns + lane % 16 * kRowBytes;
    fault == kNotTransposed ? load_matrices(b, row) : load_matrices_transposed(b, row);
  } else {
    for (unsigned h = 0; h < 2; ++h) {
      uint32_t pair[2];
      load_words(pair, columns + (h * 4 + t) * kRowBytes + g / 2 * 8);
      b[h] = pair[g % 2];
    }
  }
  float sums[4];
  for (unsigned l = 0; l < 4; ++l) sums[l] = out[(g + l / 2 * 8) * 8 + t * 2 + l % 2];
  const int first = fault == kHalvesSwapped ? 1 : 0;
  tensor_multiply<T>(sums, a, b[first], b[1 - first], false);
  for (unsigned l = 0; l < 4; ++l) out[(g + l / 2 * 8) * 8 + t * 2 + l % 2] = sums[l];
}

template <typename T>
void tensor_product_case(void* out, void* in, int64_t fault) {
  launch({"tensor_product", 1, 32, 16 * 32 + 8 * 32, nullptr}, tensor_product<T>,
         static_cast<float*>(out), static_cast<const uint4*>(in), static_cast<int>(fault));
}

}  // namespace
}  // namespace cuda
}  // namespace bninv
