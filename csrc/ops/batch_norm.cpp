#include "../batch_norm.h"
#include "epilogue.h"

namespace bninv {
namespace {

constexpr const char* kOp = "batch_norm";

// The memory of `x` as outer x channels x inner elements.
void find_extents(const Tensor& x, BatchNormArgs& args) {
  args.channels = x.size(1);
  args.inner = x.is_contiguous() ? x.numel() / (x.size(0) * args.channels) : 1;
  args.outer = x.numel() / (args.channels * args.inner);
}

Tensor batch_norm(const Tensor& input, Tensor running_mean, Tensor running_var,
                  std::optional<Tensor> weight, std::optional<Tensor> bias, double eps,
                  std::optional<Tensor> residual, std::string activation, double negative_slope) {
  BatchNormArgs args{};
  args.dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  BNINV_CHECK(input.dim() >= 2, kOp, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, ...]");
  args.running_mean = parameter_of(kOp, "running_mean", running_mean, input);
  args.running_var = parameter_of(kOp, "running_var", running_var, input);
  args.weight = parameter_of(kOp, "weight", weight, input);
  args.bias = parameter_of(kOp, "bias", bias, input);
  args.eps = eps;
  args.activation = epilogue_activation(kOp, activation);
  args.negative_slope = negative_slope;
  if (residual.has_value()) check_like(kOp, "residual", *residual, input);

  // As stock: other orders of dimensions give a contiguous result.
  const bool in_place_order = input.is_contiguous() || (input.stride(1) == 1 && is_dense(input));
  const Tensor x = in_place_order ? input : torch::stable::contiguous(input);
  Tensor output = new_like(x);
  if (output.numel() == 0) return output;
  const std::optional<Tensor> addend =
      residual.has_value() ? std::optional<Tensor>(laid_out_like(output, *residual)) : std::nullopt;
  args.input = x.data_ptr();
  args.output = output.data_ptr();
  args.residual = addend.has_value() ? addend->data_ptr() : nullptr;
  find_extents(x, args);

  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(batch_norm), args, input);
    return output;
  }
  const bool one_channel_rows = args.inner > 1;
  run(BNINV_KERNEL(batch_norm), args, one_channel_rows ? args.outer * args.channels : args.outer,
      grain_of(one_channel_rows ? args.inner : args.channels));
  return output;
}

}  // namespace

BNINV_REGISTER(m) { m.impl("batch_norm", TORCH_BOX(&batch_norm)); }

}  // namespace bninv
