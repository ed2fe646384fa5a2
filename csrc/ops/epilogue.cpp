#include "epilogue.h"

namespace bninv {

Tensor laid_out_like(const Tensor& like, const Tensor& tensor) {
  bool same = true;
  for (int64_t d = 0; d < like.dim(); ++d)
    same = same && (like.size(d) == 1 || tensor.stride(d) == like.stride(d));
  if (same) return tensor;
  Tensor copy = torch::stable::empty_like(like);
  torch::stable::copy_(copy, tensor);
  return copy;
}

Epilogue epilogue_of(const char* op, EpilogueArguments& arguments, const Tensor& output) {
  Epilogue epilogue{};
  BNINV_CHECK(arguments.running_mean.has_value() == arguments.running_var.has_value(), op,
              ": one of `running_mean` and `running_var` is None; both may be tensors, or None");
  epilogue.normalizes = arguments.running_mean.has_value();
  BNINV_CHECK(epilogue.normalizes || (!arguments.weight.has_value() && !arguments.bias.has_value()),
              op, ": `norm_weight` or `norm_bias` is given without `running_mean`; it may be None");
  epilogue.running_mean = parameter_of(op, "running_mean", arguments.running_mean, output);
  epilogue.running_var = parameter_of(op, "running_var", arguments.running_var, output);
  epilogue.weight = parameter_of(op, "norm_weight", arguments.weight, output);
  epilogue.bias = parameter_of(op, "norm_bias", arguments.bias, output);
  epilogue.eps = arguments.eps;
  if (arguments.residual.has_value()) {
    check_like(op, "residual", *arguments.residual, output);
    arguments.residual = laid_out_like(output, *arguments.residual);
    epilogue.residual = arguments.residual->data_ptr();
  }
  const DType dtype = check_dtype(op, "input", output, kFloatingTypes);
  epilogue.activation = epilogue_activation(op, arguments.activation, dtype);
  epilogue.negative_slope = arguments.negative_slope;
  return epilogue;
}

Tensor apply_epilogue(const Epilogue& epilogue, const Tensor& output) {
  if (epilogue.is_empty() || output.numel() == 0) return output;
  const DType dtype = check_dtype("epilogue", "output", output, kFloatingTypes);
  if (epilogue.normalizes) {
    Tensor result = new_like(output);
    BatchNormArgs args{};
    args.dtype = dtype;
    args.input = output.data_ptr();
    args.residual = epilogue.residual;
    args.output = result.data_ptr();
    args.running_mean = epilogue.running_mean, args.running_var = epilogue.running_var;
    args.weight = epilogue.weight, args.bias = epilogue.bias;
    args.eps = epilogue.eps;
    args.activation = epilogue.activation;
    args.negative_slope = epilogue.negative_slope;
    args.channels = output.size(1);
    args.inner = output.is_contiguous() ? output.numel() / (output.size(0) * args.channels) : 1;
    args.outer = output.numel() / (args.channels * args.inner);
    run_batch_norm(args);
    return result;
  }
  UnaryArgs args{};
  args.dtype = dtype;
  args.input = args.output = output.data_ptr();
  args.addend = epilogue.residual;
  args.elements = output.numel();
  args.function = epilogue.activation;
  args.negative_slope = epilogue.negative_slope;
  run(BNINV_KERNEL(unary), args, args.elements, grain_of(1));
  return output;
}

void run_batch_norm(const BatchNormArgs& args) {
  const bool one_channel_rows = args.inner > 1;
  run(BNINV_KERNEL(batch_norm), args, one_channel_rows ? args.outer * args.channels : args.outer,
      grain_of(one_channel_rows ? args.inner : args.channels));
}

}  // namespace bninv
