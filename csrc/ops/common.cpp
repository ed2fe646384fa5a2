#include "common.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

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

std::string dtype_names(std::initializer_list<ScalarType> types) {
  std::string names;
  for (const ScalarType type : types)
    names += (names.empty() ? "" : ", ") + std::string(dtype_name(type));
  return names;
}

#if defined(BNINV_EMULATION)

// With room around it that emulated.run looks at, poisoned all over: what a kernel forgets to write must
// show, and what it writes beside its output.
Tensor guarded(const Tensor& like, int64_t dims, const int64_t* sizes, const int64_t* strides,
               int32_t dtype, int32_t device) {
  constexpr int64_t kGuard = 64, kStride = 1;
  int64_t last = 0, count = 1;
  for (int64_t d = 0; d < dims; ++d) {
    count *= sizes[d];
    last += (sizes[d] - 1) * strides[d];
  }
  const int64_t whole_size = 2 * kGuard + (count == 0 ? 0 : last + 1);
  AtenTensorHandle handle = nullptr, view = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(1, &whole_size, &kStride, dtype, device,
                                                  like.get_device_index(), &handle));
  const Tensor whole(handle);
  std::memset(whole.data_ptr(), 0xff, static_cast<size_t>(whole_size) * whole.element_size());
  TORCH_ERROR_CODE_CHECK(
      aoti_torch__reinterpret_tensor(whole.get(), dims, sizes, strides, kGuard, &view));
  return Tensor(view);
}

#endif

Tensor empty_strided(const Tensor& like, int64_t dims, const int64_t* sizes, const int64_t* strides,
                     int32_t dtype) {
  // Not through the dispatcher: for a small tensor that is a good part of an operator's time.
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
#if defined(BNINV_EMULATION)
  return guarded(like, dims, sizes, strides, dtype, device);
#else
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dims, sizes, strides, dtype, device,
                                                  like.get_device_index(), &handle));
  return Tensor(handle);
#endif
}

Tensor empty_strided(const Tensor& like, int64_t dims, const int64_t* sizes,
                     const int64_t* strides) {
  int32_t dtype = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  return empty_strided(like, dims, sizes, strides, dtype);
}

