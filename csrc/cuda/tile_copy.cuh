// How a stage of a tiled product (gemm.cuh) is filled: four neighbouring elements at a time, while the
// stage before it is multiplied. What lies outside of the product is the term +0 * +0.
#pragma once

#include "../conv2d.h"
#include "tiling.cuh"

namespace bninv {
namespace cuda {

// Four elements on their way to a stage. Of binary32 and binary64 they are copied there asynchronously.
// Half types must be widened on the way: they wait in shared memory of this thread's own (kSlot, where
// four are always copied together), or in registers, until `land`.
template <typename T, typename Tile, bool kSlot>
struct Copy {
  using A = Arithmetic<T>;
  Elements<T, 4> held;  // unused otherwise, and then in no register

  // `address(l)` of element l is used where `exists(l)`; else it is +0. `whole`: the four are there
  // together, aligned, or not at all.
  template <typename Address, typename Exists>
  __device__ __forceinline__ void start(A* stage, void* slot, const Address& address,
                                        const Exists& exists, bool whole) {
    if constexpr (Tile::kAsync) {
      if (whole) {
#pragma unroll
        for (int l = 0; l < 4; l += 16 / sizeof(T))
          copy_async<16>(stage + l, address(0) + l, exists(0));
      } else {
#pragma unroll
        for (int l = 0; l < 4; ++l) copy_async<sizeof(T)>(stage + l, address(l), exists(l));
      }
    } else if constexpr (kSlot) {
      copy_async<sizeof(held)>(slot, address(0), exists(0));
    } else {
      held = Elements<T, 4>{};
      if (whole) {
        if (exists(0)) held = *reinterpret_cast<const Elements<T, 4>*>(address(0));
      } else {
#pragma unroll
        for (int l = 0; l < 4; ++l)
          if (exists(l)) held.lane[l] = *address(l);
      }
    }
  }

  // After the wait for what was started.
  __device__ __forceinline__ void land(A* stage, const void* slot) const {
    if constexpr (!Tile::kAsync) {
      const Elements<T, 4> narrow = kSlot ? *static_cast<const Elements<T, 4>*>(slot) : held;
      Elements<A, 4> wide;
#pragma unroll
      for (int l = 0; l < 4; ++l) wide.lane[l] = widen(narrow.lane[l]);
      *reinterpret_cast<Elements<A, 4>*>(stage) = wide;
    }
  }
};

// The panel's part of a stage: terms x columns, columns dense. What lies outside is +0. A tile of single
// elements may have a panel of whole copies all the same: a stem's.
template <typename T, typename Tile, bool kWhole>
class PanelSource {
 public:
  using A = Arithmetic<T>;

  __device__ __forceinline__ PanelSource(const Conv2dArgs& args, const Block& block)
      : stride_(args.plan.groups.term),
        whole_(kWhole || args.plan.whole_panel),
        terms_(block.last - block.first - row()) {
    const int64_t column = block.column + quad() * 4;
    const int64_t left = args.gemm.columns - column;
    columns_ = left < 0 ? 0 : left < 4 ? static_cast<int>(left) : 4;
    if (columns_ == 0) terms_ = 0;
    next_ = static_cast<const T*>(args.weight) + (block.first + row()) * stride_ +
            block.group * args.plan.groups.weight + column;
  }

  // Starts the copies of the next kDepth terms.
  __device__ __forceinline__ void start(typename Tile::Shared& shared, int stage) {
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i) {
      const int step = i * Tile::kPanelStep;
      const bool inside = step < terms_;
      copies_[i].start(
          &shared.stages[stage].panel[row() + step][quad() * 4], shared.slot(Tile::kRowCopies + i),
          [&](int l) { return next_ + step * stride_ + l; },
          [&](int l) { return inside && (whole_ || l < columns_); }, whole_);
    }
    terms_ -= Tile::kDepth;
    next_ += Tile::kDepth * stride_;
  }

  __device__ __forceinline__ void land(typename Tile::Shared& shared, int stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kPanelCopies; ++i)
      copies_[i].land(&shared.stages[stage].panel[row() + i * Tile::kPanelStep][quad() * 4],
                      shared.slot(Tile::kRowCopies + i));
  }

 private:
  static __device__ __forceinline__ int row() { return Tile::thread() / (Tile::kColumns / 4); }
  static __device__ __forceinline__ int quad() { return Tile::thread() % (Tile::kColumns / 4); }

  int64_t stride_;
  bool whole_;
  int terms_, columns_;  // that are left, from this thread's first on
  const T* next_;
  Copy<T, Tile, kWhole> copies_[Tile::kPanelCopies];
};

// A thread copies the same four terms of several rows.
template <typename Tile>
__device__ __forceinline__ int copy_row(int i) {
  return static_cast<int>(Tile::thread()) / (Tile::kDepth / 4) + i * Tile::kRowStep;
}
template <typename Tile>
__device__ __forceinline__ int copy_term() {
  return static_cast<int>(Tile::thread()) % (Tile::kDepth / 4) * 4;
}

}  // namespace cuda
}  // namespace bninv
