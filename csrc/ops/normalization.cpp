#include <algorithm>

#include "../group_norm.h"
#include "../layer_norm.h"
#include "common.h"

namespace bninv {
namespace {

// Batch, then pixels row by row, then channels, without gaps: of the formats that PyTorch knows.
bool is_channels_last_order(const Tensor& x) {
  if (x.dim() != 4 && x.dim() != 5) return false;
  int64_t expected = 1;
  const auto follows = [&](int64_t d) {
    const bool fits = x.size(d) == 1 || x.stride(d) == expected;
    expected *= x.size(d);
    return fits;
  };
  bool fits = follows(1);
  for (int64_t d = x.dim() - 1; d >= 2; --d) fits = fits && follows(d);
  return fits && follows(0);
}

// ---- Over the last dimensions --------------------------------------------------------------------

void check_normalized_shape(const char* op, const Tensor& input,
                            const std::vector<int64_t>& normalized_shape) {
  const auto sizes = input.sizes();
  const auto count = static_cast<int64_t>(normalized_shape.size());
  BNINV_CHECK(count > 0 && count <= input.dim() &&
                  std::equal(normalized_shape.begin(), normalized_shape.end(), sizes.end() - count),
              op, ": `normalized_shape` is ", list_text(normalized_shape),
              "; it may be the last sizes of `input`, whose shape is ", sizes_text(input));
}

// Dense rows are what the kernel takes; the result is contiguous.
Tensor normalize_rows(const char* op, const Tensor& input,
                      const std::vector<int64_t>& normalized_shape, std::optional<Tensor> weight,
                      std::optional<Tensor> bias, double eps, bool subtract_mean) {
  LayerNormArgs args{};
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  check_normalized_shape(op, input, normalized_shape);
  args.weight = parameter_of(op, "weight", weight, input, normalized_shape, "normalized element");
  args.bias = parameter_of(op, "bias", bias, input, normalized_shape, "normalized element");
  args.eps = eps;
  args.subtract_mean = subtract_mean;
  const Tensor x = input.is_contiguous() ? input : torch::stable::contiguous(input);
  Tensor output = new_like(x);
  if (output.numel() == 0) return output;
  args.input = x.data_ptr();
  args.output = output.data_ptr();
  args.terms = 1;
  for (const int64_t size : normalized_shape) args.terms *= size;
  args.rows = x.numel() / args.terms;
  if (on_cuda(input))
    launch(BNINV_CUDA_KERNEL(layer_norm), args, input);
  else
    run(BNINV_KERNEL(layer_norm), args, args.rows, grain_of(args.terms));
  return output;
}

Tensor layer_norm(const Tensor& input, std::vector<int64_t> normalized_shape,
                  std::optional<Tensor> weight, std::optional<Tensor> bias, double eps) {
  return normalize_rows("layer_norm", input, normalized_shape, weight, bias, eps, true);
}

Tensor rms_norm(const Tensor& input, std::vector<int64_t> normalized_shape,
                std::optional<Tensor> weight, double eps) {
  Tensor result =
      normalize_rows("rms_norm", input, normalized_shape, weight, std::nullopt, eps, false);
  // As stock.
  if (input.is_contiguous() || !is_channels_last_order(input)) return result;
  Tensor output = new_like(input);
  torch::stable::copy_(output, result);
  return output;
}

// ---- Over groups of channels ---------------------------------------------------------------------

// Groups that make up a task: in channels_last enough to fill vectors, and more where the batch gives
// every thread work, since whole pixels stream better from memory than parts of them.
int64_t groups_together(const GroupNormArgs& args) {
  if (!args.channels_last) return 1;
  const int64_t channels = args.batch < torch::stable::get_num_threads() ? 64 : 256;
  const int64_t group = args.channels / args.groups;
  return std::clamp<int64_t>((channels + group - 1) / group, 1, args.groups);
}

Tensor normalize_groups(const char* op, const Tensor& input, int64_t groups,
                        std::optional<Tensor> weight, std::optional<Tensor> bias, double eps) {
  GroupNormArgs args{};
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  BNINV_CHECK(input.dim() >= 2, op, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, ...]");
  args.channels = input.size(1);
  args.groups = groups < 0 ? args.channels : groups;
  BNINV_CHECK(groups < 0 || (groups > 0 && args.channels % groups == 0), op, ": `num_groups` is ",
              groups, "; it may be a divisor of the number of channels, ", args.channels);
  args.weight = parameter_of(op, "weight", weight, input, {args.channels}, "channel");
  args.bias = parameter_of(op, "bias", bias, input, {args.channels}, "channel");
  args.eps = eps;

  const bool contiguous = input.is_contiguous();
  const bool in_place_order = contiguous || is_channels_last_order(input);
  const Tensor x = in_place_order ? input : torch::stable::contiguous(input);
  Tensor output = new_like(x);
  if (output.numel() == 0) return output;
  args.input = x.data_ptr();
  args.output = output.data_ptr();
  args.batch = x.size(0);
  args.pixels = x.numel() / (args.batch * args.channels);
  // Channels of one pixel lie next to each other in either order.
  args.channels_last = (in_place_order && !contiguous) || args.pixels == 1;
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(group_norm), args, input);
    return output;
  }
  args.together = groups_together(args);
  const int64_t tasks = group_norm_tasks(args);
  run(BNINV_KERNEL(group_norm), args, tasks, grain_of(x.numel() / tasks));
  return output;
}

Tensor group_norm(const Tensor& input, int64_t num_groups, std::optional<Tensor> weight,
                  std::optional<Tensor> bias, double eps) {
  BNINV_CHECK(num_groups > 0, "group_norm: `num_groups` is ", num_groups,
              "; it may be a divisor of the number of channels");
  return normalize_groups("group_norm", input, num_groups, weight, bias, eps);
}

Tensor instance_norm(const Tensor& input, std::optional<Tensor> weight, std::optional<Tensor> bias,
                     double eps) {
  return normalize_groups("instance_norm", input, -1, weight, bias, eps);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("layer_norm", TORCH_BOX(&layer_norm));
  m.impl("rms_norm", TORCH_BOX(&rms_norm));
  m.impl("group_norm", TORCH_BOX(&group_norm));
  m.impl("instance_norm", TORCH_BOX(&instance_norm));
}

}  // namespace bninv
