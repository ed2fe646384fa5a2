#include "conv.cuh"
using namespace probe;
//            TF32   KN     BM   BN   WM  WN  S  MB
using A1 = Cfg<false, false, 128, 128, 64, 32, 4, 1>;
using A2 = Cfg<false, false, 128, 64, 64, 32, 3, 2>;
using A3 = Cfg<false, false, 64, 64, 32, 32, 3, 4>;
using A4 = Cfg<false, false, 64, 32, 32, 16, 4, 4>;
using A5 = Cfg<false, false, 128, 128, 32, 32, 4, 1>;
using A6 = Cfg<false, false, 256, 64, 64, 32, 4, 1>;
using A7 = Cfg<false, false, 64, 128, 64, 32, 3, 2>;
using K1 = Cfg<false, true, 128, 128, 64, 32, 4, 1>;
using K2 = Cfg<false, true, 128, 64, 64, 32, 3, 2>;
using K3 = Cfg<false, true, 64, 64, 32, 32, 3, 4>;
PROBE_LIBRARY(entry<A1, kWhole, false>("bf16 nk 128x128/64x32 s4"),
              entry<A2, kWhole, true>("bf16 nk 128x64/64x32 s3"),
              entry<A3, kWhole, true>("bf16 nk 64x64/32x32 s3"),
              entry<A4, kWhole, false>("bf16 nk 64x32/32x16 s4"),
              entry<A5, kWhole, false>("bf16 nk 128x128/32x32 s4"),
              entry<A6, kWhole, false>("bf16 nk 256x64/64x32 s4"),
              entry<A7, kWhole, false>("bf16 nk 64x128/64x32 s3"),
              entry<K1, kWhole, false>("bf16 kn 128x128/64x32 s4"),
              entry<K2, kWhole, true>("bf16 kn 128x64/64x32 s3"),
              entry<K3, kWhole, false>("bf16 kn 64x64/32x32 s3"))
