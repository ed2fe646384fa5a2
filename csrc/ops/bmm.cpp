#include "../bmm.h"
#include "../cpu/schedule.h"
#include "../tensor.h"
#include "epilogue.h"
#include "precision.h"

namespace bninv {
namespace {

using Sizes = std::vector<int64_t>;

constexpr const char* kBmm = "bmm";
constexpr const char* kBaddbmm = "baddbmm";

// Samples of rows x columns, and the memory that they lie in.
struct Matrices {
  Tensor memory;
  MatrixStrides strides;

  explicit Matrices(const Tensor& tensor) : memory(tensor) {
    const int64_t last = tensor.dim() - 1;
    strides = {tensor.stride(last - 2), tensor.stride(last - 1), tensor.stride(last), 0};
    if (last == 3) strides.group = tensor.stride(0);
    if (tensor.size(last) == 1) strides.column = 1;
  }
};

// With the last dimension dense, and both of them where `rows_too` says so: a copy where they are not.
// Of samples that are all the same, of one.
Matrices dense(const Tensor& tensor, bool rows_too) {
  Matrices matrices(tensor);
  if (matrices.strides.column == 1 && (!rows_too || matrices.strides.row == tensor.size(2)))
    return matrices;
  const bool repeated = matrices.strides.sample == 0;
  const Tensor samples = repeated ? torch::stable::narrow(matrices.memory, 0, 0, 1) : tensor;
  matrices = Matrices(torch::stable::contiguous(samples));
  if (repeated) matrices.strides.sample = 0;
  return matrices;
}

const void* sample_of(const void* data, int64_t elements, DType dtype) {
  const int64_t bytes = dtype == DType::kDouble ? 8 : dtype == DType::kFloat ? 4 : 2;
  return static_cast<const char*>(data) + elements * bytes;
}

// R9 on a CPU, where speed is not what it is for: sample by sample.
void reproduce_tensor_cores(const BmmArgs& args) {
  for (int64_t i = 0; i < args.batch; ++i) {
    const int64_t at = i * args.gemm.rows * args.gemm.columns;
    LinearArgs sample{};
    sample.dtype = args.dtype;
    sample.precision = args.precision;
    sample.input = sample_of(args.input, i * args.input_strides.sample, args.dtype);
    sample.input_stride = args.input_strides.row;
    sample.weight = sample_of(args.mat2, i * args.mat2_strides.sample, args.dtype);
    sample.output = const_cast<void*>(sample_of(args.output, at, args.dtype));
    sample.gemm = args.gemm;
    sample.epilogue = args.epilogue;
    if (args.epilogue.residual != nullptr)
      sample.epilogue.residual = sample_of(args.epilogue.residual, at, args.dtype);
    const int64_t work = 2 * args.gemm.block_rows * args.gemm.block_columns * args.gemm.terms;
    run(BNINV_KERNEL(conv2d_tensor), as_convolution(sample),
        args.gemm.row_blocks * args.gemm.column_blocks, grain_of(work));
  }
}

Tensor multiply(const char* op, const char* left, const char* right, const Tensor& input,
                const Tensor& mat2, const std::optional<Tensor>& addend, double beta, double alpha,
                const std::string& precision) {
  const Tensor& first = addend.has_value() ? *addend : input;
  const DType dtype = check_dtype(op, "input", first, kFloatingTypes);
  if (addend.has_value()) check_beside(op, left, input, first);
  check_beside(op, right, mat2, first);
  const int64_t dims = input.dim();
  const bool in_groups = dims == 4;
  BNINV_CHECK(dims == 3 || (in_groups && !addend.has_value()), op, ": `", left, "` has shape ",
              sizes_text(input), "; it may be [batch, rows, features]",
              addend.has_value() ? "" : " or [batch, heads, rows, features]");
  const int64_t rows = input.size(dims - 2), terms = input.size(dims - 1);
  const int64_t groups = in_groups ? input.size(0) : 1, samples = input.size(dims - 3);
  const int64_t batch = groups * samples;
  BNINV_CHECK(mat2.dim() == dims && mat2.size(dims - 2) == terms &&
                  mat2.size(dims - 3) == samples && (!in_groups || mat2.size(0) == groups),
              op, ": `", right, "` has shape ", sizes_text(mat2), "; beside a `", left,
              "` of shape ", sizes_text(input), " it may be [",
              in_groups ? std::to_string(groups) + ", " : std::string(), samples, ", ", terms,
              ", columns]");
  const int64_t columns = mat2.size(dims - 1);
  const Precision wanted = precision_of(op, precision, input);
  if (in_groups && (on_cuda(input) || wanted != Precision::kIeee)) {
    const Tensor product = multiply(
        op, left, right, torch::stable::reshape(input, Sizes{batch, rows, terms}),
        torch::stable::reshape(mat2, Sizes{batch, terms, columns}), addend, beta, alpha, precision);
    return torch::stable::reshape(product, Sizes{groups, samples, rows, columns});
  }
  Tensor output = new_empty(
      input, in_groups ? Sizes{groups, samples, rows, columns} : Sizes{batch, rows, columns});
  Epilogue epilogue{};
  std::optional<Tensor> laid_out;
  if (addend.has_value()) {
    check_like(op, "input", *addend, output);
    epilogue.scales = true, epilogue.alpha = alpha, epilogue.beta = beta;
    // A beta of 0 ignores what it multiplies, NaN and infinities too.
    if (beta != 0) laid_out = laid_out_like(output, *addend);
    epilogue.residual = data_or_null(laid_out);
  }
  if (output.numel() == 0) return output;

  // The CPU's kernel of R1 takes any strides; that of R9 wants a panel without gaps.
  const bool any_strides = !on_cuda(input) && wanted == Precision::kIeee;
  const Matrices a = any_strides ? Matrices(input) : dense(input, false);
  const Matrices b = any_strides ? Matrices(mat2) : dense(mat2, !on_cuda(input));
  BmmArgs args{};
  args.dtype = dtype;
  if (tensor_reaches(dtype, 1, terms)) args.precision = wanted;
  args.batch = batch, args.samples = samples;
  args.input = a.memory.data_ptr(), args.input_strides = a.strides;
  args.mat2 = b.memory.data_ptr(), args.mat2_strides = b.strides;
  args.output = output.data_ptr();
  args.epilogue = epilogue;
  if (on_cuda(input)) {
    args.gemm.rows = rows, args.gemm.columns = columns, args.gemm.terms = terms;
    launch_planned(BNINV_CUDA_KERNEL(plan_bmm), BNINV_CUDA_KERNEL(bmm), args, input);
    return output;
  }
  args.gemm = gemm_schedule(rows, columns, terms, batch, torch::stable::get_num_threads());
  if (args.precision != Precision::kIeee) {
    reproduce_tensor_cores(args);
    return output;
  }
  const int64_t work = args.gemm.block_rows * args.gemm.block_columns * terms / 4;
  run(BNINV_KERNEL(bmm), args, batch * args.gemm.row_blocks * args.gemm.column_blocks,
      grain_of(work));
  return output;
}

Tensor bmm(const Tensor& input, const Tensor& mat2, std::string precision) {
  return multiply(kBmm, "input", "mat2", input, mat2, std::nullopt, 0, 1, precision);
}

Tensor baddbmm(const Tensor& input, const Tensor& batch1, const Tensor& batch2, double beta,
               double alpha, std::string precision) {
  return multiply(kBaddbmm, "batch1", "batch2", batch1, batch2, input, beta, alpha, precision);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("bmm", TORCH_BOX(&bmm));
  m.impl("baddbmm", TORCH_BOX(&baddbmm));
}

}  // namespace bninv
