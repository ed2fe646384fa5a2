// A block's shared memory, and copies into it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "emulation.h"
#include "memory.h"
#include "vector_types.h"

namespace bninv {
namespace emulation {

// Where one type's object lies in the launch of that number.
struct StaticShared {
  uint64_t launch = 0;
  void* memory = nullptr;
};

// The number of the launch under way; never 0, never used twice.
extern uint64_t current_launch;

void* allocate_static_shared(size_t bytes, std::source_location where);

inline void* static_shared(StaticShared& slot, size_t bytes, std::source_location where) {
  if (slot.launch != current_launch) {
    slot.memory = allocate_static_shared(bytes, where);
    slot.launch = current_launch;
  }
  return slot.memory;
}

void* dynamic_shared();

// `asynchronous`: the architecture has such copies; otherwise this one is done at once.
void copy_async(void* shared, const void* global, size_t bytes, bool asynchronous,
                std::source_location where);
void copy_async_commit();
void copy_async_wait(unsigned pending, std::source_location where);

}  // namespace emulation
}  // namespace bninv
