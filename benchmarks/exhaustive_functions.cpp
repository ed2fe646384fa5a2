// Runs one function of csrc/functions.h over all binary32 inputs (or every STRIDE-th) and prints
// one JSON object: the greatest error against a binary64 reference, where it occurs, and how many
// results of the vector and the scalar instantiation differ in their bits.
//
//   exhaustive_functions NAME STRIDE THREADS
//
// benchmarks/exhaustive_functions.py compiles and calls it.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <thread>
#include <vector>

#include "cpu/vec.h"
#include "cpu/vec_binary64.h"
#include "elementary.h"
#include "functions.h"
#include "hyperbolic.h"
#include "inverse_trigonometric.h"
#include "trigonometric.h"

namespace {

namespace kernels = bninv::BNINV_LEVEL;
using kernels::from_bits;
using kernels::to_bits;
using kernels::Vec;

constexpr float kSlope = 0.01f;

// The references. glibc's binary64 functions are good to about one unit of binary64, and no step
// below cancels, so their errors are of the order of 1e-7 binary32 ulp, or 1e-5 in the far tails.

double reference_sigmoid(double x) {
  double e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1.0) / (1.0 + e);
}

double reference_silu(double x) { return x * reference_sigmoid(x); }

double reference_mish(double x) {
  double e = std::exp(-std::fabs(x));
  return x < 0 ? x * (e * (2 + e) / (2 + e * (2 + e))) : x * ((1 + 2 * e) / (1 + 2 * e * (1 + e)));
}

double reference_gelu(double x) { return 0.5 * x * std::erfc(-x * M_SQRT1_2); }

double reference_gelu_tanh(double x) {
  return x * reference_sigmoid(M_2_SQRTPI * M_SQRT2 * (x + 0.044715 * x * x * x));
}

double reference_relu(double x) { return x <= 0 ? 0.0 : x; }

double reference_relu6(double x) { return x > 6 ? 6.0 : reference_relu(x); }

double reference_hardsigmoid(double x) { return reference_relu6(x + 3) / 6; }

double reference_hardswish(double x) { return x * reference_hardsigmoid(x); }

double reference_leaky_relu(double x) { return x > 0 ? x : x * kSlope; }

double reference_softplus(double x) {
  return x > 20 ? x : (x > 0 ? x : 0) + std::log1p(std::exp(-std::fabs(x)));
}

double reference_logsigmoid(double x) {
  return -((x < 0 ? -x : 0) + std::log1p(std::exp(-std::fabs(x))));
}

double reference_elu(double x) { return x > 0 ? x : std::expm1(x); }

struct Function {
  const char* name;
  void (*vector)(const float* x, float* y, int64_t count);  // count: a multiple of the width
  void (*scalar)(const float* x, float* y, int64_t count);
  double (*reference)(double x);
};

template <typename F>
void run_vector(F f, const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += kernels::kWidth) f(Vec::load(x + i)).store(y + i);
}

template <typename F>
void run_scalar(F f, const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = f(x[i]);
}

#define FUNCTION(name, call, reference)                                                         \
  {name,                                                                                        \
   [](const float* x, float* y, int64_t count) {                                                \
     run_vector([](Vec v) __attribute__((always_inline)) -> Vec { return call; }, x, y, count); \
   },                                                                                           \
   [](const float* x, float* y, int64_t count) {                                                \
     run_scalar([](float v) __attribute__((always_inline)) -> float { return call; }, x, y,     \
                count);                                                                         \
   },                                                                                           \
   [](double x) -> double { return reference(x); }}

