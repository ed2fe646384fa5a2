// A thread for each element of an output of [regions, channels, bins]: neighbouring threads take neighbouring
// channels where these lie next to each other in the input, else neighbouring bins of a channel.
#pragma once

#include "../roi.h"
#include "divide.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {

struct RoiPlaces {
  static constexpr int kThreads = 256;
  Divider channels, bins;
  int64_t outputs;
  bool channels_fastest;

  // Throws where an index would be too large to be divided.
  RoiPlaces(const char* op, const RoiArgs& args)
      : channels(args.channels),
        bins(args.pooled_h * args.pooled_w),
        outputs(args.rois * args.channels * args.pooled_h * args.pooled_w),
        channels_fastest(args.channel_step == 1) {
    check_divisions(op, outputs, max64(args.channels, args.pooled_h * args.pooled_w));
  }

  Launch launch(const char* op, void* stream) const {
    return {op, ceil_div(outputs, kThreads), kThreads, 0, stream};
  }
};

// What the calling thread computes, if there is anything.
struct RoiPlace {
  bool exists;
  int64_t roi, channel, bin, i, j;

  __device__ __forceinline__ RoiPlace(const RoiArgs& args, const RoiPlaces& places) {
    int64_t n = static_cast<int64_t>(blockIdx.x) * RoiPlaces::kThreads + threadIdx.x;
    exists = n < places.outputs;
    channel = places.channels_fastest ? places.channels.divide(n) : 0;
    bin = places.bins.divide(n);
    if (!places.channels_fastest) channel = places.channels.divide(n);
    roi = n;
    i = bin / args.pooled_w, j = bin % args.pooled_w;
  }

  __device__ __forceinline__ int64_t input_offset(const RoiArgs& args, int64_t image) const {
    return image * args.stride_n + channel * args.channel_step + bin * args.bin_step;
  }
  __device__ __forceinline__ int64_t output_offset(const RoiArgs& args) const {
    return (roi * args.channels + channel) * args.pooled_h * args.pooled_w + bin;
  }
};

}  // namespace cuda
}  // namespace bninv
