// dim3 and the vector types, with CUDA's sizes and alignments.
#pragma once

#define BNINV_VECTOR_TYPES(name, T, align2, align4)                     \
  struct name##1 { T x; };                                              \
  struct alignas(align2) name##2 { T x, y; };                           \
  struct name##3 { T x, y, z; };                                        \
  struct alignas(align4) name##4 { T x, y, z, w; };                     \
  constexpr name##1 make_##name##1(T x) { return {x}; }                 \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  constexpr name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

BNINV_VECTOR_TYPES(char, signed char, 2, 4)
BNINV_VECTOR_TYPES(uchar, unsigned char, 2, 4)
BNINV_VECTOR_TYPES(short, short, 4, 8)
BNINV_VECTOR_TYPES(ushort, unsigned short, 4, 8)
BNINV_VECTOR_TYPES(int, int, 8, 16)
BNINV_VECTOR_TYPES(uint, unsigned, 8, 16)
BNINV_VECTOR_TYPES(float, float, 8, 16)
BNINV_VECTOR_TYPES(longlong, long long, 16, 16)
BNINV_VECTOR_TYPES(ulonglong, unsigned long long, 16, 16)
BNINV_VECTOR_TYPES(double, double, 16, 16)

#undef BNINV_VECTOR_TYPES

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};
