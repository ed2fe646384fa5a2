#include "../attention.h"

#include <cmath>

#include "common.h"

namespace bninv {
namespace {

constexpr const char* kOp = "scaled_dot_product_attention";

// [batch, heads, rows, columns], of `query`'s dtype and device, columns dense.
Tensor check_heads(const char* argument, const Tensor& tensor, const Tensor& query) {
  check_beside(kOp, argument, tensor, query, "a `query`");
  BNINV_CHECK(tensor.dim() == 4, kOp, ": `", argument, "` has shape ", sizes_text(tensor),
              "; it may be [batch, heads, rows, columns]");
  return tensor.size(3) > 1 && tensor.stride(3) != 1 ? torch::stable::contiguous(tensor) : tensor;
}

void check_size(const char* argument, const Tensor& tensor, int64_t dim, int64_t size,
                const char* meaning) {
  BNINV_CHECK(tensor.size(dim) == size, kOp, ": `", argument, "` has shape ", sizes_text(tensor),
              "; its size ", dim, " may be ", size, ", ", meaning);
}

HeadStrides strides_of(const Tensor& tensor) {
  return {tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

// A mask of size 1 along a dimension is the same for all of it; its keys are dense in what is returned.
Tensor check_mask(const Tensor& mask, AttentionArgs& args, const Tensor& query) {
  check_device(kOp, "attn_mask", mask, query);
  const ScalarType dtype = mask.scalar_type();
  const bool beside = dtype == ScalarType::Float && query.scalar_type() != ScalarType::Double;
  BNINV_CHECK(dtype == ScalarType::Bool || dtype == query.scalar_type() || beside, kOp,
              ": `attn_mask` has another dtype than `query`; it may have that of `query`, or be "
              "bool, or float32 beside a narrower query");
  args.mask_kind = dtype == ScalarType::Bool ? MaskKind::kBoolean : MaskKind::kAdded;
  args.mask_dtype = beside ? DType::kFloat : args.dtype;
  const int64_t sizes[] = {args.batch, args.heads, args.queries, args.keys};
  bool fits = mask.dim() == 4;
  for (int64_t d = 0; fits && d < 4; ++d)
    fits = mask.size(d) == sizes[d] || (mask.size(d) == 1 && d < 3);
  BNINV_CHECK(fits, kOp, ": `attn_mask` has shape ", sizes_text(mask), "; it may be ",
              list_text({sizes[0], sizes[1], sizes[2], sizes[3]}), ", with 1 in place of any but ",
              "the last");
  BNINV_CHECK(!args.causal, kOp, ": `is_causal` is True beside an `attn_mask`; it may be False");
  const Tensor dense =
      mask.size(3) > 1 && mask.stride(3) != 1 ? torch::stable::contiguous(mask) : mask;
  const auto stride = [&](int64_t d) { return dense.size(d) == 1 ? 0 : dense.stride(d); };
  args.mask_strides = {stride(0), stride(1), stride(2)};
  args.mask = dense.data_ptr();
  return dense;
}

// Enough blocks for all threads, and each large enough that packing keys is a small part of its work.
// Free under the contract: no bit depends on it.
void schedule(AttentionArgs& args, int64_t threads) {
  constexpr int64_t kMost = 256, kLeast = 64;
  const auto blocks = [&](int64_t size) { return (args.queries + size - 1) / size; };
  int64_t size = args.queries < kMost ? args.queries : kMost;
  const int64_t heads = args.batch * args.heads, wanted = threads > 1 ? 4 * threads : 1;
  while (size > kLeast && heads * blocks(size) < wanted) size /= 2;
  args.query_blocks = blocks(size);
  args.block_queries = (args.queries + args.query_blocks - 1) / args.query_blocks;
}

Tensor attention(const Tensor& query, const Tensor& key, const Tensor& value,
                 std::optional<Tensor> attn_mask, bool is_causal, std::optional<double> scale,
                 bool enable_gqa) {
  AttentionArgs args{};
  args.dtype = check_dtype(kOp, "query", query, kFloatingTypes);
  const Tensor q = check_heads("query", query, query), k = check_heads("key", key, query),
               v = check_heads("value", value, query);
  args.batch = q.size(0), args.heads = q.size(1), args.queries = q.size(2);
  args.terms = q.size(3), args.keys = k.size(2), args.columns = v.size(3);
  const int64_t groups = k.size(1);
  check_size("key", k, 0, args.batch, "the query's batch");
  check_size("key", k, 3, args.terms, "the query's columns");
  check_size("value", v, 0, args.batch, "the query's batch");
  check_size("value", v, 1, groups, "the key's heads");
  check_size("value", v, 2, args.keys, "the key's rows");
  if (!enable_gqa) check_size("key", k, 1, args.heads, "the query's heads");
  BNINV_CHECK(groups > 0 ? args.heads % groups == 0 : args.heads == 0, kOp, ": `key` has shape ",
              sizes_text(key), "; its heads may be a divisor of the query's ", args.heads);
  args.heads_of_key = groups > 0 ? args.heads / groups : 1;
  args.causal = is_causal;
  const auto terms = static_cast<double>(args.terms > 0 ? args.terms : 1);
  args.scale = scale.has_value() ? *scale : 1.0 / std::sqrt(terms);
  std::optional<Tensor> mask;
  if (attn_mask.has_value()) mask = check_mask(*attn_mask, args, query);

  Tensor output =
      new_empty(query, std::vector<int64_t>{args.batch, args.heads, args.queries, args.columns});
  if (output.numel() == 0) return output;
  args.query = q.data_ptr(), args.key = k.data_ptr(), args.value = v.data_ptr();
  args.output = output.data_ptr();
  args.query_strides = strides_of(q), args.key_strides = strides_of(k);
  args.value_strides = strides_of(v), args.output_strides = strides_of(output);
  if (on_cuda(query)) {
    launch(BNINV_CUDA_KERNEL(attention), args, query);
    return output;
  }
  schedule(args, torch::stable::get_num_threads());
  const int64_t work = args.block_queries * args.keys * (args.terms + args.columns) / 4;
  run(BNINV_KERNEL(attention), args, attention_tasks(args), grain_of(work));
  return output;
}

}  // namespace

BNINV_REGISTER(m) { m.impl("scaled_dot_product_attention", TORCH_BOX(&attention)); }

}  // namespace bninv
