// Attention in any storage type: masks of both kinds, shared heads, blocks that end early.
#include "buffers.h"

using namespace bninv;

namespace {

// Heads of `rows` x `columns`, one after another.
HeadStrides dense(int64_t heads, int64_t rows, int64_t columns) {
  return {heads * rows * columns, rows * columns, columns};
}

void attention_case() {
  AttentionArgs args{};
  args.dtype = any_dtype();
  args.batch = between(1, 2), args.heads_of_key = between(1, 2);
  const int64_t groups = between(1, 2);
  args.heads = groups * args.heads_of_key;
  args.queries = one_of({1, 3, 17, 70}), args.keys = one_of({0, 1, 5, 33, 128, 150});
  args.terms = one_of({1, 8, 20, 130}), args.columns = one_of({1, 8, 33, 64});
  args.scale = 0.25;
  const int64_t masked = between(0, 3);
  args.mask_kind = masked == 1   ? MaskKind::kBoolean
                   : masked == 2 ? MaskKind::kAdded
                                 : MaskKind::kNone;
  args.causal = masked == 3;
  const bool beside = args.dtype != DType::kDouble && between(0, 1) == 1;
  args.mask_dtype = beside ? DType::kFloat : args.dtype;
  args.query_strides = dense(args.heads, args.queries, args.terms);
  args.key_strides = dense(groups, args.keys, args.terms);
  args.value_strides = dense(groups, args.keys, args.columns);
  args.output_strides = dense(args.heads, args.queries, args.columns);
  args.mask_strides = {0, 0, args.keys};
  args.query_blocks = one_of({1, 2});
  args.block_queries = (args.queries + args.query_blocks - 1) / args.query_blocks;

  const int64_t offset = one_of({0, 1}), heads = args.batch * args.heads;
  const Bytes query = Bytes::numbers(heads * args.queries * args.terms, args.dtype, offset);
  const Bytes key =
      Bytes::numbers(args.batch * groups * args.keys * args.terms, args.dtype, offset);
  // Of any bits now and then: an excluded value may be NaN.
  const int64_t values = args.batch * groups * args.keys * args.columns;
  const Bytes value = between(0, 3) == 0 ? Bytes::random(values, args.dtype, offset)
                                         : Bytes::numbers(values, args.dtype, offset);
  const int64_t pairs = args.queries * args.keys;
  const Bytes added = Bytes::numbers(pairs, args.mask_dtype);
  std::unique_ptr<uint8_t[]> kept(new uint8_t[static_cast<size_t>(pairs)]);
  for (int64_t i = 0; i < pairs; ++i) kept[static_cast<size_t>(i)] = between(0, 3) > 0;
  args.query = query.data, args.key = key.data, args.value = value.data;
  args.mask =
      args.mask_kind == MaskKind::kBoolean ? static_cast<const void*>(kept.get()) : added.data;
  run<AttentionArgs>("attention", args, &Level::attention, CUDA_KERNEL(attention),
                     attention_tasks(args), heads * args.queries * args.columns, offset);
}

}  // namespace

void attention_cases(int number) { seed_case("attention", number), attention_case(); }
