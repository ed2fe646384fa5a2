// A thread for each element of an output of [batch, channels, depth, height, width], in any order of them.
#pragma once

#include "divide.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {

struct OutputPlaces {
  static constexpr int kThreads = 256;
  Divider channels, depth, height, width;
  int64_t outputs;

  // `size`: depth, height, width. Throws where an index would be too large to be divided.
  OutputPlaces(const char* op, int64_t batch, int64_t of_channels, const int64_t* size)
      : channels(of_channels),
        depth(size[0]),
        height(size[1]),
        width(size[2]),
        outputs(batch * of_channels * size[0] * size[1] * size[2]) {
    check_divisions(op, outputs, max64(max64(of_channels, size[0]), max64(size[1], size[2])));
  }

  Launch launch(const char* op, void* stream) const {
    return {op, ceil_div(outputs, kThreads), kThreads, 0, stream};
  }
};

}  // namespace cuda
}  // namespace bninv
