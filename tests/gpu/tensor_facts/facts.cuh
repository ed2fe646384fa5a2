// The part "facts": one instruction against the model, category by category.
#pragma once

#include "accumulators.cuh"
#include "compare.cuh"
#include "host.cuh"

namespace tensor_facts {

constexpr int kSampleTiles = 32;  // of each category, for NumPy

struct Buffers {
  uint32_t *a, *b, *c, *d, *mma;
  Tally* tally;
};

inline Buffers allocate_tiles(TensorClass rule) {
  const size_t outputs = static_cast<size_t>(kTiles) * kOutputs;
  Rule rules[kRules];
  list_rules(rule, rules);
  CHECK(cudaMemcpyToSymbol(device_rules, rules, sizeof(rules)));
  const Buffers x{allocate<uint32_t>(kTiles * kM * 16), allocate<uint32_t>(kTiles * kN * 16),
                  allocate<uint32_t>(outputs),          allocate<uint32_t>(outputs),
                  allocate<uint32_t>(outputs),          allocate<Tally>(1)};
  CHECK(cudaMemset(x.tally, 0, sizeof(Tally)));
  return x;
}

template <typename I>
void draw_tiles(int category, const Buffers& x) {
  draw_operands<I><<<kTiles * kM * I::kK / 256, 256>>>(category, x.a, x.b);
  draw_accumulators<I><<<kTiles * kOutputs / 256, 256>>>(category, x.a, x.b, x.c);
  // An instruction that stores nothing must not pass.
  CHECK(cudaMemset(x.d, 0xa5, static_cast<size_t>(kTiles) * kOutputs * 4));
  finish("the draws");
}

inline void write_samples(FILE* file, const uint32_t* from, int words_a_tile) {
  const size_t count = static_cast<size_t>(kSampleTiles) * words_a_tile;
  static uint32_t words[kSampleTiles * kM * 16];
  CHECK(cudaMemcpy(words, from, count * 4, cudaMemcpyDeviceToHost));
  if (fwrite(words, 4, count, file) != count) {
    fprintf(stderr, "the samples could not be written\n");
    exit(1);
  }
}

inline void write_pairs(Json& json, const char* key, const Pairs& pairs) {
  if (pairs.of == 0) return;
  json.open(key);
  json.integer("of", pairs.of), json.integer("differ", pairs.differ);
  json.close();
}

inline void write_tally(Json& json, const Tally& t, int terms, TensorClass rule) {
  write_pairs(json, "model", t.model), write_pairs(json, "moved", t.moved);
  write_pairs(json, "permuted", t.permuted), write_pairs(json, "halves", t.halves);
  write_pairs(json, "halves_model", t.halves_model), write_pairs(json, "segments", t.segments);
  write_pairs(json, "mma", t.mma);
  json.open("results");
  json.integer("normal", t.normal), json.integer("subnormal", t.subnormal);
  json.integer("zero", t.zero), json.integer("infinite", t.infinite), json.integer("nan", t.nan);
  json.close();
  Rule rules[kRules];
  list_rules(rule, rules);
  json.open("rules");
  for (int i = 0; i < kRules; ++i) json.integer(rules[i].name, t.rules[i]);
  json.close();
  json.open("cases", '[');
  for (unsigned i = 0; i < t.cases && i < kCases; ++i) {
    const Case& one = t.first[i];
    json.open();
    json.text("category", kCategoryNames[one.category]);
    json.integer("tile", one.tile), json.integer("row", one.row),
        json.integer("column", one.column);
    json.patterns("a", one.a, terms), json.patterns("b", one.b, terms);
    json.patterns("c", &one.c, 1), json.patterns("hardware", &one.hardware, 1);
    json.patterns("model", &one.model, 1);
    json.close();
  }
  json.close(']');
}

// The instruction `launch(x)`, from x.a, x.b and x.c to x.d, and then `more(x)`, which counts.
template <typename I, typename Launch, typename More>
void examine(Json& json, TensorClass rule, FILE* samples, Launch launch, More more) {
  const Buffers x = allocate_tiles(rule);
  Tally tally{};
  json.integer("k", I::kK), json.integer("sample_tiles", kSampleTiles);
  json.open("categories");
  for (int category = 0; category < (I::kTf32 ? kCategories : kLowBits); ++category) {
    draw_tiles<I>(category, x);
    launch(x);
    finish("the instruction");
    compare<I><<<kTiles * kOutputs / 256, 256>>>(category, rule, x.a, x.b, x.c, x.d, x.tally);
    finish("the comparison");
    more(x);
    finish("further comparisons");
    write_samples(samples, x.a, kM * I::kK), write_samples(samples, x.b, I::kK * kN);
    write_samples(samples, x.c, kOutputs), write_samples(samples, x.d, kOutputs);
    const unsigned long long before = tally.model.differ;
    CHECK(cudaMemcpy(&tally, x.tally, sizeof(Tally), cudaMemcpyDeviceToHost));
    json.integer(kCategoryNames[category], tally.model.differ - before);
  }
  json.close();
  write_tally(json, tally, I::kK, rule);
}

constexpr int kWarps = kTiles / 8;  // blocks of 8 warps, a tile each

template <typename I, typename Half>
void examine_mma(Json& json, TensorClass rule, FILE* samples) {
  examine<I>(
      json, rule, samples,
      [](const Buffers& x) { run_mma<I><<<kWarps, 256>>>(x.a, x.b, x.c, x.d); },
      [&](const Buffers& x) {
        move_dots<I><<<128, 256>>>(x.a, x.b, x.c, x.d, x.tally);
        permute_terms<I><<<kWarps, 256>>>(rule.group_parts, x.a, x.b, x.c, x.d, x.tally);
        if constexpr (I::kK == 2 * Half::kK)
          in_halves<I, Half><<<kWarps, 256>>>(rule, x.a, x.b, x.c, x.d, x.tally);
        run_segments<I><<<kWarps / (128 / I::kK), 256>>>(rule, x.a, x.b, x.tally);
      });
}

template <typename I, bool kRegisters>
void examine_wgmma(Json& json, TensorClass rule, FILE* samples) {
  constexpr int kGroups = kTiles / kShare, kSteps = 128 / I::kK;
  examine<I>(
      json, rule, samples,
      [&](const Buffers& x) {
        run_wgmma<I, 1, kRegisters><<<kGroups, 128>>>(rule, true, x.a, x.b, x.c, x.d, x.tally);
      },
      [&](const Buffers& x) {
        run_mma<I><<<kWarps, 256>>>(x.a, x.b, x.c, x.mma);
        compare_with_mma<<<kTiles * kOutputs / 256, 256>>>(x.d, x.mma, x.tally);
        // The first product joins +0, or nothing.
        for (const bool add : {false, true})
          run_wgmma<I, kSteps, kRegisters>
              <<<kGroups / kSteps, 128>>>(rule, add, x.a, x.b, x.c, x.d, x.tally);
      });
}

}  // namespace tensor_facts