std::vector<int64_t> dense_strides(const std::vector<int64_t>& sizes, MemoryFormat format) {
  const auto dims = static_cast<int64_t>(sizes.size());
  std::vector<int64_t> order(sizes.size()), strides(sizes.size());
  for (int64_t d = 0; d < dims; ++d) order[d] = dims - 1 - d;
  if (format != MemoryFormat::Contiguous) {
    std::rotate(order.begin(), order.end() - 2, order.end() - 1);
  }
  int64_t stride = 1;
  for (const int64_t d : order) {
    strides[d] = stride;
    const bool overflows = __builtin_mul_overflow(stride, std::max<int64_t>(sizes[d], 1), &stride);
    if (overflows)
      throw std::runtime_error("bninv: a result of shape " + list_text(sizes) +
                               " has more than 2^63 elements");
  }
  return strides;
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

DType check_dtype(const char* op, const char* argument, const Tensor& tensor,
                  std::initializer_list<ScalarType> allowed) {
  BNINV_CHECK(tensor.defined(), op, ": `", argument, "` is None; it may be a torch.Tensor");
  const ScalarType found = tensor.scalar_type();
  BNINV_CHECK(std::find(allowed.begin(), allowed.end(), found) != allowed.end(), op, ": `",
              argument, "` has dtype ", dtype_name(found), "; it may be ", dtype_names(allowed));
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
  BNINV_CHECK(
      tensor.is_cpu() == input.is_cpu() && tensor.get_device_index() == input.get_device_index(),
      op, ": `", argument, "` is on another device than `input`; it may only be on the same");
}

void check_beside(const char* op, const char* argument, const Tensor& tensor, const Tensor& input,
                  const char* first) {
  BNINV_CHECK(tensor.defined(), op, ": `", argument, "` is None; it may be a torch.Tensor");
  const char* own = dtype_name(input.scalar_type());
  BNINV_CHECK(tensor.scalar_type() == input.scalar_type(), op, ": `", argument, "` has dtype ",
              dtype_name(tensor.scalar_type()), "; beside ", first, " of ", own, " it may be ",
              own);
  check_device(op, argument, tensor, input);
}

void check_like(const char* op, const char* argument, const Tensor& tensor, const Tensor& input) {
  check_dtype(op, argument, tensor, {input.scalar_type()});
  check_device(op, argument, tensor, input);
  bool same = tensor.dim() == input.dim();
  for (int64_t d = 0; same && d < input.dim(); ++d) same = tensor.size(d) == input.size(d);
  BNINV_CHECK(same, op, ": `", argument, "` has shape ", sizes_text(tensor),
              "; it may be `input`'s, ", sizes_text(input));
}

Parameter parameter_of(const char* op, const char* argument, std::optional<Tensor>& tensor,
                       const Tensor& input) {
  if (!tensor.has_value()) return {nullptr, DType::kFloat};
  return parameter_of(op, argument, *tensor, input);
}

Parameter parameter_of(const char* op, const char* argument, Tensor& tensor, const Tensor& input) {
  return parameter_of(op, argument, tensor, input, {input.size(1)}, "channel");
}

Parameter parameter_of(const char* op, const char* argument, std::optional<Tensor>& tensor,
                       const Tensor& input, const std::vector<int64_t>& sizes,
                       const char* meaning) {
  if (!tensor.has_value()) return {nullptr, DType::kFloat};
  return parameter_of(op, argument, *tensor, input, sizes, meaning);
}

Parameter parameter_of(const char* op, const char* argument, Tensor& tensor, const Tensor& input,
                       const std::vector<int64_t>& sizes, const char* meaning) {
  const ScalarType own = input.scalar_type();
  const bool narrow = own == ScalarType::Half || own == ScalarType::BFloat16;
  const ScalarType found = tensor.scalar_type();
  BNINV_CHECK(found == own || (narrow && found == ScalarType::Float), op, ": `", argument,
              "` has dtype ", dtype_name(found), "; beside an `input` of ", dtype_name(own),
              " it may be ", dtype_name(own), narrow ? " or torch.float32" : "");
  const DType dtype = check_dtype(op, argument, tensor, {found});
  check_device(op, argument, tensor, input);
  const auto shape = tensor.sizes();
  BNINV_CHECK(std::equal(shape.begin(), shape.end(), sizes.begin(), sizes.end()), op, ": `",
              argument, "` has shape ", sizes_text(tensor), "; it may be ", list_text(sizes),
              ", one value for each ", meaning);
  if (!tensor.is_contiguous()) tensor = torch::stable::contiguous(tensor);
  return {tensor.data_ptr(), dtype};
}

void check_vector(const char* op, const char* argument, const Tensor& tensor, const Tensor& input,
                  int64_t size, const char* size_meaning) {
  check_beside(op, argument, tensor, input);
  BNINV_CHECK(tensor.dim() == 1 && tensor.size(0) == size, op, ": `", argument, "` has shape ",
              sizes_text(tensor), "; it may be [", size, "], one value for each ", size_meaning);
}

void check_integers(const char* op, const char* argument, const std::vector<int64_t>& values,
                    size_t count, int64_t least) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  bool fits = values.size() == count;
  for (const int64_t value : values) fits = fits && value >= least && value <= kMost;
  BNINV_CHECK(fits, op, ": `", argument, "` is ", list_text(values), "; it may be ",
              count == 2 ? "two" : "three", " integers from ", least, " to ", kMost);
}

void check_pair(const char* op, const char* argument, const std::vector<int64_t>& pair,
                int64_t least) {
  check_integers(op, argument, pair, 2, least);
}

void check_stride(const char* op, std::vector<int64_t>& stride, size_t count) {
  constexpr int64_t kBeyondAnyInput = int64_t{1} << 48;
  bool fits = stride.size() == count;
  for (int64_t& step : stride) {
    step = std::min(step, kBeyondAnyInput);
    fits = fits && step >= 1;
  }
  BNINV_CHECK(fits, op, ": `stride` is ", list_text(stride), "; it may be ",
              count == 2 ? "two" : "three", " integers of at least 1");
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
  const int64_t dims = tensor.dim();
  if (dims != 4 && dims != 5) return false;
  int64_t least = 0;
  if (tensor.stride(1) == 0) return false;
  for (int64_t i = 0; i < dims; ++i) {
    const int64_t d = i == 0 ? 1 : i + 1 == dims ? 0 : dims - i;
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
  return empty_strided(like, like.dim(), like.sizes().data(), like.strides().data());
}

Tensor new_empty(const Tensor& like, const std::vector<int64_t>& sizes, MemoryFormat format) {
  const std::vector<int64_t> strides = dense_strides(sizes, format);
  return empty_strided(like, static_cast<int64_t>(sizes.size()), sizes.data(), strides.data());
}

Tensor new_empty_integers(const Tensor& like, const std::vector<int64_t>& sizes, int bits) {
  const std::vector<int64_t> strides = dense_strides(sizes, MemoryFormat::Contiguous);
  return empty_strided(like, static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                       bits == 32 ? aoti_torch_dtype_int32() : aoti_torch_dtype_int64());
}

Tensor new_workspace(const Tensor& like, int64_t bytes) {
  const int64_t stride = 1;
  return empty_strided(like, 1, &bytes, &stride, aoti_torch_dtype_uint8());
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
