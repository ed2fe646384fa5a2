// Attention under R7: a block owns some queries of one head and takes them through the keys, 128 at a
// time. Scores stay in registers until they are weights, which the warp that owns the query alone reads
// again; a query's outputs stay in registers to the end.
#include "attention_tile.cuh"
// This first: it names the namespace of what follows.
#include "lane_sum.cuh"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// Which four neighbours may be copied together.
struct WholeCopies {
  bool query, key, value;
};

// Where a block's queries, and the keys and values of their head, begin.
template <typename T>
struct Operands {
  const T *query, *key, *value;
  int64_t mask;  // its index for query 0 and key 0
};

// What a warp knows of its queries. Thread r keeps what there is once for query r; the threads beyond
// repeat the last one's.
template <typename Tile>
struct Rows {
  using A = typename Tile::A;
  A greatest, sum, decay;
  A outputs[Tile::kRows][Tile::kColumns / 32];
};

template <typename A>
__device__ __forceinline__ A warp_greatest(A x) {
#pragma unroll
  for (int h = 16; h > 0; h /= 2) {
    const A other = __shfl_xor_sync(kWholeWarp, x, h);
    x = other > x ? other : x;
  }
  return x;
}

// ---- The first product ---------------------------------------------------------------------------

// One step of every chain for each term of a stage, in order. Terms beyond the last are +0 * +0.
template <typename Tile>
__device__ __forceinline__ void multiply_terms(const typename Tile::Stage& stage, int first_row,
                                               typename Tile::A (&sums)[Tile::kRows][4]) {
  using A = typename Tile::A;
  constexpr int kTerms = 16 / sizeof(A);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int k = 0; k < Tile::kDepth; k += kTerms) {
    Elements<A, kTerms> key[4];
#pragma unroll
    for (int c = 0; c < 4; ++c)
      key[c] = *reinterpret_cast<const Elements<A, kTerms>*>(&stage.keys[c * 32 + lane][k]);
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r) {
      const auto query =
          *reinterpret_cast<const Elements<A, kTerms>*>(&stage.queries[first_row + r][k]);
#pragma unroll
      for (int l = 0; l < kTerms; ++l)
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[r][c] = fma(query.lane[l], key[c].lane[l], sums[r][c]);
    }
  }
}

// The products of the block's queries and `keys` keys from `key` on.
template <typename Tile, typename T>
__device__ __forceinline__ void multiply_keys(const AttentionArgs& args, const WholeCopies& whole,
                                              typename Tile::Shared& shared, const T* query,
                                              int64_t queries, const T* key, int64_t keys,
                                              typename Tile::A (&scores)[Tile::kRows][4]) {
  using A = typename Tile::A;
  const int first_row = static_cast<int>(threadIdx.x) / 32 * Tile::kRows;
  A chains[Tile::kRows][4];
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) scores[r][c] = chains[r][c] = 0;

  const auto start = [&](int64_t k) {
    auto& stage = shared.first.stages[k / Tile::kDepth % 2];
    stage_rows<Tile::kThreads, Tile::kQueries, Tile::kDepth, Tile::kDepthStride>(
        &stage.queries[0][0], query + k, args.query_strides.row, queries, args.terms - k,
        whole.query);
    stage_rows<Tile::kThreads, Tile::kKeys, Tile::kDepth, Tile::kDepthStride>(
        &stage.keys[0][0], key + k, args.key_strides.row, keys, args.terms - k, whole.key);
    copy_async_commit();
  };
  if (args.terms > 0) start(0);
  for (int64_t k = 0; k < args.terms; k += Tile::kDepth) {
    copy_async_wait<0>();
    __syncthreads();  // the stage is there, and the one before it has been read
    if (k + Tile::kDepth < args.terms) start(k + Tile::kDepth);
    if constexpr (Tile::kLong) {
      if (k > 0 && k % kSegment == 0) {
#pragma unroll
        for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
          for (int c = 0; c < 4; ++c) scores[r][c] = scores[r][c] + chains[r][c], chains[r][c] = 0;
      }
    }
    multiply_terms<Tile>(shared.first.stages[k / Tile::kDepth % 2], first_row, chains);
  }
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) scores[r][c] = scores[r][c] + chains[r][c];
}

