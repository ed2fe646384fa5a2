#include "wg.cuh"
using namespace probe;
//               TF32  WG BN   S  MB two    seg   rs
using R1 = WgCfg<true, 2, 128, 5, 1, false, true, true>;
using R2 = WgCfg<true, 1, 128, 4, 2, false, true, true>;
using R3 = WgCfg<true, 2, 64, 4, 2, false, true, true>;
using R4 = WgCfg<true, 1, 64, 4, 3, false, true, true>;
using R5 = WgCfg<true, 2, 128, 5, 1, true, true, true>;
using N1 = WgCfg<true, 2, 128, 5, 1, false, true, false>;
using N2 = WgCfg<true, 1, 128, 4, 2, false, true, false>;
PROBE_LIBRARY(wg_entry<R1>("tf32 wg 128x128 s5"), wg_entry<R2>("tf32 wg 64x128 s4"),
              wg_entry<R3>("tf32 wg 128x64 s4"), wg_entry<R4>("tf32 wg 64x64 s4"),
              wg_entry<R5>("tf32 wg 128x128 two s5"), wg_entry<N1>("tf32 wg 128x128 s5 noround"),
              wg_entry<N2>("tf32 wg 64x128 s4 noround"))
