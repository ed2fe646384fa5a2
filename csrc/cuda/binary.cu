// Elementwise functions of two tensors (R6) over dense memory.
#include "../binary.h"
#include "../binary_function.h"
#include "../dtypes.h"
#include "device.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
// A thread's elements lie kThreads apart, so that neighbouring threads read neighbouring addresses. What
// is computed outweighs what is read: a vector at a time would gain little.
constexpr int kElements = 4;
constexpr int kChunk = kThreads * kElements;

template <typename A>
__device__ __forceinline__ A apply(BinaryFunction function, A x, A y) {
  switch (function) {
#define BNINV_CASE(name, number, ...) \
  case BinaryFunction::number:        \
    return binary_of<BinaryFunction::number>(x, y);
    BNINV_BINARY_FUNCTIONS(BNINV_CASE)
#undef BNINV_CASE
  }
  return x;
}

// R6, element by element: a block owns kChunk elements in a row.
template <typename T>
__global__ void __launch_bounds__(kThreads) binary_kernel(const BinaryArgs args) {
  const T* x = static_cast<const T*>(args.input);
  const T* y = static_cast<const T*>(args.other);
  T* out = static_cast<T*>(args.output);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kChunk + threadIdx.x;
#pragma unroll 1
  for (int e = 0; e < kElements; ++e) {
    const int64_t i = first + e * kThreads;
    if (i < args.elements)
      out[i] = narrow<T>(
          apply(args.function, widen(x[i * args.input_step]), widen(y[i * args.other_step])));
  }
}

}  // namespace

void binary(const BinaryArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    launch({"binary", ceil_div(args.elements, kChunk), kThreads, 0, stream}, binary_kernel<T>,
           args);
  });
}

}  // namespace cuda
}  // namespace bninv
