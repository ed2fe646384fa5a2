// Empty kernels, for the cost of a launch.
#include "tc.cuh"
__global__ void probe_nothing() {}
__global__ void probe_nothing_pdl() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
extern "C" __attribute__((visibility("default"))) int probe_count() { return 0; }
extern "C" __attribute__((visibility("default"))) const char* probe_name(int) { return ""; }
extern "C" __attribute__((visibility("default"))) void probe_info(int, int*) {}
extern "C" __attribute__((visibility("default"))) const char* probe_launch(int, const void*,
                                                                           void*) {
  return "";
}
extern "C" __attribute__((visibility("default"))) int probe_empty(int blocks, int pdl,
                                                                  void* stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(128);
  config.stream = static_cast<cudaStream_t>(stream);
  cudaLaunchAttribute at{};
  at.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  at.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &at;
  config.numAttrs = pdl ? 1 : 0;
  return cudaLaunchKernelEx(&config, pdl ? probe_nothing_pdl : probe_nothing);
}
