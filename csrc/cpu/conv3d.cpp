// conv3d and the transposed convolutions as implicit products under R1: rows are a region's voxels,
// columns output channels, terms the region's taps, depth first, with the channels fastest. A tap that
// conv3d has on padding is a term of +0; those that a transposed convolution lacks are in no region, and
// the segments are cut by k as if they were there.
#include "../conv3d.h"
#include "epilogue.h"
#include "gemm.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Writes terms [k, k + length) of a region's voxel `row`, counted over the taps that the region has.
template <typename T>
struct PackVoxel {
  const Conv3dArgs& args;
  const ConvRegion& region;
  int64_t first_channel, channels_per_group;
  bool taps_adjacent;  // the next tap of a row is the next memory: whole rows copy as one run

  void operator()(int64_t row, int64_t k, int64_t length, Arithmetic<T>* destination) const {
    const ConvLine &lines = region.w, &rows = region.h, &planes = region.d;
    const int64_t left = lines.input + row % lines.count * lines.input_step;
    row /= lines.count;
    const int64_t top = rows.input + row % rows.count * rows.input_step;
    row /= rows.count;
    const int64_t front = planes.input + row % planes.count * planes.input_step;
    const T* sample =
        static_cast<const T*>(args.input) + row / planes.count * args.stride_n + first_channel;
    int64_t channel = k % channels_per_group, tap = k / channels_per_group;
    int64_t s = tap % lines.taps;
    tap /= lines.taps;
    int64_t r = tap % rows.taps, t = tap / rows.taps;
    while (length > 0) {
      const int64_t d = front + t * planes.tap_reach, h = top + r * rows.tap_reach;
      const int64_t w = left + s * lines.tap_reach;
      const bool inside =
          d >= 0 && d < args.depth && h >= 0 && h < args.height && w >= 0 && w < args.width;
      // A run: this tap's channels, and the following taps' where memory goes on.
      int64_t taps = 1;
      if (taps_adjacent && inside) taps = min64(lines.taps - s, args.width - w);
      const int64_t run = min64(taps * channels_per_group - channel, length);
      if (inside)
        widen_run(sample + d * args.stride_d + h * args.stride_h + w * args.stride_w + channel, run,
                  destination);
      else
        for (int64_t i = 0; i < run; ++i) destination[i] = 0;
      destination += run;
      length -= run;
      channel += run;
      s += channel / channels_per_group;
      channel %= channels_per_group;
      if (s < lines.taps) continue;
      s = 0;
      if (++r < rows.taps) continue;
      r = 0;
      ++t;
    }
  }
};

// Neighbouring rows of a panel.
template <typename T>
struct PanelRun {
  const T* rows;
  int64_t length;
};

// Rows of a panel in several runs, one behind another: always packed.
template <typename T>
struct PanelOfRuns {
  static constexpr bool kInPlace = false;
  const PanelRun<T>* runs;
  int64_t count, stride, column;

  PanelOfRuns from(int64_t, int64_t j) const { return {runs, count, stride, column + j}; }
  bool packing_pays(int64_t) const { return true; }
  void pack(int64_t, int64_t columns, int64_t width, Arithmetic<T>* packed) const {
    for (const PanelRun<T>* run = runs; run < runs + count; ++run) {
      pack_columns(run->rows + column, stride, run->length, columns, width, packed);
      packed += run->length * width;
    }
  }
};

// A segment of R1 as far as a region has its terms: [k, k + length) counted over those, and the rows of
// the panel that belong to them.
template <typename T>
class Segments {
 public:
  int64_t k = 0, length = 0, runs = 0;
  PanelRun<T> run[kSegment];

  Segments(const Conv3dArgs& args, const ConvRegion& region, const T* panel)
      : args_(args), region_(region), panel_(panel), channels_(args.channels / args.groups) {}

