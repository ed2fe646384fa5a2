// What every operator's host function needs: checks whose messages name the argument, memory formats,
// and the way from a kernel's name to the instruction-set level in use.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "../types.h"
#include "capability.h"
#include "floating_point_scope.h"
#include "gpu.h"

namespace bninv {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw std::runtime_error(text("bninv.", parts...));
}

// Throws unless the condition holds. A macro, so that the message costs nothing where it does: its
// parts are evaluated, and its strings made, only for an error.
#define BNINV_CHECK(condition, ...)               \
  do {                                            \
    if (!(condition)) ::bninv::fail(__VA_ARGS__); \
  } while (false)

std::string sizes_text(const Tensor& tensor);
std::string list_text(const std::vector<int64_t>& values);

// The storage type of a tensor that may have any of `allowed`.
DType check_dtype(const char* op, const char* argument, const Tensor& tensor,
                  std::initializer_list<ScalarType> allowed);
inline constexpr std::initializer_list<ScalarType> kFloatingTypes = {
    ScalarType::Float, ScalarType::Double, ScalarType::Half, ScalarType::BFloat16};

// An activation that may follow an operator in its kernel, by the name the schemas give it.
Activation epilogue_activation(const char* op, const std::string& name);

// `tensor` has `input`'s shape, dtype and device.
void check_like(const char* op, const char* argument, const Tensor& tensor, const Tensor& input);

// `tensor` is where `input` is.
void check_device(const char* op, const char* argument, const Tensor& tensor, const Tensor& input);

// `tensor` is on `input`'s device and of its dtype.
void check_beside(const char* op, const char* argument, const Tensor& tensor, const Tensor& input,
                  const char* first = "an `input`");

// One value for each channel of `input`, on its device: of its dtype, or float32 beside a narrower
// input. A tensor with gaps is replaced by a dense copy, which must outlive the parameter's use.
Parameter parameter_of(const char* op, const char* argument, Tensor& tensor, const Tensor& input);
Parameter parameter_of(const char* op, const char* argument, std::optional<Tensor>& tensor,
                       const Tensor& input);

// The same for any shape; `meaning` is what a value belongs to.
Parameter parameter_of(const char* op, const char* argument, Tensor& tensor, const Tensor& input,
                       const std::vector<int64_t>& sizes, const char* meaning);
Parameter parameter_of(const char* op, const char* argument, std::optional<Tensor>& tensor,
                       const Tensor& input, const std::vector<int64_t>& sizes, const char* meaning);

// A tensor of exactly `size` elements in one dimension, of `input`'s dtype.
void check_vector(const char* op, const char* argument, const Tensor& tensor, const Tensor& input,
                  int64_t size, const char* size_meaning);

// Two integers from `least` to 2^31 - 1: the product of two such sizes cannot overflow.
void check_pair(const char* op, const char* argument, const std::vector<int64_t>& pair,
                int64_t least);

// The same of two or three integers.
void check_integers(const char* op, const char* argument, const std::vector<int64_t>& values,
                    size_t count, int64_t least);

// Two positive integers, or three. All strides beyond any input's size mean the same (one window fits),
// so they are brought down to one that cannot overflow.
void check_stride(const char* op, std::vector<int64_t>& stride, size_t count = 2);

// Every element is one memory location of a block without gaps.
bool is_dense(const Tensor& tensor);

// PyTorch's own reading of strides: a 4-d or 5-d tensor whose channels are the fastest dimension.
bool is_channels_last(const Tensor& tensor);

// Channels dense: stride 1, or a single channel. Such an input needs no copy.
bool has_dense_channels(const Tensor& tensor);

// An uninitialised tensor of the same dtype, device and strides; `like` is dense.
Tensor new_like(const Tensor& like);

// An uninitialised tensor of `like`'s dtype and device. Channels last needs four dimensions or five.
Tensor new_empty(const Tensor& like, const std::vector<int64_t>& sizes,
                 MemoryFormat format = MemoryFormat::Contiguous);

// An uninitialised contiguous tensor of integers of 32 or 64 bits, on `like`'s device.
Tensor new_empty_integers(const Tensor& like, const std::vector<int64_t>& sizes, int bits);

// The (r, s, c, o) panel of a weight (out, in, kernel...): itself when its strides say so (bninv.patch
// lays weights out like that), else a copy for this call.
bool is_panel(const Tensor& weight);
Tensor panel_of(const Tensor& weight);

inline const void* data_or_null(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->data_ptr() : nullptr;
}

template <typename Args>
using Kernel = void (*)(const Args&, int64_t, int64_t);

// Spreads a kernel's tasks over PyTorch's threads, at least `grain` tasks a thread.
template <typename Args>
void run(std::type_identity_t<Kernel<Args>> kernel, const Args& args, int64_t tasks,
         int64_t grain) {
  const auto run_tasks = [&](int64_t begin, int64_t end) {
    const FloatingPointScope scope;
    kernel(args, begin, end);
  };
  // Work for one thread does not pay for asking about the others.
  if (tasks <= grain) return run_tasks(0, tasks);
  torch::stable::parallel_for(0, tasks, grain < 1 ? 1 : grain, run_tasks);
}

// Tasks a thread should at least have, so that starting it pays: about 32 K elements of work.
inline int64_t grain_of(int64_t elements_per_task) {
  constexpr int64_t kElements = 32768;
  return elements_per_task > 0 ? (kElements + elements_per_task - 1) / elements_per_task
                               : kElements;
}

}  // namespace bninv
