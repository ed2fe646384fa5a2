// cumsum's, cumprod's and logcumsumexp's arguments, kernel and tasks.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

enum class Scan : int32_t { kSum, kProduct, kLogSumExp };

// R3's scans over outer x terms x inner elements, dense in that order, for each outer and inner index.
// A task is one row of terms where inner is 1, else kTaskInner neighbours, or fewer, of one outer index.
struct ScanArgs {
  static constexpr int64_t kTaskInner = 64;
  DType dtype;
  Scan scan;
  const void* input;
  void* output;
  int64_t outer, terms, inner;
};

BNINV_DECLARE_KERNEL(scan, ScanArgs)

inline int64_t scan_tasks(const ScanArgs& a) {
  if (a.inner == 1) return a.outer;
  return a.outer * ((a.inner + ScanArgs::kTaskInner - 1) / ScanArgs::kTaskInner);
}

}  // namespace bninv
