// Attention under R7: queries are the rows of two products, over a block of keys at a time.
//
// A task has a block of queries of one head. It packs a block of keys, transposed, and their values once
// and takes its queries through them a few at a time, so that their scores stay in the first cache:
// product, maximum, exponentials, product.
#include "../attention.h"
#include "../normalization.h"
#include "gemm.h"
#include "rows.h"
#include "sum_rows.h"
#include "transpose.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// Queries that go through a block of keys together.
constexpr int64_t kRowsAtOnce = 4 * kTileRows, kPaddedRows = (kRowsAtOnce + 15) / 16 * 16;

// The greatest of lanes none of which is NaN.
#if BNINV_VEC_WIDTH > 1 && !defined(BNINV_NEON)
template <int kHalf = kWidth / 2>
BNINV_INLINE float greatest_lane(Vec a) {
  if constexpr (kHalf > 0) {
    IntLanes other{};
    for (int l = 0; l < kWidth; ++l) other[l] = l ^ kHalf;
    const Vec b = permute(a, VecInt(other));
    return greatest_lane<kHalf / 2>(select(a > b, a, b));
  } else {
    return a.v[0];
  }
}
#endif
template <typename V, typename A = std::conditional_t<std::is_same_v<V, Vec>, float, double>>
BNINV_INLINE A greatest_lane(V a) {
  A lanes[sizeof(V) / sizeof(A)];
  store(lanes, a);
  for (A lane : lanes) lanes[0] = lane > lanes[0] ? lane : lanes[0];
  return lanes[0];
}

// Columns in tiles of kTileColumns, the last one narrower where one vector holds what is left.
template <typename A>
struct ColumnTiles {
  int64_t columns;

  static constexpr int64_t kFull = kTileColumns<A>, kNarrow = Lanes<A>::kCount;

  BNINV_INLINE static int64_t width(int64_t left) {
    return kTileVectors > 1 && left <= kNarrow ? kNarrow : kFull;
  }
  // Elements of a row with whole tiles.
  static int64_t padded(int64_t columns) { return ceil_div(columns, kFull) * kFull; }
};

// `packed` holds, tile by tile, `length` terms x its width. rows x columns of totals become their chains,
// or get them added where these are not the first.
template <typename A>
void multiply(const A* rows, int64_t count, const A* packed, int64_t length, int64_t columns,
              A* totals, int64_t totals_stride, bool first) {
  const int64_t row_tiles = ceil_div(count, kTileRows);
  for (int64_t j = 0; j < columns; j += kTileColumns<A>) {
    const int64_t width = ColumnTiles<A>::width(columns - j);
    for (int64_t t = 0, i = 0; t < row_tiles; ++t) {
      const int64_t next = count * (t + 1) / row_tiles;
      const auto tile = width == kTileColumns<A> ? tile_of<A, kTileVectors, kTileRows>(next - i)
                                                 : tile_of<A, 1, kTileRows>(next - i);
      tile(rows + i * kSegment, kSegment, packed, width, length, totals + i * totals_stride + j,
           totals_stride, first);
      i = next;
    }
    packed += length * width;
  }
}

// One head of one sample as a task sees it, and the task's scratch memory.
template <typename T>
class Head {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  static constexpr int64_t kCount = Lanes<T>::kCount;

 public:
  Head(const AttentionArgs& args)
      : args_(args),
        segments_(ceil_div(args.terms, kSegment)),
        columns_(ColumnTiles<A>::padded(args.columns)),
        queries_(segments_ * args.block_queries * kSegment),
        keys_(args.terms * kKeyBlock),
        values_(kKeyBlock * columns_),
        scores_(kRowsAtOnce * kKeyBlock),
        products_(kRowsAtOnce * columns_),
        outputs_(args.block_queries * columns_),
        greatest_(args.block_queries),
        sums_(args.block_queries) {}

  void run(int64_t task) {
    const int64_t block = task % args_.query_blocks, head = task / args_.query_blocks;
    const int64_t n = head / args_.heads, h = head % args_.heads;
    first_ = block * args_.block_queries;
    count_ = min64(args_.block_queries, args_.queries - first_);
    if (count_ <= 0) return;
    const auto start = [](auto* data, const HeadStrides& strides, int64_t b, int64_t i) {
      return data + b * strides.batch + i * strides.head;
    };
    const int64_t shared = h / args_.heads_of_key;
    const T* key = start(static_cast<const T*>(args_.key), args_.key_strides, n, shared);
    const T* value = start(static_cast<const T*>(args_.value), args_.value_strides, n, shared);
    mask_ = n * args_.mask_strides.batch + h * args_.mask_strides.head;
    pack_queries(start(static_cast<const T*>(args_.query), args_.query_strides, n, h));
    // Those beyond a causal mask's last query are nobody's.
    const int64_t keys = args_.causal ? min64(args_.keys, first_ + count_) : args_.keys;
    for (int64_t k = 0; k < keys; k += kKeyBlock) {
      const int64_t length = min64(kKeyBlock, keys - k);
      pack_keys(key + k * args_.key_strides.row, length);
      pack_values(value + k * args_.value_strides.row, length);
      for (int64_t i = 0; i < count_; i += kRowsAtOnce) {
        const int64_t rows = min64(kRowsAtOnce, count_ - i);
        if (args_.causal && first_ + i + rows <= k) continue;
        take_keys(i, rows, k, length);
      }
    }
    store_rows(start(static_cast<T*>(args_.output), args_.output_strides, n, h));
  }

