// The CUDA kernels as the host sees them: launched on `stream` (a cudaStream_t) of the current device,
// never waited for. They allocate nothing and may be captured into a graph. Errors are thrown.
#pragma once

#include "../arguments.h"

namespace bninv {
namespace cuda {

void batch_norm(const BatchNormArgs& args, void* stream);
void layer_norm(const LayerNormArgs& args, void* stream);
void group_norm(const GroupNormArgs& args, void* stream);
void softmax(const SoftmaxArgs& args, void* stream);

}  // namespace cuda
}  // namespace bninv
