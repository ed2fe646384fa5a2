// conv2d as an implicit product under R1: rows are output pixels, columns output channels, terms the
// taps row by row with the channels fastest. Taps on padding are terms with input +0.
#include "../conv2d.h"
#include "epilogue.h"
#include "gemm.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Writes terms [k, k + length) of output pixel `row` of one group: im2col, a segment at a time.
template <typename T>
struct PackPixel {
  const Conv2dArgs& args;
  int64_t first_channel;
  int64_t channels_per_group;
  bool taps_adjacent;  // the next tap of a row is the next memory: whole rows copy as one run

  void operator()(int64_t row, int64_t k, int64_t length, Arithmetic<T>* destination) const {
    const int64_t pixels = args.out_height * args.out_width;
    const int64_t n = row / pixels, oh = row % pixels / args.out_width, ow = row % args.out_width;
    const T* sample = static_cast<const T*>(args.input) + n * args.stride_n + first_channel;
    const int64_t top = oh * args.step_h - args.pad_h, left = ow * args.step_w - args.pad_w;
    int64_t tap = k / channels_per_group, channel = k % channels_per_group;
    int64_t r = tap / args.kernel_w, s = tap % args.kernel_w;
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
      channel += run;
      s += channel / channels_per_group;
      channel %= channels_per_group;
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
  const int64_t channels_per_group = args.channels / args.groups;
  const int64_t blocks = gemm.row_blocks * gemm.column_blocks;
  const int64_t pixels = args.out_height * args.out_width;
  const bool taps_adjacent =
      args.groups == 1 && args.dilation_w == 1 && args.stride_w == args.channels;
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
    const PackPixel<T> pack{args, group * channels_per_group, channels_per_group, taps_adjacent};
    const auto store_row = [&](int64_t pixel, const A* totals) {
      const int64_t n = pixel / pixels, oh = pixel % pixels / args.out_width;
      output.store_row(totals, channel, columns,
                       n * args.out_stride_n + oh * args.out_stride_h +
                           pixel % args.out_width * args.out_stride_w);
    };
    gemm_block(row, rows, columns, gemm.terms, weight + channel, args.out_channels, scratch.data,
               pack, store_row);
  }
}

}  // namespace

void conv2d(const Conv2dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { conv2d_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
