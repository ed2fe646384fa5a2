// What operators along one dimension share: how they see their elements, and their tasks.
#pragma once

#include <cstdint>

#include "types.h"

namespace bninv {

// outer x terms x inner elements, dense in that order; each outer and inner index has a result of its own.
// A task is one row of terms where inner is 1, else kTaskInner neighbours, or fewer, of one outer index.
struct AlongArgs {
  static constexpr int64_t kTaskInner = 64;
  DType dtype;
  const void* input;
  void* output;
  int64_t outer, terms, inner;
};

inline int64_t along_tasks(const AlongArgs& a) {
  if (a.inner == 1) return a.outer;
  return a.outer * ((a.inner + AlongArgs::kTaskInner - 1) / AlongArgs::kTaskInner);
}

}  // namespace bninv
