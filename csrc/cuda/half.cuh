// CUDA's conversions between binary32 and the narrow types.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
