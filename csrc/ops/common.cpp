#include "common.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace bninv {
namespace {

const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Byte:
      return "torch.uint8";
    case ScalarType::Char:
      return "torch.int8";
    case ScalarType::Short:
      return "torch.int16";
    case ScalarType::Int:
      return "torch.int32";
    case ScalarType::Long:
      return "torch.int64";
    case ScalarType::Half:
      return "torch.float16";
    case ScalarType::Float:
      return "torch.float32";
    case ScalarType::Double:
      return "torch.float64";
    case ScalarType::ComplexHalf:
      return "torch.complex32";
    case ScalarType::ComplexFloat:
      return "torch.complex64";
    case ScalarType::ComplexDouble:
      return "torch.complex128";
    case ScalarType::Bool:
      return "torch.bool";
    case ScalarType::BFloat16:
      return "torch.bfloat16";
    default:
      return "another dtype";
  }
}

Tensor permute(const Tensor& tensor, const std::vector<int64_t>& dims) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(tensor),
                                    torch::stable::detail::from(dims)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::permute", "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

// Dimensions of a weight from the slowest to the fastest in panel order: taps, in, out.
std::vector<int64_t> panel_order(const Tensor& weight) {
  std::vector<int64_t> order;
  for (int64_t d = 2; d < weight.dim(); ++d) order.push_back(d);
  order.push_back(1);
  order.push_back(0);
  return order;
}

}  // namespace

std::string list_text(const std::vector<int64_t>& values) {
  std::string list = "[";
  for (size_t i = 0; i < values.size(); ++i)
    list += (i > 0 ? ", " : "") + std::to_string(values[i]);
  return list + "]";
}

std::string sizes_text(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return list_text(std::vector<int64_t>(sizes.begin(), sizes.end()));
}

void check_tensor(const char* op, const char* argument, const Tensor& tensor) {
  check(tensor.defined(), op, ": `", argument, "` is None; it may be a torch.Tensor");
  check(tensor.is_cpu(), op, ": `", argument,
        "` is on another device than the other tensors; it may only be on theirs (cpu)");
  check(tensor.scalar_type() == ScalarType::Float, op, ": `", argument, "` has dtype ",
        dtype_name(tensor.scalar_type()), "; it may be torch.float32");
}

DType check_dtype(const char* op, const char* argument, const Tensor& tensor,
                  std::initializer_list<ScalarType> allowed) {
  check(tensor.defined(), op, ": `", argument, "` is None; it may be a torch.Tensor");
  std::string names;
  for (const ScalarType type : allowed)
    names += (names.empty() ? "" : ", ") + std::string(dtype_name(type));
  const ScalarType found = tensor.scalar_type();
  check(std::find(allowed.begin(), allowed.end(), found) != allowed.end(), op, ": `", argument,
        "` has dtype ", dtype_name(found), "; it may be ", names);
  switch (found) {
    case ScalarType::Double:
      return DType::kDouble;
    case ScalarType::Half:
      return DType::kHalf;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    default:
      return DType::kFloat;
  }
}

void check_device(const char* op, const char* argument, const Tensor& tensor, const Tensor& input) {
  check(tensor.is_cpu() == input.is_cpu() && tensor.get_device_index() == input.get_device_index(),
        op, ": `", argument, "` is on another device than `input`; it may only be on the same");
}

void check_like(const char* op, const char* argument, const Tensor& tensor, const Tensor& input) {
  check_dtype(op, argument, tensor, {input.scalar_type()});
  check_device(op, argument, tensor, input);
  bool same = tensor.dim() == input.dim();
  for (int64_t d = 0; same && d < input.dim(); ++d) same = tensor.size(d) == input.size(d);
  check(same, op, ": `", argument, "` has shape ", sizes_text(tensor), "; it may be `input`'s, ",
        sizes_text(input));
}

