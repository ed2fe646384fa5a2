#include <algorithm>
#include <utility>

#include "../sum.h"
#include "common.h"

namespace bninv {
namespace {

struct Dims {
  std::vector<int64_t> sizes, strides;

  // A dimension that continues the one before it in memory is the same run of elements.
  void push(int64_t size, int64_t stride) {
    if (size == 1) return;
    if (!sizes.empty() && strides.back() == size * stride) {
      sizes.back() *= size;
      strides.back() = stride;
      return;
    }
    sizes.push_back(size);
    strides.push_back(stride);
  }

  int copy_to(int64_t* to_sizes, int64_t* to_strides) {
    if (sizes.empty()) sizes.push_back(1), strides.push_back(0);
    std::copy(sizes.begin(), sizes.end(), to_sizes);
    std::copy(strides.begin(), strides.end(), to_strides);
    return static_cast<int>(sizes.size());
  }
};

// Outputs whose terms are neighbours in memory are computed side by side, wherever they go: those of
// channels, say, which the output has apart.
void put_neighbours_last(ReduceArgs& args) {
  constexpr int64_t kEnough = 8;  // for a vector
  const int last = args.kept_dims - 1;
  if (args.kept_strides[last] == 1) return;
  for (int d = 0; d < last; ++d)
    if (args.kept_strides[d] == 1 && args.kept_sizes[d] >= kEnough) {
      std::swap(args.kept_sizes[d], args.kept_sizes[last]);
      std::swap(args.kept_strides[d], args.kept_strides[last]);
      std::swap(args.output_strides[d], args.output_strides[last]);
      return;
    }
}

Tensor reduce(const char* op, const Tensor& input, const std::vector<int64_t>& dim, bool keepdim,
              bool divide) {
  const DType dtype = check_dtype(op, "input", input, kFloatingTypes);
  const int64_t dims = input.dim();
  BNINV_CHECK(dims <= ReduceArgs::kMaxDims, op, ": `input` has ", dims,
              " dimensions; it may have up to ", ReduceArgs::kMaxDims);
  std::vector<bool> reduced(static_cast<size_t>(dims), dim.empty());
  for (int64_t d : dim) {
    // As in PyTorch, a tensor without dimensions may be reduced over its one element.
    if (dims == 0 && (d == 0 || d == -1)) continue;
    const int64_t at = d < 0 ? d + dims : d;
    BNINV_CHECK(at >= 0 && at < dims, op, ": `dim` holds ", d, "; it may be from ", -dims, " to ",
                dims - 1);
    BNINV_CHECK(!reduced[at], op, ": `dim` is ", list_text(dim), "; each dimension may stand once");
    reduced[at] = true;
  }

  std::vector<int64_t> sizes;
  Dims kept, over;
  int64_t terms = 1, outputs = 1;
  for (int64_t d = 0; d < dims; ++d) {
    if (reduced[d]) {
      over.push(input.size(d), input.stride(d));
      terms *= input.size(d);
      if (keepdim) sizes.push_back(1);
    } else {
      kept.push(input.size(d), input.stride(d));
      outputs *= input.size(d);
      sizes.push_back(input.size(d));
    }
  }
  Tensor output = new_empty(input, sizes);
  if (outputs == 0) return output;

  ReduceArgs args{};
  args.dtype = dtype;
  args.input = input.data_ptr();
  args.output = output.data_ptr();
  args.terms = terms;
  args.divisor = divide ? terms : 1;
  args.kept_dims = kept.copy_to(args.kept_sizes, args.kept_strides);
  args.reduced_dims = over.copy_to(args.reduced_sizes, args.reduced_strides);
  set_dense_output(args);
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(sum), args, input);
    return output;
  }
  put_neighbours_last(args);
  const int64_t row = args.kept_sizes[args.kept_dims - 1];
  const int64_t blocks = (row + ReduceArgs::kTaskOutputs - 1) / ReduceArgs::kTaskOutputs;
  run(BNINV_KERNEL(sum), args, outputs / row * blocks,
      grain_of(std::min(row, ReduceArgs::kTaskOutputs) * (terms + 1)));
  return output;
}

Tensor sum(const Tensor& input, std::vector<int64_t> dim, bool keepdim) {
  return reduce("sum", input, dim, keepdim, false);
}

Tensor mean(const Tensor& input, std::vector<int64_t> dim, bool keepdim) {
  return reduce("mean", input, dim, keepdim, true);
}

}  // namespace

BNINV_REGISTER(m) {
  m.impl("sum", TORCH_BOX(&sum));
  m.impl("mean", TORCH_BOX(&mean));
}

}  // namespace bninv
