// linear under R1 or R9: a convolution's product over single pixels.
#include "../tensor.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
void plan_linear(LinearArgs& args) {
  Conv2dArgs conv = as_convolution(args);
  conv.precision == Precision::kIeee ? plan_conv2d(conv) : plan_conv2d_tensor(conv);
  args.plan = conv.plan;
}

void linear(const LinearArgs& args, void* stream) {
  const Conv2dArgs conv = as_convolution(args);
  conv.precision == Precision::kIeee ? conv2d(conv, stream) : conv2d_tensor(conv, stream);
}

}  // namespace cuda
}  // namespace bninv
