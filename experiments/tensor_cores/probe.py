"""One run on an H100: how fast R9's convolutions are. `python3 probe.py OUT_FOLDER --seconds 60`

A parent hands items to worker processes, which all start at once; a worker that dies or hangs is replaced
by the next, and the kernel that it was trying is not tried again. Records go to OUT/results.jsonl as they come.
"""
import argparse, ctypes, json, math, os, queue, subprocess, sys, threading, time
from pathlib import Path
HERE = Path(__file__).resolve().parent
T0 = time.time()

#         name                   cin  cout k stride hin count
RESNET = [("3x3 256-256 @14", 256, 256, 3, 1, 14, 5), ("3x3 128-128 @28", 128, 128, 3, 1, 28, 3),
          ("3x3 64-64 @56", 64, 64, 3, 1, 56, 3), ("3x3 512-512 @7", 512, 512, 3, 1, 7, 2),
          ("1x1 256-1024 @14", 256, 1024, 1, 1, 14, 6), ("1x1 1024-256 @14", 1024, 256, 1, 1, 14, 5),
          ("1x1 64-256 @56", 64, 256, 1, 1, 56, 4), ("1x1 256-64 @56", 256, 64, 1, 1, 56, 2),
          ("1x1 128-512 @28", 128, 512, 1, 1, 28, 4), ("1x1 512-128 @28", 512, 128, 1, 1, 28, 3),
          ("1x1 512-2048 @7", 512, 2048, 1, 1, 7, 3), ("1x1 2048-512 @7", 2048, 512, 1, 1, 7, 2),
          ("7x7/2 3-64 @224", 3, 64, 7, 2, 224, 1), ("1x1 64-64 @56", 64, 64, 1, 1, 56, 1),
          ("1x1 256-128 @56", 256, 128, 1, 1, 56, 1), ("3x3/2 128-128 @56", 128, 128, 3, 2, 56, 1),
          ("1x1/2 256-512 @56", 256, 512, 1, 2, 56, 1), ("1x1 512-256 @28", 512, 256, 1, 1, 28, 1),
          ("3x3/2 256-256 @28", 256, 256, 3, 2, 28, 1), ("1x1/2 512-1024 @28", 512, 1024, 1, 2, 28, 1),
          ("1x1 1024-512 @14", 1024, 512, 1, 1, 14, 1), ("3x3/2 512-512 @14", 512, 512, 3, 2, 14, 1),
          ("1x1/2 1024-2048 @14", 1024, 2048, 1, 2, 14, 1)]
LARGE = ("3x3 256-256 @56", 256, 256, 3, 1, 56, 0)
BY_NAME = {l[0]: l for l in [*RESNET, LARGE]}
SOME = ["3x3 256-256 @14", "3x3 64-64 @56", "1x1 256-1024 @14", "1x1 1024-256 @14"]


def items():
    out = [dict(do="meta"), dict(do="ceilings")]
    lay = lambda do, dtype, batch, names, **k: [dict(do=do, dtype=dtype, batch=batch, layer=n, **k) for n in names]
    names = [l[0] for l in RESNET]
    out += lay("layer", "bf16", 32, ["3x3 256-256 @14", "3x3 256-256 @56"])
    out += lay("layer", "bf16", 32, names[1:])
    out += lay("layer", "tf32", 32, ["3x3 256-256 @14", "3x3 256-256 @56"])
    out += lay("layer", "tf32", 32, names[1:])
    out += lay("layer", "bf16", 1, names)
    out += lay("layer", "bf16", 32, SOME + ["3x3 256-256 @56"], variants=True)
    out += [dict(do="stock", dtype="bf16", batch=b) for b in (32, 1)] + [dict(do="stock", dtype="tf32", batch=32)]
    out += lay("layer", "bf16", 256, SOME + ["1x1 64-256 @56", "3x3 512-512 @7", "3x3 128-128 @28", "1x1 512-2048 @7"])
    out += lay("layer", "tf32", 1, names)
    out += lay("bench", "bf16", 32, names)
    out += lay("bench", "tf32", 32, names)
    out += [dict(do="stock", dtype="bf16", batch=256), dict(do="stock", dtype="tf32", batch=1)]
    if os.environ.get("PROBE_ITEMS"):  # indices, for trying the script
        out = [out[int(i)] for i in os.environ["PROBE_ITEMS"].split(",")]
    for i, it in enumerate(out): it["id"] = i
    return out


