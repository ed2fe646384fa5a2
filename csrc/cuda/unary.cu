// Elementwise functions of one tensor (R6) over dense memory, in place too: the bytes pass once, 16 at
// a time.
#include "../function.h"
#include "../unary.h"
#include "device.cuh"
#include "launch.cuh"
#include "pack.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
// Elements of a thread: a multiprocessor's 2048 threads then have 32 KB or more under way, and a chunk
// is small enough to spread a small tensor over many of them.
constexpr int kElements = 8;
constexpr int kChunk = kThreads * kElements;

// The function of every one of a thread's elements. The switch stands around the loop over them, and
// what a case holds is what differs: loads, stores and conversions are compiled once a kernel.
template <typename T, bool kRelu>
__device__ __forceinline__ void apply(const UnaryArgs& args, Arithmetic<T> (&values)[kElements]) {
  using A = Arithmetic<T>;
  const auto each = [&](const auto& f) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) values[e] = f(values[e]);
  };
  if constexpr (kRelu) {
    each([](A x) { return relu(x); });
  } else {
    A parameters[kUnaryParameters];
#pragma unroll
    for (int i = 0; i < kUnaryParameters; ++i) parameters[i] = static_cast<A>(args.parameters[i]);
    switch (args.function) {
#define BNINV_CASE(name, number, ...) \
  case Function::number:              \
    return each([&](A x) { return function_of<Function::number>(x, parameters); });
      BNINV_FUNCTIONS(BNINV_CASE)
#undef BNINV_CASE
      default:
        break;
    }
  }
}

// R6, element by element. A block owns kChunk elements in a row; its threads take whole vectors of them
// or, where pointers are not aligned and in the tensor's last chunk, single elements kThreads apart:
// either way neighbouring threads read neighbouring addresses. A thread has read all of its elements
// before it writes one: input and output may be one.
template <typename T, bool kRelu>
__global__ void __launch_bounds__(kThreads) unary_kernel(const UnaryArgs args, const bool aligned) {
  constexpr int kVector = kWholeVector<T>;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kChunk;
  const T* x = static_cast<const T*>(args.input) + first;
  T* y = static_cast<T*>(args.output) + first;
  const int64_t rest = args.elements - first;
  const int count = rest < kChunk ? static_cast<int>(rest) : kChunk;
  const bool whole = aligned && count == kChunk;
  // Of a vector's first element in the block, and of a single one.
  const auto vector = [](int e) { return e * kThreads + static_cast<int>(threadIdx.x) * kVector; };
  const auto single = [](int e) { return e * kThreads + static_cast<int>(threadIdx.x); };

  T elements[kElements] = {};
  if (whole) {
#pragma unroll
    for (int e = 0; e < kElements; e += kVector) {
      const Pack<T, kVector> pack = load<T, kVector>(x + vector(e));
#pragma unroll
      for (int l = 0; l < kVector; ++l) elements[e + l] = pack.lane[l];
    }
  } else {
#pragma unroll
    for (int e = 0; e < kElements; ++e)
      if (single(e) < count) elements[e] = x[single(e)];
  }

  Arithmetic<T> values[kElements];
#pragma unroll
  for (int e = 0; e < kElements; ++e) values[e] = widen(elements[e]);
  apply<T, kRelu>(args, values);
#pragma unroll
  for (int e = 0; e < kElements; ++e) elements[e] = narrow<T>(values[e]);

  if (whole) {
#pragma unroll
    for (int e = 0; e < kElements; e += kVector) {
      Pack<T, kVector> pack;
#pragma unroll
      for (int l = 0; l < kVector; ++l) pack.lane[l] = elements[e + l];
      store(y + vector(e), pack);
    }
  } else {
#pragma unroll
    for (int e = 0; e < kElements; ++e)
      if (single(e) < count) y[single(e)] = elements[e];
  }
}

}  // namespace

void unary(const UnaryArgs& args, void* stream) {
  with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    const bool aligned = are_aligned(args.input, args.output);
    const Launch how{"unary", ceil_div(args.elements, kChunk), kThreads, 0, stream};
    if (args.function == Function::kRelu)
      launch(how, unary_kernel<T, true>, args, aligned);
    else
      launch(how, unary_kernel<T, false>, args, aligned);
  });
}

}  // namespace cuda
}  // namespace bninv
