#!/bin/bash
# ./build.sh lib_bf16 lib_tf32 ... : builds NAME.so here, resource usage into NAME.log
cd "$(dirname "$0")"
build() { nvcc -gencode=arch=compute_90a,code=sm_90a -shared -O3 -std=c++20 --fmad=false -Xcompiler -fPIC,-fvisibility=hidden -Xptxas -v -I../../csrc -o $1.so $1.cu >$1.log 2>&1 && echo "built $1" || { echo "FAILED $1"; grep -i error $1.log | head; }; }
for n in "$@"; do build $n & done
wait
