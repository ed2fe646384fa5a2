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
  check_dtype(op, "input", output, kFloatingTypes);
  epilogue.activation = epilogue_activation(op, arguments.activation);
  epilogue.negative_slope = arguments.negative_slope;
  return epilogue;
}

}  // namespace bninv
