#include "../pool2d.h"
#include "pool.h"

namespace bninv {
namespace {

DType check_input(const char* op, const Tensor& input) {
  const DType dtype = check_dtype(op, "input", input, kFloatingTypes);
  BNINV_CHECK(input.dim() == 4, op, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, height, width]");
  return dtype;
}

// Fills in input and output, runs the kernel on channels_last memory, returns in the input's format.
Tensor run_pool(Kernel<Pool2dArgs> kernel, CudaKernel<Pool2dArgs> cuda_kernel, const Tensor& input,
                Pool2dArgs& args, int64_t work_per_output) {
  const std::vector<int64_t> sizes{input.size(0), input.size(1), args.out_height, args.out_width};
  const MemoryFormat format =
      is_channels_last(input) ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  Tensor output = new_empty(input, sizes, MemoryFormat::ChannelsLast);
  if (output.numel() > 0) {
    const Tensor x = has_dense_channels(input)
                         ? input
                         : torch::stable::contiguous(input, MemoryFormat::ChannelsLast);
    args.input = x.data_ptr();
    args.batch = x.size(0), args.channels = x.size(1), args.height = x.size(2);
    args.width = x.size(3);
    args.stride_n = x.stride(0), args.stride_h = x.stride(2), args.stride_w = x.stride(3);
    args.output = output.data_ptr();
    if (on_cuda(input))
      launch(cuda_kernel, args, x);
    else
      run(kernel, args, args.batch * args.out_height,
          grain_of(args.out_width * args.channels * work_per_output));
  }
  if (format == MemoryFormat::ChannelsLast) return output;
  // Strides that say both formats are not trusted to say this one.
  Tensor contiguous = new_empty(input, sizes);
  return torch::stable::copy_(contiguous, output);
}

Pool2dArgs windows(const char* op, const Tensor& input, const std::vector<int64_t>& kernel_size,
                   std::vector<int64_t> stride, const std::vector<int64_t>& padding,
                   const std::vector<int64_t>& dilation, bool ceil_mode) {
  const DType dtype = check_input(op, input);
  check_pair(op, "kernel_size", kernel_size, 1);
  check_stride(op, stride);
  check_pair(op, "padding", padding, 0);
  check_pair(op, "dilation", dilation, 1);
  BNINV_CHECK(2 * padding[0] <= kernel_size[0] && 2 * padding[1] <= kernel_size[1], op,
              ": `padding` is ", list_text(padding), "; it may be at most half of `kernel_size` ",
              list_text(kernel_size));
  Pool2dArgs args{};
  args.dtype = dtype;
  args.kernel_h = kernel_size[0], args.kernel_w = kernel_size[1];
  args.step_h = stride[0], args.step_w = stride[1];
  args.pad_h = padding[0], args.pad_w = padding[1];
  args.dilation_h = dilation[0], args.dilation_w = dilation[1];
  args.out_height = pool_output_size(op, input.size(2), args.kernel_h, args.step_h, args.pad_h,
                                     args.dilation_h, ceil_mode);
  args.out_width = pool_output_size(op, input.size(3), args.kernel_w, args.step_w, args.pad_w,
                                    args.dilation_w, ceil_mode);
  return args;
}

Pool2dArgs adaptive(const char* op, const Tensor& input, const std::vector<int64_t>& output_size) {
  const DType dtype = check_input(op, input);
  check_pair(op, "output_size", output_size, 0);
  BNINV_CHECK(input.size(2) > 0 && input.size(3) > 0, op, ": `input` has shape ", sizes_text(input),
              "; its height and width may be 1 and more");
  Pool2dArgs args{};
  args.dtype = dtype;
  args.adaptive = true;
  args.out_height = output_size[0], args.out_width = output_size[1];
  return args;
}

int64_t adaptive_work(const Tensor& input, const Pool2dArgs& args) {
  const int64_t outputs = args.out_height * args.out_width;
  return outputs == 0 ? 1 : input.size(2) * input.size(3) / outputs + 1;
}

Tensor avg_pool2d(const Tensor& input, std::vector<int64_t> kernel_size,
                  std::vector<int64_t> stride, std::vector<int64_t> padding, bool ceil_mode,
                  bool count_include_pad, std::optional<int64_t> divisor_override) {
  constexpr const char* kOp = "avg_pool2d";
  Pool2dArgs args = windows(kOp, input, kernel_size, stride, padding, {1, 1}, ceil_mode);
  BNINV_CHECK(divisor_override.value_or(1) != 0, kOp,
              ": `divisor_override` is 0; it may be any other integer");
  args.count_include_pad = count_include_pad;
  args.divisor = divisor_override.value_or(0);
  return run_pool(BNINV_KERNEL(avg_pool2d), BNINV_CUDA_KERNEL(avg_pool2d), input, args,
                  args.kernel_h * args.kernel_w);
}

Tensor max_pool2d(const Tensor& input, std::vector<int64_t> kernel_size,
                  std::vector<int64_t> stride, std::vector<int64_t> padding,
                  std::vector<int64_t> dilation, bool ceil_mode) {
  Pool2dArgs args = windows("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode);
  return run_pool(BNINV_KERNEL(max_pool2d), BNINV_CUDA_KERNEL(max_pool2d), input, args,
                  args.kernel_h * args.kernel_w);
}

Tensor adaptive_avg_pool2d(const Tensor& input, std::vector<int64_t> output_size) {
  Pool2dArgs args = adaptive("adaptive_avg_pool2d", input, output_size);
  return run_pool(BNINV_KERNEL(avg_pool2d), BNINV_CUDA_KERNEL(avg_pool2d), input, args,
                  adaptive_work(input, args));
}

Tensor adaptive_max_pool2d(const Tensor& input, std::vector<int64_t> output_size) {
  Pool2dArgs args = adaptive("adaptive_max_pool2d", input, output_size);
  return run_pool(BNINV_KERNEL(max_pool2d), BNINV_CUDA_KERNEL(max_pool2d), input, args,
                  adaptive_work(input, args));
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("avg_pool2d", TORCH_BOX(&avg_pool2d));
  m.impl("max_pool2d", TORCH_BOX(&max_pool2d));
  m.impl("adaptive_avg_pool2d", TORCH_BOX(&adaptive_avg_pool2d));
  m.impl("adaptive_max_pool2d", TORCH_BOX(&adaptive_max_pool2d));
}

}  // namespace bninv
