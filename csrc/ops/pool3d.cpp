#include "../pool3d.h"
#include "pool.h"

namespace bninv {
namespace {

using Sizes = std::vector<int64_t>;

DType check_input(const char* op, const Tensor& input) {
  const DType dtype = check_dtype(op, "input", input, kFloatingTypes);
  BNINV_CHECK(input.dim() == 5, op, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, depth, height, width]");
  return dtype;
}

// Fills in input and output, runs the kernel on channels_last_3d memory, returns in the input's format.
Tensor run_pool(Kernel<Pool3dArgs> kernel, CudaKernel<Pool3dArgs> cuda_kernel, const Tensor& input,
                Pool3dArgs& args, int64_t work_per_output) {
  const Sizes sizes{input.size(0), input.size(1), args.out_depth, args.out_height, args.out_width};
  Tensor output = new_empty(input, sizes, MemoryFormat::ChannelsLast3d);
  if (output.numel() > 0) {
    const Tensor x = has_dense_channels(input)
                         ? input
                         : torch::stable::contiguous(input, MemoryFormat::ChannelsLast3d);
    args.input = x.data_ptr();
    args.batch = x.size(0), args.channels = x.size(1);
    args.depth = x.size(2), args.height = x.size(3), args.width = x.size(4);
    args.stride_n = x.stride(0), args.stride_d = x.stride(2);
    args.stride_h = x.stride(3), args.stride_w = x.stride(4);
    args.output = output.data_ptr();
    if (on_cuda(input))
      launch(cuda_kernel, args, x);
    else
      run(kernel, args, args.batch * args.out_depth * args.out_height,
          grain_of(args.out_width * args.channels * work_per_output));
  }
  if (is_channels_last(input)) return output;
  // Strides that say both formats are not trusted to say this one.
  Tensor contiguous = new_empty(input, sizes);
  return torch::stable::copy_(contiguous, output);
}

Pool3dArgs windows(const char* op, const Tensor& input, const Sizes& kernel_size, Sizes stride,
                   const Sizes& padding, const Sizes& dilation, bool ceil_mode) {
  const DType dtype = check_input(op, input);
  check_integers(op, "kernel_size", kernel_size, 3, 1);
  check_stride(op, stride, 3);
  check_integers(op, "padding", padding, 3, 0);
  check_integers(op, "dilation", dilation, 3, 1);
  for (int i = 0; i < 3; ++i)
    BNINV_CHECK(2 * padding[i] <= kernel_size[i], op, ": `padding` is ", list_text(padding),
                "; it may be at most half of `kernel_size` ", list_text(kernel_size));
  Pool3dArgs args{};
  args.dtype = dtype;
  args.kernel_d = kernel_size[0], args.kernel_h = kernel_size[1], args.kernel_w = kernel_size[2];
  args.step_d = stride[0], args.step_h = stride[1], args.step_w = stride[2];
  args.pad_d = padding[0], args.pad_h = padding[1], args.pad_w = padding[2];
  args.dilation_d = dilation[0], args.dilation_h = dilation[1], args.dilation_w = dilation[2];
  const auto out = [&](int i) {
    return pool_output_size(op, input.size(i + 2), kernel_size[i], stride[i], padding[i],
                            dilation[i], ceil_mode);
  };
  args.out_depth = out(0), args.out_height = out(1), args.out_width = out(2);
  return args;
}

Pool3dArgs adaptive(const char* op, const Tensor& input, const Sizes& output_size) {
  const DType dtype = check_input(op, input);
  check_integers(op, "output_size", output_size, 3, 0);
  BNINV_CHECK(input.size(2) > 0 && input.size(3) > 0 && input.size(4) > 0, op,
              ": `input` has shape ", sizes_text(input),
              "; its depth, height and width may be 1 and more");
  Pool3dArgs args{};
  args.dtype = dtype;
  args.adaptive = true;
  args.out_depth = output_size[0], args.out_height = output_size[1];
  args.out_width = output_size[2];
  return args;
}

int64_t adaptive_work(const Tensor& input, const Pool3dArgs& args) {
  const int64_t outputs = args.out_depth * args.out_height * args.out_width;
  return outputs == 0 ? 1 : input.size(2) * input.size(3) * input.size(4) / outputs + 1;
}

Tensor avg_pool3d(const Tensor& input, Sizes kernel_size, Sizes stride, Sizes padding,
                  bool ceil_mode, bool count_include_pad, std::optional<int64_t> divisor_override) {
  constexpr const char* kOp = "avg_pool3d";
  Pool3dArgs args = windows(kOp, input, kernel_size, stride, padding, {1, 1, 1}, ceil_mode);
  BNINV_CHECK(divisor_override.value_or(1) != 0, kOp,
              ": `divisor_override` is 0; it may be any other integer");
  args.count_include_pad = count_include_pad;
  args.divisor = divisor_override.value_or(0);
  return run_pool(BNINV_KERNEL(avg_pool3d), BNINV_CUDA_KERNEL(avg_pool3d), input, args,
                  args.kernel_d * args.kernel_h * args.kernel_w);
}

Tensor max_pool3d(const Tensor& input, Sizes kernel_size, Sizes stride, Sizes padding,
                  Sizes dilation, bool ceil_mode) {
  Pool3dArgs args = windows("max_pool3d", input, kernel_size, stride, padding, dilation, ceil_mode);
  return run_pool(BNINV_KERNEL(max_pool3d), BNINV_CUDA_KERNEL(max_pool3d), input, args,
                  args.kernel_d * args.kernel_h * args.kernel_w);
}

Tensor adaptive_avg_pool3d(const Tensor& input, Sizes output_size) {
  Pool3dArgs args = adaptive("adaptive_avg_pool3d", input, output_size);
  return run_pool(BNINV_KERNEL(avg_pool3d), BNINV_CUDA_KERNEL(avg_pool3d), input, args,
                  adaptive_work(input, args));
}

Tensor adaptive_max_pool3d(const Tensor& input, Sizes output_size) {
  Pool3dArgs args = adaptive("adaptive_max_pool3d", input, output_size);
  return run_pool(BNINV_KERNEL(max_pool3d), BNINV_CUDA_KERNEL(max_pool3d), input, args,
                  adaptive_work(input, args));
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("avg_pool3d", TORCH_BOX(&avg_pool3d));
  m.impl("max_pool3d", TORCH_BOX(&max_pool3d));
  m.impl("adaptive_avg_pool3d", TORCH_BOX(&adaptive_avg_pool3d));
  m.impl("adaptive_max_pool3d", TORCH_BOX(&adaptive_max_pool3d));
}

}  // namespace bninv
