#include "conv.cuh"
using namespace probe;
using A1 = Cfg<true, false, 128, 128, 64, 32, 4, 1>;
using A2 = Cfg<true, false, 128, 64, 64, 32, 3, 2>;
using A3 = Cfg<true, false, 64, 64, 32, 32, 3, 4>;
using A4 = Cfg<true, false, 64, 32, 32, 16, 4, 4>;
using A5 = Cfg<true, false, 128, 128, 32, 32, 4, 1>;
using N1 = Cfg<true, false, 128, 128, 64, 32, 4, 1, true, false>;
using N2 = Cfg<true, false, 128, 64, 64, 32, 3, 2, true, false>;
using N3 = Cfg<true, false, 64, 64, 32, 32, 3, 4, true, false>;
PROBE_LIBRARY(entry<A1, kWhole, false>("tf32 nk 128x128/64x32 s4"),
              entry<A2, kWhole, true>("tf32 nk 128x64/64x32 s3"),
              entry<A3, kWhole, true>("tf32 nk 64x64/32x32 s3"),
              entry<A4, kWhole, false>("tf32 nk 64x32/32x16 s4"),
              entry<A5, kWhole, false>("tf32 nk 128x128/32x32 s4"),
              entry<N1, kWhole, false>("tf32 nk 128x128/64x32 s4 noround"),
              entry<N2, kWhole, false>("tf32 nk 128x64/64x32 s3 noround"),
              entry<N3, kWhole, false>("tf32 nk 64x64/32x32 s3 noround"))
