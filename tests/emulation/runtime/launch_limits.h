// What a GPU refuses to launch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation/runtime_api.h"

namespace bninv {
namespace emulation {

constexpr size_t kPlainSharedBytes = 48 * 1024;
constexpr uint64_t kMaxEmulatedBlocks = uint64_t{1} << 28;

// Of one block, for a kernel that asks for more than kPlainSharedBytes.
size_t shared_limit(int arch);

cudaError_t check_launch(const cudaLaunchConfig_t& config, const void* kernel);

}  // namespace emulation
}  // namespace bninv
