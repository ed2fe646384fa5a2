#include "common.h"

namespace bninv {
namespace {

constexpr const char* kOp = "batch_norm";

Tensor batch_norm(const Tensor& input, const Tensor& running_mean, const Tensor& running_var,
                  const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                  double eps) {
  check_tensor(kOp, "input", input);
  check(input.dim() >= 2, kOp, ": `input` has shape ", sizes_text(input),
        "; it may be [batch, channels, ...]");
  const int64_t channels = input.size(1);
  check_vector(kOp, "running_mean", running_mean, channels, "channel");
  check_vector(kOp, "running_var", running_var, channels, "channel");
  if (weight.has_value()) check_vector(kOp, "weight", *weight, channels, "channel");
  if (bias.has_value()) check_vector(kOp, "bias", *bias, channels, "channel");

  const bool channels_fastest = input.stride(1) == 1 && is_dense(input);
  const Tensor x =
      channels_fastest || input.is_contiguous() ? input : torch::stable::contiguous(input);
  Tensor output = torch::stable::empty_like(x);
  if (output.numel() == 0) return output;

  const auto dense = [](const Tensor& t) { return torch::stable::contiguous(t); };
  const Tensor mean = dense(running_mean), var = dense(running_var);
  const std::optional<Tensor> w =
      weight.has_value() ? std::optional<Tensor>(dense(*weight)) : std::nullopt;
  const std::optional<Tensor> b =
      bias.has_value() ? std::optional<Tensor>(dense(*bias)) : std::nullopt;

  BatchNormArgs args{};
  args.input = static_cast<const float*>(x.data_ptr());
  args.output = static_cast<float*>(output.data_ptr());
  args.running_mean = static_cast<const float*>(mean.data_ptr());
  args.running_var = static_cast<const float*>(var.data_ptr());
  args.weight = data_or_null(w);
  args.bias = data_or_null(b);
  args.eps = static_cast<float>(eps);
  args.channels = channels;
  args.inner = x.is_contiguous() ? x.numel() / (x.size(0) * channels) : 1;
  args.outer = x.numel() / (channels * args.inner);
  const bool one_channel_rows = args.inner > 1;
  run(BNINV_KERNEL(batch_norm), args, one_channel_rows ? args.outer * channels : args.outer,
      grain_of(one_channel_rows ? args.inner : channels));
  return output;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(bninv, CPU, m) { m.impl("batch_norm", TORCH_BOX(&batch_norm)); }

}  // namespace bninv
