// linear under R1: the product of conv2d.cu over single pixels.
#include "kernels.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

Conv2dArgs as_convolution(const LinearArgs& args) {
  Conv2dArgs conv{};
  conv.dtype = args.dtype;
  conv.input = args.input;
  conv.batch = args.gemm.rows, conv.channels = args.gemm.terms;
  conv.height = conv.width = 1;
  conv.stride_n = conv.stride_h = conv.stride_w = args.input_stride;
  conv.weight = args.weight;
  conv.bias = args.bias;
  conv.output = args.output;
  conv.out_channels = args.gemm.columns;
  conv.out_height = conv.out_width = 1;
  conv.out_stride_n = conv.out_stride_h = conv.out_stride_w = args.gemm.columns;
  conv.out_stride_c = 1;
  conv.kernel_h = conv.kernel_w = conv.step_h = conv.step_w = conv.dilation_h = conv.dilation_w = 1;
  conv.groups = 1;
  conv.gemm = args.gemm;
  conv.epilogue = args.epilogue;
  conv.plan = args.plan;
  conv.workspace = args.workspace;
  return conv;
}

}  // namespace

void plan_linear(LinearArgs& args) {
  Conv2dArgs conv = as_convolution(args);
  plan_conv2d(conv);
  args.plan = conv.plan;
}

void linear(const LinearArgs& args, void* stream) { conv2d(as_convolution(args), stream); }

}  // namespace cuda
}  // namespace bninv
