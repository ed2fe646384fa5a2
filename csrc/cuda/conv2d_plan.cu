// Host code: what of a convolution's memory comes in fours, or in 16 bytes, and how its product is cut into blocks.
#include <atomic>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "../conv3d.h"
#include "../tensor.h"
#include "device.cuh"
#include "launch.cuh"
#include "tensor_plan.h"

namespace bninv {
namespace cuda {
namespace {

bool in_pieces(int piece, std::initializer_list<int64_t> sizes) {
  for (const int64_t size : sizes)
    if (size % piece != 0) return false;
  return true;
}
bool in_fours(std::initializer_list<int64_t> sizes) { return in_pieces(4, sizes); }

bool is_aligned(const void* p, int element_bytes) {
  const int bytes = 4 * element_bytes < 16 ? 4 * element_bytes : 16;
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

int storage_bytes(DType dtype) {
  switch (dtype) {
    case DType::kDouble:
      return 8;
    case DType::kFloat:
      return 4;
    default:
      return 2;
  }
}

void check_sizes(const Conv2dArgs& args) {
  // The kernels count pixels of a sample, and a product's terms, in 32 bits, with room for an outside.
  const auto fits = [](int64_t size, int64_t pad, int64_t dilation, int64_t kernel) {
    return size <= INT32_MAX / 4 && pad <= INT32_MAX / 4 &&
           dilation * (kernel - 1) <= INT32_MAX / 4;
  };
  if (!fits(args.height, args.pad_h, args.dilation_h, args.kernel_h) ||
      !fits(args.width, args.pad_w, args.dilation_w, args.kernel_w) ||
      args.gemm.terms > INT32_MAX / 2)
    throw std::runtime_error(
        "bninv.conv2d: `input`, `padding`, `dilation` and `weight` may reach over at most 2^29 - 1 "
        "pixels in height and width, and over 2^30 - 1 products, on a GPU");
}

// For tests: the tile, and the segments a block does, of every product that has such a kernel.
std::atomic<int> forced_tile{-1};
std::atomic<int64_t> forced_segments{0};

TilePlan forced_plan(const Product& product, const TilePlan& plan, const DeviceLimits& device) {
  const int tile = forced_tile;
  const int64_t own = forced_segments, segments = (product.terms + kSegment - 1) / kSegment;
  if (tile < 0 || !has_kernel(product, tile, device)) return plan;
  return plan_of(product, tile, own > 0 && own < segments ? own : segments > 0 ? segments : 1);
}

DeviceLimits limits_of_device() {
  int device = 0, value = 0;
  DeviceLimits limits{};
  check(cudaGetDevice(&device), "conv2d");
  const auto attribute = [&](cudaDeviceAttr name) {
    check(cudaDeviceGetAttribute(&value, name, device), "conv2d");
    return value;
  };
  limits.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  limits.shared_per_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  limits.shared_per_multiprocessor = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  return limits;
}

// Where a convolution's groups lie: side by side.
GroupStrides groups_of(const Conv2dArgs& args) {
  const int64_t columns = args.gemm.columns;
  return {args.channels / args.groups, columns, columns * args.out_stride_c, args.out_channels};
}

// What the epilogue and the addresses of outputs go by.
void describe_output(Conv2dArgs& args, const GroupStrides& groups) {
  const int bytes = storage_bytes(args.dtype);
  const int64_t group = args.channels / args.groups;
  args.plan.groups = groups;
  args.plan.group_channels = group > 0 ? static_cast<int>(group) : 1;
  args.plan.whole_output =
      in_fours({args.out_channels, args.out_stride_n, args.out_stride_h, args.out_stride_w}) &&
      args.out_stride_c == 1 && is_aligned(args.output, bytes) &&
      is_aligned(args.epilogue.residual, bytes);
  args.plan.dense_rows = args.out_stride_h == args.out_width * args.out_stride_w &&
                         args.out_stride_n == args.out_height * args.out_stride_h;
}

void plan_ieee(Conv2dArgs& args, const GroupStrides& groups) {
  check_sizes(args);
  const int bytes = storage_bytes(args.dtype);
  const int64_t group = args.channels / args.groups;
  const bool whole_weight = in_fours({groups.term}) && is_aligned(args.weight, bytes);
  const bool whole_panel = in_fours({args.gemm.columns, groups.weight}) && whole_weight;
  const bool whole_pixels =
      in_fours({args.stride_n, args.stride_h, args.stride_w}) && is_aligned(args.input, bytes);
  const bool whole_copies = whole_panel && whole_pixels && in_fours({group, groups.input});
  const Product product{args.gemm.rows,
                        args.gemm.columns,
                        args.gemm.terms,
                        args.groups,
                        bytes > 4 ? 8 : 4,
                        bytes,
                        whole_copies && bytes <= 4,
                        args.kernel_h * args.kernel_w};
  const DeviceLimits limits = limits_of_device();
  args.plan = forced_plan(product, choose_plan(product, limits), limits);
  describe_output(args, groups);
  args.plan.whole_panel = whole_panel;
  args.plan.whole_copies = whole_copies;
  args.plan.whole_depthwise = whole_weight && whole_pixels;
}

void plan_tensor(Conv2dArgs& args, const GroupStrides& groups) {
  args.gemm.terms = tensor_terms(args);  // a linear layer counts its own
  check_sizes(args);
  const int bytes = storage_bytes(args.dtype), chunk = 16 / bytes;
  const int64_t group = args.channels / args.groups;
  const auto in_chunks = [&](const void* p, std::initializer_list<int64_t> sizes) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && in_pieces(chunk, sizes);
  };
  args.plan.whole_panel = in_chunks(args.weight, {groups.term, groups.weight, args.gemm.columns});
  args.plan.whole_copies =
      in_chunks(args.input, {group, groups.input, args.stride_n, args.stride_h, args.stride_w});
  const bool whole = tensor_gather(args, bytes) != TensorGather::kElements;
  const Product product{args.gemm.rows,
                        args.gemm.columns,
                        args.gemm.terms,
                        args.groups,
                        4,
                        bytes,
                        whole,
                        args.kernel_h * args.kernel_w};
  TilePlan plan = choose_tensor_plan(product, limits_of_device());
  if (forced_tile >= 0) {
    const int tile = forced_tile % kTensorTiles;
    const int64_t segments = (product.terms + kSegment - 1) / kSegment, own = forced_segments;
    plan = tensor_plan_of(product, tensor_kernel_exists(tile, whole) ? tile : kTensor64x64,
                          own > 0 && own < segments ? own
                          : segments > 0            ? segments
                                                    : 1);
  }
  plan.whole_panel = args.plan.whole_panel, plan.whole_copies = args.plan.whole_copies;
  args.plan = plan;
  describe_output(args, groups);
}

}  // namespace

void set_plan(int64_t tile, int64_t segments_per_block) {
  forced_tile = tile < kTiles ? static_cast<int>(tile) : -1;
  forced_segments = segments_per_block;
}

int64_t tiles() { return kTiles; }

void plan_conv2d(Conv2dArgs& args) { plan_ieee(args, groups_of(args)); }

void plan_conv3d(Conv3dArgs& args) {
  const auto fits = [](int64_t size, int64_t pad, int64_t dilation, int64_t kernel, int64_t step) {
    return size <= INT32_MAX / 4 && pad <= INT32_MAX / 4 && step <= INT32_MAX / 4 &&
           dilation * (kernel - 1) <= INT32_MAX / 4;
  };
  if (!fits(args.depth, args.pad_d, args.dilation_d, args.kernel_d, args.step_d) ||
      !fits(args.height, args.pad_h, args.dilation_h, args.kernel_h, args.step_h) ||
      !fits(args.width, args.pad_w, args.dilation_w, args.kernel_w, args.step_w) ||
      args.out_depth * args.out_height > INT32_MAX / 4 || args.gemm.terms > INT32_MAX / 2)
    throw std::runtime_error(
        std::string("bninv.") + (args.transposed ? "conv_transpose3d" : "conv3d") +
        ": `input`, `stride`, `padding`, `dilation` and `weight` may reach over at most 2^29 - 1 "
        "voxels in each dimension, and over 2^30 - 1 products, on a GPU");
  const int bytes = storage_bytes(args.dtype);
  const int64_t group = args.channels / args.groups;
  const bool whole_weight = in_fours({args.out_channels}) && is_aligned(args.weight, bytes);
  const bool whole_panel = in_fours({args.gemm.columns}) && whole_weight;
  const bool whole_voxels =
      in_fours({args.stride_n, args.stride_d, args.stride_h, args.stride_w}) &&
      is_aligned(args.input, bytes);
  const bool whole_copies = whole_panel && whole_voxels && in_fours({group});
  const Product product{args.gemm.rows,
                        args.gemm.columns,
                        args.gemm.terms,
                        args.groups,
                        bytes > 4 ? 8 : 4,
                        bytes,
                        whole_copies && bytes <= 4,
                        args.kernel_d * args.kernel_h * args.kernel_w};
  const bool direct = args.transposed || (args.groups > 1 && args.gemm.columns < 32);
  if (!direct) {
    const DeviceLimits limits = limits_of_device();
    args.plan = forced_plan(product, choose_plan(product, limits), limits);
  }
  describe_output(args, groups_of(args));
  args.plan.whole_output = args.plan.whole_output && in_fours({args.out_stride_d});
  args.plan.dense_rows = args.out_stride_h == args.out_width * args.out_stride_w &&
                         args.out_stride_n == args.out_depth * args.out_height * args.out_stride_h;
  args.plan.whole_panel = whole_panel;
  args.plan.whole_copies = whole_copies;
  args.plan.whole_depthwise = whole_weight && whole_voxels;
}

void plan_conv2d_tensor(Conv2dArgs& args) { plan_tensor(args, groups_of(args)); }

void plan_groups(Conv2dArgs& args, const GroupStrides& groups) {
  args.precision == Precision::kIeee ? plan_ieee(args, groups) : plan_tensor(args, groups);
}

}  // namespace cuda
}  // namespace bninv
