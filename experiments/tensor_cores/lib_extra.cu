#include "conv.cuh"
using namespace probe;
using A3 = Cfg<false, false, 64, 64, 32, 32, 3, 4>;
using A4 = Cfg<false, false, 64, 32, 32, 16, 4, 4>;
using A2 = Cfg<false, false, 128, 64, 64, 32, 3, 2>;
using F3 = Cfg<true, false, 64, 64, 32, 32, 3, 4>;
using F4 = Cfg<true, false, 64, 32, 32, 16, 4, 4>;
using L1 = Cfg<false, false, 128, 128, 64, 32, 4, 1, false>;
using L2 = Cfg<false, false, 128, 128, 64, 64, 3, 2, false>;
using L3 = Cfg<false, false, 256, 128, 64, 64, 4, 1, false>;
using L4 = Cfg<false, false, 64, 64, 32, 32, 3, 4, false>;
using S3 = Cfg<false, false, 128, 128, 64, 32, 3, 1>;
using S6 = Cfg<false, false, 128, 128, 64, 32, 6, 1>;
PROBE_LIBRARY(entry<A3, kReduce, false>("bf16 nk 64x64/32x32 s3 reduce"),
              entry<A3, kTicket, false>("bf16 nk 64x64/32x32 s3 ticket"),
              entry<A4, kReduce, false>("bf16 nk 64x32/32x16 s4 reduce"),
              entry<A4, kTicket, false>("bf16 nk 64x32/32x16 s4 ticket"),
              entry<A2, kReduce, false>("bf16 nk 128x64/64x32 s3 reduce"),
              entry<F3, kReduce, false>("tf32 nk 64x64/32x32 s3 reduce"),
              entry<F4, kReduce, false>("tf32 nk 64x32/32x16 s4 reduce"),
              entry<F3, kTicket, false>("tf32 nk 64x64/32x32 s3 ticket"),
              entry<L1, kWhole, false>("bf16 nk 128x128/64x32 s4 noseg"),
              entry<L2, kWhole, false>("bf16 nk 128x128/64x64 s3 noseg"),
              entry<L3, kWhole, false>("bf16 nk 256x128/64x64 s4 noseg"),
              entry<L4, kWhole, false>("bf16 nk 64x64/32x32 s3 noseg"),
              entry<S3, kWhole, false>("bf16 nk 128x128/64x32 s3 v:"),
              entry<S6, kWhole, false>("bf16 nk 128x128/64x32 s6 v:"))
