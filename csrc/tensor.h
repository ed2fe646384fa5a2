// R9: which layers it reaches, and how many terms they have. The choice looks at the layer alone.
#pragma once

#include "conv2d.h"
#include "linear.h"

namespace bninv {

// Of fewer channels a group, tensor cores would multiply mostly zeros.
constexpr int64_t kTensorGroupChannels = 32;

inline bool tensor_reaches(DType dtype, int64_t groups, int64_t group_channels) {
  return dtype != DType::kDouble && (groups == 1 || group_channels >= kTensorGroupChannels);
}

// A tap's channels with the +0 * +0 terms that make 16 bytes of them.
inline int64_t tensor_channels(DType dtype, int64_t group_channels) {
  const int64_t chunk = dtype == DType::kFloat ? 4 : 8;
  return (group_channels + chunk - 1) / chunk * chunk;
}

inline int64_t tensor_terms(const Conv2dArgs& args) {
  return args.kernel_h * args.kernel_w * tensor_channels(args.dtype, args.channels / args.groups);
}

// A linear layer is a convolution of single pixels.
inline Conv2dArgs as_convolution(const LinearArgs& args) {
  Conv2dArgs conv{};
  conv.dtype = args.dtype;
  conv.precision = args.precision;
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

namespace cuda {

// The class of the current device's tensor cores: kIeee where it has none that is known.
Precision tensor_class();

}  // namespace cuda
}  // namespace bninv
