// batch_norm in eval mode under R2, with an optional residual and activation. Bound by memory: the
// bytes of each tensor pass once, 16 at a time, and a channel's scale is computed once for many
// elements (a division and a square root for every vector would cost more than its traffic).
#include "../activation.h"
#include "../batch_norm.h"
#include "device.cuh"
#include "launch.cuh"
#include "pack.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;
// Blocks a multiprocessor should hold. With four vectors under way in each thread that is 48 KB in
// flight, more than its share of bandwidth times latency on any architecture so far, at up to 80
// registers a thread.
constexpr int kBlocks = 3;

// What follows the normalization. The common cases have kernels of their own; the others share one
// that asks for the activation at run time, at one branch a vector that all threads take alike.
enum class Epilogue { kNone, kRelu, kAny };

// Vectors a thread takes at once: four independent loads, residuals included. The code of all
// activations is large, and arithmetic hides more of the latency there.
template <bool kResidual, Epilogue kEpilogue>
constexpr int kUnrollOf = kResidual || kEpilogue == Epilogue::kAny ? 2 : 4;

// Each step rounds to T where a separate operator would have stored its result. relu may come before
// the rounding: that it keeps or makes +0 cannot be told from where it stands.
template <typename T, bool kResidual, Epilogue kEpilogue>
__device__ __forceinline__ T element_result(T x, T residual,
                                            const BatchNormChannel<Arithmetic<T>>& c,
                                            const BatchNormArgs& args) {
  using A = Arithmetic<T>;
  A y = normalize(widen(x), c.mean, c.scale, c.bias);
  if constexpr (kResidual) y = rounded<T>(y) + widen(residual);
  if constexpr (kEpilogue == Epilogue::kRelu) y = relu(y);
  if constexpr (kEpilogue == Epilogue::kAny)
    y = activate_any(args.activation, rounded<T>(y), static_cast<A>(args.negative_slope));
  return narrow<T>(y);
}

// ---- Channels fastest (channels_last, and [batch, channels]) -------------------------------------

// Vectors are taken from memory as if it had no rows. A thread's vectors are `step` apart, a multiple
// of the vectors after which the channels repeat: so its channels stay the same, and neighbouring
// threads read neighbouring addresses whatever the number of channels.
template <typename T, int kVector, bool kResidual, Epilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, kBlocks)
    batch_norm_channels_fastest(const BatchNormArgs args, const int64_t step) {
  using A = Arithmetic<T>;
  constexpr int kUnroll = kUnrollOf<kResidual, kEpilogue>;
  const T* __restrict__ x = static_cast<const T*>(args.input);
  const T* __restrict__ residual = static_cast<const T*>(args.residual);
  T* __restrict__ y = static_cast<T*>(args.output);
  const int64_t elements = args.outer * args.channels;
  const int64_t vectors = elements / kVector;

  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= step) return;
  BatchNormChannel<A> channel[kVector];
  int64_t c = i * kVector % args.channels;
#pragma unroll
  for (int l = 0; l < kVector; ++l) {
    channel[l] = batch_norm_channel<T>(args, c);
    c = c + 1 < args.channels ? c + 1 : 0;
  }

  const auto result = [&](const Pack<T, kVector>& a, const Pack<T, kVector>& b) {
    Pack<T, kVector> pack;
#pragma unroll
    for (int l = 0; l < kVector; ++l)
      pack.lane[l] =
          element_result<T, kResidual, kEpilogue>(a.lane[l], b.lane[l], channel[l], args);
    return pack;
  };
  for (; i + (kUnroll - 1) * step < vectors; i += kUnroll * step) {
    Pack<T, kVector> a[kUnroll], b[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      a[u] = load<T, kVector>(x + (i + u * step) * kVector);
      if constexpr (kResidual) b[u] = load<T, kVector>(residual + (i + u * step) * kVector);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) store(y + (i + u * step) * kVector, result(a[u], b[u]));
  }
  for (; i < vectors; i += step) {
    Pack<T, kVector> a = load<T, kVector>(x + i * kVector), b = a;
    if constexpr (kResidual) b = load<T, kVector>(residual + i * kVector);
    store(y + i * kVector, result(a, b));
  }
  // The last vector may be partial; it falls to the thread whose turn it is.
  if (kVector > 1 && i == vectors) {
#pragma unroll
    for (int l = 0; l < kVector; ++l) {
      const int64_t e = i * kVector + l;
      if (e < elements)
        y[e] = element_result<T, kResidual, kEpilogue>(x[e], kResidual ? residual[e] : x[e],
                                                       channel[l], args);
    }
  }
}

