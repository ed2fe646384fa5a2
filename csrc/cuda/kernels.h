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
void unary(const UnaryArgs& args, void* stream);
void sum(const ReduceArgs& args, void* stream);
void avg_pool2d(const Pool2dArgs& args, void* stream);
void max_pool2d(const Pool2dArgs& args, void* stream);

// For tests: every product that has such a kernel gets this tile, of tiles(), and that many of R1's
// segments in a block (0: all); a negative tile leaves the choice to the plan again.
void set_plan(int64_t tile, int64_t segments_per_block);
int64_t tiles();

// Fills in args.plan for the current device; args.workspace must then hold as many bytes as it says.
void plan_conv2d(Conv2dArgs& args);
void conv2d(const Conv2dArgs& args, void* stream);
// Each output channel of its own input channel; groups of a few channels. Both after plan_conv2d.
void conv2d_depthwise(const Conv2dArgs& args, void* stream);
void conv2d_grouped(const Conv2dArgs& args, void* stream);

// R9. Its class of tensor cores: kIeee where the current device has none that is known.
Precision tensor_class();
void plan_conv2d_tensor(Conv2dArgs& args);
void conv2d_tensor(const Conv2dArgs& args, void* stream);

void plan_linear(LinearArgs& args);
void linear(const LinearArgs& args, void* stream);

}  // namespace cuda
}  // namespace bninv
