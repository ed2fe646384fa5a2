// What both parts of the program need on the host: errors, and figures as JSON on standard output.
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>

namespace tensor_facts {

#define CHECK(call) check((call), #call)
inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(1);
}

// After a launch: its own error, then that of its run.
inline void finish(const char* what) {
  check(cudaGetLastError(), what);
  check(cudaDeviceSynchronize(), what);
}

template <typename T>
T* allocate(size_t count) {
  T* result = nullptr;
  CHECK(cudaMalloc(&result, count * sizeof(T)));
  return result;
}

class Json {
 public:
  void open(const char* key = nullptr, char bracket = '{') {
    name(key), putchar(bracket), first_ = true;
  }
  void close(char bracket = '}') { putchar(bracket), first_ = false; }
  void integer(const char* key, unsigned long long value) { name(key), printf("%llu", value); }
  void real(const char* key, double value) { name(key), printf("%.6g", value); }
  void text(const char* key, const char* value) { name(key), printf("\"%s\"", value); }
  // Patterns in hexadecimal digits.
  void patterns(const char* key, const uint32_t* from, int count) {
    open(key, '[');
    for (int i = 0; i < count; ++i) name(nullptr), printf("\"%x\"", from[i]);
    close(']');
  }

 private:
  void name(const char* key) {
    if (!first_) fputs(", ", stdout);
    first_ = false;
    if (key != nullptr) printf("\"%s\": ", key);
  }
  bool first_ = true;
};

}  // namespace tensor_facts
