// Where a thread is, and the barrier of its block.
#pragma once

#include <source_location>

#include "emulation.h"
#include "vector_types.h"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace bninv {
namespace emulation {

// The number of threads whose `predicate` held.
int block_barrier(const char* name, bool predicate, std::source_location where);

}  // namespace emulation
}  // namespace bninv

// The barrier must be one place in the code for all threads: CUDA leaves anything else undefined.
inline void __syncthreads(std::source_location where = std::source_location::current()) {
  bninv::emulation::block_barrier("__syncthreads", false, where);
}
inline int __syncthreads_count(int predicate,
                               std::source_location where = std::source_location::current()) {
  return bninv::emulation::block_barrier("__syncthreads_count", predicate != 0, where);
}
inline int __syncthreads_or(int predicate,
                            std::source_location where = std::source_location::current()) {
  return bninv::emulation::block_barrier("__syncthreads_or", predicate != 0, where) != 0;
}
inline int __syncthreads_and(int predicate,
                             std::source_location where = std::source_location::current()) {
  return bninv::emulation::block_barrier("__syncthreads_and", predicate == 0, where) == 0;
}

// Threads run one at a time, so memory is in order already.
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}

[[noreturn]] inline void __trap(std::source_location where = std::source_location::current()) {
  bninv::emulation::fail("__trap", where);
}
