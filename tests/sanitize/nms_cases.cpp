// Boxes that suppress each other, and the taps of deformable convolutions.
#include <algorithm>
#include <numeric>

#include "buffers.h"

using namespace bninv;

namespace {

constexpr const char* kNms = "nms";

// A byte of ones for each box that is kept, in as many bytes as an element has.
void mark(Bytes& kept, int64_t box, DType dtype) {
  std::memset(kept.data + static_cast<size_t>(box) * size_of(dtype), 0x01, size_of(dtype));
}

Bytes marks(int64_t count, DType dtype) {
  Bytes kept(count, dtype);
  std::memset(kept.data, 0, kept.size);
  return kept;
}

void nms_case() {
  ++cases;
  NmsArgs args{};
  args.dtype = any_dtype();
  args.count = one_of({1, 2, 17, 64, 65, 130});
  args.box_stride = 4, args.side_stride = 1, args.score_stride = 1, args.class_stride = 1;
  args.threshold = static_cast<double>(between(-1, 10)) / 10;
  const int64_t offset = between(0, 1);
  const Bytes boxes = between(0, 3) ? Bytes::numbers(4 * args.count, args.dtype, offset)
                                    : Bytes::random(4 * args.count, args.dtype, offset);
  const Bytes scores = between(0, 1) ? Bytes::numbers(args.count, args.dtype, offset)
                                     : Bytes::random(args.count, args.dtype, offset);
  std::vector<int64_t> classes(static_cast<size_t>(args.count));
  const int64_t most = between(0, 3);
  for (int64_t& one : classes) one = between(0, most);
  args.boxes = boxes.data, args.scores = scores.data, args.classes = classes.data();

  std::vector<int64_t> members(classes.size()), class_begin;
  std::iota(members.begin(), members.end(), 0);
  common::with_type(args.dtype, [&](auto type) {
    using T = typename decltype(type)::Type;
    const auto key = [&](int64_t i) {
      T score;
      std::memcpy(&score, scores.data + static_cast<size_t>(i) * sizeof(T), sizeof(T));
      return common::score_key(common::widen(score));
    };
    std::stable_sort(members.begin(), members.end(), [&](int64_t a, int64_t b) {
      return classes[a] != classes[b] ? classes[a] < classes[b] : key(a) < key(b);
    });
  });
  for (int64_t m = 0; m < args.count; ++m)
    if (m == 0 || classes[members[m]] != classes[members[m - 1]]) class_begin.push_back(m);
  const auto tasks = static_cast<int64_t>(class_begin.size());
  class_begin.push_back(args.count);
  args.members = members.data(), args.class_begin = class_begin.data();

  Bytes expected(0, args.dtype);
  for (const Level& level : levels()) {
    const std::unique_ptr<uint8_t[]> is_kept(new uint8_t[classes.size()]);
    args.is_kept = is_kept.get();
    run_level(level, &Level::nms, args, tasks);
    Bytes kept = marks(args.count, args.dtype);
    for (int64_t i = 0; i < args.count; ++i)
      if (is_kept[i]) mark(kept, i, args.dtype);
    record(level.name, kNms, args.dtype, kept.data, kept.size);
    if (expected.size == 0)
      expected = std::move(kept);
    else
      compare(kNms, level.name, args.dtype, expected, kept);
  }
#if defined(BNINV_EMULATION)
  const Bytes workspace(nms_workspace_bytes(args.count) / 2, DType::kHalf);
  const std::unique_ptr<int64_t[]> result(new int64_t[classes.size() + 1]);
  args.workspace = workspace.data, args.result = result.get();
  cuda::nms(args, nullptr);
  Bytes kept = marks(args.count, args.dtype);
  for (int64_t i = 0; i < result[classes.size()]; ++i) mark(kept, result[i], args.dtype);
  record("cuda", kNms, args.dtype, kept.data, kept.size);
  compare(kNms, "cuda", args.dtype, expected, kept);
#endif
}

void deform_taps_case() {
  DeformTapsArgs args{};
  args.dtype = any_dtype();
  args.offset_groups = between(1, 2);
  args.batch = between(1, 2), args.channels = args.offset_groups * one_of({1, 3, 8, 17});
  args.height = between(1, 6), args.width = between(1, 6);
  args.out_height = between(1, 4), args.out_width = between(1, 5);
  args.kernel_h = between(1, 3), args.kernel_w = between(1, 3);
  args.step_h = between(1, 2), args.step_w = between(1, 2);
  args.pad_h = between(0, 2), args.pad_w = between(0, 2);
  args.dilation_h = between(1, 2), args.dilation_w = between(1, 2);
  args.stride_w = args.channels, args.stride_h = args.width * args.stride_w;
  args.stride_n = args.height * args.stride_h;
  const int64_t pixels = args.out_height * args.out_width;
  const int64_t taps = args.offset_groups * args.kernel_h * args.kernel_w;
  args.offset_stride_w = args.mask_stride_w = 1;
  args.offset_stride_h = args.mask_stride_h = args.out_width;
  args.offset_stride_c = args.mask_stride_c = pixels;
  args.offset_stride_n = 2 * taps * pixels, args.mask_stride_n = taps * pixels;
  const int64_t offset = between(0, 1), moves = args.batch * args.offset_stride_n;
  const Bytes x = Bytes::numbers(args.batch * args.stride_n, args.dtype, offset);
  // Any pattern is an offset: infinities, NaN and numbers far outside too.
  const Bytes offsets = between(0, 2) ? Bytes::numbers(moves, args.dtype, offset)
                                      : Bytes::random(moves, args.dtype, offset);
  const Bytes mask = Bytes::numbers(args.batch * args.mask_stride_n, args.dtype, offset);
  args.input = x.data, args.offset = offsets.data;
  if (between(0, 1)) args.mask = mask.data;
  const int64_t rows = args.batch * args.out_height * args.kernel_h;
  run<DeformTapsArgs>("deform_taps", args, &Level::deform_taps, CUDA_KERNEL(deform_taps), rows,
                      rows * args.out_width * args.kernel_w * args.channels, offset);
}

}  // namespace

void nms_cases(int number) {
  seed_case("deform_taps", number), deform_taps_case();
  seed_case(kNms, number), nms_case();
}
