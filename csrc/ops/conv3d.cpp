#include "../conv3d.h"
#include "../cpu/conv3d_regions.h"
#include "common.h"

namespace bninv {
namespace {

using Sizes = std::vector<int64_t>;

// Sizes of the result behind batch and channels.
Sizes output_sizes(const char* op, const Tensor& input, const Tensor& weight, const Sizes& stride,
                   const Sizes& padding, const Sizes& dilation) {
  Sizes sizes;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t padded = input.size(i + 2) + 2 * padding[i];
    const int64_t reach = dilation[i] * (weight.size(i + 2) - 1) + 1;
    BNINV_CHECK(padded >= reach, op, ": `weight` of shape ", sizes_text(weight), " with dilation ",
                dilation[i], " reaches over ", reach, " elements of dimension ", i + 2,
                "; the padded `input` has ", padded);
    sizes.push_back((padded - reach) / stride[i] + 1);
  }
  return sizes;
}

Sizes transposed_sizes(const char* op, const Tensor& input, const Tensor& weight,
                       const Sizes& stride, const Sizes& padding, const Sizes& output_padding,
                       const Sizes& dilation) {
  Sizes sizes;
  for (int64_t i = 0; i < 3; ++i) {
    BNINV_CHECK(output_padding[i] < std::max(stride[i], dilation[i]), op, ": `output_padding` is ",
                list_text(output_padding), "; with stride ", list_text(stride), " and dilation ",
                list_text(dilation), " it may be less than one of the two in each dimension");
    BNINV_CHECK(input.size(i + 2) > 0, op, ": `input` has shape ", sizes_text(input),
                "; depth, height and width may be 1 and more");
    const int64_t size = (input.size(i + 2) - 1) * stride[i] - 2 * padding[i] +
                         dilation[i] * (weight.size(i + 2) - 1) + output_padding[i] + 1;
    BNINV_CHECK(size > 0, op, ": `padding` ", list_text(padding), " leaves ", size,
                " elements of the result's dimension ", i + 2, "; it may leave 1 and more");
    sizes.push_back(size);
  }
  return sizes;
}

void check_tensors(const char* op, const Tensor& input, const Tensor& weight,
                   const char* weight_shape) {
  check_beside(op, "weight", weight, input);
  BNINV_CHECK(input.dim() == 5, op, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, depth, height, width]");
  BNINV_CHECK(weight.dim() == 5, op, ": `weight` has shape ", sizes_text(weight), "; it may be [",
              weight_shape, ", kernel_d, kernel_h, kernel_w]");
  BNINV_CHECK(weight.size(2) > 0 && weight.size(3) > 0 && weight.size(4) > 0, op,
              ": `weight` has shape ", sizes_text(weight),
              "; kernel_d, kernel_h and kernel_w may be 1 and more");
}

bool is_depthwise(const Conv3dArgs& args) {
  return args.groups > 1 && args.groups == args.channels && args.groups == args.out_channels;
}

void run_on_cpu(Conv3dArgs& args) {
  const bool depthwise = is_depthwise(args);
  const ConvRegions all = conv_regions(args, depthwise, torch::stable::get_num_threads());
  args.regions = all.regions.data();
  args.region_count = static_cast<int64_t>(all.regions.size());
  const int64_t work = all.work / (depthwise ? 1 : 4) / std::max<int64_t>(all.tasks, 1);
  run(depthwise ? BNINV_KERNEL(conv3d_depthwise) : BNINV_KERNEL(conv3d), args, all.tasks,
      grain_of(work));
}

void run_on_cuda(Conv3dArgs& args, const Tensor& input) {
  args.gemm.rows = args.batch * args.out_depth * args.out_height * args.out_width;
  args.gemm.columns = args.out_channels / args.groups;
  args.gemm.terms = args.kernel_d * args.kernel_h * args.kernel_w * (args.channels / args.groups);
  // Fewer output channels in a group leave a tile's columns empty.
  constexpr int64_t kNarrow = 32;
  const bool direct = args.transposed || (args.groups > 1 && args.gemm.columns < kNarrow);
  launch_planned(BNINV_CUDA_KERNEL(plan_conv3d),
                 is_depthwise(args) ? BNINV_CUDA_KERNEL(conv3d_depthwise)
                 : direct           ? BNINV_CUDA_KERNEL(conv3d_direct)
                                    : BNINV_CUDA_KERNEL(conv3d),
                 args, input);
}

// `weight` is of [out_channels, channels / groups, kernel...]: of a transposed convolution, a view.
Tensor convolve(const char* op, bool transposed, DType dtype, const Tensor& input,
                const Tensor& weight, bool channels_last, const std::optional<Tensor>& bias,
                const Sizes& sizes, const Sizes& stride, const Sizes& padding,
                const Sizes& dilation, int64_t groups) {
  if (bias.has_value()) check_vector(op, "bias", *bias, input, weight.size(0), "output channel");
  Tensor output = new_empty(input, {input.size(0), weight.size(0), sizes[0], sizes[1], sizes[2]},
                            channels_last || is_channels_last(input) ? MemoryFormat::ChannelsLast3d
                                                                     : MemoryFormat::Contiguous);
  if (output.numel() == 0) return output;
  const Tensor x = has_dense_channels(input)
                       ? input
                       : torch::stable::contiguous(input, MemoryFormat::ChannelsLast3d);
  const Tensor panel = panel_of(weight);
  const std::optional<Tensor> b =
      bias.has_value() ? std::optional<Tensor>(torch::stable::contiguous(*bias)) : std::nullopt;

  Conv3dArgs args{};
  args.dtype = dtype;
  args.transposed = transposed;
  args.input = x.data_ptr();
  args.batch = x.size(0), args.channels = x.size(1);
  args.depth = x.size(2), args.height = x.size(3), args.width = x.size(4);
  args.stride_n = x.stride(0), args.stride_d = x.stride(2);
  args.stride_h = x.stride(3), args.stride_w = x.stride(4);
  args.weight = panel.data_ptr();
  args.bias = data_or_null(b);
  args.output = output.data_ptr();
  args.out_channels = weight.size(0);
  args.out_depth = sizes[0], args.out_height = sizes[1], args.out_width = sizes[2];
  args.out_stride_n = output.stride(0), args.out_stride_c = output.stride(1);
  args.out_stride_d = output.stride(2);
  args.out_stride_h = output.stride(3), args.out_stride_w = output.stride(4);
  args.kernel_d = weight.size(2), args.kernel_h = weight.size(3), args.kernel_w = weight.size(4);
  args.step_d = stride[0], args.step_h = stride[1], args.step_w = stride[2];
  args.pad_d = padding[0], args.pad_h = padding[1], args.pad_w = padding[2];
  args.dilation_d = dilation[0], args.dilation_h = dilation[1], args.dilation_w = dilation[2];
  args.groups = groups;

  if (on_cuda(input))
    run_on_cuda(args, input);
  else
    run_on_cpu(args);
  return output;
}

Tensor conv3d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              Sizes stride, Sizes padding, Sizes dilation, int64_t groups) {
  constexpr const char* kOp = "conv3d";
  const DType dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  check_tensors(kOp, input, weight, "out_channels, channels / groups");
  check_stride(kOp, stride, 3);
  check_integers(kOp, "padding", padding, 3, 0);
  check_integers(kOp, "dilation", dilation, 3, 1);
  BNINV_CHECK(groups > 0 && input.size(1) % groups == 0 && weight.size(0) % groups == 0, kOp,
              ": `groups` is ", groups, "; it may be a positive divisor of the input's ",
              input.size(1), " channels and of the weight's ", weight.size(0), " output channels");
  BNINV_CHECK(weight.size(1) * groups == input.size(1), kOp, ": `input` has ", input.size(1),
              " channels; with this `weight` of shape ", sizes_text(weight), " and groups ", groups,
              " it may have ", weight.size(1) * groups);
  const Sizes sizes = output_sizes(kOp, input, weight, stride, padding, dilation);
  const bool channels_last =
      is_channels_last(weight) || (is_panel(weight) && !weight.is_contiguous());
  return convolve(kOp, false, dtype, input, weight, channels_last, bias, sizes, stride, padding,
                  dilation, groups);
}

