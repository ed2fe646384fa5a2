#include "wg.cuh"
using namespace probe;
//               TF32   WG BN   S  MB two
using W1 = WgCfg<false, 2, 128, 5, 1, false>;
using W2 = WgCfg<false, 2, 128, 5, 1, true>;
using W3 = WgCfg<false, 1, 128, 3, 3, false>;
using W4 = WgCfg<false, 1, 128, 4, 2, true>;
using W5 = WgCfg<false, 2, 64, 4, 2, false>;
using W6 = WgCfg<false, 1, 64, 4, 3, false>;
using W7 = WgCfg<false, 1, 128, 4, 2, false>;
using H1 = WgCfg<false, 2, 128, 5, 1>;
using H2 = WgCfg<false, 1, 128, 4, 2>;
using N1 = WgCfg<false, 2, 128, 5, 1, false, false>;
using N2 = WgCfg<false, 2, 256, 4, 1, false, false>;
PROBE_LIBRARY(wg_entry<W1>("bf16 wg 128x128 s5"), wg_entry<W2>("bf16 wg 128x128 two s5"),
              wg_entry<W3>("bf16 wg 64x128 s3"), wg_entry<W4>("bf16 wg 64x128 two s4"),
              wg_entry<W5>("bf16 wg 128x64 s4"), wg_entry<W6>("bf16 wg 64x64 s4"),
              wg_entry<W7>("bf16 wg 64x128 s4"), wg_entry<N1>("bf16 wg 128x128 s5 noseg"),
              wg_entry<N2>("bf16 wg 128x256 s4 noseg"))
