#include "conv.cuh"
using namespace probe;
using A3 = Cfg<false, false, 64, 64, 32, 32, 3, 2>;
using A4 = Cfg<false, false, 64, 32, 32, 16, 4, 2>;
using F3 = Cfg<true, false, 64, 64, 32, 32, 3, 2>;
PROBE_LIBRARY(entry<A3, kCluster, false>("bf16 nk 64x64/32x32 s3 cluster"),
              entry<A4, kCluster, false>("bf16 nk 64x32/32x16 s4 cluster"),
              entry<F3, kCluster, false>("tf32 nk 64x64/32x32 s3 cluster"))