Tensor conv_transpose3d(const Tensor& input, const Tensor& weight,
                        const std::optional<Tensor>& bias, Sizes stride, Sizes padding,
                        Sizes output_padding, int64_t groups, Sizes dilation) {
  constexpr const char* kOp = "conv_transpose3d";
  const DType dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  check_tensors(kOp, input, weight, "channels, out_channels / groups");
  check_integers(kOp, "stride", stride, 3, 1);
  check_integers(kOp, "padding", padding, 3, 0);
  check_integers(kOp, "output_padding", output_padding, 3, 0);
  check_integers(kOp, "dilation", dilation, 3, 1);
  BNINV_CHECK(groups > 0 && input.size(1) % groups == 0, kOp, ": `groups` is ", groups,
              "; it may be a positive divisor of the input's ", input.size(1), " channels");
  BNINV_CHECK(weight.size(0) == input.size(1), kOp, ": `input` has ", input.size(1),
              " channels; with this `weight` of shape ", sizes_text(weight), " it may have ",
              weight.size(0));
  const Sizes sizes =
      transposed_sizes(kOp, input, weight, stride, padding, output_padding, dilation);
  // As the weight of a convolution: in each group, outputs before inputs.
  Tensor turned = torch::stable::transpose(weight, 0, 1);
  // Of several groups only those of a single channel can lie in the kernels' order.
  const bool may_be_panel = groups == 1 || groups == weight.size(0);
  const bool channels_last =
      is_channels_last(weight) || (may_be_panel && is_panel(turned) && !weight.is_contiguous());
  if (groups > 1) {
    const int64_t in = weight.size(0) / groups, out = weight.size(1);
    const Sizes kernel{weight.size(2), weight.size(3), weight.size(4)};
    turned =
        torch::stable::reshape(weight, Sizes{groups, in, out, kernel[0], kernel[1], kernel[2]});
    turned = torch::stable::reshape(torch::stable::transpose(turned, 1, 2),
                                    Sizes{groups * out, in, kernel[0], kernel[1], kernel[2]});
  }
  return convolve(kOp, true, dtype, input, turned, channels_last, bias, sizes, stride, padding,
                  dilation, groups);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("conv3d", TORCH_BOX(&conv3d));
  m.impl("conv_transpose3d", TORCH_BOX(&conv_transpose3d));
}

}  // namespace bninv
