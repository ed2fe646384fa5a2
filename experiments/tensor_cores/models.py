"""Whole networks with tensor-core products, by exchanging what the patched modules call."""

import functools, json, sys, time

sys.path[:0] = [".", "benchmarks", "tests"]
import torch
import bninv
from bninv import functional as F
from benchmarks.gpu import matrix
import cuda_timing
from candidate import Candidate, Switches

OUT = sys.argv[1]
mode = ["ieee"]
for name in ("conv2d", "conv2d_fused", "linear", "linear_fused"):
    f = getattr(F, name)

    def g(*a, _f=f, **k):
        k.setdefault("precision", mode[0])
        return _f(*a, **k)

    setattr(F, name, g)


def say(**k):
    print(json.dumps(k), flush=True)
    with open(OUT, "a") as o:
        o.write(json.dumps(k) + "\n")


quick = len(sys.argv) > 2
for name in ("resnet50", "mobilenetv3_large_100"):
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        try:
            net = matrix.patched(name, 64 if quick else 224, dtype, True)
            x = torch.randn(
                2,
                3,
                64 if quick else 224,
                64 if quick else 224,
                generator=torch.Generator().manual_seed(3),
            ).to(dtype)
            with torch.inference_mode():
                mode[0] = "tensor-H"
                t = time.time()
                cpu = net(x)
                t = time.time() - t
                mode[0] = "ieee"
                ieee = net(x)
                if quick:
                    say(
                        name=name,
                        dtype=str(dtype),
                        cpu_s=t,
                        diff=((cpu - ieee).abs().max() / ieee.abs().max()).item(),
                    )
                    continue
                import copy

                gpu = copy.deepcopy(net).cuda()
                mode[0] = "tensor"
                wrong = []
                for batch in (1, 3, 32, 64):
                    big = torch.randn(batch, 3, 224, 224, device="cuda").to(dtype)
                    for pos in {0, batch - 1}:
                        big[pos] = x[pos % 2].cuda()
                        y = gpu(big)[pos].cpu()
                        wrong.append(
                            int(
                                (
                                    y.view(torch.int16 if dtype != torch.float32 else torch.int32)
                                    != cpu[pos % 2].view(
                                        torch.int16 if dtype != torch.float32 else torch.int32
                                    )
                                ).sum()
                            )
                        )
                say(
                    name=name,
                    dtype=str(dtype),
                    cpu_seconds=round(t, 2),
                    outputs_other_than_cpu=wrong,
                    diff_to_ieee=(
                        (cpu.float() - ieee.float()).abs().max() / ieee.float().abs().max()
                    ).item(),
                )
                torch.cuda.empty_cache()
                stock = (
                    copy.deepcopy(matrix.stock_model(name, 224))
                    .to(dtype)
                    .cuda()
                    .to(memory_format=torch.channels_last)
                )
                for batch in (32, 1, 256):
                    xin = torch.randn(batch, 3, 224, 224, device="cuda").to(dtype)
                    last = xin.to(memory_format=torch.channels_last)

                    def ours(x, m):
                        mode[0] = m
                        return gpu(x)

                    runs = {
                        "stock channels_last": Candidate(
                            lambda a, b: stock(b), Switches(tf32=True)
                        ),
                        "tensor": Candidate(lambda a, b: ours(a, "tensor")),
                    }
                    if batch == 32:
                        runs["ieee"] = Candidate(lambda a, b: ours(a, "ieee"))
                    ms = cuda_timing.interleave(runs, [(xin, last)], 0.25, 2.0)
                    eager = cuda_timing.interleave_calls(runs, [(xin, last)], 0.25)
                    say(
                        name=name,
                        dtype=str(dtype),
                        batch=batch,
                        ms={k: v["median"] for k, v in ms.items()},
                        eager={k: v["median"] for k, v in eager.items()},
                    )
        except Exception as e:
            import traceback

            traceback.print_exc()
            say(name=name, dtype=str(dtype), error=str(e)[:300])
