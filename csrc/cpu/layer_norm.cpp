// layer_norm and rms_norm under R5, over dense rows. A task is one row; it stays in a core's cache for
// the passes over it: mean, variance, result.
#include "../layer_norm.h"
#include "../normalization.h"
#include "rows.h"
#include "sum_rows.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename T, bool kSubtractMean>
void rows_of(const LayerNormArgs& args, int64_t begin, int64_t end) {
  using A = Arithmetic<T>;
  using V = typename Lanes<T>::Value;
  const int64_t terms = args.terms;
  PaddedScratch<A> weights(terms), biases(terms);
  copy_parameter<T>(args.weight, 1, 0, terms, weights.data);
  copy_parameter<T>(args.bias, 0, 0, terms, biases.data);
  const A *weight = weights.data, *bias = biases.data;
  const A count = static_cast<A>(terms), eps = static_cast<A>(args.eps);
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.input) + row * terms;
    T* y = static_cast<T*>(args.output) + row * terms;
    if constexpr (kSubtractMean) {
      const V mean = sum_row(x, terms, AddTerm{}) / count;
      const A variance = sum_row(x, terms, AddSquare<V>(mean)) / count;
      const V inverse = inverse_deviation(variance, eps);
      map_row(x, y, terms, [=](V value, int64_t i) {
        return standardize<V>(value - mean, inverse, load(weight + i), load(bias + i));
      });
    } else {
      const A variance = sum_row(x, terms, AddOwnSquare{}) / count;
      const V inverse = inverse_deviation(variance, eps);
      map_row(x, y, terms, [=](V value, int64_t i) {
        return standardize<V>(value, inverse, load(weight + i), load(bias + i));
      });
    }
  }
}

template <typename T>
void layer_norm_of(const LayerNormArgs& args, int64_t begin, int64_t end) {
  if (args.subtract_mean)
    rows_of<T, true>(args, begin, end);
  else
    rows_of<T, false>(args, begin, end);
}

}  // namespace

void layer_norm(const LayerNormArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return layer_norm_of<float>(args, begin, end);
    case DType::kDouble:
      return layer_norm_of<double>(args, begin, end);
    case DType::kHalf:
      return layer_norm_of<Half>(args, begin, end);
    case DType::kBFloat16:
      return layer_norm_of<BFloat16>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
