#include "../unary.h"

#include <algorithm>

#include "common.h"

namespace bninv {
namespace {

using Parameters = std::initializer_list<double>;

void run_unary(const Tensor& input, const Tensor& output, DType dtype, Function function,
               Parameters parameters) {
  if (input.numel() == 0) return;
  UnaryArgs args{};
  args.dtype = dtype;
  args.input = input.data_ptr();
  args.output = output.data_ptr();
  args.function = function;
  std::copy(parameters.begin(), parameters.end(), args.parameters);
  args.elements = input.numel();
  if (on_cuda(input)) return launch(BNINV_CUDA_KERNEL(unary), args, input);
  run(BNINV_KERNEL(unary), args, args.elements, grain_of(1));
}

Tensor unary(const char* op, const Tensor& input, Function function, Parameters parameters = {}) {
  const DType dtype = check_dtype(op, "input", input, kFloatingTypes);
  const Tensor x = is_dense(input) ? input : torch::stable::contiguous(input);
  Tensor output = new_like(x);
  run_unary(x, output, dtype, function, parameters);
  return output;
}

void unary_(const char* op, Tensor& input, Function function, Parameters parameters = {}) {
  const DType dtype = check_dtype(op, "input", input, kFloatingTypes);
  if (is_dense(input)) {
    run_unary(input, input, dtype, function, parameters);
    return;
  }
  // Elements that share memory would get a result of a result.
  for (int64_t d = 0; d < input.dim(); ++d)
    BNINV_CHECK(
        input.size(d) < 2 || input.stride(d) != 0, op, ": `input` is expanded along dimension ", d,
        ": its elements share memory; in place it may only be a tensor whose elements do not");
  torch::stable::copy_(input, unary(op, input, function, parameters));
}

// One operator and its in-place form, with the same arithmetic.
#define BNINV_PLAIN(name, number)                                                    \
  Tensor name(const Tensor& input) { return unary(#name, input, Function::number); } \
  void name##_(Tensor input) { unary_(#name "_", input, Function::number); }
#define BNINV_OWN(name, number)
#define BNINV_DEFINE(name, number, kind, expression) BNINV_##kind(name, number)
BNINV_FUNCTIONS(BNINV_DEFINE)
#undef BNINV_PLAIN

Function gelu_form(const std::string& approximate) {
  BNINV_CHECK(approximate == "none" || approximate == "tanh", "gelu: `approximate` is '",
              approximate, "'; it may be 'none' or 'tanh'");
  return approximate == "tanh" ? Function::kGeluTanh : Function::kGelu;
}

Tensor gelu(const Tensor& input, std::string approximate) {
  return unary("gelu", input, gelu_form(approximate));
}

void gelu_(Tensor input, std::string approximate) {
  unary_("gelu_", input, gelu_form(approximate));
}

Tensor leaky_relu(const Tensor& input, double negative_slope) {
  return unary("leaky_relu", input, Function::kLeakyRelu, {negative_slope});
}

void leaky_relu_(Tensor input, double negative_slope) {
  unary_("leaky_relu_", input, Function::kLeakyRelu, {negative_slope});
}

Tensor softplus(const Tensor& input, double beta, double threshold) {
  return unary("softplus", input, Function::kSoftplus, {beta, threshold});
}

void softplus_(Tensor input, double beta, double threshold) {
  unary_("softplus_", input, Function::kSoftplus, {beta, threshold});
}

Tensor elu(const Tensor& input, double alpha, double scale, double input_scale) {
  return unary("elu", input, Function::kElu, {scale, alpha * scale, input_scale});
}

void elu_(Tensor input, double alpha, double scale, double input_scale) {
  unary_("elu_", input, Function::kElu, {scale, alpha * scale, input_scale});
}

}  // namespace

BNINV_REGISTER(m) {
#define BNINV_PLAIN(name, number)  \
  m.impl(#name, TORCH_BOX(&name)); \
  m.impl(#name "_", TORCH_BOX(&name##_));
  BNINV_FUNCTIONS(BNINV_DEFINE)
  BNINV_PLAIN(gelu, kGelu)
  BNINV_PLAIN(leaky_relu, kLeakyRelu)
  BNINV_PLAIN(softplus, kSoftplus)
  BNINV_PLAIN(elu, kElu)
}

}  // namespace bninv
