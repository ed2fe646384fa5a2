// R11: each box is held against those of its class that were kept before it, a vector of them at a time,
// until one of them overlaps it too much.
#include "../nms.h"

#include "scratch.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

BNINV_INLINE bool any_lane(bool condition) { return condition; }
template <typename Mask>
BNINV_INLINE bool any_lane(Mask mask) {
  int64_t words[sizeof(Mask) / sizeof(int64_t)], any = 0;
  memcpy(words, &mask, sizeof(mask));
  for (const int64_t word : words) any |= word;
  return any != 0;
}

template <typename T>
class KeptBoxes {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int kCount = Lanes<T>::kCount;
  static constexpr int kVectors = 4;  // between two looks at whether there was an overlap
  static constexpr int64_t kStep = kVectors * kCount;

 public:
  KeptBoxes(int64_t most, double threshold)
      : room_(ceil_div(most, kStep) * kStep),
        sides_(5 * room_),
        threshold_(rounded_down<A>(threshold)),
        needs_area_(threshold_ >= A(0)) {}

  void clear() { count_ = 0; }

  void add(const Box<A>& box) {
    // Places that no box has taken yet overlap nothing: their area is NaN.
    if (count_ % kStep == 0) {
      for (int64_t i = 0; i < 4; ++i)
        for (int64_t k = 0; k < kStep; ++k) side(i)[count_ + k] = A(0);
      for (int64_t k = 0; k < kStep; ++k) side(4)[count_ + k] = A(__builtin_nan(""));
    }
    side(0)[count_] = box.x1, side(1)[count_] = box.y1;
    side(2)[count_] = box.x2, side(3)[count_] = box.y2;
    side(4)[count_] = box.area;
    ++count_;
  }

  bool overlap(const Box<A>& box) const {
    const Box<V> later(V(box.x1), V(box.y1), V(box.x2), V(box.y2), V(box.area));
    const V zero(0.0f), threshold(threshold_);
    for (int64_t begin = 0; begin < count_; begin += kStep) {
      V area[kVectors], shared[kVectors];
      auto touch = zero > zero;
      for (int v = 0; v < kVectors; ++v) {
        const int64_t i = begin + v * kCount;
        area[v] = load(side(4) + i);
        shared[v] = intersection(Box<V>(load(side(0) + i), load(side(1) + i), load(side(2) + i),
                                        load(side(3) + i), area[v]),
                                 later);
        touch = touch | (shared[v] > zero);
      }
      // Without an area in common the quotient is a zero or NaN, and greater than no such threshold.
      if (needs_area_ && !any_lane(touch)) continue;
      auto beyond = zero > zero;
      for (int v = 0; v < kVectors; ++v)
        beyond = beyond | (intersection_over_union(shared[v], area[v], later.area) > threshold);
      if (any_lane(beyond)) return true;
    }
    return false;
  }

 private:
  A* side(int64_t i) { return sides_.data + i * room_; }
  const A* side(int64_t i) const { return sides_.data + i * room_; }

  int64_t room_, count_ = 0;
  Scratch<A> sides_;  // x1 of all, y1, x2, y2, area
  A threshold_;
  bool needs_area_;
};

template <typename T>
void nms_of(const NmsArgs& args, int64_t begin, int64_t end) {
  int64_t most = 0;
  for (int64_t task = begin; task < end; ++task)
    most = max64(most, args.class_begin[task + 1] - args.class_begin[task]);
  KeptBoxes<T> kept(most, args.threshold);
  for (int64_t task = begin; task < end; ++task) {
    kept.clear();
    for (int64_t m = args.class_begin[task]; m < args.class_begin[task + 1]; ++m) {
      const T* sides = static_cast<const T*>(args.boxes) + args.members[m] * args.box_stride;
      const auto side = [&](int64_t i) { return widen(sides[i * args.side_stride]); };
      const Box<Arithmetic<T>> box(side(0), side(1), side(2), side(3));
      const bool stays = !kept.overlap(box);
      if (stays) kept.add(box);
      args.is_kept[args.members[m]] = stays;
    }
  }
}

}  // namespace

void nms(const NmsArgs& args, int64_t begin, int64_t end) {
  if (begin >= end) return;
  with_type(args.dtype,
            [&](auto type) { nms_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
