#include "../conv2d.h"
#include "../cpu/schedule.h"
#include "epilogue.h"
#include "precision.h"

namespace bninv {
namespace {

constexpr const char* kOp = "conv2d";

int64_t output_size(const Tensor& input, const Tensor& weight, int64_t d, int64_t stride,
                    int64_t padding, int64_t dilation) {
  const int64_t padded = input.size(d) + 2 * padding;
  const int64_t reach = dilation * (weight.size(d) - 1) + 1;
  BNINV_CHECK(padded >= reach, kOp, ": `weight` of shape ", sizes_text(weight), " with dilation ",
              dilation, " reaches over ", reach, " elements of dimension ", d,
              "; the padded `input` has ", padded);
  return (padded - reach) / stride + 1;
}

// Groups too narrow for the tiles of a product, which the other kernel's vectors fit: whole vectors of
// one group, or whole groups in a vector.
bool is_narrow(int64_t group) {
  constexpr int64_t kNarrow = 64;
  const int64_t width = vector_width();
  return group < kNarrow && (group % width == 0 || width % group == 0);
}

bool is_depthwise(const Conv2dArgs& args) {
  return args.groups > 1 && args.groups == args.channels && args.groups == args.out_channels;
}

void run_on_cpu(Conv2dArgs& args) {
  if (args.precision != Precision::kIeee) {
    args.gemm = gemm_schedule(args.batch * args.out_height * args.out_width,
                              args.out_channels / args.groups, tensor_terms(args), args.groups,
                              torch::stable::get_num_threads());
    const int64_t work = 2 * args.gemm.block_rows * args.gemm.block_columns * args.gemm.terms;
    return run(BNINV_KERNEL(conv2d_tensor), args,
               args.groups * args.gemm.row_blocks * args.gemm.column_blocks, grain_of(work));
  }
  if (is_depthwise(args)) {
    const int64_t work = args.out_width * args.channels * args.kernel_h * args.kernel_w;
    return run(BNINV_KERNEL(conv2d_depthwise), args, depthwise_tasks(args), grain_of(work));
  }
  if (args.groups > 1 && is_narrow(args.out_channels / args.groups)) {
    const GroupedBlocks blocks = grouped_blocks(args);
    const int64_t work =
        GroupedBlocks::kRows * GroupedBlocks::kChannels * args.kernel_h * args.kernel_w / 4;
    return run(BNINV_KERNEL(conv2d_grouped), args, blocks.rows * blocks.channels, grain_of(work));
  }
  args.gemm =
      gemm_schedule(args.batch * args.out_height * args.out_width, args.out_channels / args.groups,
                    args.kernel_h * args.kernel_w * (args.channels / args.groups), args.groups,
                    torch::stable::get_num_threads());
  const int64_t work = args.gemm.block_rows * args.gemm.block_columns * args.gemm.terms / 4;
  run(BNINV_KERNEL(conv2d), args, args.groups * args.gemm.row_blocks * args.gemm.column_blocks,
      grain_of(work));
}

void run_on_cuda(Conv2dArgs& args, const Tensor& input) {
  // Fewer output channels in a group leave a tile's columns empty.
  constexpr int64_t kNarrow = 32;
  const int64_t group = args.out_channels / args.groups;
  args.gemm.rows = args.batch * args.out_height * args.out_width;
  args.gemm.columns = group;
  if (args.precision != Precision::kIeee) {
    args.gemm.terms = tensor_terms(args);
    return launch_planned(BNINV_CUDA_KERNEL(plan_conv2d_tensor), BNINV_CUDA_KERNEL(conv2d_tensor),
                          args, input);
  }
  args.gemm.terms = args.kernel_h * args.kernel_w * (args.channels / args.groups);
  launch_planned(BNINV_CUDA_KERNEL(plan_conv2d),
                 is_depthwise(args)                   ? BNINV_CUDA_KERNEL(conv2d_depthwise)
                 : args.groups > 1 && group < kNarrow ? BNINV_CUDA_KERNEL(conv2d_grouped)
                                                      : BNINV_CUDA_KERNEL(conv2d),
                 args, input);
}

Tensor convolve(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                std::vector<int64_t> stride, const std::vector<int64_t>& padding,
                const std::vector<int64_t>& dilation, int64_t groups, EpilogueArguments& arguments,
                const std::string& precision) {
  const DType dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  check_beside(kOp, "weight", weight, input);
  BNINV_CHECK(input.dim() == 4, kOp, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, height, width]");
  BNINV_CHECK(weight.dim() == 4, kOp, ": `weight` has shape ", sizes_text(weight),
              "; it may be [out_channels, channels / groups, kernel_h, kernel_w]");
  BNINV_CHECK(weight.size(2) > 0 && weight.size(3) > 0, kOp, ": `weight` has shape ",
              sizes_text(weight), "; kernel_h and kernel_w may be 1 and more");
  check_stride(kOp, stride);
  check_pair(kOp, "padding", padding, 0);
  check_pair(kOp, "dilation", dilation, 1);
  BNINV_CHECK(groups > 0 && input.size(1) % groups == 0 && weight.size(0) % groups == 0, kOp,
              ": `groups` is ", groups, "; it may be a positive divisor of the input's ",
              input.size(1), " channels and of the weight's ", weight.size(0), " output channels");
  BNINV_CHECK(weight.size(1) * groups == input.size(1), kOp, ": `input` has ", input.size(1),
              " channels; with this `weight` of shape ", sizes_text(weight), " and groups ", groups,
              " it may have ", weight.size(1) * groups);
  if (bias.has_value()) check_vector(kOp, "bias", *bias, input, weight.size(0), "output channel");
  const Precision wanted = precision_of(kOp, precision, input);

  const int64_t out_height = output_size(input, weight, 2, stride[0], padding[0], dilation[0]);
  const int64_t out_width = output_size(input, weight, 3, stride[1], padding[1], dilation[1]);
  const bool channels_last = is_channels_last(input) || is_channels_last(weight) ||
                             (is_panel(weight) && !weight.is_contiguous());
  Tensor output = new_empty(input, {input.size(0), weight.size(0), out_height, out_width},
                            channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  const Epilogue epilogue = epilogue_of(kOp, arguments, output);
  if (output.numel() == 0) return output;

  const Tensor x = has_dense_channels(input)
                       ? input
                       : torch::stable::contiguous(input, MemoryFormat::ChannelsLast);
  const Tensor panel = panel_of(weight);
  const std::optional<Tensor> b =
      bias.has_value() ? std::optional<Tensor>(torch::stable::contiguous(*bias)) : std::nullopt;

  Conv2dArgs args{};
  args.dtype = dtype;
  if (tensor_reaches(dtype, groups, weight.size(1))) args.precision = wanted;
  args.input = x.data_ptr();
  args.batch = x.size(0), args.channels = x.size(1), args.height = x.size(2);
  args.width = x.size(3);
  args.stride_n = x.stride(0), args.stride_h = x.stride(2), args.stride_w = x.stride(3);
  args.weight = panel.data_ptr();
  args.bias = data_or_null(b);
  args.output = output.data_ptr();
  args.out_channels = weight.size(0), args.out_height = out_height, args.out_width = out_width;
  args.out_stride_n = output.stride(0), args.out_stride_c = output.stride(1);
  args.out_stride_h = output.stride(2), args.out_stride_w = output.stride(3);
  args.kernel_h = weight.size(2), args.kernel_w = weight.size(3);
  args.step_h = stride[0], args.step_w = stride[1];
  args.pad_h = padding[0], args.pad_w = padding[1];
  args.dilation_h = dilation[0], args.dilation_w = dilation[1];
  args.groups = groups;
  args.epilogue = epilogue;

  if (on_cuda(input))
    run_on_cuda(args, input);
  else
    run_on_cpu(args);
  return output;
}

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              std::vector<int64_t> stride, std::vector<int64_t> padding,
              std::vector<int64_t> dilation, int64_t groups, std::string precision) {
  EpilogueArguments none;
  return convolve(input, weight, bias, std::move(stride), padding, dilation, groups, none,
                  precision);
}

Tensor conv2d_fused(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    std::vector<int64_t> stride, std::vector<int64_t> padding,
                    std::vector<int64_t> dilation, int64_t groups,
                    std::optional<Tensor> running_mean, std::optional<Tensor> running_var,
                    std::optional<Tensor> norm_weight, std::optional<Tensor> norm_bias, double eps,
                    std::optional<Tensor> residual, std::string activation, double negative_slope,
                    std::string precision) {
  EpilogueArguments arguments{running_mean, running_var, norm_weight,           norm_bias,
                              eps,          residual,    std::move(activation), negative_slope};
  return convolve(input, weight, bias, std::move(stride), padding, dilation, groups, arguments,
                  precision);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("conv2d", TORCH_BOX(&conv2d));
  m.impl("conv2d_fused", TORCH_BOX(&conv2d_fused));
}

}  // namespace bninv
