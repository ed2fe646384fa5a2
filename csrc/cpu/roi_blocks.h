// What the kernels over regions have in common: how neighbouring channels are read, and how a block of them
// is written channel by channel.
#pragma once

#include "../roi.h"
#include "scratch.h"
#include "transpose.h"

namespace bninv {
namespace BNINV_LEVEL {

// kVectors vectors of neighbouring channels that lie next to each other.
template <typename T>
struct DenseChannels {
  BNINV_INLINE typename Lanes<T>::Value operator()(const T* p, int vector) const {
    return load(p + vector * Lanes<T>::kCount);
  }
};

// Up to one vector of channels, wherever they lie.
template <typename T>
struct StridedChannels {
  int64_t step, count;
  BNINV_INLINE typename Lanes<T>::Value operator()(const T* p, int) const {
    Arithmetic<T> values[Lanes<T>::kCount] = {};
    for (int64_t l = 0; l < count; ++l) values[l] = widen(p[l * step]);
    return load(values);
  }
};

// Calls `step(read, kVectors constant, channel)` until it has been done for the channels [0, count).
template <typename T, typename Step>
BNINV_INLINE void for_channels(int64_t count, int64_t step_of_channels, const Step& step) {
  constexpr int64_t kCount = Lanes<T>::kCount;
#if BNINV_VEC_WIDTH >= 16
  constexpr int kVectors = 4;
#else
  constexpr int kVectors = 2;
#endif
  int64_t c = 0;
  if (step_of_channels == 1 && count >= kCount) {
    for (; c + kVectors * kCount <= count; c += kVectors * kCount)
      step(DenseChannels<T>{}, std::integral_constant<int, kVectors>{}, c);
    for (; c + kCount <= count; c += kCount)
      step(DenseChannels<T>{}, std::integral_constant<int, 1>{}, c);
    // The last channels: a vector that repeats some of the one before it, with equal bits.
    if (c < count) step(DenseChannels<T>{}, std::integral_constant<int, 1>{}, count - kCount);
    return;
  }
  for (; c < count; c += kCount)
    step(StridedChannels<T>{step_of_channels, min64(kCount, count - c)},
         std::integral_constant<int, 1>{}, c);
}

template <typename T>
BNINV_INLINE void narrow_run(const Arithmetic<T>* source, int64_t count, T* destination) {
  constexpr int64_t kCount = Lanes<T>::kCount;
  if constexpr (std::is_same_v<T, Arithmetic<T>>) {
    memcpy(destination, source, static_cast<size_t>(count) * sizeof(T));
  } else {
    int64_t i = 0;
    for (; i + kCount <= count; i += kCount) store(destination + i, load(source + i));
    for (; i < count; ++i) destination[i] = narrow<T>(source[i]);
  }
}

// The bits of an index, as roi_pool_argmax's lanes hold them.
template <typename A>
BNINV_INLINE void indices_run(const A* source, int64_t count, int32_t* destination) {
  for (int64_t i = 0; i < count; ++i) destination[i] = static_cast<int32_t>(to_bits(source[i]));
}

// The tasks [begin, end). `regions.place(k)` makes ready for region k and says whether it exists;
// `regions.bin(b, c, count, values)` computes `count` channels from c on of its bin b, and may write whole
// vectors. They are written by `write` as elements of Output; those of no region are `nothing`.
template <typename T, typename Output, typename Regions, typename Write>
void for_regions(const RoiArgs& args, int64_t begin, int64_t end, Regions& regions,
                 Arithmetic<T> nothing, const Write& write) {
  using A = Arithmetic<T>;
  constexpr int64_t kBins = 64;
  const int64_t width = ceil_div(args.block, Lanes<T>::kCount) * Lanes<T>::kCount;
  const int64_t blocks = ceil_div(args.channels, args.block);
  const int64_t bins = args.pooled_h * args.pooled_w;
  Scratch<A> values(kBins * width), by_channel(width * kBins);
  int64_t placed = -1;
  bool exists = false;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t k = task / blocks, c = task % blocks * args.block;
    const int64_t count = min64(args.block, args.channels - c);
    if (k != placed) exists = regions.place(k), placed = k;
    Output* output = static_cast<Output*>(args.output) + (k * args.channels + c) * bins;
    for (int64_t first = 0; first < bins; first += kBins) {
      const int64_t several = min64(kBins, bins - first);
      if (exists) {
        for (int64_t b = 0; b < several; ++b)
          regions.bin(first + b, c, count, values.data + b * width);
        transpose(values.data, width, several, count, by_channel.data, kBins);
      } else {
        for (int64_t i = 0; i < width * kBins; ++i) by_channel.data[i] = nothing;
      }
      for (int64_t l = 0; l < count; ++l)
        write(by_channel.data + l * kBins, several, output + l * bins + first);
    }
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
