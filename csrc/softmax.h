// softmax's and log_softmax's arguments and kernel: R4.
#pragma once

#include "along.h"
#include "kernel.h"

namespace bninv {

struct SoftmaxArgs : AlongArgs {
  bool log;
};

BNINV_DECLARE_KERNEL(softmax, SoftmaxArgs)

}  // namespace bninv
