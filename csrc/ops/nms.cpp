#include "../nms.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <algorithm>
#include <numeric>

#include "../dtypes.h"
#include "common.h"

namespace bninv {
namespace {

constexpr const char* kOp = "nms";

// Sorts `order` by the keys of what it names, the least first; of equal ones what came first stays first.
// A pass for each byte in which keys differ.
void sort_by(const std::vector<uint64_t>& keys, std::vector<int64_t>& order) {
  uint64_t differ = 0;
  for (const uint64_t key : keys) differ |= key ^ keys[0];
  std::vector<int64_t> sorted(order.size());
  for (int shift = 0; shift < 64; shift += 8) {
    if ((differ >> shift & 0xff) == 0) continue;
    int64_t place[257] = {};
    for (const uint64_t key : keys) ++place[(key >> shift & 0xff) + 1];
    std::partial_sum(place, place + 257, place);
    for (const int64_t i : order) sorted[place[keys[i] >> shift & 0xff]++] = i;
    order.swap(sorted);
  }
}

template <typename T>
std::vector<uint64_t> score_keys(const NmsArgs& args) {
  std::vector<uint64_t> keys(static_cast<size_t>(args.count));
  const T* scores = static_cast<const T*>(args.scores);
  for (int64_t i = 0; i < args.count; ++i)
    keys[i] = common::score_key(common::widen(scores[i * args.score_stride]));
  return keys;
}

Tensor run_on_cpu(NmsArgs& args, const Tensor& boxes) {
  std::vector<uint64_t> keys;
  common::with_type(args.dtype,
                    [&](auto type) { keys = score_keys<typename decltype(type)::Type>(args); });
  std::vector<int64_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  sort_by(keys, order);

  std::vector<int64_t> members = order, class_begin{0};
  if (args.classes != nullptr) {
    for (int64_t i = 0; i < args.count; ++i)
      keys[i] = static_cast<uint64_t>(args.classes[i * args.class_stride]);
    sort_by(keys, members);
    for (int64_t m = 1; m < args.count; ++m)
      if (keys[members[m]] != keys[members[m - 1]]) class_begin.push_back(m);
  }
  const auto tasks = static_cast<int64_t>(class_begin.size());
  class_begin.push_back(args.count);
  std::vector<uint8_t> is_kept(keys.size());
  args.members = members.data(), args.class_begin = class_begin.data();
  args.is_kept = is_kept.data();
  // A box meets the half of its class, a vector at a time.
  const int64_t size = args.count / tasks;
  run(BNINV_KERNEL(nms), args, tasks, grain_of(size * size / 4));

  const Tensor result =
      new_empty_integers(boxes, {std::count(is_kept.begin(), is_kept.end(), uint8_t{1})}, 64);
  auto* indices = static_cast<int64_t*>(result.data_ptr());
  for (const int64_t i : order)
    if (is_kept[i]) *indices++ = i;
  return result;
}

Tensor run_on_cuda(NmsArgs& args, const Tensor& boxes) {
  const Tensor result = new_empty_integers(boxes, {args.count + 1}, 64);
  const Tensor workspace = new_workspace(boxes, nms_workspace_bytes(args.count));
  args.result = static_cast<int64_t*>(result.data_ptr());
  args.workspace = workspace.data_ptr();
  launch(BNINV_CUDA_KERNEL(nms), args, boxes);

  const auto part = [&](int64_t begin, int64_t size) {
    const int64_t stride = 1;
    AtenTensorHandle handle = nullptr;
    TORCH_ERROR_CODE_CHECK(
        aoti_torch__reinterpret_tensor(result.get(), 1, &size, &stride, begin, &handle));
    return Tensor(handle);
  };
  // The only wait: the size of the result is what the kernels found.
  int64_t kept = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_item_int64(part(args.count, 1).get(), &kept));
  return part(0, kept);
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold,
           std::optional<Tensor> idxs) {
  NmsArgs args{};
  args.dtype = check_dtype(kOp, "boxes", boxes, kFloatingTypes);
  check_beside(kOp, "scores", scores, boxes, "`boxes`");
  BNINV_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, kOp, ": `boxes` has shape ",
              sizes_text(boxes), "; it may be [boxes, 4], a box being x1, y1, x2, y2");
  args.count = boxes.size(0);
  BNINV_CHECK(scores.dim() == 1 && scores.size(0) == args.count, kOp, ": `scores` has shape ",
              sizes_text(scores), "; it may be [", args.count, "], one score for each box");
  if (idxs.has_value()) {
    check_dtype(kOp, "idxs", *idxs, {ScalarType::Long});
    check_device(kOp, "idxs", *idxs, boxes);
    BNINV_CHECK(idxs->dim() == 1 && idxs->size(0) == args.count, kOp, ": `idxs` has shape ",
                sizes_text(*idxs), "; it may be [", args.count, "], one class for each box");
    args.classes = static_cast<const int64_t*>(idxs->data_ptr());
    args.class_stride = idxs->stride(0);
  }
  if (args.count == 0) return new_empty_integers(boxes, {0}, 64);
  args.boxes = boxes.data_ptr(), args.scores = scores.data_ptr();
  args.box_stride = boxes.stride(0), args.side_stride = boxes.stride(1);
  args.score_stride = scores.stride(0);
  args.threshold = iou_threshold;
  return on_cuda(boxes) ? run_on_cuda(args, boxes) : run_on_cpu(args, boxes);
}

}  // namespace

BNINV_REGISTER(m) { m.impl("nms", TORCH_BOX(&nms)); }

}  // namespace bninv
