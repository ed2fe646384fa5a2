#include "epilogue.h"

namespace bninv {
namespace BNINV_LEVEL {

template <typename T>
Output<T>::Output(const Epilogue& epilogue, const void* bias, void* output, int64_t stride,
                  int64_t first, int64_t count)
    : end_{static_cast<const T*>(bias),
           {nullptr, 0},
           first,
           static_cast<const T*>(epilogue.residual),
           epilogue.activation,
           static_cast<A>(epilogue.negative_slope),
           static_cast<T*>(output)},
      stride_(stride),
      is_plain_(epilogue.is_empty() && stride == 1),
      table_(epilogue.normalizes ? count : 0),
      dense_(stride == 1 ? 0 : 2 * count) {
  if (!epilogue.normalizes) return;
  table_.fill(epilogue, first, count);
  end_.norm = table_.from(0);
}

template <typename T>
void Output<T>::store_totals(const A* totals, int64_t c, int64_t count, int64_t pixel) const {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount, kVectors = kCount > 1 ? 4 : 1;
  with_end(c, count, pixel, [=](const auto& end, int64_t at) {
    const auto finish = [&](auto vectors, int64_t i) {
      V values[vectors.value];
#pragma GCC unroll 4
      for (int j = 0; j < vectors.value; ++j) values[j] = load(totals + i + j * kCount);
      end.template finish<vectors.value>(values, c + i, at);
    };
    constexpr std::integral_constant<int, kVectors> kMany;
    constexpr std::integral_constant<int, 1> kOne;
    int64_t i = 0;
    for (; i + kVectors * kCount <= count; i += kVectors * kCount) finish(kMany, i);
    for (; i + kCount <= count; i += kCount) finish(kOne, i);
    if (i == count) return;
    // The last channels: by a vector that repeats some of the one before it, with equal bits.
    if (count >= kCount) return finish(kOne, count - kCount);
    end.finish_partial(load(totals), count, c, at);
  });
}

template class Output<float>;
template class Output<double>;
template class Output<Half>;
template class Output<BFloat16>;

}  // namespace BNINV_LEVEL
}  // namespace bninv
