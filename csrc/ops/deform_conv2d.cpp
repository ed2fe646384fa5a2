#include "../deform_conv2d.h"

#include "common.h"

namespace bninv {
namespace {

constexpr const char* kOp = "deform_conv2d";
// Places beyond have no binary32 of their own.
constexpr int64_t kMostSize = 1 << 24;

int64_t output_size(const Tensor& input, int64_t d, int64_t kernel, int64_t stride, int64_t padding,
                    int64_t dilation) {
  const int64_t padded = input.size(d) + 2 * padding, reach = dilation * (kernel - 1) + 1;
  BNINV_CHECK(padded >= reach, kOp, ": `weight` of kernel size ", kernel, " with dilation ",
              dilation, " reaches over ", reach, " elements of dimension ", d,
              "; the padded `input` has ", padded);
  return (padded - reach) / stride + 1;
}

void check_shape(const char* argument, const Tensor& tensor, const std::vector<int64_t>& sizes) {
  const auto shape = tensor.sizes();
  BNINV_CHECK(std::vector<int64_t>(shape.begin(), shape.end()) == sizes, kOp, ": `", argument,
              "` has shape ", sizes_text(tensor), "; it may be ", list_text(sizes));
}

Tensor deform_taps(const Tensor& input, const Tensor& offset, const std::optional<Tensor>& mask,
                   std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                   std::vector<int64_t> padding, std::vector<int64_t> dilation) {
  DeformTapsArgs args{};
  args.dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  BNINV_CHECK(input.dim() == 4, kOp, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, height, width]");
  for (int64_t d = 2; d < 4; ++d)
    BNINV_CHECK(input.size(d) > 0 && input.size(d) <= kMostSize, kOp, ": `input` has shape ",
                sizes_text(input), "; its height and width may be 1 to ", kMostSize);
  check_pair(kOp, "kernel_size", kernel_size, 1);
  check_stride(kOp, stride);
  check_pair(kOp, "padding", padding, 0);
  check_pair(kOp, "dilation", dilation, 1);
  args.kernel_h = kernel_size[0], args.kernel_w = kernel_size[1];
  args.out_height = output_size(input, 2, args.kernel_h, stride[0], padding[0], dilation[0]);
  args.out_width = output_size(input, 3, args.kernel_w, stride[1], padding[1], dilation[1]);
  args.batch = input.size(0), args.channels = input.size(1);

  check_beside(kOp, "offset", offset, input);
  const int64_t taps = args.kernel_h * args.kernel_w;
  args.offset_groups = offset.dim() == 4 ? offset.size(1) / (2 * taps) : 0;
  BNINV_CHECK(args.offset_groups > 0 && args.channels % args.offset_groups == 0, kOp,
              ": `offset` has shape ", sizes_text(offset), "; it may be [", args.batch, ", 2 * ",
              taps, " * groups, ", args.out_height, ", ", args.out_width,
              "], groups being a divisor of the input's ", args.channels, " channels");
  check_shape("offset", offset,
              {args.batch, 2 * taps * args.offset_groups, args.out_height, args.out_width});
  if (mask.has_value()) {
    check_beside(kOp, "mask", *mask, input);
    check_shape("mask", *mask,
                {args.batch, taps * args.offset_groups, args.out_height, args.out_width});
  }
  Tensor output = new_empty(
      input,
      {args.batch, args.channels, args.out_height * args.kernel_h, args.out_width * args.kernel_w},
      MemoryFormat::ChannelsLast);
  if (output.numel() == 0) return output;

  const Tensor x = has_dense_channels(input)
                       ? input
                       : torch::stable::contiguous(input, MemoryFormat::ChannelsLast);
  args.input = x.data_ptr();
  args.height = x.size(2), args.width = x.size(3);
  args.stride_n = x.stride(0), args.stride_h = x.stride(2), args.stride_w = x.stride(3);
  args.offset = offset.data_ptr();
  args.offset_stride_n = offset.stride(0), args.offset_stride_c = offset.stride(1);
  args.offset_stride_h = offset.stride(2), args.offset_stride_w = offset.stride(3);
  if (mask.has_value()) {
    args.mask = mask->data_ptr();
    args.mask_stride_n = mask->stride(0), args.mask_stride_c = mask->stride(1);
    args.mask_stride_h = mask->stride(2), args.mask_stride_w = mask->stride(3);
  }
  args.step_h = stride[0], args.step_w = stride[1];
  args.pad_h = padding[0], args.pad_w = padding[1];
  args.dilation_h = dilation[0], args.dilation_w = dilation[1];
  args.output = output.data_ptr();
  if (on_cuda(input))
    launch(BNINV_CUDA_KERNEL(deform_taps), args, input);
  else
    run(BNINV_KERNEL(deform_taps), args, args.batch * args.out_height * args.kernel_h,
        grain_of(args.out_width * args.kernel_w * args.channels));
  return output;
}

}  // namespace

BNINV_REGISTER(m) { m.impl("deform_taps", TORCH_BOX(&deform_taps)); }

}  // namespace bninv
