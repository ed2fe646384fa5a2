#include "../resample.h"

#include <cmath>

#include "../dtypes.h"
#include "common.h"

namespace bninv {
namespace {

constexpr const char* kOp = "resample";
constexpr int64_t kMostSize = (int64_t{1} << 31) - 1;

// PyTorch's own reading of strides, of images and volumes.
bool has_channels_last(const Tensor& tensor) {
  if (tensor.dim() == 4) return is_channels_last(tensor);
  int64_t least = 0;
  if (tensor.stride(1) == 0) return false;
  for (const int64_t d : {1, 4, 3, 2, 0}) {
    if (tensor.size(d) == 0 || tensor.stride(d) < least) return false;
    if (d == 0 && least == tensor.stride(1)) return false;
    least = tensor.stride(d);
    if (tensor.size(d) > 1) least *= tensor.size(d);
  }
  return true;
}

Interpolation interpolation_of(const std::string& mode, int64_t dims, bool antialias) {
  BNINV_CHECK(mode == "linear" || mode == "cubic", kOp, ": `mode` is '", mode,
              "'; it may be 'linear' or 'cubic'");
  BNINV_CHECK(dims == 4 || (mode == "linear" && !antialias), kOp, ": `mode` is '", mode, "'",
              antialias ? " with `antialias`" : "",
              "; of a volume it may be 'linear' without `antialias`");
  return mode == "cubic" ? Interpolation::kCubic : Interpolation::kLinear;
}

// Everything but the pointers and strides.
ResampleArgs geometry(const Tensor& input, const std::vector<int64_t>& output_size,
                      const std::vector<double>& scale_factors, const std::string& mode,
                      bool align_corners, bool antialias) {
  ResampleArgs args{};
  args.dtype = check_dtype(kOp, "input", input, kFloatingTypes);
  const int64_t dims = input.dim();
  BNINV_CHECK(dims == 4 || dims == 5, kOp, ": `input` has shape ", sizes_text(input),
              "; it may be [batch, channels, height, width] or [batch, channels, depth, height, "
              "width]");
  args.interpolation = interpolation_of(mode, dims, antialias);
  args.align_corners = align_corners, args.antialias = antialias;
  const auto spatial = static_cast<size_t>(dims - 2);
  bool fits = output_size.size() == spatial;
  for (const int64_t size : output_size) fits = fits && size >= 1 && size <= kMostSize;
  BNINV_CHECK(fits, kOp, ": `output_size` is ", list_text(output_size), "; it may be ", spatial,
              " integers from 1 to ", kMostSize);
  BNINV_CHECK(scale_factors.empty() || scale_factors.size() == spatial, kOp,
              ": `scale_factors` has ", scale_factors.size(), " numbers; it may have none or ",
              spatial);
  args.batch = input.size(0), args.channels = input.size(1);
  args.size[0] = args.out_size[0] = 1;
  for (size_t i = 0; i < spatial; ++i) {
    const int64_t size = input.size(static_cast<int64_t>(i) + 2);
    const double scale = scale_factors.empty() ? 0 : scale_factors[i];
    BNINV_CHECK(size >= 1 && size <= kMostSize, kOp, ": `input` has shape ", sizes_text(input),
                "; its spatial sizes may be 1 to ", kMostSize);
    // 0: as the sizes say. Beyond these bounds a place would not be a number.
    BNINV_CHECK(scale == 0 || (scale >= 0x1p-31 && scale <= 0x1p31), kOp,
                ": `scale_factors` holds ", scale, "; it may hold numbers from 2^-31 to 2^31");
    const size_t d = i + 3 - spatial;
    args.size[d] = size, args.out_size[d] = output_size[i];
    const FloatingPointScope scope;
    args.step[d] = args.dtype == DType::kDouble
                       ? common::resample_step<double>(size, output_size[i], align_corners, scale)
                       : common::resample_step<float>(size, output_size[i], align_corners, scale);
  }
  return args;
}

Tensor new_output(const Tensor& input, const ResampleArgs& args) {
  std::vector<int64_t> sizes{args.batch, args.channels};
  for (int64_t d = 5 - input.dim(); d < 3; ++d) sizes.push_back(args.out_size[d]);
  if (!args.channels_last) return new_empty(input, sizes);
  return new_empty(input, sizes, MemoryFormat::ChannelsLast);
}

// Channels of a task in channels_last: as many as leave the rows that an output row is made of in a
// core's L2 cache.
int64_t channels_of_task(const ResampleArgs& args) {
  constexpr int64_t kElements = 1 << 17, kLeast = 64;
  if (!args.channels_last) return 1;
  const int64_t rows =
      common::ResampleAxis<double>(args, 0).taps * common::ResampleAxis<double>(args, 1).taps;
  int64_t block = kElements / (rows * args.out_size[2]) / kLeast * kLeast;
  if (block < kLeast) block = kLeast;
  return block < args.channels ? block : args.channels;
}

Tensor resample(const Tensor& input, std::vector<int64_t> output_size,
                std::vector<double> scale_factors, std::string mode, bool align_corners,
                bool antialias) {
  ResampleArgs args = geometry(input, output_size, scale_factors, mode, align_corners, antialias);
  args.channels_last = has_channels_last(input);
  Tensor output = new_output(input, args);
  if (output.numel() == 0) return output;

  Tensor x = input;
  const int64_t dense = args.channels_last ? 1 : input.dim() - 1;
  if (input.size(dense) > 1 && input.stride(dense) != 1) {
    const MemoryFormat format = !args.channels_last ? MemoryFormat::Contiguous
                                : input.dim() == 4  ? MemoryFormat::ChannelsLast
                                                    : MemoryFormat::ChannelsLast3d;
    x = torch::stable::contiguous(input, format);
  }
  args.input = x.data_ptr();
  args.stride_n = x.stride(0), args.stride_c = x.stride(1);
  for (int64_t d = 2; d < x.dim(); ++d) args.stride[d + 3 - x.dim()] = x.stride(d);
  args.output = output.data_ptr();
  args.block = channels_of_task(args);
  if (on_cuda(input)) {
    launch(BNINV_CUDA_KERNEL(resample), args, x);
    return output;
  }
  const int64_t rows = args.out_size[0] * args.out_size[1];
  const int64_t parts =
      args.channels_last ? (args.channels + args.block - 1) / args.block : args.channels;
  run(BNINV_KERNEL(resample), args, args.batch * parts * rows,
      grain_of(args.out_size[2] * args.block * 4));
  return output;
}

}  // namespace

BNINV_REGISTER(m) { m.impl("resample", TORCH_BOX(&resample)); }

}  // namespace bninv
