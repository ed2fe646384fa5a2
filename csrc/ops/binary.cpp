#include "../binary.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <array>
#include <utility>
#include <vector>

#include "common.h"

namespace bninv {
namespace {

// One number for all elements: expanded along every dimension that has more than one.
bool is_one_number(const Tensor& tensor) {
  for (int64_t d = 0; d < tensor.dim(); ++d)
    if (tensor.size(d) > 1 && tensor.stride(d) != 0) return false;
  return true;
}

bool same_strides(const Tensor& a, const Tensor& b) {
  for (int64_t d = 0; d < a.dim(); ++d)
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

// Whether dimension a is slower than b, by the first operand that tells: what PyTorch's elementwise
// operators order their results by.
bool is_slower(const Tensor& input, const Tensor& other, int64_t a, int64_t b, bool* told) {
  for (const Tensor* tensor : {&input, &other}) {
    const int64_t of_a = tensor->stride(a), of_b = tensor->stride(b);
    if (of_a == 0 || of_b == 0) continue;
    *told = true;
    if (of_a != of_b) return of_a > of_b;
    if (tensor->size(a) > tensor->size(b)) return true;
  }
  *told = false;
  return false;
}

Tensor permuted(const Tensor& tensor, const std::vector<int64_t>& dims) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(tensor),
                                    torch::stable::detail::from(dims)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::permute", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Strides of a dense result, in the operands' order of dimensions.
Tensor new_result(const Tensor& input, const Tensor& other) {
  const int64_t dims = input.dim();
  if (same_strides(input, other)) {
    if (input.is_contiguous() && other.is_contiguous())
      return new_empty(input, std::vector<int64_t>(input.sizes().begin(), input.sizes().end()));
    if (is_dense(input)) return new_like(input);
  }
  std::vector<int64_t> order(dims);  // from the fastest
  for (int64_t i = 0; i < dims; ++i) order[i] = dims - 1 - i;
  for (int64_t i = 1; i < dims; ++i) {
    int64_t moved = i;
    for (int64_t j = i - 1; j >= 0; --j) {
      bool told = false;
      if (is_slower(input, other, order[j], order[moved], &told)) {
        std::swap(order[j], order[moved]);
        moved = j;
      } else if (told) {
        break;
      }
    }
  }
  std::vector<int64_t> sizes(dims), back(dims);
  for (int64_t i = 0; i < dims; ++i) {
    const int64_t place = dims - 1 - i;  // in memory, from the slowest
    sizes[place] = input.size(order[i]);
    back[order[i]] = place;
  }
  return permuted(new_empty(input, sizes), back);
}

// An operand in the result's order: itself, one number, or a copy.
Tensor in_order(const Tensor& operand, const Tensor& result, int64_t* step) {
  *step = 1;
  if (same_strides(operand, result)) return operand;
  if (is_one_number(operand)) {
    *step = 0;
    return operand;
  }
  Tensor copy = new_like(result);
  torch::stable::copy_(copy, operand);
  return copy;
}

Tensor binary(BinaryFunction function, const Tensor& input, const Tensor& other) {
  const char* op = kBinaryNames[static_cast<int64_t>(function)];
  BinaryArgs args{};
  args.dtype = check_dtype(op, "input", input, kFloatingTypes);
  const char* argument = function == BinaryFunction::kPow ? "exponent" : "other";
  check_beside(op, argument, other, input);
  check_like(op, argument, other, input);
  Tensor output = new_result(input, other);
  if (input.numel() == 0) return output;
  const Tensor x = in_order(input, output, &args.input_step);
  const Tensor y = in_order(other, output, &args.other_step);
  args.input = x.data_ptr();
  args.other = y.data_ptr();
  args.output = output.data_ptr();
  args.function = function;
  args.elements = input.numel();
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(binary), args, input);
  } else {
    run(BNINV_KERNEL(binary), args, args.elements, grain_of(4));
  }
  return output;
}

#define BNINV_DEFINE(name, number, ...)                        \
  Tensor name##_of(const Tensor& input, const Tensor& other) { \
    return binary(BinaryFunction::number, input, other);       \
  }
BNINV_BINARY_FUNCTIONS(BNINV_DEFINE)
#undef BNINV_DEFINE

}  // namespace

BNINV_REGISTER(m) {
#define BNINV_IMPL(name, ...) m.impl(#name, TORCH_BOX(&name##_of));
  BNINV_BINARY_FUNCTIONS(BNINV_IMPL)
#undef BNINV_IMPL
}

}  // namespace bninv