Parameter parameter_of(const char* op, const char* argument, std::optional<Tensor>& tensor,
                       const Tensor& input) {
  if (!tensor.has_value()) return {nullptr, DType::kFloat};
  const ScalarType own = input.scalar_type();
  const bool narrow = own == ScalarType::Half || own == ScalarType::BFloat16;
  const ScalarType found = tensor->scalar_type();
  check(found == own || (narrow && found == ScalarType::Float), op, ": `", argument, "` has dtype ",
        dtype_name(found), "; beside an `input` of ", dtype_name(own), " it may be ",
        dtype_name(own), narrow ? " or torch.float32" : "");
  const DType dtype = check_dtype(op, argument, *tensor, {found});
  check_device(op, argument, *tensor, input);
  check(tensor->dim() == 1 && tensor->size(0) == input.size(1), op, ": `", argument, "` has shape ",
        sizes_text(*tensor), "; it may be [", input.size(1), "], one value for each channel");
  if (tensor->size(0) > 1 && tensor->stride(0) != 1) tensor = torch::stable::contiguous(*tensor);
  return {tensor->data_ptr(), dtype};
}

void check_vector(const char* op, const char* argument, const Tensor& tensor, int64_t size,
                  const char* size_meaning) {
  check_tensor(op, argument, tensor);
  check(tensor.dim() == 1 && tensor.size(0) == size, op, ": `", argument, "` has shape ",
        sizes_text(tensor), "; it may be [", size, "], one value for each ", size_meaning);
}

void check_pair(const char* op, const char* argument, const std::vector<int64_t>& pair,
                int64_t least) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  bool fits = pair.size() == 2;
  for (const int64_t value : pair) fits = fits && value >= least && value <= kMost;
  check(fits, op, ": `", argument, "` is ", list_text(pair), "; it may be two integers from ",
        least, " to ", kMost);
}

void check_stride(const char* op, std::vector<int64_t>& stride) {
  constexpr int64_t kBeyondAnyInput = int64_t{1} << 48;
  for (int64_t& step : stride) step = std::min(step, kBeyondAnyInput);
  check(stride.size() == 2 && stride[0] >= 1 && stride[1] >= 1, op, ": `stride` is ",
        list_text(stride), "; it may be two integers of at least 1");
}

bool is_dense(const Tensor& tensor) {
  const int64_t dims = tensor.dim();
  std::vector<int64_t> order;
  for (int64_t d = 0; d < dims; ++d) {
    if (tensor.size(d) == 0) return true;
    if (tensor.size(d) > 1) order.push_back(d);
  }
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return tensor.stride(a) < tensor.stride(b); });
  int64_t expected = 1;
  for (int64_t d : order) {
    if (tensor.stride(d) != expected) return false;
    expected *= tensor.size(d);
  }
  return true;
}

bool is_channels_last(const Tensor& tensor) {
  if (tensor.dim() != 4) return false;
  int64_t least = 0;
  if (tensor.stride(1) == 0) return false;
  for (int64_t d : {1, 3, 2, 0}) {
    if (tensor.size(d) == 0 || tensor.stride(d) < least) return false;
    // One channel of one row: the strides say contiguous as well; PyTorch then reads contiguous.
    if (d == 0 && least == tensor.stride(1)) return false;
    least = tensor.stride(d);
    if (tensor.size(d) > 1) least *= tensor.size(d);
  }
  return true;
}

bool has_dense_channels(const Tensor& tensor) {
  return tensor.size(1) == 1 || tensor.stride(1) == 1;
}

Tensor new_like(const Tensor& like) {
  Tensor tensor = torch::stable::empty_like(like);
#if defined(BNINV_EMULATION)
  // What a kernel forgets to write must show.
  std::memset(tensor.data_ptr(), 0xff, static_cast<size_t>(tensor.numel()) * tensor.element_size());
#endif
  return tensor;
}

Tensor empty_float(const std::vector<int64_t>& sizes, MemoryFormat format) {
  return torch::stable::empty(sizes, ScalarType::Float, std::nullopt, std::nullopt, std::nullopt,
                              format);
}

bool is_panel(const Tensor& weight) {
  int64_t expected = 1;
  const std::vector<int64_t> order = panel_order(weight);
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    if (weight.size(*d) > 1 && weight.stride(*d) != expected) return false;
    expected *= weight.size(*d);
  }
  return true;
}

Tensor panel_of(const Tensor& weight) {
  if (is_panel(weight)) return weight;
  return torch::stable::contiguous(permute(weight, panel_order(weight)));
}

}  // namespace bninv
