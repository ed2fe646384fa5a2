// scaled_dot_product_attention's arguments, kernel and tasks (R7), and what a key does to a row.
#pragma once

#include <cstdint>

#include "functions.h"
#include "kernel.h"

namespace bninv {

// Of a tensor [batch, heads, rows, columns] whose columns are dense, in elements.
struct HeadStrides {
  int64_t batch, head, row;
};

enum class MaskKind : int32_t { kNone, kBoolean, kAdded };

// A task is one block of queries of one head.
struct AttentionArgs {
  DType dtype;  // of query, key, value and output
  const void *query, *key, *value;
  const void* mask;  // [batch, heads, queries, keys]; a boolean one holds bytes, 0: no such key
  void* output;
  HeadStrides query_strides, key_strides, value_strides, mask_strides, output_strides;
  int64_t batch, heads, queries, keys;
  int64_t terms, columns;  // of a row of query and key; of a row of value
  int64_t heads_of_key;    // neighbouring heads that share one head of key and value
  MaskKind mask_kind;
  DType mask_dtype;
  bool causal;  // query i has the keys 0 to i
  double scale;
  int64_t block_queries, query_blocks;
};

BNINV_DECLARE_KERNEL(attention, AttentionArgs)

inline int64_t attention_tasks(const AttentionArgs& a) {
  return a.batch * a.heads * a.query_blocks;
}

namespace BNINV_LEVEL {

// R7's block of keys is R1's segment: the second product is one chain of fma a block.
constexpr int64_t kKeyBlock = kSegment;

// The score of a key that is excluded. A score that came out like this counts as such, so that beside finite
// products a boolean mask means what one of 0 and -infinity does.
constexpr float kExcluded = -detail::kInfinity;

// exp(score - m). An excluded key's is -0: no sum notices it, a product with a finite value
// neither but by the sign of a zero, which does not show in the end, and it can be told from an exponential
// that is zero because it is small.
template <typename V>
BNINV_INLINE V attention_weight(V score, V greatest) {
  return select(score == V(kExcluded), V(-0.0f), exp(V(score - greatest)));
}

// What the earlier blocks' sums are multiplied by once the maximum has grown from `before` to `now`.
template <typename V>
BNINV_INLINE V attention_decay(V before, V now) {
  return select(before == V(kExcluded), V(0.0f), exp(V(before - now)));
}

// A row's element at the end. The sum is at least 1 where a key was left, or NaN; without one it is 0.
// Adding +0 makes a -0 positive.
template <typename V>
BNINV_INLINE V attention_result(V weighted, V sum) {
  return select(sum == V(0.0f), V(0.0f), V((weighted + V(0.0f)) / sum));
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