// ---- Weights -------------------------------------------------------------------------------------

template <typename T>
__device__ __forceinline__ Arithmetic<T> masked(const AttentionArgs& args, Arithmetic<T> score,
                                                int64_t at) {
  using A = Arithmetic<T>;
  if (args.mask_kind == MaskKind::kNone) return score;
  if (args.mask_kind == MaskKind::kBoolean)
    return static_cast<const uint8_t*>(args.mask)[at] ? score : A(kExcluded);
  return score + element<T>(args.mask, args.mask_dtype, at);
}

// Products become weights in shared memory, and join the rows' maxima and sums. Returns whether a key was
// excluded, from any of the warp's queries.
template <typename Tile, typename T>
__device__ __forceinline__ bool weigh(const AttentionArgs& args, typename Tile::Shared& shared,
                                      int64_t mask, int64_t query, int64_t key,
                                      const typename Tile::A (&scores)[Tile::kRows][4],
                                      Rows<Tile>& rows) {
  using A = typename Tile::A;
  const int first_row = static_cast<int>(threadIdx.x) / 32 * Tile::kRows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const A scale = static_cast<A>(args.scale);
  bool excluded = false;
  A own_greatest = 0, own_sum = 0;
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r) {
    const int64_t i = query + first_row + r;
    A score[4];
    A most = __shfl_sync(kWholeWarp, rows.greatest, r);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int64_t j = key + c * 32 + lane;
      const bool exists = i < args.queries && j < args.keys;
      score[c] = A(kExcluded);
      if (exists && !(args.causal && j > i))
        score[c] = masked<T>(args, scores[r][c] * scale, mask + i * args.mask_strides.row + j);
      // A NaN is no maximum: its weight is NaN in any case, and so is the row's sum.
      most = score[c] > most ? score[c] : most;
      excluded = excluded || (exists && score[c] == A(kExcluded));
    }
    most = warp_greatest(most);
    A sum = 0;
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const A weight = attention_weight(score[c], most);
      shared.first.weights[first_row + r][c * 32 + lane] = weight;
      sum = sum + weight;
    }
    sum = __shfl_sync(kWholeWarp, fold_warp(sum), 0);
    if (lane >= r) own_greatest = most, own_sum = sum;
  }
  rows.decay = attention_decay(rows.greatest, own_greatest);
  rows.sum = fma(rows.sum, rows.decay, own_sum);
  rows.greatest = own_greatest;
  return __any_sync(kWholeWarp, excluded);
}

// ---- The second product --------------------------------------------------------------------------

// `keys` keys of a stage, in order. kExisting: an excluded key is left out, for its value may be infinite
// or NaN.
template <bool kExisting, typename Tile>
__device__ __forceinline__ void multiply_weights(
    const typename Tile::Shared& shared, int stage, int first_row, int key, int keys,
    typename Tile::A (&sums)[Tile::kRows][Tile::kColumns / 32]) {
  using A = typename Tile::A;
  constexpr int kTogether = 16 / sizeof(A), kOwn = Tile::kColumns / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int j = 0; j < Tile::kValueKeys; j += kTogether) {
    if (j >= keys) break;
    A value[kTogether][kOwn];
#pragma unroll
    for (int l = 0; l < kTogether; ++l)
#pragma unroll
      for (int c = 0; c < kOwn; ++c) value[l][c] = shared.values[stage][j + l][c * 32 + lane];
#pragma unroll
    for (int r = 0; r < Tile::kRows; ++r) {
      const auto weight = *reinterpret_cast<const Elements<A, kTogether>*>(
          &shared.first.weights[first_row + r][key + j]);
#pragma unroll
      for (int l = 0; l < kTogether; ++l) {
        if (kExisting && weight.lane[l] == 0 && to_bits(weight.lane[l]) != 0) continue;
#pragma unroll
        for (int c = 0; c < kOwn; ++c) sums[r][c] = fma(weight.lane[l], value[l][c], sums[r][c]);
      }
    }
  }
}