# ---- Worker -------------------------------------------------------------------------------------------

def say(**r):
    sys.stdout.write("@@" + json.dumps(r) + "\n")
    sys.stdout.flush()


class Kernels:
    def __init__(self):
        self.all = {}
        for so in sorted(Path(os.environ.get("PROBE_LIBS", HERE)).glob("lib_*.so")):
            try: lib = ctypes.CDLL(str(so))
            except OSError as e:
                say(k="error", what=f"load {so.name}: {e}")
                continue
            lib.probe_name.restype = lib.probe_launch.restype = ctypes.c_char_p
            lib.probe_launch.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
            for i in range(lib.probe_count()):
                info = (ctypes.c_int * 10)()
                lib.probe_info(i, info)
                keys = ("tf32", "kn", "split", "bm", "bn", "seg", "round", "any", "threads", "shared")
                self.all[lib.probe_name(i).decode()] = dict(zip(keys, info), lib=lib, i=i)

    def launch(self, name, args, stream):
        e = self.all[name]
        err = e["lib"].probe_launch(e["i"], ctypes.byref(args), stream)
        if err: raise RuntimeError(err.decode())


def worker():
    import gc
    import numpy as np
    import torch
    import torch.nn.functional as F
    from probe_common import Args, model_dots
    gc.disable()
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    dev = torch.device("cuda")
    torch.zeros(1, device=dev)
    K = Kernels()
    torch.manual_seed(1)
    side = torch.cuda.Stream()

    def capture(run, count):
        """A graph of run(0) .. run(count - 1)."""
        g = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            run(0)
            side.synchronize()
            g.capture_begin(capture_error_mode="relaxed")
            try:
                for i in range(count): run(i)
            finally:
                g.capture_end()
        return g

    def replay_times(graphs, rounds=7):
        """Name -> times of a replay in us; the graphs take turns."""
        times = {n: [] for n in graphs}
        for n, (g, _) in graphs.items(): g.replay()
        torch.cuda.synchronize()
        for _ in range(rounds):
            ev = []
            for n, (g, count) in graphs.items():
                a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                a.record(); g.replay(); b.record()
                ev.append((n, a, b, count))
            torch.cuda.synchronize()
            for n, a, b, count in ev: times[n].append(a.elapsed_time(b) * 1e3 / count)
        return times

    def meta(it):
        p = torch.cuda.get_device_properties(0)
        say(k="meta", torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), name=p.name, cc=[p.major, p.minor],
            sms=p.multi_processor_count, l2=p.L2_cache_size, kernels=list(K.all))

    def ceilings(it):
        res = {}
        extra = next((e["lib"] for e in K.all.values() if hasattr(e["lib"], "probe_empty")), None)
        if extra:
            extra.probe_empty.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
            s = torch.cuda.current_stream().cuda_stream
            for name, pdl, blocks in (("empty 1 block", 0, 1), ("empty 264 blocks", 0, 264), ("empty 264 blocks PDL", 1, 264)):
                run = lambda i: extra.probe_empty(blocks, pdl, torch.cuda.current_stream().cuda_stream)
                run(0)
                t = replay_times({name: (capture(run, 300), 300)})[name]
                res[f"graph {name} us"] = sorted(t)[len(t) // 2]
            torch.cuda.synchronize()
            t = time.perf_counter()
            for _ in range(2000): extra.probe_empty(1, 0, s)
            torch.cuda.synchronize()
            res["eager ctypes empty us"] = (time.perf_counter() - t) / 2000 * 1e6
        z = torch.zeros(32, device=dev)
        t = time.perf_counter()
        for _ in range(2000): z.relu_()
        torch.cuda.synchronize()
        res["eager torch relu_ us"] = (time.perf_counter() - t) / 2000 * 1e6
        a = torch.randn(256 << 20, device=dev); b = torch.empty_like(a)
        t = replay_times({"c": (capture(lambda i: b.copy_(a), 4), 4)}, 5)["c"]
        res["copy TB/s"] = 2 * a.numel() * 4 / sorted(t)[2] / 1e6
        del a, b
        for name, dt in (("bf16", torch.bfloat16), ("tf32", torch.float32)):
            m, n = (torch.randn(8192, 8192, device=dev, dtype=dt) for _ in range(2))
            torch.mm(m, n)
            o = torch.empty_like(m)
            g = capture(lambda i: torch.mm(m, n, out=o), 4)
            t = replay_times({"m": (g, 4)}, 5)["m"]
            res[f"matmul 8192 {name} TFLOP/s"] = 2 * 8192**3 / sorted(t)[2] / 1e6
        say(k="ceilings", **res)

    def layer(it, skip, only_cudnn=False):
        name, cin, cout, r, stride, hin, _ = BY_NAME[it["layer"]]
        tf32, batch = it["dtype"] == "tf32", it["batch"]
        dt, el = (torch.float32, 4) if tf32 else (torch.bfloat16, 2)
        pad = r // 2
        p = (hin + 2 * pad - r) // stride + 1
        c = max(cin, 16 // el)
        rows, terms = batch * p * p, r * r * c
        segs = (terms + 127) // 128
        flop = 2.0 * rows * cout * r * r * cin
        per_set = el * (batch * hin * hin * c + rows * cout + (terms * cout if batch == 1 else 0))
        sets = max(2, min(24 if batch == 1 else 12, math.ceil(110e6 / per_set)))
        est = flop / (300e6 if not tf32 else 150e6) + per_set / 2.2e6 + 2.5
        count = max(sets, min(60, int(300 / est)))
        one = min(5, batch - 1)
        def padded(t, c_to):
            return t if t.shape[-1] == c_to else F.pad(t, (0, c_to - t.shape[-1]))
        x3 = torch.randn(batch, hin, hin, cin, device=dev, dtype=dt)
        w3 = (torch.randn(cout, r, r, cin, device=dev) / math.sqrt(r * r * cin)).to(dt)
        if tf32: w3 = ((w3.view(torch.int32) + 0x1000) & ~0x1fff).view(torch.float32)
        x, w = padded(x3, c).contiguous(), padded(w3, c).contiguous()
        xs = [x] + [x.clone() for _ in range(sets - 1)]
        ws = [w] + [w.clone() if batch == 1 else w for _ in range(sets - 1)]
        wk = w.reshape(cout, terms).t().contiguous()
        wks = [wk] + [wk.clone() if batch == 1 else wk for _ in range(sets - 1)]
        ys = [torch.empty(rows, cout, device=dev, dtype=dt) for _ in range(sets)]
        scale, bias = torch.randn(cout, device=dev), torch.randn(cout, device=dev)
        x3s = xs if cin == c else [x3] + [x3.clone() for _ in range(sets - 1)]
        w3s = ws if cin == c else [w3] * sets
        base = dict(dtype=it["dtype"], batch=batch, layer=name)
        graphs, kinds = {}, {}
        nchw = [t.permute(0, 3, 1, 2) for t in x3s]
        oihw = [t.permute(0, 3, 1, 2) for t in w3s]
        # baselines first: they are needed whatever happens to ours
        try:
            mean, var = torch.randn(cout, device=dev), torch.rand(cout, device=dev) + 0.5
            conv = lambda i: F.conv2d(nchw[i % sets], oihw[i % sets], stride=stride, padding=pad)
            stock = lambda i: F.relu(F.batch_norm(conv(i), mean, var, scale, bias, False))
            for label, f in ((("cudnn benchmark", conv),) if only_cudnn else (("cudnn conv", conv), ("stock conv+bn+relu", stock))):
                for i in range(2): f(i)
                graphs[label] = (capture(f, count), count)
        except Exception as e:
            say(k="error", what=f"baseline: {e!r}"[:500], **base)
        if not only_cudnn:
            # reference: float64 on the first and last image; TF32 rounds its operands first
            some = sorted({0, batch - 1})
            as_seen = (lambda t: ((t.view(torch.int32) + 0x1000) & ~0x1fff).view(torch.float32)) if tf32 else (lambda t: t)
            cols = F.unfold(as_seen(x[some]).permute(0, 3, 1, 2).double(), r, padding=pad, stride=stride)  # [n, c r s, p p]
            wd = as_seen(w).permute(0, 3, 1, 2).reshape(cout, -1).double()
            ref = torch.matmul(wd, cols).permute(0, 2, 1)  # [n, pp, o]
            seg_bytes = segs
            work = None
            tickets = torch.zeros(1 << 16, dtype=torch.int32, device=dev)
            raw = torch.empty(rows, cout, device=dev)
            first = {}
            sampled = None
            def args_for(i, kn, own, raw_ptr):
                return Args(x=xs[i].data_ptr(), wt=(wks if kn else ws)[i].data_ptr(), scale=scale.data_ptr(), bias=bias.data_ptr(), y=ys[i].data_ptr(), raw=raw_ptr,
                            work=work.data_ptr() if work is not None else None, tickets=tickets.data_ptr(), n=batch, h=hin, w=hin, pixel=c * el, p=p, q=p, o=cout,
                            r=r, s=r, stride=stride, pad=pad, own=own, relu=1, rows=rows)
            todo = []
            for kname, e in K.all.items():
                if bool(e["tf32"]) != tf32 or (c * el % 128 and not e["any"]): continue
                variant = not e["seg"] or " v:" in kname or (e["tf32"] and not e["round"] and it["batch"] != 32)
                if variant != bool(it.get("variants")) and not (it.get("variants") and kname.startswith("bf16 nk 128x128/64x32 s4")): continue
                if e["kn"] and it["batch"] != 32: continue
                if e["bn"] > 2 * cout: continue
                tiles = math.ceil(rows / e["bm"]) * math.ceil(cout / e["bn"])
                if e["split"]:
                    if segs == 1 or tiles > 264: continue
                    owns = {}
                    if e["split"] == 3:  # `own` is the cluster's size
                        for size in (2, 4, 8):
                            if size <= segs: owns[size] = 0
                    else:
                        for own in (1, 2, 3, 4, 6, 9):
                            blocks = tiles * math.ceil(segs / own)
                            if own < segs and 64 <= blocks <= 1600: owns[own] = abs(math.log(blocks / 250))
                        if segs * rows * cout * 4 > 64e6: continue
                    for own in sorted(owns, key=owns.get)[:3]: todo.append((kname, own))
                else: todo.append((kname, 0))
            for kname, own in todo:
                e = K.all[kname]
                label = kname if not own else f"{kname} own {own}"
                if any(label == b or (b.endswith(' wg') and label.startswith(b)) for b in skip): continue
                say(k="try", label=label)
                try:
                    if e["split"] in (1, 2) and work is None: work = torch.empty(segs * rows * cout, device=dev)
                    if work is not None: work.fill_(float("nan"))
                    raw.fill_(float("nan"))
                    ys[0].fill_(float("nan"))
                    s = torch.cuda.current_stream().cuda_stream
                    K.launch(kname, args_for(0, e["kn"], own, raw.data_ptr()), s)
                    K.launch(kname, args_for(0, e["kn"], own, None), s)
                    torch.cuda.synchronize()
                    got = raw.view(batch, p * p, cout)[some].double()
                    err = float((got - ref).norm() / ref.norm())
                    unwritten = int(torch.isnan(raw).sum())
                    key = (e["seg"], e["round"])
                    if key not in first: first[key] = (label, raw.clone())
                    differ = int((raw.view(torch.int32) != first[key][1].view(torch.int32)).sum())
                    want = torch.addcmul(bias.double(), raw[: 1 << 20].double(), scale.double()).float().relu_().to(dt) if rows * cout < 40e6 else None
                    y_bad = int((ys[0][: 1 << 20] != want).sum()) if want is not None else -1
                    y_unwritten = int(torch.isnan(ys[0]).sum())
                    ok = err < (1e-4 if not e["seg"] else 2e-6 if e["round"] or not tf32 else 2e-3) and not unwritten and not y_unwritten and y_bad < 3
                    say(k="check", label=label, ok=ok and (differ == 0), err=err, unwritten=unwritten, differ=differ, against=first[key][0], y_bad=y_bad, y_unwritten=y_unwritten, **base)
                    if sampled is None and e["seg"] and (e["round"] or not tf32):
                        sampled = raw.view(batch, p * p, cout)[some].clone()
                    if it['batch'] == 32 and e["split"] == 0:  # batch invariance: image 5 by itself
                        a = args_for(0, e["kn"], own, raw.data_ptr())
                        keep = raw.view(batch, -1)[one].clone()
                        raw.fill_(float("nan"))
                        a.x, a.n, a.rows = xs[0][one:one + 1].data_ptr(), 1, p * p
                        K.launch(kname, a, s)
                        torch.cuda.synchronize()
                        alone = int((raw.view(batch, -1)[0].view(torch.int32) != keep.view(torch.int32)).sum())
                        if alone: say(k="error", what=f"not batch invariant: {label}: {alone}", **base)
                    f = lambda i, kname=kname, e=e, own=own: K.launch(kname, args_for(i % sets, e["kn"], own, None), torch.cuda.current_stream().cuda_stream)
                    graphs[label] = (capture(f, count), count)
                except Exception as ex:
                    say(k="error", what=f"{label}: {ex!r}"[:500], **base)
                    torch.cuda.synchronize()  # a sticky error ends this worker here
        say(k="try", label="timing")
        times = replay_times(graphs)
        for n, t in times.items():
            t = sorted(t)
            us = t[len(t) // 2]
            say(k="time", cand=n, us=round(us, 3), lo=round(t[0], 3), hi=round(t[-1], 3), tflops=round(flop / us / 1e6, 1), **base)
        if not only_cudnn and sampled is not None and it['batch'] == 32:
            # R9's own bits, from the model of class H, on outputs drawn at random
            rng = np.random.default_rng(0)
            pick = [(rng.integers(len(some)), rng.integers(p * p), rng.integers(cout)) for _ in range(64)]
            cc = cols.view(len(some), c, r * r, p * p).permute(0, 3, 2, 1).reshape(len(some), p * p, terms)
            ww = as_seen(w).reshape(cout, terms)
            a = torch.stack([cc[i, j] for i, j, _ in pick]).float().cpu().numpy()
            b = torch.stack([ww[o] for _, _, o in pick]).float().cpu().numpy()
            got = torch.stack([sampled[i, j, o] for i, j, o in pick]).cpu().numpy()
            want = model_dots(a, b, 8 if tf32 else 16)
            say(k="model", wrong=int((want.view(np.uint32) != got.view(np.uint32)).sum()), of=len(pick), **base)

    def stock(it):
        import torchvision
        tf32, batch = it["dtype"] == "tf32", it["batch"]
        dt = torch.float32 if tf32 else torch.bfloat16
        m = torchvision.models.resnet50().eval().to(dev, dtype=dt, memory_format=torch.channels_last)
        x = torch.randn(batch, 3, 224, 224, device=dev, dtype=dt).contiguous(memory_format=torch.channels_last)
        for _ in range(3): m(x)
        torch.cuda.synchronize()
        ts = []
        for _ in range(9):
            t = time.perf_counter(); m(x); torch.cuda.synchronize(); ts.append(time.perf_counter() - t)
        g = capture(lambda i: m(x), 1)
        t = replay_times({"g": (g, 1)}, 9)["g"]
        say(k="stock", dtype=it["dtype"], batch=batch, eager_us=round(sorted(ts)[4] * 1e6, 1), graph_us=round(sorted(t)[4], 1))

    def tidy():
        if torch.cuda.memory_reserved() > 30e9: torch.cuda.empty_cache()

    say(k="ready", seconds=round(time.time() - T0, 2))
    with torch.inference_mode():
        for line in sys.stdin:
            it = json.loads(line)
            tidy()
            try:
                torch.backends.cudnn.benchmark = it["do"] == "bench"
                if it["do"] == "layer": layer(it, set(it.get("skip", [])))
                elif it["do"] == "bench": layer(it, set(), True)
                else: dict(meta=meta, ceilings=ceilings, stock=stock)[it["do"]](it)
            except Exception as e:
                import traceback
                say(k="error", what=f"item {it['id']}: {e!r}"[:600], where=traceback.format_exc()[-600:])
                torch.cuda.synchronize()  # dies here if the context is lost
            say(k="done", id=it["id"])


# ---- Parent -------------------------------------------------------------------------------------------

class Worker:
    def __init__(self, log):
        self.p = subprocess.Popen([sys.executable, str(HERE / "probe.py"), "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, cwd=HERE)
        self.q = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = False

    def _read(self):
        for line in self.p.stdout:
            if line.startswith("@@"):
                try: self.q.put(json.loads(line[2:]))
                except ValueError: pass
        self.q.put(None)

    def get(self, timeout):
        try: return self.q.get(timeout=max(0.01, timeout))
        except queue.Empty: return "timeout"

    def kill(self):
        try: self.p.kill()
        except OSError: pass


def family(label):
    if label.startswith(("cudnn", "stock")): return label
    if "noseg" in label: return "noseg"
    if "noround" in label: return "noround"
    w = label.split()
    return " ".join(w[:2]) if not ("reduce" in label or "ticket" in label or "cluster" in label) else w[0] + " split"


def summary(records, seconds):
    import collections
    out = []
    P = out.append
    for r in records:
        if r["k"] in ("ceilings",):
            for a, b in r.items():
                if a != "k": P(f"{a:32s} {b:.2f}")
        if r["k"] == "stock": P(f"stock resnet50 {r['dtype']} batch {r['batch']}: eager {r['eager_us']:.0f} us, graph {r['graph_us']:.0f} us")
    times = collections.defaultdict(dict)
    flops = {}
    for r in records:
        if r["k"] == "time":
            times[r["dtype"], r["batch"], r["layer"]][r["cand"]] = r["us"]
            flops[r["dtype"], r["batch"], r["layer"]] = r["us"] * r["tflops"]
    for dtype, batch in sorted({k[:2] for k in times}, key=lambda k: (k[1] != 32, k)):
        P(f"\n== {dtype} batch {batch}: us (TFLOP/s) by family, best tile of ours")
        sums = collections.defaultdict(float)
        missing = []
        tiles = collections.defaultdict(float)
        for l in [*RESNET, LARGE]:
            t = times.get((dtype, batch, l[0]))
            if not t:
                if l[6]: missing.append(l[0])
                continue
            f = flops[dtype, batch, l[0]]
            best = {}
            for cand, us in t.items():
                fam = family(cand)
                if fam not in best or us < best[fam][0]: best[fam] = (us, cand)
            ours = [v for k, v in best.items() if not k.startswith(("cudnn", "stock")) and k not in ("noseg", "noround")]
            if ours:
                best["ours"] = min(ours)
                sums["ours best"] += l[6] * best["ours"][0]
            for k in best: sums[k] += l[6] * best[k][0]
            for cand, us in t.items():
                if dtype in cand and "own" not in cand: tiles[cand] += l[6] * us
            fams = [k for k in best if k != "ours"]
            P(f"{l[0]:20s} " + "  ".join(f"{k}: {best[k][0]:.1f} ({f / best[k][0]:.0f})" + (f" [{best[k][1][len(k):].strip()}]" if not k.startswith(("cudnn", "stock")) else "") for k in fams))
        P(f"ResNet-50 convolutions, us, weighted ({'all layers' if not missing else 'MISSING ' + str(len(missing))}):")
        for k, v in sorted(sums.items()): P(f"   {k:28s} {v:.0f}")
        P("   one tile for all (layers where it ran): " + ", ".join(f"{k}: {v:.0f}" for k, v in sorted(tiles.items(), key=lambda kv: kv[1])))
    bad = [r for r in records if r["k"] == "check" and not r["ok"]]
    good = sum(r["k"] == "check" and r["ok"] for r in records)
    P(f"\nchecks: {good} right, {len(bad)} wrong")
    for r in bad[:20]: P("   WRONG " + json.dumps(r))
    m = [r for r in records if r["k"] == "model"]
    P(f"bits against the model of class H: {sum(r['wrong'] for r in m)} wrong of {sum(r['of'] for r in m)}")
    for r in [r for r in records if r["k"] in ("error", "lost")][:20]: P("   " + json.dumps(r)[:400])
    P(f"items {sum(r['k'] == 'done' for r in records)}, {seconds:.1f} s")
    return "\n".join(out)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("out", nargs="?", default=".")
    ap.add_argument("--seconds", type=float, default=60)
    ap.add_argument("--worker", action="store_true")
    ap.add_argument("--workers", type=int, default=4)
    o = ap.parse_args()
    if o.worker: return worker()
    out = Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    results = open(out / "results.jsonl", "w", buffering=1)
    log = open(out / "log.txt", "w")
    records = []
    def record(r):
        r["t"] = round(time.time() - T0, 2)
        results.write(json.dumps(r) + "\n")
        records.append(r)
    left = lambda: o.seconds - (time.time() - T0)
    pool = [Worker(log) for _ in range(o.workers)]
    smi = subprocess.Popen("while sleep 6; do nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv,noheader; done", shell=True, stdout=log, stderr=log, start_new_session=True)
    bench = pool.pop() if len(pool) > 1 else None
    current, skip = None, {}
    todo = items()
    at = 0
    try:
        while at < len(todo) and left() > 0:
            it = todo[at]
            if it["do"] == "bench" and bench is None:
                at += 1
                continue
            w = bench if it["do"] == "bench" else current
            if w is None:
                if not pool: pool.append(Worker(log))
                w = current = pool.pop(0)
            if not w.ready:
                r = w.get(min(60, left()))
                if isinstance(r, dict) and r["k"] == "ready": w.ready = True
                elif isinstance(r, dict):
                    record(r)
                    continue
                else:
                    record(dict(k="lost", what=f"a worker did not start: {r}"))
                    w.kill()
                    if w is bench: bench = None
                    else: current = None
                    if sum(x["k"] == "lost" for x in records) > 6: break
                    continue
            it["skip"] = sorted(skip)
            tried = "start"
            try:
                w.p.stdin.write(json.dumps(it) + "\n")
                w.p.stdin.flush()
            except OSError:
                pass
            while True:
                r = w.get(min(float(os.environ.get('PROBE_WAIT', 12)), left()))
                if isinstance(r, dict):
                    if r["k"] == "try":
                        tried = r["label"]
                        continue
                    record(r)
                    if r["k"] == "done":
                        at += 1
                        break
                    continue
                if left() <= 0: break
                record(dict(k="lost", what=f"worker {'hung' if r == 'timeout' else 'died'}", item=it["id"], layer=it.get("layer"), tried=tried))
                w.kill()
                if w is bench: bench = None
                else: current = None
                if tried in ("start", "timing") or it["do"] != "layer" or it.get("again", 0) >= 3: at += 1
                else:
                    skip[' '.join(tried.split()[:2]) if ' wg ' in tried else tried] = 1
                    it["again"] = it.get("again", 0) + 1
                break
    finally:
        for w in [*pool, current, bench]:
            if w: w.kill()
        try: os.killpg(smi.pid, 15)
        except OSError: pass
        text = summary(records, time.time() - T0)
        (out / "summary.txt").write_text(text)
        print(text)
        lines = text.split("\n")
        print("---- in short")
        for i, l in enumerate(lines):
            if l.startswith(("==", "ResNet-50 conv", "   ")) and "own" not in l[:60] or l.startswith(("checks", "bits", "items", "stock", "copy", "matmul", "graph", "eager")): print(l[:600])


if __name__ == "__main__":
    main()