 private:
  void pack_queries(const T* query) {
    for (int64_t s = 0; s < segments_; ++s)
      for (int64_t i = 0; i < count_; ++i)
        widen_run(query + (first_ + i) * args_.query_strides.row + s * kSegment,
                  min64(kSegment, args_.terms - s * kSegment),
                  queries_.data + (s * args_.block_queries + i) * kSegment);
    for (int64_t i = 0; i < count_ * columns_; ++i) outputs_.data[i] = 0;
    for (int64_t i = 0; i < count_; ++i) greatest_.data[i] = A(kExcluded), sums_.data[i] = 0;
  }

  // Term by term within a segment and a tile of keys; +0 where a tile has no key.
  void pack_keys(const T* key, int64_t length) {
    A* packed = keys_.data;
    for (int64_t s = 0; s < segments_; ++s) {
      const int64_t terms = min64(kSegment, args_.terms - s * kSegment);
      for (int64_t j = 0; j < length; j += kTileColumns<A>) {
        const int64_t width = ColumnTiles<A>::width(length - j);
        transpose(key + j * args_.key_strides.row + s * kSegment, args_.key_strides.row,
                  min64(length - j, width), terms, packed, width);
        packed += terms * width;
      }
    }
  }

  void pack_values(const T* value, int64_t length) {
    A* packed = values_.data;
    V all(0.0f);
    for (int64_t j = 0; j < args_.columns; j += kTileColumns<A>) {
      const int64_t left = args_.columns - j, width = ColumnTiles<A>::width(left);
      pack_columns(value + j, args_.value_strides.row, length, min64(left, width), width, packed);
      // Zero times an infinity or a NaN is NaN; so is a sum with one.
      for (int64_t i = 0; i < length * width; i += kCount)
        all = fma(load(packed + i), V(0.0f), all);
      packed += length * width;
    }
    A lanes[kCount];
    store(lanes, all);
    finite_ = true;
    for (int64_t l = 0; l < kCount; ++l) finite_ = finite_ && lanes[l] == 0;
  }

  // Queries [i, i + rows) of the task take keys [k, k + length).
  void take_keys(int64_t i, int64_t rows, int64_t k, int64_t length) {
    A* scores = scores_.data;
    if (segments_ == 0)
      for (int64_t s = 0; s < rows * kKeyBlock; ++s) scores[s] = 0;
    const A* keys = keys_.data;
    for (int64_t s = 0; s < segments_; ++s) {
      const int64_t terms = min64(kSegment, args_.terms - s * kSegment);
      multiply(queries_.data + (s * args_.block_queries + i) * kSegment, rows, keys, terms, length,
               scores, kKeyBlock, s == 0);
      keys += terms * packed_columns(length);
    }
    A decay[kPaddedRows];
    weigh(scores, i, rows, k, length, decay);

    A* products = products_.data;
    if (finite_)
      multiply(scores, rows, values_.data, length, args_.columns, products, columns_, true);
    else
      multiply_existing(scores, rows, length, products);
    for (int64_t r = 0; r < rows; ++r) {
      A* output = outputs_.data + (i + r) * columns_;
      for (int64_t j = 0; j < args_.columns; j += kCount)
        store(output + j, fma(load(output + j), V(decay[r]), load(products + r * columns_ + j)));
    }
  }

  static int64_t packed_columns(int64_t length) {
    const int64_t whole = length / kTileColumns<A> * kTileColumns<A>;
    return whole == length ? whole : whole + ColumnTiles<A>::width(length - whole);
  }

  // Turns rows of products into weights, and takes them into the rows' maxima and sums. `decay`: what
  // their outputs so far are to be multiplied by. Step by step for all rows: within one, each waits for
  // the step before.
  void weigh(A* scores, int64_t i, int64_t rows, int64_t k, int64_t length, A* decay) {
    // Whole lanes of R3: what is beyond the keys is excluded.
    const int64_t padded = ceil_div(length, kSumLanes) * kSumLanes;
    A before[kPaddedRows], now[kPaddedRows];
    for (int64_t r = 0; r < kPaddedRows; ++r) before[r] = r < rows ? greatest_.data[i + r] : 0;
    for (int64_t r = 0; r < kPaddedRows; ++r) now[r] = 0;
    for (int64_t r = 0; r < rows; ++r)
      now[r] = score(scores + r * kKeyBlock, before[r], first_ + i + r, k, length, padded);
    for (int64_t r = 0; r < rows; r += kCount)
      store(decay + r, attention_decay(load(before + r), load(now + r)));
    for (int64_t r = 0; r < rows; ++r) {
      A* row = scores + r * kKeyBlock;
      constexpr int kVectors = kSumLanes / kCount;
      V lanes[kVectors];
      for (int v = 0; v < kVectors; ++v) lanes[v] = V(0.0f);
      for (int64_t j = 0; j < padded; j += kSumLanes)
        for (int v = 0; v < kVectors; ++v) {
          const V weight = attention_weight(load(row + j + v * kCount), V(now[r]));
          store(row + j + v * kCount, weight);
          lanes[v] = lanes[v] + weight;
        }
      for (int h = kVectors / 2; h > 0; h /= 2)
        for (int v = 0; v < h; ++v) lanes[v] = lanes[v] + lanes[v + h];
      sums_.data[i + r] = fma(sums_.data[i + r], decay[r], A(0) + fold_lanes(lanes[0]));
      greatest_.data[i + r] = now[r];
    }
  }

