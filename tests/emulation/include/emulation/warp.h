// Shuffles and votes of a warp.
#pragma once

#include <cstdint>
#include <cstring>
#include <source_location>

#include "emulation.h"
#include "execution.h"

namespace bninv {
namespace emulation {

// This thread's number within its warp: warps are 32 consecutive threads.
int lane();

// The lanes of `mask` whose predicate held.
unsigned warp_vote(const char* name, unsigned mask, bool predicate, std::source_location where);

// The value of lane `source`; poison if it is not in the mask, for CUDA promises nothing then.
uint64_t warp_shuffle(const char* name, unsigned mask, uint64_t value, int source,
                      std::source_location where);

template <typename T>
T shuffle(const char* name, unsigned mask, T value, int source, std::source_location where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(value));
  bits = warp_shuffle(name, mask, bits, source, where);
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// The first lane of this lane's section of `width`, a power of two.
inline int section(int width, std::source_location where) {
  if (width < 1 || width > warpSize || (width & (width - 1)) != 0)
    fail("a shuffle's width is " + std::to_string(width) + ", which is no power of two up to 32",
         where);
  return lane() & ~(width - 1);
}

}  // namespace emulation
}  // namespace bninv

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              std::source_location where = std::source_location::current()) {
  const int first = bninv::emulation::section(width, where);
  return bninv::emulation::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)),
                                   where);
}

// Past the section's edge a lane gets its own value.
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 std::source_location where = std::source_location::current()) {
  const int first = bninv::emulation::section(width, where), me = bninv::emulation::lane();
  const int64_t source = int64_t{me} - delta;
  return bninv::emulation::shuffle("__shfl_up_sync", mask, value,
                                   source < first ? me : static_cast<int>(source), where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   std::source_location where = std::source_location::current()) {
  const int first = bninv::emulation::section(width, where), me = bninv::emulation::lane();
  const int64_t source = int64_t{me} + delta;
  return bninv::emulation::shuffle("__shfl_down_sync", mask, value,
                                   source >= first + width ? me : static_cast<int>(source), where);
}

// Reaches into earlier sections, but not into later ones.
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  std::source_location where = std::source_location::current()) {
  const int first = bninv::emulation::section(width, where), me = bninv::emulation::lane();
  const int source = me ^ (lane_mask & (warpSize - 1));
  return bninv::emulation::shuffle("__shfl_xor_sync", mask, value,
                                   source >= first + width ? me : source, where);
}

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
  bninv::emulation::warp_vote("__syncwarp", mask, false, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return bninv::emulation::warp_vote("__ballot_sync", mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return bninv::emulation::warp_vote("__any_sync", mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return bninv::emulation::warp_vote("__all_sync", mask, predicate == 0, where) == 0;
}

// Nothing obliges a GPU to let threads run together that could, so none does here.
inline unsigned __activemask() { return 1u << bninv::emulation::lane(); }
