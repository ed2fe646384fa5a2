// conv2d as an implicit product under R1: rows are output pixels, columns output channels, terms the
// taps row by row with the channels fastest. Taps on padding are terms with input +0.
#include "../conv2d.h"
#include "epilogue.h"
#include "gemm.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Terms of output pixels [row, row + rows) of one group: where they lie, or im2col, a segment at a time.
template <typename T>
struct PackPixels {
  using A = Arithmetic<T>;
  const Conv2dArgs& args;
  int64_t first_channel;
  int64_t channels_per_group;
  // An output pixel's terms are an input pixel's channels, and pixels are as far apart everywhere.
  bool pixels_dense;
  bool taps_adjacent;  // the next tap of a row is the next memory: whole rows copy as one run

  PackPixels(const Conv2dArgs& of, int64_t group)
      : args(of),
        first_channel(group * (of.channels / of.groups)),
        channels_per_group(of.channels / of.groups),
        pixels_dense(of.kernel_h == 1 && of.kernel_w == 1 && of.pad_h == 0 && of.pad_w == 0 &&
                     of.step_h == 1 && of.step_w == 1 && of.stride_h == of.width * of.stride_w &&
                     of.stride_n == of.height * of.stride_h),
        taps_adjacent(of.groups == 1 && of.dilation_w == 1 && of.stride_w == of.channels) {}

  // Terms [k, k + length).
  Rows<A> operator()(int64_t row, int64_t rows, int64_t k, int64_t length, A* packed) const {
    const T* input = static_cast<const T*>(args.input) + first_channel;
    if (pixels_dense)
      return dense_rows(input + row * args.stride_w + k, args.stride_w, rows, length, packed);
    const int64_t pixels = args.out_height * args.out_width;
    const int64_t tap = k / channels_per_group, channel = k % channels_per_group;
    const int64_t r = tap / args.kernel_w, s = tap % args.kernel_w;
    int64_t n = row / pixels, oh = row % pixels / args.out_width, ow = row % args.out_width;
    for (int64_t i = 0; i < rows; ++i) {
      pixel(input + n * args.stride_n, oh * args.step_h - args.pad_h, ow * args.step_w - args.pad_w,
            r, s, channel, length, packed + i * kSegment);
      if (++ow < args.out_width) continue;
      ow = 0;
      if (++oh < args.out_height) continue;
      oh = 0;
      ++n;
    }
    return {packed, kSegment};
  }

 private:
  // From tap (r, s)'s `channel` on, of the pixel whose first tap is (top, left).
  void pixel(const T* sample, int64_t top, int64_t left, int64_t r, int64_t s, int64_t channel,
             int64_t length, A* destination) const {
    while (length > 0) {
      const int64_t h = top + r * args.dilation_h, w = left + s * args.dilation_w;
      const bool inside = h >= 0 && h < args.height && w >= 0 && w < args.width;
      // A run: this tap's channels, and the following taps' where memory goes on.
      int64_t taps = 1;
      if (taps_adjacent && inside) taps = min64(args.kernel_w - s, args.width - w);
      const int64_t run = min64(taps * channels_per_group - channel, length);
      if (inside)
        widen_run(sample + h * args.stride_h + w * args.stride_w + channel, run, destination);
      else
        for (int64_t i = 0; i < run; ++i) destination[i] = 0;
      destination += run;
      length -= run;
      if (length == 0) return;
      channel = 0;  // the run ended with a tap
      s += taps;
      if (s == args.kernel_w) {
        s = 0;
        ++r;
      }
    }
  }
};

template <typename T>
void conv2d_of(const Conv2dArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  if (begin == end) return;
  const GemmSchedule& gemm = args.gemm;
  const T* weight = static_cast<const T*>(args.weight);
  const int64_t blocks = gemm.row_blocks * gemm.column_blocks;
  const int64_t pixels = args.out_height * args.out_width;
  // Else they are evenly spaced along a line alone.
  const bool output_dense = args.out_stride_h == args.out_width * args.out_stride_w &&
                            args.out_stride_n == args.out_height * args.out_stride_h;
  Scratch<A> scratch(gemm_scratch<T>(gemm));
  const ColumnRange range = columns_of_tasks(gemm, begin, end);
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, range.first,
                         range.count);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t group = task / blocks, block = task % blocks;
    const int64_t row = block / gemm.column_blocks * gemm.block_rows;
    const int64_t rows = min64(gemm.block_rows, gemm.rows - row);
    const int64_t column = block % gemm.column_blocks * gemm.block_columns;
    const int64_t columns = min64(gemm.block_columns, gemm.columns - column);
    if (rows <= 0) continue;
    const int64_t channel = group * gemm.columns + column;
    const PackPixels<T> pack(args, group);
    const auto pack_rows = [&](int64_t count, int64_t k, int64_t length, A* packed) {
      return pack(row, count, k, length, packed);
    };
    const auto store_rows = [&](int64_t i, int64_t count, int64_t j, int64_t width, const A* totals,
                                int64_t stride) {
      for (int64_t done = 0, run = count; done < count; done += run) {
        int64_t pixel = row + i + done, begin = pixel * args.out_stride_w;
        if (!output_dense) {
          const int64_t n = pixel / pixels, oh = pixel % pixels / args.out_width;
          const int64_t ow = pixel % args.out_width;
          run = min64(count - done, args.out_width - ow);
          begin = n * args.out_stride_n + oh * args.out_stride_h + ow * args.out_stride_w;
        }
        output.store_rows(totals + done * stride, stride, run, channel + j, width, begin,
                          args.out_stride_w);
      }
    };
    multiply_block<T>(rows, columns, gemm.terms, DensePanel<T>{weight + channel, args.out_channels},
                      scratch.data, pack_rows, store_rows);
  }
}

}  // namespace

void conv2d(const Conv2dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { conv2d_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
