#include "../grid_sample.h"
#include "common.h"

namespace bninv {
namespace {

constexpr const char* kOp = "grid_sample";
// Places beyond have no binary32 of their own.
constexpr int64_t kMostSize = 1 << 24;

GridMode mode_of(const std::string& mode, bool is_volume) {
  if (mode == "bilinear") return GridMode::kLinear;
  if (mode == "nearest") return GridMode::kNearest;
  BNINV_CHECK(mode == "bicubic" && !is_volume, kOp, ": `mode` is '", mode,
              "'; it may be 'bilinear' or 'nearest', and of images 'bicubic'");
  return GridMode::kCubic;
}

GridPadding padding_of(const std::string& padding_mode) {
  if (padding_mode == "zeros") return GridPadding::kZeros;
  if (padding_mode == "border") return GridPadding::kBorder;
  BNINV_CHECK(padding_mode == "reflection", kOp, ": `padding_mode` is '", padding_mode,
              "'; it may be 'zeros', 'border' or 'reflection'");
  return GridPadding::kReflection;
}

void check_shapes(const Tensor& input, const Tensor& grid) {
  const int64_t dims = input.dim();
  BNINV_CHECK(dims == 4 || dims == 5, kOp, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, height, width] or [batch, channels, depth, height, "
              "width]");
  BNINV_CHECK(
      grid.dim() == dims && grid.size(0) == input.size(0) && grid.size(dims - 1) == dims - 2, kOp,
      ": `grid` has shape ", sizes_text(grid), "; beside an `input` of shape ", sizes_text(input),
      " it may be ",
      dims == 4 ? "[batch, out_height, out_width, 2]"
                : "[batch, out_depth, out_height, out_width, 3]");
  for (int64_t d = 2; d < dims; ++d)
    BNINV_CHECK(input.size(d) > 0 && input.size(d) <= kMostSize, kOp, ": `input` has shape ",
                sizes_text(input), "; its spatial sizes may be 1 to ", kMostSize);
}

Tensor grid_sample(const Tensor& input, const Tensor& grid, std::string mode,
                   std::string padding_mode, bool align_corners) {
  GridSampleArgs args{};
  args.dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  check_beside(kOp, "grid", grid, input);
  check_shapes(input, grid);
  args.is_volume = input.dim() == 5;
  args.mode = mode_of(mode, args.is_volume), args.padding = padding_of(padding_mode);
  args.align_corners = align_corners;
  args.batch = input.size(0), args.channels = input.size(1);

  std::vector<int64_t> sizes{args.batch, args.channels};
  args.size[0] = args.out_size[0] = 1;
  for (int64_t d = 2; d < input.dim(); ++d) {
    const int64_t place = d + 3 - input.dim();
    args.size[place] = input.size(d), args.stride[place] = input.stride(d);
    args.out_size[place] = grid.size(d - 1), args.grid_stride[place] = grid.stride(d - 1);
    sizes.push_back(grid.size(d - 1));
  }
  Tensor output = new_empty(input, sizes);
  if (output.numel() == 0) return output;

  args.input = input.data_ptr(), args.grid = grid.data_ptr();
  args.stride_n = input.stride(0), args.stride_c = input.stride(1);
  args.grid_stride_n = grid.stride(0), args.grid_stride_axis = grid.stride(grid.dim() - 1);
  args.output = output.data_ptr();
  if (on_cuda(input))
    launch(BNINV_CUDA_KERNEL(grid_sample), args, input);
  else
    run(BNINV_KERNEL(grid_sample), args, args.batch * args.out_size[0] * args.out_size[1],
        grain_of(args.out_size[2] * args.channels * 8));
  return output;
}

}  // namespace

BNINV_REGISTER(m) { m.impl("grid_sample", TORCH_BOX(&grid_sample)); }

}  // namespace bninv
