#include "epilogue.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

template <template <typename> typename End, typename T>
void finish_row(const End<T>& end, const Arithmetic<T>* totals, int64_t c, int64_t count,
                int64_t pixel) {
  using V = typename Lanes<T>::Value;
  constexpr int kCount = Lanes<T>::kCount, kVectors = kCount > 1 ? 4 : 1;
  const auto finish = [&](auto vectors, int64_t i) {
    V values[1][vectors.value];
#pragma GCC unroll 4
    for (int j = 0; j < vectors.value; ++j) values[0][j] = load(totals + i + j * kCount);
    end.finish(values, c + i, &pixel);
  };
  constexpr std::integral_constant<int, kVectors> kMany;
  constexpr std::integral_constant<int, 1> kOne;
  int64_t i = 0;
  for (; i + kVectors * kCount <= count; i += kVectors * kCount) finish(kMany, i);
  for (; i + kCount <= count; i += kCount) finish(kOne, i);
  if (i == count) return;
  // The last channels: by a vector that repeats some of the one before it, with equal bits.
  if (count >= kCount) return finish(kOne, count - kCount);
  end.finish_partial(load(totals), count, c, pixel);
}

}  // namespace

template <typename T>
Output<T>::Output(const Epilogue& epilogue, const void* bias, void* output, int64_t stride,
                  int64_t first, int64_t count)
    : end_{static_cast<const T*>(bias),
           epilogue.scales,
           static_cast<A>(epilogue.alpha),
           static_cast<A>(epilogue.beta),
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
void Output<T>::store_row(const A* totals, int64_t c, int64_t count, int64_t pixel) const {
  if (stride_ == 1) {
    if (is_plain_) return finish_row(BiasEnd<T>{end_.bias, end_.output}, totals, c, count, pixel);
    return finish_row(end_, totals, c, count, pixel);
  }
  // By way of a row of neighbours.
  EpilogueEnd<T> end = end_;
  end.output = dense_.data;
  if (end_.residual != nullptr) {
    T* residual = dense_.data + count;
    for (int64_t j = 0; j < count; ++j) residual[j] = end_.residual[pixel + (c + j) * stride_];
    end.residual = residual;
  }
  finish_row(end, totals, c, count, -c);
  for (int64_t j = 0; j < count; ++j) end_.output[pixel + (c + j) * stride_] = dense_.data[j];
}

template <typename T>
void Output<T>::store_tiles(const A* totals, int64_t totals_stride, int64_t rows, int64_t c,
                            int64_t pixel, int64_t step) const {
  for (int64_t i = 0; i < rows; i += 2) {
    const int64_t next = min64(i + 1, rows - 1);  // the last one twice, with equal bits
    const A *one = totals + i * totals_stride, *other = totals + next * totals_stride;
    const int64_t pixels[] = {pixel + i * step, pixel + next * step};
    end_.template finish<2, kTileVectors>(
        {{load(one), load(one + kCount)}, {load(other), load(other + kCount)}}, c, pixels);
  }
}

template class Output<float>;
template class Output<double>;
template class Output<Half>;
template class Output<BFloat16>;

}  // namespace BNINV_LEVEL
}  // namespace bninv
