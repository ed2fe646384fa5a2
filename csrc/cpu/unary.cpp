// Elementwise functions (R6) over dense memory. Tasks are elements.
#include "../unary.h"
#include "../activation.h"
#include "vec_dtypes.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <typename T>
void unary_of(const UnaryArgs& args, int64_t begin, int64_t end) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount;
  const T* x = static_cast<const T*>(args.input);
  T* y = static_cast<T*>(args.output);
  V parameters[kUnaryParameters];
  for (int i = 0; i < kUnaryParameters; ++i)
    parameters[i] = static_cast<Arithmetic<T>>(args.parameters[i]);
  with_activation<Activation::kNone, kLastActivation>(args.function, [&](auto function) {
    const auto f = [&](V value) { return activate<function.value>(value, parameters); };
    int64_t i = begin;
    for (; i + kCount <= end; i += kCount) store(y + i, f(load(x + i)));
    if (i < end) store_partial(y + i, f(load_partial(x + i, end - i)), end - i);
  });
}

}  // namespace

void unary(const UnaryArgs& args, int64_t begin, int64_t end) {
  switch (args.dtype) {
    case DType::kFloat:
      return unary_of<float>(args, begin, end);
    case DType::kDouble:
      return unary_of<double>(args, begin, end);
    case DType::kHalf:
      return unary_of<Half>(args, begin, end);
    case DType::kBFloat16:
      return unary_of<BFloat16>(args, begin, end);
  }
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
