// bmm under R1 or R9: a convolution over single pixels, in which each sample is a group. Groups are a
// dimension of the grid of blocks already; here they have strides of their own.
#include "../bmm.h"

#include "../tensor.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

Conv2dArgs as_convolution(const BmmArgs& args) {
  LinearArgs sample{};
  sample.dtype = args.dtype;
  sample.precision = args.precision;
  sample.input = args.input;
  sample.input_stride = args.input_strides.row;
  sample.weight = args.mat2;
  sample.output = args.output;
  sample.gemm = args.gemm;
  sample.epilogue = args.epilogue;
  sample.plan = args.plan;
  sample.workspace = args.workspace;
  Conv2dArgs conv = bninv::as_convolution(sample);
  conv.groups = args.batch;
  conv.channels = args.batch * args.gemm.terms;
  return conv;
}

}  // namespace

void plan_bmm(BmmArgs& args) {
  Conv2dArgs conv = as_convolution(args);
  plan_groups(conv, {args.input_strides.sample, args.mat2_strides.sample,
                     args.gemm.rows * args.gemm.columns, args.mat2_strides.row});
  args.plan = conv.plan;
}

void bmm(const BmmArgs& args, void* stream) {
  const Conv2dArgs conv = as_convolution(args);
  conv.precision == Precision::kIeee ? conv2d(conv, stream) : conv2d_tensor(conv, stream);
}

}  // namespace cuda
}  // namespace bninv
