// R3: the 32 lanes of a sum and the order in which they are added.
#pragma once

#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {

// One running sum under R3 for every lane of V. Terms are pushed in the contract's order.
//
// A lane that no term reached is +0, and no lane is ever -0 (a sum started at +0 cannot become -0),
// so adding such lanes, or leaving them out, gives the same bits: only those in use are touched.
template <typename V>
class LaneSum {
 public:
  // Spelled out: GCC compiles constructors that it writes itself for the baseline instruction set.
  BNINV_INLINE LaneSum() : total_(0.0f), count_(0) {}

  BNINV_INLINE void push(V x) {
    const int64_t lane = count_ % kSumLanes;
    lanes_[lane] = count_ < kSumLanes ? V(0.0f) + x : lanes_[lane] + x;
    if (++count_ == kSumSegment) finish_segment();
  }

  BNINV_INLINE V total() {
    if (count_ > 0) finish_segment();
    return total_;
  }

 private:
  BNINV_INLINE void finish_segment() {
    int64_t used = count_ < kSumLanes ? count_ : kSumLanes;
    for (int64_t h = kSumLanes / 2; h > 0; h /= 2) {
      if (used <= h) continue;
      for (int64_t j = 0; j + h < used; ++j) lanes_[j] = lanes_[j] + lanes_[j + h];
      used = h;
    }
    total_ = total_ + lanes_[0];
    count_ = 0;
  }

  V lanes_[kSumLanes];
  V total_;
  int64_t count_;
};

}  // namespace BNINV_LEVEL
}  // namespace bninv