// ---- Channels in planes (contiguous) -------------------------------------------------------------

// A block owns the same `kChunk` elements of every `samples`-th sample, and keeps their channels'
// parameters in shared memory.
template <typename T, int kVector, bool kResidual, Epilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, kBlocks)
    batch_norm_planes(const BatchNormArgs args, const int64_t chunks, const int64_t samples) {
  using A = Arithmetic<T>;
  constexpr int kUnroll = kUnrollOf<kResidual, kEpilogue>;
  constexpr int kChunk = kThreads * kUnroll * kVector;
  BatchNormChannel<A>* channel = dynamic_shared<BatchNormChannel<A>>();
  const int64_t sample = args.channels * args.inner;
  const int64_t begin = blockIdx.x % chunks * kChunk;
  const int64_t end = begin + kChunk < sample ? begin + kChunk : sample;
  const int64_t first = begin / args.inner, last = (end - 1) / args.inner;
  for (int64_t c = first + threadIdx.x; c <= last; c += kThreads)
    channel[c - first] = batch_norm_channel<T>(args, c);
  __syncthreads();

  // Where each of this thread's vectors lies does not depend on the sample: the table's index of its
  // first lane, and the number of lanes before the next channel begins.
  int index[kUnroll], before_next[kUnroll];
#pragma unroll
  for (int u = 0; u < kUnroll; ++u) {
    const int64_t offset = begin - first * args.inner + (u * kThreads + threadIdx.x) * kVector;
    index[u] =
        args.inner > kChunk
            ? static_cast<int>(offset >= args.inner)
            : static_cast<int>(static_cast<uint32_t>(offset) / static_cast<uint32_t>(args.inner));
    const int64_t rest = (index[u] + 1) * args.inner - offset;
    before_next[u] = rest < kVector ? static_cast<int>(rest) : kVector;
  }
  const bool straddling = args.inner % kVector != 0;

  for (int64_t n = blockIdx.x / chunks; n < args.outer; n += samples) {
    const int64_t start = n * sample + begin + threadIdx.x * kVector;
    const T* __restrict__ x = static_cast<const T*>(args.input) + start;
    const T* __restrict__ residual = static_cast<const T*>(args.residual) + start;
    T* __restrict__ y = static_cast<T*>(args.output) + start;
    const auto exists = [&](int u) { return begin + (u * kThreads + threadIdx.x) * kVector < end; };
    Pack<T, kVector> a[kUnroll], b[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (!exists(u)) continue;
      a[u] = load<T, kVector>(x + u * kThreads * kVector);
      if constexpr (kResidual) b[u] = load<T, kVector>(residual + u * kThreads * kVector);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (!exists(u)) continue;
      const BatchNormChannel<A> here = channel[index[u]];
      BatchNormChannel<A> next = here;
      if (straddling && before_next[u] < kVector) next = channel[index[u] + 1];
#pragma unroll
      for (int l = 0; l < kVector; ++l) {
        const bool first_channel = l < before_next[u];
        const BatchNormChannel<A> own{first_channel ? here.mean : next.mean,
                                      first_channel ? here.scale : next.scale,
                                      first_channel ? here.bias : next.bias};
        a[u].lane[l] =
            element_result<T, kResidual, kEpilogue>(a[u].lane[l], b[u].lane[l], own, args);
      }
      store(y + u * kThreads * kVector, a[u]);
    }
  }
}