const Function kFunctions[] = {
    FUNCTION("exp", kernels::exp(v), std::exp),
    FUNCTION("exp2", kernels::exp2(v), std::exp2),
    FUNCTION("expm1", kernels::expm1(v), std::expm1),
    FUNCTION("log", kernels::log(v), std::log),
    FUNCTION("log1p", kernels::log1p(v), std::log1p),
    FUNCTION("log2", kernels::log2(v), std::log2),
    FUNCTION("log10", kernels::log10(v), std::log10),
    FUNCTION("logsigmoid", kernels::logsigmoid(v), reference_logsigmoid),
    FUNCTION("softplus", kernels::softplus(v, decltype(v)(1.0f), decltype(v)(20.0f)),
             reference_softplus),
    FUNCTION("elu", kernels::elu(v, decltype(v)(1.0f), decltype(v)(1.0f), decltype(v)(1.0f)),
             reference_elu),
    FUNCTION("sin", kernels::sin(v), std::sin),
    FUNCTION("cos", kernels::cos(v), std::cos),
    FUNCTION("tan", kernels::tan(v), std::tan),
    FUNCTION("atan", kernels::atan(v), std::atan),
    FUNCTION("sinh", kernels::sinh(v), std::sinh),
    FUNCTION("cosh", kernels::cosh(v), std::cosh),
    FUNCTION("tanh", kernels::tanh(v), std::tanh),
    FUNCTION("erf", kernels::erf(v), std::erf),
    FUNCTION("sigmoid", kernels::sigmoid(v), reference_sigmoid),
    FUNCTION("silu", kernels::silu(v), reference_silu),
    FUNCTION("mish", kernels::mish(v), reference_mish),
    FUNCTION("gelu", kernels::gelu(v), reference_gelu),
    FUNCTION("gelu_tanh", kernels::gelu_tanh(v), reference_gelu_tanh),
    FUNCTION("relu", kernels::relu(v), reference_relu),
    FUNCTION("relu6", kernels::relu6(v), reference_relu6),
    FUNCTION("hardsigmoid", kernels::hardsigmoid(v), reference_hardsigmoid),
    FUNCTION("hardswish", kernels::hardswish(v), reference_hardswish),
    FUNCTION("leaky_relu", kernels::leaky_relu(v, kSlope), reference_leaky_relu),
};

struct Report {
  double max_ulp = -1.0;
  uint32_t worst_bits = 0;
  float worst_result = 0.0f;
  double worst_reference = 0.0;
  int64_t inputs = 0;
  int64_t correctly_rounded = 0;
  int64_t nan_mismatches = 0;        // NaN where the reference is none, or the reverse
  int64_t zero_sign_mismatches = 0;  // a zero with another sign than the reference
  int64_t vector_scalar_mismatches = 0;

  void merge(const Report& other) {
    // Ties go to the smaller bit pattern, so that the report does not depend on the threads.
    if (other.max_ulp > max_ulp || (other.max_ulp == max_ulp && other.worst_bits < worst_bits)) {
      max_ulp = other.max_ulp;
      worst_bits = other.worst_bits;
      worst_result = other.worst_result;
      worst_reference = other.worst_reference;
    }
    inputs += other.inputs;
    correctly_rounded += other.correctly_rounded;
    nan_mismatches += other.nan_mismatches;
    zero_sign_mismatches += other.zero_sign_mismatches;
    vector_scalar_mismatches += other.vector_scalar_mismatches;
  }
};

// |result - reference| in units of the binary32 spacing at the reference; that spacing is 2^-149
// throughout the subnormals. Infinity counts as 2^128, where rounding puts it.
double error_in_ulp(float result, double reference) {
  constexpr double kTop = 0x1p128;
  double got = std::min(std::max(static_cast<double>(result), -kTop), kTop);
  double want = std::min(std::max(reference, -kTop), kTop);
  if (got == want) return 0.0;
  uint64_t bits;
  memcpy(&bits, &want, sizeof(bits));
  int64_t exponent = static_cast<int64_t>((bits >> 52) & 0x7ff) - 1023;
  exponent = std::min<int64_t>(std::max<int64_t>(exponent, -126), 127);
  uint64_t scale_bits = static_cast<uint64_t>(23 - exponent + 1023) << 52;
  double scale;
  memcpy(&scale, &scale_bits, sizeof(scale));
  return std::fabs(got - want) * scale;
}

