#include "../linear.h"
#include "../cpu/schedule.h"
#include "epilogue.h"
#include "precision.h"

namespace bninv {
namespace {

constexpr const char* kOp = "linear";

Tensor multiply(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                EpilogueArguments& arguments, const std::string& precision) {
  const DType dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  check_beside(kOp, "weight", weight, input);
  BNINV_CHECK(weight.dim() == 2, kOp, ": `weight` has shape ", sizes_text(weight),
              "; it may be [out_features, in_features]");
  const int64_t columns = weight.size(0), terms = weight.size(1);
  BNINV_CHECK(input.dim() >= 1 && input.size(input.dim() - 1) == terms, kOp, ": `input` has shape ",
              sizes_text(input), "; its last dimension may be ", terms,
              ", the weight's in_features");
  if (bias.has_value()) check_vector(kOp, "bias", *bias, input, columns, "output feature");
  const Precision wanted = precision_of(kOp, precision, input);

  int64_t rows = 1;
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d + 1 < input.dim(); ++d) {
    sizes.push_back(input.size(d));
    rows *= input.size(d);
  }
  sizes.push_back(columns);
  Tensor output = new_empty(input, sizes);
  const Epilogue epilogue = epilogue_of(kOp, arguments, output);
  if (output.numel() == 0) return output;

  Tensor x = torch::stable::reshape(input, std::vector<int64_t>{rows, terms});
  if (terms > 1 && x.stride(1) != 1) x = torch::stable::contiguous(x);
  const Tensor panel = panel_of(weight);
  const std::optional<Tensor> b =
      bias.has_value() ? std::optional<Tensor>(torch::stable::contiguous(*bias)) : std::nullopt;

  LinearArgs args{};
  args.dtype = dtype;
  if (tensor_reaches(dtype, 1, terms)) args.precision = wanted;
  args.input = x.data_ptr();
  args.input_stride = x.stride(0);
  args.weight = panel.data_ptr();
  args.bias = data_or_null(b);
  args.output = output.data_ptr();
  args.epilogue = epilogue;
  if (on_cuda(input)) {
    args.gemm.rows = rows, args.gemm.columns = columns, args.gemm.terms = terms;
    // as_convolution takes its channels from `terms`; R9's own count pads them.
    launch_planned(BNINV_CUDA_KERNEL(plan_linear), BNINV_CUDA_KERNEL(linear), args, input);
    return output;
  }
  args.gemm = gemm_schedule(rows, columns, terms, 1, torch::stable::get_num_threads());
  const int64_t tasks = args.gemm.row_blocks * args.gemm.column_blocks;
  if (args.precision != Precision::kIeee) {
    const int64_t work = 2 * args.gemm.block_rows * args.gemm.block_columns * terms;
    run(BNINV_KERNEL(conv2d_tensor), as_convolution(args), tasks, grain_of(work));
    return output;
  }
  const int64_t work = args.gemm.block_rows * args.gemm.block_columns * terms / 4;
  run(BNINV_KERNEL(linear), args, tasks, grain_of(work));
  return output;
}

Tensor linear(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              std::string precision) {
  EpilogueArguments none;
  return multiply(input, weight, bias, none, precision);
}

Tensor linear_fused(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                    std::optional<Tensor> residual, std::string activation, double negative_slope,
                    std::string precision) {
  EpilogueArguments arguments;
  arguments.residual = residual;
  arguments.activation = std::move(activation);
  arguments.negative_slope = negative_slope;
  return multiply(input, weight, bias, arguments, precision);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("linear_fused", TORCH_BOX(&linear_fused));
}

}  // namespace bninv