template <typename Tile, typename T>
__device__ __forceinline__ void start_values(const AttentionArgs& args, bool whole,
                                             typename Tile::Shared& shared, const T* value,
                                             int64_t first, int64_t keys, int64_t columns) {
  stage_rows<Tile::kThreads, Tile::kValueKeys, Tile::kColumns, Tile::kColumns>(
      &shared.values[first / Tile::kValueKeys % 2][0][0], value + first * args.value_strides.row,
      args.value_strides.row, keys - first, columns, whole);
  copy_async_commit();
}

// The values of `keys` keys, weighed, join the outputs. The first of them are on their way.
template <typename Tile, typename T>
__device__ __forceinline__ void multiply_values(const AttentionArgs& args, bool whole,
                                                typename Tile::Shared& shared, const T* value,
                                                int64_t keys, int64_t columns, bool excluded,
                                                Rows<Tile>& rows) {
  using A = typename Tile::A;
  constexpr int kOwn = Tile::kColumns / 32;
  const int first_row = static_cast<int>(threadIdx.x) / 32 * Tile::kRows;
  A sums[Tile::kRows][kOwn];
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
    for (int c = 0; c < kOwn; ++c) sums[r][c] = 0;
  for (int64_t j = 0; j < keys; j += Tile::kValueKeys) {
    copy_async_wait<0>();
    __syncthreads();  // the stage and the weights are there, and the stage before it has been read
    const int64_t next = j + Tile::kValueKeys;
    if (next < keys) start_values<Tile>(args, whole, shared, value, next, keys, columns);
    const int stage = static_cast<int>(j / Tile::kValueKeys % 2), key = static_cast<int>(j);
    const int left = static_cast<int>(keys - j);
    if (excluded)
      multiply_weights<true, Tile>(shared, stage, first_row, key, left, sums);
    else
      multiply_weights<false, Tile>(shared, stage, first_row, key, left, sums);
  }
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r) {
    const A decay = __shfl_sync(kWholeWarp, rows.decay, r);
#pragma unroll
    for (int c = 0; c < kOwn; ++c) rows.outputs[r][c] = fma(rows.outputs[r][c], decay, sums[r][c]);
  }
}

// ---- The kernel ----------------------------------------------------------------------------------