  // Goes to the next segment; false behind the last.
  bool next() {
    const int64_t terms = region_.taps() * channels_;
    k += length;
    length = runs = 0;
    if (k == terms) return false;
    int64_t at = row_of(k), end = -1;
    const int64_t limit = (at / kSegment + 1) * kSegment;
    while (at < limit) {
      const int64_t here = k + length;
      const int64_t count = min64(channels_ - here % channels_, limit - at);
      if (at == end)
        run[runs - 1].length += count;
      else
        run[runs++] = {panel_ + at * args_.out_channels, count};
      end = at + count;
      length += count;
      if (k + length == terms) break;
      at = row_of(k + length);
    }
    return true;
  }

 private:
  // R1's k of the region's k-th term.
  int64_t row_of(int64_t term) const {
    int64_t tap = term / channels_;
    const int64_t s = region_.w.tap + tap % region_.w.taps * region_.w.tap_step;
    tap /= region_.w.taps;
    const int64_t r = region_.h.tap + tap % region_.h.taps * region_.h.tap_step;
    const int64_t t = region_.d.tap + tap / region_.h.taps * region_.d.tap_step;
    return ((t * args_.kernel_h + r) * args_.kernel_w + s) * channels_ + term % channels_;
  }

  const Conv3dArgs& args_;
  const ConvRegion& region_;
  const T* panel_;
  int64_t channels_;
};

template <typename T>
void conv3d_of(const Conv3dArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  if (begin == end) return;
  const int64_t channels_per_group = args.channels / args.groups;
  int64_t scratch_size = 0;
  for (int64_t i = 0; i < args.region_count; ++i)
    scratch_size = max64(scratch_size, gemm_scratch<T>(args.regions[i].gemm));
  Scratch<A> scratch(scratch_size);
  const Output<T> output(args.epilogue, args.bias, args.output, args.out_stride_c, 0,
                         args.out_channels);
  const ConvRegion* region = args.regions;
  for (int64_t task = begin; task < end; ++task) {
    while (region + 1 < args.regions + args.region_count && region[1].first_task <= task) ++region;
    const GemmSchedule& gemm = region->gemm;
    const int64_t blocks = gemm.row_blocks * gemm.column_blocks;
    const int64_t own = task - region->first_task;
    const int64_t group = own / blocks, block = own % blocks;
    const int64_t row = block / gemm.column_blocks * gemm.block_rows;
    const int64_t rows = min64(gemm.block_rows, gemm.rows - row);
    const int64_t column = block % gemm.column_blocks * gemm.block_columns;
    const int64_t columns = min64(gemm.block_columns, gemm.columns - column);
    if (rows <= 0) continue;
    const int64_t channel = group * gemm.columns + column;
    const ConvLine &line = region->w, &lines = region->h, &planes = region->d;
    const bool taps_adjacent =
        args.groups == 1 && line.tap_reach == 1 && args.stride_w == args.channels;
    const PackVoxel<T> pack{args, *region, group * channels_per_group, channels_per_group,
                            taps_adjacent};
    const GemmBlock<T> totals(rows, columns, scratch.data);
    Segments<T> segments(args, *region, static_cast<const T*>(args.weight) + channel);
    const Rows<A> a{totals.packed_rows, kSegment};
    bool first = true;
    for (; segments.next(); first = false) {
      for (int64_t i = 0; i < rows; ++i)
        pack(row + i, segments.k, segments.length, totals.packed_rows + i * kSegment);
      if (segments.runs == 1)
        multiply_segment(totals, a, DensePanel<T>{segments.run[0].rows, args.out_channels},
                         segments.length, first);
      else
        multiply_segment(totals, a,
                         PanelOfRuns<T>{segments.run, segments.runs, args.out_channels, 0},
                         segments.length, first);
    }
    if (first) totals.clear();
    for (int64_t i = 0; i < rows; ++i) {
      int64_t voxel = row + i;
      const int64_t w = line.first + voxel % line.count * line.step;
      voxel /= line.count;
      const int64_t h = lines.first + voxel % lines.count * lines.step;
      voxel /= lines.count;
      const int64_t d = planes.first + voxel % planes.count * planes.step;
      output.store_row(totals.totals + i * totals.totals_stride, channel, columns,
                       voxel / planes.count * args.out_stride_n + d * args.out_stride_d +
                           h * args.out_stride_h + w * args.out_stride_w);
    }
  }
}

}  // namespace

void conv3d(const Conv3dArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { conv3d_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
