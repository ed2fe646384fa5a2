// CUDA's keywords, of which the host needs none.
#pragma once

#define __host__
#define __device__
#define __global__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

// A variable cannot be made to be one for each block by a macro alone.
// clang-format off
#define __shared__ _Pragma("GCC error \"__shared__ is not emulated: use the helpers of device.cuh\"")
// clang-format on