void check(const Function& function, const float* x, const float* vector, const float* scalar,
           int64_t count, Report& report) {
  for (int64_t i = 0; i < count; ++i) {
    bool nan = std::isnan(vector[i]);
    if (nan ? !std::isnan(scalar[i]) : to_bits(vector[i]) != to_bits(scalar[i])) {
      ++report.vector_scalar_mismatches;
    }
    double reference = function.reference(x[i]);
    ++report.inputs;
    if (nan || std::isnan(reference)) {
      bool both = nan && std::isnan(reference);
      report.nan_mismatches += !both;
      report.correctly_rounded += both;
      continue;
    }
    if (vector[i] == 0 && std::signbit(vector[i]) != std::signbit(reference)) {
      ++report.zero_sign_mismatches;
    }
    report.correctly_rounded += vector[i] == static_cast<float>(reference);
    double error = error_in_ulp(vector[i], reference);
    if (error > report.max_ulp) {
      report.max_ulp = error;
      report.worst_bits = static_cast<uint32_t>(to_bits(x[i]));
      report.worst_result = vector[i];
      report.worst_reference = reference;
    }
  }
}

Report run(const Function& function, int64_t stride, int threads) {
  constexpr int64_t kBlock = 1 << 14;
  const int64_t total = ((int64_t{1} << 32) + stride - 1) / stride;
  std::atomic<int64_t> next{0};
  std::mutex mutex;
  Report report;
  auto work = [&] {
    std::vector<float> x(kBlock), vector(kBlock), scalar(kBlock);
    Report mine;
    for (int64_t begin; (begin = next.fetch_add(kBlock)) < total;) {
      int64_t count = std::min(kBlock, total - begin);
      for (int64_t i = 0; i < kBlock; ++i) {  // what fills up the last block is not counted
        int64_t index = std::min(begin + i, total - 1);
        x[i] = from_bits(static_cast<int32_t>(static_cast<uint32_t>(index * stride)));
      }
      function.vector(x.data(), vector.data(), kBlock);
      function.scalar(x.data(), scalar.data(), kBlock);
      check(function, x.data(), vector.data(), scalar.data(), count, mine);
    }
    std::lock_guard<std::mutex> lock(mutex);
    report.merge(mine);
  };
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) pool.emplace_back(work);
  for (auto& thread : pool) thread.join();
  return report;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s NAME STRIDE THREADS\n", argv[0]);
    return 2;
  }
  auto function = std::find_if(std::begin(kFunctions), std::end(kFunctions),
                               [&](const Function& f) { return !std::strcmp(f.name, argv[1]); });
  int64_t stride = std::atoll(argv[2]);
  int threads = std::atoi(argv[3]);
  if (function == std::end(kFunctions) || stride < 1 || threads < 1) {
    std::fprintf(stderr, "no function %s, or a stride or thread count below 1\n", argv[1]);
    return 2;
  }
  Report r = run(*function, stride, threads);
  std::printf(
      "{\"function\": \"%s\", \"inputs\": %lld, \"max_ulp\": %.4f, \"worst_input_bits\": "
      "\"0x%08x\", "
      "\"worst_input\": \"%.9g\", \"worst_result\": \"%.9g\", \"worst_reference\": \"%.17g\", "
      "\"correctly_rounded\": %.6f, \"nan_mismatches\": %lld, \"zero_sign_mismatches\": %lld, "
      "\"vector_scalar_mismatches\": %lld}\n",
      function->name, static_cast<long long>(r.inputs), r.max_ulp, r.worst_bits,
      static_cast<double>(from_bits(static_cast<int32_t>(r.worst_bits))),
      static_cast<double>(r.worst_result), r.worst_reference,
      static_cast<double>(r.correctly_rounded) / static_cast<double>(r.inputs),
      static_cast<long long>(r.nan_mismatches), static_cast<long long>(r.zero_sign_mismatches),
      static_cast<long long>(r.vector_scalar_mismatches));
  return 0;
}
