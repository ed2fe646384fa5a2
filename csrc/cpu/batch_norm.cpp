// batch_norm in eval mode under R2. No reduction: what matters is that each channel's scale is
// computed from the parameters at every call (no cached state) and once, not once an element.
#include "kernels.h"
#include "scratch.h"
#include "vec.h"

namespace bninv {
namespace BNINV_LEVEL {
namespace {

// The contract's expression for one element (or one vector of them).
template <typename V>
BNINV_INLINE V scale_of(const V weight, const V running_var, const V eps) {
  return weight / sqrt(running_var + eps);
}

template <typename V>
BNINV_INLINE V normalize(V x, V mean, V scale, V bias) {
  return fma(x - mean, scale, bias);
}

// NCHW: a task is one row of `inner` elements of one channel.
void rows_of_one_channel(const BatchNormArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const int64_t c = row % args.channels;
    const float weight = args.weight != nullptr ? args.weight[c] : 1.0f;
    const float bias = args.bias != nullptr ? args.bias[c] : 0.0f;
    const float mean = args.running_mean[c];
    const float scale = scale_of(weight, args.running_var[c], args.eps);
    const float* x = args.input + row * args.inner;
    float* y = args.output + row * args.inner;
    int64_t i = 0;
    for (; i + kWidth <= args.inner; i += kWidth)
      normalize(Vec::load(x + i), Vec(mean), Vec(scale), Vec(bias)).store(y + i);
    for (; i < args.inner; ++i) y[i] = normalize(x[i], mean, scale, bias);
  }
}

// channels_last: a task is one row of all channels.
void rows_of_all_channels(const BatchNormArgs& args, int64_t begin, int64_t end) {
  const int64_t channels = args.channels;
  Scratch<float> scratch(2 * channels + 1);
  float* scales = scratch.data;
  float* biases = scratch.data + channels;
  for (int64_t c = 0; c < channels; ++c) {
    const float weight = args.weight != nullptr ? args.weight[c] : 1.0f;
    scales[c] = scale_of(weight, args.running_var[c], args.eps);
    biases[c] = args.bias != nullptr ? args.bias[c] : 0.0f;
  }
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.input + row * channels;
    float* y = args.output + row * channels;
    int64_t c = 0;
    for (; c + kWidth <= channels; c += kWidth)
      normalize(Vec::load(x + c), Vec::load(args.running_mean + c), Vec::load(scales + c),
                Vec::load(biases + c))
          .store(y + c);
    for (; c < channels; ++c) y[c] = normalize(x[c], args.running_mean[c], scales[c], biases[c]);
  }
}

}  // namespace

void batch_norm(const BatchNormArgs& args, int64_t begin, int64_t end) {
  if (args.inner == 1)
    rows_of_all_channels(args, begin, end);
  else
    rows_of_one_channel(args, begin, end);
}

}  // namespace BNINV_LEVEL
}  // namespace bninv
