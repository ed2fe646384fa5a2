// group_norm's and instance_norm's arguments, kernel and tasks.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

// R5 over the groups of channels of dense samples, in the order batch, channels, pixels or, in
// channels_last, batch, pixels, channels.
struct GroupNormArgs {
  DType dtype;
  const void* input;
  void* output;
  Parameter weight, bias;  // one value a channel
  double eps;              // rounded to the arithmetic type before it is used
  bool channels_last;
  int64_t batch, channels, groups, pixels;
  int64_t together;
};

BNINV_DECLARE_KERNEL(group_norm, GroupNormArgs)

// A task is `together` groups of one sample, the last of a sample perhaps fewer.
inline int64_t group_norm_tasks(const GroupNormArgs& a) {
  return a.batch * ((a.groups + a.together - 1) / a.together);
}

}  // namespace bninv
