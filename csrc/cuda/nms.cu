// R11 in three steps: each box finds its place in the order of scores by counting those before it; each
// box that another one behind it would drop out for gets a bit, 64 to a word; and one block goes through
// the words in order. How many boxes are left it writes behind their indices: nothing is waited for here.
#include "../dtypes.h"
#include "../nms.h"
#include "device.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

constexpr int kThreads = 256;

struct Workspace {
  int64_t words;       // of a row of bits
  int64_t* order;      // the boxes by falling score
  uint64_t* dropped;   // a bit for each box in this order
  uint64_t* overlaps;  // likewise, a row for each box

  explicit Workspace(const NmsArgs& args)
      : words(nms_words(args.count)),
        order(static_cast<int64_t*>(args.workspace)),
        dropped(reinterpret_cast<uint64_t*>(order + args.count)),
        overlaps(dropped + words) {}
};

struct Keys {
  uint64_t of[kThreads];
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    order_boxes(const __grid_constant__ NmsArgs args, const Workspace space) {
  Keys& keys = static_shared<Keys>();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t own = static_cast<int64_t>(blockIdx.x) * kThreads + thread;
  const T* scores = static_cast<const T*>(args.scores);
  const auto key_of = [&](int64_t i) { return score_key(widen(scores[i * args.score_stride])); };
  const uint64_t own_key = own < args.count ? key_of(own) : 0;
  int64_t place = 0;
  for (int64_t first = 0; first < args.count; first += kThreads) {
    __syncthreads();
    if (first + thread < args.count) keys.of[thread] = key_of(first + thread);
    __syncthreads();
    const int64_t left = args.count - first;
    const int others = left < kThreads ? static_cast<int>(left) : kThreads;
    for (int k = 0; k < others; ++k)
      place += keys.of[k] < own_key || (keys.of[k] == own_key && first + k < own);
  }
  if (own < args.count) space.order[place] = own;
}

template <typename A>
struct Columns {
  A x1[kNmsWord], y1[kNmsWord], x2[kNmsWord], y2[kNmsWord], area[kNmsWord];
  int64_t class_of[kNmsWord];
};

// A block: 64 boxes, a thread for each, against 64 in the order behind them.
template <typename T>
__global__ void __launch_bounds__(kNmsWord)
    find_overlaps(const __grid_constant__ NmsArgs args, const Workspace space) {
  using A = Arithmetic<T>;
  const int64_t row_word = blockIdx.x / space.words, column_word = blockIdx.x % space.words;
  if (column_word < row_word) return;
  Columns<A>& columns = static_shared<Columns<A>>();
  const int thread = static_cast<int>(threadIdx.x);
  const auto box_of = [&](int64_t i) {
    const T* sides = static_cast<const T*>(args.boxes) + i * args.box_stride;
    return Box<A>(widen(sides[0]), widen(sides[args.side_stride]),
                  widen(sides[2 * args.side_stride]), widen(sides[3 * args.side_stride]));
  };
  const auto class_of = [&](int64_t i) {
    return args.classes == nullptr ? 0 : args.classes[i * args.class_stride];
  };
  const int64_t column = column_word * kNmsWord + thread, row = row_word * kNmsWord + thread;
  if (column < args.count) {
    const Box<A> box = box_of(space.order[column]);
    columns.x1[thread] = box.x1, columns.y1[thread] = box.y1;
    columns.x2[thread] = box.x2, columns.y2[thread] = box.y2;
    columns.area[thread] = box.area;
    columns.class_of[thread] = class_of(space.order[column]);
  }
  __syncthreads();
  if (row >= args.count) return;
  const int64_t left = args.count - column_word * kNmsWord;
  const int last = left < kNmsWord ? static_cast<int>(left) : kNmsWord;
  const Box<A> own = box_of(space.order[row]);
  const int64_t own_class = class_of(space.order[row]);
  const A threshold = rounded_down<A>(args.threshold);
  uint64_t bits = 0;
  for (int k = row_word == column_word ? thread + 1 : 0; k < last; ++k) {
    const Box<A> later(columns.x1[k], columns.y1[k], columns.x2[k], columns.y2[k], columns.area[k]);
    const A shared = intersection(own, later);
    const bool beyond = intersection_over_union(shared, own.area, later.area) > threshold;
    if (beyond && columns.class_of[k] == own_class) bits |= uint64_t{1} << k;
  }
  space.overlaps[row * space.words + column_word] = bits;
}

struct Word {
  int64_t box[kNmsWord];
  uint64_t overlaps[kNmsWord];  // within the word
  uint64_t kept;
};

// One block. `dropped` and `overlaps` are read by the threads that wrote them, or behind a barrier.
__global__ void __launch_bounds__(kThreads)
    choose_boxes(const __grid_constant__ NmsArgs args, const Workspace space) {
  Word& word = static_shared<Word>();
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t w = thread; w < space.words; w += kThreads) space.dropped[w] = 0;
  int64_t count = 0;  // the first thread's
  for (int64_t w = 0; w < space.words; ++w) {
    const int64_t first = w * kNmsWord, left = args.count - first;
    const int boxes = left < kNmsWord ? static_cast<int>(left) : kNmsWord;
    if (thread < boxes) {
      word.box[thread] = space.order[first + thread];
      word.overlaps[thread] = space.overlaps[(first + thread) * space.words + w];
    }
    __syncthreads();
    if (thread == 0) {
      uint64_t dropped = space.dropped[w], kept = 0;
      for (int k = 0; k < boxes; ++k) {
        if (dropped >> k & 1) continue;
        kept |= uint64_t{1} << k;
        dropped |= word.overlaps[k];
        args.result[count++] = word.box[k];
      }
      word.kept = kept;
    }
    __syncthreads();
    for (int64_t later = w + 1 + thread; later < space.words; later += kThreads) {
      const uint64_t* overlaps = space.overlaps + first * space.words + later;
      uint64_t dropped = 0;
      for (int k = 0; k < boxes; ++k)
        if (word.kept >> k & 1) dropped |= overlaps[k * space.words];
      space.dropped[later] |= dropped;
    }
    __syncthreads();
  }
  if (thread == 0) args.result[args.count] = count;
}

template <typename T>
void launch_nms(const NmsArgs& args, void* stream) {
  constexpr const char* kOp = "nms";
  const Workspace space(args);
  launch({kOp, ceil_div(args.count, kThreads), kThreads, 0, stream}, order_boxes<T>, args, space);
  launch({kOp, space.words * space.words, kNmsWord, 0, stream}, find_overlaps<T>, args, space);
  launch({kOp, 1, kThreads, 0, stream}, choose_boxes, args, space);
}

}  // namespace

void nms(const NmsArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_nms<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
