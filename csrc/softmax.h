// softmax's and log_softmax's arguments, kernel and tasks.
#pragma once

#include <cstdint>

#include "kernel.h"

namespace bninv {

// R4 over outer x terms x inner elements, dense in that order, for each outer and inner index.
// A task is one row of terms where inner is 1, else kTaskInner neighbours, or fewer, of one outer index.
struct SoftmaxArgs {
  static constexpr int64_t kTaskInner = 64;
  DType dtype;
  const void* input;
  void* output;
  bool log;
  int64_t outer, terms, inner;
};

BNINV_DECLARE_KERNEL(softmax, SoftmaxArgs)

inline int64_t softmax_tasks(const SoftmaxArgs& a) {
  if (a.inner == 1) return a.outer;
  return a.outer * ((a.inner + SoftmaxArgs::kTaskInner - 1) / SoftmaxArgs::kTaskInner);
}

}  // namespace bninv
