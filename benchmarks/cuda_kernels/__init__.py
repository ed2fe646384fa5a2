"""What the compiler makes of the CUDA kernels: registers, spills, occupancy, instructions."""
