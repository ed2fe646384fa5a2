// cumsum's, cumprod's and logcumsumexp's arguments and kernel: R3's scans.
#pragma once

#include "along.h"
#include "kernel.h"

namespace bninv {

enum class Scan : int32_t { kSum, kProduct, kLogSumExp };

struct ScanArgs : AlongArgs {
  Scan scan;
};

BNINV_DECLARE_KERNEL(scan, ScanArgs)

}  // namespace bninv