// ---- Launching -----------------------------------------------------------------------------------

int64_t greatest_common_divisor(int64_t a, int64_t b) {
  return b == 0 ? a : greatest_common_divisor(b, a % b);
}

template <typename T, int kVector, bool kResidual, Epilogue kEpilogue>
void launch_channels_fastest(const BatchNormArgs& args, void* stream) {
  const int64_t vectors = ceil_div(args.outer * args.channels, kVector);
  const int64_t period = args.channels / greatest_common_divisor(args.channels, kVector);
  // Few threads with many vectors each share a scale's cost; but no multiprocessor is left idle.
  const int64_t processors = multiprocessors("batch_norm");
  const int64_t wanted = max64(ceil_div(vectors, kThreads * kUnrollOf<kResidual, kEpilogue>),
                               min64(ceil_div(vectors, kThreads), processors));
  const int64_t blocks = max64(min64(wanted, processors * kBlocks), ceil_div(period, kThreads));
  launch({"batch_norm", blocks, kThreads, 0, stream},
         batch_norm_channels_fastest<T, kVector, kResidual, kEpilogue>, args,
         blocks * kThreads / period * period);
}

template <typename T, int kVector, bool kResidual, Epilogue kEpilogue>
void launch_planes(const BatchNormArgs& args, void* stream) {
  constexpr int64_t kChunk = kThreads * kUnrollOf<kResidual, kEpilogue> * kVector;
  const int64_t chunks = ceil_div(args.channels * args.inner, kChunk);
  // As many blocks as fit at once and no more: a second wave of a few would take as long again.
  const int64_t slots = multiprocessors("batch_norm") * int64_t{kBlocks};
  const int64_t samples = max64(min64(args.outer, slots / chunks), 1);
  const int64_t table = min64(args.channels, kChunk / args.inner + 2);
  launch({"batch_norm", chunks * samples, kThreads,
          static_cast<size_t>(table) * sizeof(BatchNormChannel<Arithmetic<T>>), stream},
         batch_norm_planes<T, kVector, kResidual, kEpilogue>, args, chunks, samples);
}

template <typename T, int kVector, bool kResidual, Epilogue kEpilogue>
void launch_layout(const BatchNormArgs& args, void* stream) {
  if (args.inner == 1)
    launch_channels_fastest<T, kVector, kResidual, kEpilogue>(args, stream);
  else
    launch_planes<T, kVector, kResidual, kEpilogue>(args, stream);
}

template <typename T, int kVector, Epilogue kEpilogue>
void launch_residual(const BatchNormArgs& args, void* stream) {
  if (args.residual != nullptr)
    launch_layout<T, kVector, true, kEpilogue>(args, stream);
  else
    launch_layout<T, kVector, false, kEpilogue>(args, stream);
}

template <typename T>
void launch_dtype(const BatchNormArgs& args, void* stream) {
  constexpr int kVector = kWholeVector<T>;
  // In planes: whole vectors in a sample, at aligned addresses in each, of at most two channels.
  const bool whole =
      args.inner == 1 || (args.channels * args.inner % kVector == 0 && args.inner >= kVector);
  const bool aligned = are_aligned(args.input, args.output, args.residual);
  if (!aligned || !whole) return launch_residual<T, 1, Epilogue::kAny>(args, stream);
  switch (args.activation) {
    case Activation::kNone:
      return launch_residual<T, kVector, Epilogue::kNone>(args, stream);
    case Activation::kRelu:
      return launch_residual<T, kVector, Epilogue::kRelu>(args, stream);
    default:
      return launch_residual<T, kVector, Epilogue::kAny>(args, stream);
  }
}

}  // namespace

void batch_norm(const BatchNormArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
