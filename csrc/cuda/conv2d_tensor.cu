// conv2d under R9, on tensor cores: the implicit product of conv2d.cu in the order of R9, each of whose
// groups of terms is one instruction. Both classes of tensor cores run the same code.
#include "tensor_gemm.cuh"
// tensor_gemm.cuh first: it names the namespace of what follows.
#include "../tensor.h"
#include "launch.cuh"

namespace bninv {
namespace cuda {
namespace {

// ---- Kernels -------------------------------------------------------------------------------------

template <typename T, typename Tile, TensorGather kGather>
struct CopiesOf {
  using Rows = ChunkElements<T, Tile>;
  using Panel = ElementPanel<T, Tile>;
};
template <typename T, typename Tile>
struct CopiesOf<T, Tile, TensorGather::kPoints> {
  using Rows = ChunkPoints<T, Tile>;
  using Panel = WholePanel<T, Tile>;
};
template <typename T, typename Tile>
struct CopiesOf<T, Tile, TensorGather::kWindows> {
  using Rows = ChunkWindows<T, Tile>;
  using Panel = WholePanel<T, Tile>;
};

// Chunks that wait in registers want more of them.
template <int kTile, TensorGather kGather>
constexpr int kMinTensorBlocks =
    kGather == TensorGather::kElements ? 2 : kTensorTileShapes[kTile].blocks;

// A block owns a tile of pixels x output channels; terms in the order of R9, segments of 128. Tiles are
// small, with four blocks on a multiprocessor, for the products of whose warps the others' copies wait:
// that beat larger ones on nearly every layer (experiments/tensor_cores).
template <typename T, int kTile, TensorGather kGather>
__global__ void __launch_bounds__(kTensorTileShapes[kTile].threads(),
                                  kMinTensorBlocks<kTile, kGather>)
    conv2d_tensor_tile(const Conv2dArgs args) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  using Tile = TensorTiling<T, kTile>;
  using Copies = CopiesOf<T, Tile, kGather>;
  multiply_tensor_tile<T, Tile, typename Copies::Rows, typename Copies::Panel>(args);
#else
  __trap();  // tensor_class() lets nobody come here
#endif
}

// ---- Launching -----------------------------------------------------------------------------------

template <typename T, TensorGather kGather, int kTile = 0>
void launch_tensor_plan(const Conv2dArgs& args, void* stream) {
  if constexpr (kTile < kTensorTiles) {
    if constexpr (tensor_kernel_exists(kTile, kGather != TensorGather::kElements)) {
      using Tile = TensorTiling<T, kTile>;
      if (args.plan.tile == kTile)
        return launch(
            {"conv2d", args.plan.blocks, Tile::kThreads, size_t{Tile::kSharedBytes}, stream},
            conv2d_tensor_tile<T, kTile, kGather>, args);
    }
    launch_tensor_plan<T, kGather, kTile + 1>(args, stream);
  }
}

template <typename T>
void launch_tensor_dtype(const Conv2dArgs& args, void* stream) {
  switch (tensor_gather(args, sizeof(T))) {
    case TensorGather::kPoints:
      launch_tensor_plan<T, TensorGather::kPoints>(args, stream);
      break;
    case TensorGather::kWindows:
      launch_tensor_plan<T, TensorGather::kWindows>(args, stream);
      break;
    case TensorGather::kElements:
      launch_tensor_plan<T, TensorGather::kElements>(args, stream);
  }
  if (args.plan.workspace_bytes == 0) return;
  const int64_t quads = args.groups * args.gemm.rows * ((args.gemm.columns + 3) / 4);
  launch({"conv2d", (quads + kAddThreads - 1) / kAddThreads, kAddThreads, 0, stream},
         add_segments<T>, args);
}

}  // namespace

Precision tensor_class() {
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "conv2d");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "conv2d");
  if (major == 8) return Precision::kTensorA;
  if (major == 9 || major == 10 || major == 12) return Precision::kTensorH;
  return Precision::kIeee;
}

void conv2d_tensor(const Conv2dArgs& args, void* stream) {
  Conv2dArgs padded = args;
  padded.gemm.terms = tensor_terms(args);  // a linear layer counts its own
  switch (args.dtype) {
    case DType::kHalf:
      return launch_tensor_dtype<Half>(padded, stream);
    case DType::kBFloat16:
      return launch_tensor_dtype<BFloat16>(padded, stream);
    default:
      return launch_tensor_dtype<float>(padded, stream);
  }
}

}  // namespace cuda
}  // namespace bninv