  // The scores of a query, in place of its products; returns the greatest of them and `before`. A NaN
  // is left out of it: its weight is NaN in any case, and so is the row's sum.
  A score(A* row, A before, int64_t query, int64_t k, int64_t length, int64_t padded) const {
    const int64_t allowed = args_.causal ? min64(length, query + 1 - k) : length;
    const V scale(static_cast<A>(args_.scale));
    V most(before);
    if (args_.mask_kind == MaskKind::kNone && allowed == padded) {
      for (int64_t j = 0; j < padded; j += kCount) {
        const V scaled = load(row + j) * scale;
        store(row + j, scaled);
        most = select(scaled > most, scaled, most);
      }
    } else {
      for (int64_t j = 0; j < padded; j += kCount) store(row + j, load(row + j) * scale);
      if (args_.mask_kind != MaskKind::kNone) mask(row, query, k, length);
      for (int64_t j = max64(allowed, 0); j < padded; ++j) row[j] = A(kExcluded);
      for (int64_t j = 0; j < padded; j += kCount)
        most = select(load(row + j) > most, load(row + j), most);
    }
    return greatest_lane(most);
  }

  void mask(A* row, int64_t query, int64_t k, int64_t length) const {
    const int64_t at = mask_ + query * args_.mask_strides.row + k;
    if (args_.mask_kind == MaskKind::kBoolean) {
      const auto* keeps = static_cast<const uint8_t*>(args_.mask) + at;
      for (int64_t j = 0; j < length; ++j) row[j] = keeps[j] ? row[j] : A(kExcluded);
    } else if (args_.mask_dtype == DType::kFloat && sizeof(T) < sizeof(float)) {
      const auto* added = static_cast<const float*>(args_.mask) + at;
      for (int64_t j = 0; j < length; ++j) row[j] = row[j] + static_cast<A>(added[j]);
    } else {
      const T* added = static_cast<const T*>(args_.mask) + at;
      for (int64_t j = 0; j < length; ++j) row[j] = row[j] + widen(added[j]);
    }
  }

  // The second product where a value is infinite or NaN, which an excluded key's may be.
  void multiply_existing(const A* weights, int64_t rows, int64_t length, A* products) const {
    for (int64_t p = 0; p < rows * columns_; ++p) products[p] = 0;
    const A* packed = values_.data;
    for (int64_t j = 0; j < args_.columns; j += kTileColumns<A>) {
      const int64_t width = ColumnTiles<A>::width(args_.columns - j);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < length; ++k) {
          const A weight = weights[r * kKeyBlock + k];
          if (weight == 0 && to_bits(weight) != 0) continue;
          A* product = products + r * columns_ + j;
          for (int64_t c = 0; c < width; ++c)
            product[c] = fma(weight, packed[k * width + c], product[c]);
        }
      packed += length * width;
    }
  }

  void store_rows(T* output) const {
    for (int64_t i = 0; i < count_; ++i) {
      const V sum(sums_.data[i]);
      const A* row = outputs_.data + i * columns_;
      T* result = output + (first_ + i) * args_.output_strides.row;
      for (int64_t j = 0; j < args_.columns; j += kCount) {
        const V y = attention_result(load(row + j), sum);
        const int64_t left = args_.columns - j;
        left >= kCount ? store(result + j, y) : store_partial(result + j, y, left);
      }
    }
  }

  const AttentionArgs& args_;
  int64_t segments_, columns_;
  int64_t first_ = 0, count_ = 0, mask_ = 0;
  bool finite_ = true;
  Scratch<A> queries_, keys_, values_, scores_, products_, outputs_, greatest_, sums_;
};

template <typename T>
void attention_of(const AttentionArgs& args, int64_t begin, int64_t end) {
  if (begin == end) return;
  Head<T> head(args);
  for (int64_t task = begin; task < end; ++task) head.run(task);
}

}  // namespace

void attention(const AttentionArgs& args, int64_t begin, int64_t end) {
  with_type(args.dtype,
            [&](auto type) { attention_of<typename decltype(type)::Type>(args, begin, end); });
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