template <typename T, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    attend(const AttentionArgs args, const WholeCopies whole) {
  using A = typename Tile::A;
  constexpr int kOwn = Tile::kColumns / 32;
  auto& shared = *dynamic_shared<typename Tile::Shared>();
  // Neighbouring blocks have the same keys, which they then find in the L2 cache.
  const int64_t query_blocks = (args.queries + Tile::kQueries - 1) / Tile::kQueries;
  const int64_t column_blocks = (args.columns + Tile::kColumns - 1) / Tile::kColumns;
  int64_t block = blockIdx.x;
  const int64_t query = block % query_blocks * Tile::kQueries;
  block /= query_blocks;
  const int64_t column = block % column_blocks * Tile::kColumns;
  block /= column_blocks;
  const int64_t head = block % args.heads, sample = block / args.heads;
  const auto start = [&](const void* data, const HeadStrides& strides, int64_t h) {
    return static_cast<const T*>(data) + sample * strides.batch + h * strides.head;
  };
  const int64_t shared_head = head / args.heads_of_key;
  Operands<T> from;
  from.query = start(args.query, args.query_strides, head) + query * args.query_strides.row;
  from.key = start(args.key, args.key_strides, shared_head);
  from.value = start(args.value, args.value_strides, shared_head) + column;
  from.mask = sample * args.mask_strides.batch + head * args.mask_strides.head;

  Rows<Tile> rows;
  rows.greatest = A(kExcluded), rows.sum = 0;
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r)
#pragma unroll
    for (int c = 0; c < kOwn; ++c) rows.outputs[r][c] = 0;
  const int64_t queries = args.queries - query, columns = args.columns - column;
  // Those beyond a causal mask's last query are nobody's.
  const int64_t end = query + Tile::kQueries;
  const int64_t keys = args.causal && end < args.keys ? end : args.keys;
  for (int64_t key = 0; key < keys; key += Tile::kKeys) {
    const int64_t length = keys - key < Tile::kKeys ? keys - key : Tile::kKeys;
    const T* value = from.value + key * args.value_strides.row;
    A scores[Tile::kRows][4];
    multiply_keys<Tile>(args, whole, shared, from.query, queries,
                        from.key + key * args.key_strides.row, length, scores);
    start_values<Tile>(args, whole.value, shared, value, 0, length, columns);
    __syncthreads();  // the terms have been read, and make room for weights
    const bool excluded = weigh<Tile, T>(args, shared, from.mask, query, key, scores, rows);
    multiply_values<Tile>(args, whole.value, shared, value, length, columns, excluded, rows);
    __syncthreads();  // weights and values have been read
  }

  const int first_row = static_cast<int>(threadIdx.x) / 32 * Tile::kRows;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  T* output = static_cast<T*>(args.output) + sample * args.output_strides.batch +
              head * args.output_strides.head + column;
#pragma unroll
  for (int r = 0; r < Tile::kRows; ++r) {
    const int64_t i = first_row + r;
    const A sum = __shfl_sync(kWholeWarp, rows.sum, r);
    if (i >= queries) continue;
    T* row = output + (query + i) * args.output_strides.row;
#pragma unroll
    for (int c = 0; c < kOwn; ++c)
      if (c * 32 + lane < columns)
        row[c * 32 + lane] = narrow<T>(attention_result(rows.outputs[r][c], sum));
  }
}

// ---- Launching -----------------------------------------------------------------------------------

// Rows of whole, aligned fours.
template <typename T>
bool whole_rows(const void* data, const HeadStrides& strides, int64_t columns) {
  constexpr int64_t kBytes = sizeof(T) * 4 < 16 ? sizeof(T) * 4 : 16;
  constexpr int64_t kElements = kBytes / sizeof(T);
  return reinterpret_cast<uintptr_t>(data) % kBytes == 0 && columns % 4 == 0 &&
         strides.batch % kElements == 0 && strides.head % kElements == 0 &&
         strides.row % kElements == 0;
}

template <typename T, int kOutputs, bool kLong>
void launch_tile(const AttentionArgs& args, void* stream) {
  using Tile = AttentionTile<T, kOutputs, kLong>;
  const WholeCopies whole{whole_rows<T>(args.query, args.query_strides, args.terms),
                          whole_rows<T>(args.key, args.key_strides, args.terms),
                          whole_rows<T>(args.value, args.value_strides, args.columns)};
  const int64_t blocks = args.batch * args.heads * ceil_div(args.queries, Tile::kQueries) *
                         ceil_div(args.columns, Tile::kColumns);
  launch({"scaled_dot_product_attention", blocks, Tile::kThreads, sizeof(typename Tile::Shared),
          stream},
         attend<T, Tile>, args, whole);
}

template <typename T>
void launch_dtype(const AttentionArgs& args, void* stream) {
  if (args.terms > kSegment) return launch_tile<T, 4, true>(args, stream);
  if (args.columns <= 32) return launch_tile<T, 1, false>(args, stream);
  if (args.columns <= 64) return launch_tile<T, 2, false>(args, stream);
  launch_tile<T, 4, false>(args, stream);
}

}  // namespace

void attention(const AttentionArgs& args, void* stream) {
  with_type(args.dtype,
            [&](auto type) { launch_dtype<typename decltype(type)::Type>(args, stream); });
}

}  // namespace cuda
}  // namespace bninv
