// csrc/cuda/gemm_plan.h for gemm_plan.py: the tiles, and the plan of a product. No CUDA.
#define BNINV_LEVEL cuda
#include "cuda/gemm_plan.h"

using namespace bninv;
using namespace bninv::cuda;

namespace {

void give(const Product& product, const TilePlan& plan, const DeviceLimits& device, int64_t* out,
          double* estimate) {
  out[0] = plan.tile;
  out[1] = plan.segments_per_block;
  out[2] = plan.blocks;
  out[3] = plan.workspace_bytes;
  *estimate = cost(product, kTileShapes[plan.tile], plan, device);
}

}  // namespace

extern "C" {

int bninv_tiles() { return kTiles; }

void bninv_tile(int tile, int64_t* out) {
  const TileShape& shape = kTileShapes[tile];
  const int64_t values[] = {shape.rows,  shape.columns, shape.thread_rows, shape.thread_columns,
                            shape.depth, shape.stages,  shape.threads(),   shape.stage_elements()};
  for (int i = 0; i < 8; ++i) out[i] = values[i];
}

// `own` is 0 for the plan that conv2d would choose, else the segments of a block.
bool bninv_plan(const int64_t* sizes, int multiprocessors, int64_t shared, int tile, int64_t own,
                int64_t* out, double* estimate) {
  const Product product{sizes[0], sizes[1], sizes[2], sizes[3], 4, 4, sizes[4] != 0, sizes[5]};
  const DeviceLimits device{multiprocessors, shared, shared + 1024};
  if (own == 0) {
    give(product, choose_plan(product, device), device, out, estimate);
    return true;
  }
  if (!has_kernel(product, tile, device)) return false;
  give(product, plan_of(product, tile, own), device, out, estimate);
  return true;
}
}
