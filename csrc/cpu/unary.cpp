// Elementwise functions (R6) over dense memory. Tasks are elements.
#include "../unary.h"
#include "../function.h"
#include "vec_binary64.h"
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
  const auto each = [&](const auto& f) {
    int64_t i = begin;
    for (; i + kCount <= end; i += kCount) store(y + i, f(load(x + i)));
    if (i < end) store_partial(y + i, f(load_partial(x + i, end - i)), end - i);
  };
  switch (args.function) {
#define BNINV_CASE(name, number, ...) \
  case Function::number:              \
    return each([&](V value) { return function_of<Function::number>(value, parameters); });
    BNINV_FUNCTIONS(BNINV_CASE)
#undef BNINV_CASE
    default:
      break;
  }
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
