"""The command line: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import html
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import bninv
from bninv.checking import runner
from bninv.loading import images
from bninv.loading.images import Preprocess, find_images, load_samples
from bninv.loading.usage import UsageError
from tests.support.command import FAST, TINY, Run, command

timm = pytest.importorskip("timm")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    # What --device auto does where there is a GPU is in test_device.py.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(1)
    return command(monkeypatch, capsys, tmp_path)


def write_module(directory: Path) -> None:
    (directory / "my_models.py").write_text(
        """
import torch
from torch import nn

class Softmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(torch.softmax(self.bn(self.conv(x)).erfc().mean((2, 3)), 1))

class Mixes(nn.Sequential):
    def forward(self, x):
        x = super().forward(x)
        return x + 1e-3 * x.flip(0)

def mixes():
    return Mixes(nn.Conv2d(3, 8, 3), nn.Flatten())

def number():
    return 3

def crash():
    raise KeyError("weights")

constant = 3
"""
    )


def test_a_model_that_passes(run) -> None:
    ended = run("check", TINY, *FAST, "--json", "result.json")
    assert ended.status == 0
    assert ended.err == ""
    assert "every operator is covered" in " ".join(ended.out.split())
    assert max(map(len, ended.out.splitlines())) <= 100
    body = json.loads(Path("result.json").read_text())
    assert (body["model"], body["device"], body["dtype"]) == (TINY, "cpu", "float32")
    assert body["contract_version"] == bninv.CONTRACT_VERSION
    assert body["patched"]["invariant"] is True
    assert body["patched"]["uncovered"] == []
    assert [row["batch_size"] for row in body["patched"]["rows"]] == [1, 3]
    assert [row["elements"] for row in body["stock"]["rows"]] == [8000, 8000]
    # Whether stock moves is a matter of the machine; that it says so is not.
    moved = any(row["differing"] for row in body["stock"]["rows"])
    assert body["stock"]["invariant"] is not moved
    assert ("changed the bits" in ended.out) is moved


def test_json_on_standard_output_is_only_json(run) -> None:
    ended = run("check", TINY, *FAST, "--json", "-")
    assert json.loads(ended.out)["patched"]["invariant"] is True
    assert "Patched: not one bit moved" in ended.err


def test_page_and_plot(run) -> None:
    pytest.importorskip("matplotlib")
    files = ("--html", "page.html", "--plot", "depth.svg", "--json", "result.json")
    ended = run("check", TINY, *FAST, *files)
    assert (ended.status, ended.err) == (0, "")
    body = json.loads(Path("result.json").read_text())
    assert body["depth_batch_size"] == 3
    rows = body["patched"]["depth"]
    assert len(rows) == len(body["stock"]["depth"]) > 20
    assert not any(row["differing"] for row in rows)
    page = Path("page.html").read_text()
    assert page.count("<circle") == 2 * (len(rows) + 1)
    assert "<script" not in page
    assert "<svg" in Path("depth.svg").read_text()


def test_no_plot_without_matplotlib(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before the model is made; the page needs none."""
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    ended = run("check", "no_such_model", "--plot", "depth.png")
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert "--plot depth.png: matplotlib cannot be imported" in line
    assert "pip install 'bninv[plot]'" in line
    assert run("check", TINY, *FAST, "--quiet", "--html", "page.html") == (0, "", "")
    assert Path("page.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_found_first(run, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    ended = run("check", "no_such_model", "--html", "locked/page.html")
    assert ended.status == 2
    assert "cannot be written (permission denied)" in ended.err


def test_quiet(run) -> None:
    assert run("check", TINY, *FAST, "--quiet") == (0, "", "")


def test_one_set_of_bits_per_seed(run) -> None:
    def digests(*options: str) -> list[str]:
        ended = run("check", TINY, "--image-size=32", "--batch-sizes=1", "--json=-", *options)
        assert ended.status == 0
        return json.loads(ended.out)["patched"]["digests"]

    expected = digests()
    assert len(set(expected)) == len(expected) == 8
    assert digests("--memory-format", "channels_last") == expected
    assert digests("--grad-mode", "inference_mode", "--threads", "2") == expected
    assert digests("--seed", "1") != expected


def test_what_is_not_invariant_or_not_covered_ends_with_1(run, tmp_path: Path) -> None:
    write_module(tmp_path)
    ended = run("check", "my_models:Softmax", *FAST, "--json", "s.json")
    assert ended.status == 1
    assert "aten::erfc" in ended.out
    uncovered = json.loads(Path("s.json").read_text())["patched"]["uncovered"]
    assert {entry["operator"] for entry in uncovered} == {"aten::erfc"}
    ended = run("check", "my_models:mixes", *FAST)
    assert ended.status == 1
    assert "NOT invariant" in ended.out
    assert "flip" in ended.out


def test_torchvision_models(run) -> None:
    pytest.importorskip("torchvision")
    ended = run("check", "torchvision:resnet18", *FAST)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check",), "Missing argument"),
        (("chek", TINY), "No such command 'chek'"),
        (("check", TINY, "--frobnicate"), "No such option: --frobnicate"),
        (("check", "resnet43"), "did you mean resnet34"),
        (("check", "torchvision:resnet19"), "did you mean resnet18"),
        (("check", "my_models:Sofmax"), "did you mean Softmax?"),
        (("check", "my_modles:Softmax"), "no Python module 'my_modles'"),
        (("check", "my_models:number"), "returned int, must return a torch.nn.Module"),
        (("check", "my_models:constant"), "got int, must be callable"),
        (("check", "my_models:crash"), "could not be built: KeyError"),
        (("check", "my_models:Softmax", "--pretrained"), "--checkpoint FILE"),
        (("check", TINY, "--batch-sizes", "1,0"), "--batch-sizes 1,0: must be whole numbers"),
        (("check", TINY, "--batch-sizes", "1,-2"), "--batch-sizes 1,-2"),
        (("check", TINY, "--batch-sizes", "one"), "--batch-sizes one"),
        (("check", TINY, "--batch-sizes", ""), "--batch-sizes"),
        (("check", TINY, "--device", "gpu"), "--device gpu: not a device name"),
        (("check", TINY, "--device", "meta"), "--device meta"),
        (("check", TINY, "--device", "cuda:99"), "--device cuda:99"),
        (("check", TINY, "--dtype", "float8"), "--dtype float8: unknown"),
        (("check", TINY, "--memory-format", "nhwc"), "'nhwc'"),
        (("check", TINY, "--seed", "x"), "--seed"),
        (("check", TINY, "--image-size", "0"), "--image-size 0"),
        (("check", "test_vit_relpos", *FAST), "failed on images of shape (8, 3, 32, 32)"),
        (("check", TINY, "--images", "missing"), "--images missing: does not exist"),
        (("check", TINY, "--images", "empty"), "--images empty: holds no .jpg"),
        (("check", TINY, "--images", "my_models.py"), "--images my_models.py: is a file"),
        (("check", TINY, "--images", "broken"), "broken/b.jpg: not a readable image"),
        (("check", TINY, "--images", "cut"), "cut/a.png: cannot be read as an image"),
        (("check", TINY, "--checkpoint", "missing.pt"), "missing.pt: does not exist"),
        (("check", TINY, "--checkpoint", "other.pt"), "2 unexpected (a, b)"),
        (("check", TINY, "--checkpoint", "shape.pt"), "fc.bias is (7,) in the file and (1000,)"),
        (("check", TINY, "--checkpoint", "whole.pt"), "save model.state_dict()"),
        (("check", TINY, "--checkpoint", "none.pt"), "holds no weights"),
        (("check", TINY, "--checkpoint", "junk.pt"), "cannot be read"),
        (("check", TINY, "--checkpoint", "junk.safetensors"), "cannot be read"),
        (("check", TINY, "--checkpoint", "other.pt", "--pretrained"), "give one of them"),
        (("check", TINY, "--json", "no/where.json"), "--json no/where.json: cannot be written (no"),
        (("check", TINY, "--html", "no/where.html"), "--html no/where.html: cannot be written (no"),
        (("check", TINY, "--plot", "no/where.png"), "--plot no/where.png: cannot be written (no"),
        (("check", TINY, "--html", "empty"), "--html empty: cannot be written (it is a directory)"),
        (("check", TINY, "--plot", "a.docx"), "--plot a.docx: unknown suffix .docx; it may be"),
        (("check", TINY, "--repeat", "2", "--html", "a.html"), "--html a.html: shows one run"),
        (("check", TINY, "--repeat", "2", "--plot", "a.png"), "--plot a.png: shows one run"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_and_ends_with_2(
    run,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    write_module(tmp_path)
    for folder in ("empty", "broken", "cut"):
        (tmp_path / folder).mkdir()
    noise = torch.randint(0, 255, (64, 64, 3), dtype=torch.uint8).numpy()
    Image.fromarray(noise).save(tmp_path / "broken" / "a.png")
    (tmp_path / "broken" / "b.jpg").write_text("not an image")
    Image.fromarray(noise).save(tmp_path / "cut" / "a.png")
    whole = (tmp_path / "cut" / "a.png").read_bytes()
    (tmp_path / "cut" / "a.png").write_bytes(whole[: len(whole) // 2])
    if "--checkpoint" in arguments:
        state = timm.create_model(TINY).state_dict()
        torch.save({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "other.pt")
        torch.save({**state, "fc.bias": torch.ones(7)}, tmp_path / "shape.pt")
        torch.save(nn.Linear(1, 1), tmp_path / "whole.pt")
        torch.save({"epoch": 3}, tmp_path / "none.pt")
        (tmp_path / "junk.pt").write_text("junk")
        (tmp_path / "junk.safetensors").write_text("junk")
    ended = run(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("bninv: error: ")
    assert message in line


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes(run, dtype: str) -> None:
    ended = run("check", TINY, *FAST, "--dtype", dtype)
    assert ended.status == 0, ended.out
    text = " ".join(ended.out.split())
    assert f"{dtype} on cpu" in text and "every operator is covered" in text


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory(run, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(runner, "build_batch", fail)
    ended = run("check", TINY, *FAST)
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "out of memory: the stock model failed at batch size 1" in line


def test_a_missing_library_is_named(run, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoTimm:
        def find_spec(self, name: str, *rest: object) -> None:
            if name == "timm":
                raise ModuleNotFoundError("No module named 'timm'", name="timm")

    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoTimm(), *sys.meta_path])
    ended = run("check", "resnet18")
    assert ended.status == 2
    (line,) = ended.err.splitlines()
    assert "pip install 'bninv[timm]'" in line


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_checkpoints(run, prefix: str, suffix: str) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(5)
    model = timm.create_model(TINY)
    state = {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    path = Path("weights" + suffix)
    if suffix == ".pt":
        torch.save({"epoch": 1, "state_dict": state}, path)
    else:
        save_file(state, path)
    from bninv.loading.models import load_model

    loaded = load_model(TINY, checkpoint=path)
    assert not loaded.untrained
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_users_trained_batch_norm_is_kept(run, tmp_path: Path) -> None:
    (tmp_path / "trained_model.py").write_text(
        "from torch import nn\n"
        "model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())\n"
        "model[1].running_mean += 1\n"
    )
    from bninv.loading.models import load_model

    assert not load_model("trained_model:model").untrained


def test_images_of_a_folder(run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, mode in (("b.PNG", "L"), ("a.jpeg", "RGB"), ("c.png", "RGBA")):
        Image.effect_noise((50, 40), 90).convert(mode).save(folder / name)
    (folder / "notes.txt").write_text("")
    ended = run("check", TINY, *FAST, "--images", folder, "-q", "--json", "-")
    assert ended.status == 0
    names = json.loads(ended.out)["samples"]
    assert names == [
        *("a", "b", "c"),
        *("a (crop 1)", "b (crop 1)", "c (crop 1)"),
        *("a (crop 2)", "b (crop 2)"),
    ]


def test_samples_are_the_same_for_any_count() -> None:
    paths = find_images(None)
    prepare = Preprocess(size=(3, 32, 48))
    many, names = load_samples(paths, 25, prepare)
    few, _ = load_samples(paths, 3, prepare)
    assert many.shape == (25, 3, 32, 48)
    assert torch.equal(many[:3], few)
    assert len(set(names)) == 25
    assert len({sample.numpy().tobytes() for sample in many}) == 25
    assert many.mean().abs() < 1.5
    assert many.std() > 0.5


def test_no_photographs_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_shipped", lambda package, name: None)
    with pytest.raises(UsageError, match=r"bninv\[images\].*--images"):
        find_images(None)


def test_version_and_help(run) -> None:
    ended = run("--version")
    assert ended.status == 0
    assert ended.out.startswith(f"bninv {bninv.__version__}")
    ended = run("check", "--help")
    assert ended.status == 0
    assert "--batch-sizes" in ended.out


def test_python_m_from_another_directory(tmp_path: Path) -> None:
    """A fresh process, standard output no terminal; and importing bninv alone stays light."""
    root = Path(bninv.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bninv", "check", TINY, *FAST, "--device", "cpu"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    code = (
        "import sys, bninv;"
        "print([m for m in ('rich', 'typer', 'timm', 'torchvision', 'PIL') if m in sys.modules])"
    )
    light = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert light.stdout.strip() == "[]"


# ---- What a report says of how it was made -------------------------------------------------------


def test_reports_say_what_made_them(run) -> None:
    arguments = ("check", TINY, *FAST, "--html", "a page.html", "--json", "result.json")
    ended = run(*arguments)
    text = " ".join(ended.out.split())
    page = html.unescape(Path("a page.html").read_text())
    body = json.loads(Path("result.json").read_text())
    command = f"bninv check {TINY} {' '.join(FAST)} --html 'a page.html' --json result.json"
    weights = "random, seed 0, BatchNorm calibrated on the images"
    assert (body["command"], body["weights"]) == (command, weights)
    assert f"$ {command}" in text and command in page
    assert f"Weights: {weights}" in text and weights in page
    for name, version in (
        ("bninv", bninv.__version__),
        ("torch", torch.__version__),
        ("timm", timm.__version__),
        ("Python", platform.python_version()),
    ):
        assert f"{name} {version}" in text
        assert f"<dt>{name}</dt><dd>{version}" in page


def test_reports_of_several_processes_say_so_too(run) -> None:
    ended = run("check", TINY, "--image-size=32", "--batch-sizes=1", "--repeat=2", "--json=r.json")
    text = " ".join(ended.out.split())
    assert "Weights: random, seed 0" in text and f"torch {torch.__version__}" in text
    assert f"$ bninv check {TINY} --image-size=32" in text
    assert json.loads(Path("r.json").read_text())["command"].endswith("--json=r.json")


def test_pretrained_weights_are_named(run) -> None:
    torch.save(timm.create_model(TINY).state_dict(), "mine.pt")
    ended = run("check", TINY, *FAST, "--checkpoint", "mine.pt")
    assert "Weights: from mine.pt" in ended.out


def test_quiet_says_why_it_fails(run, tmp_path: Path) -> None:
    write_module(tmp_path)
    for model, reason in (("Softmax", "aten::erfc"), ("mixes", "NOT invariant")):
        ended = run("check", f"my_models:{model}", *FAST, "--quiet")
        assert (ended.status, ended.out) == (1, "")
        (line,) = ended.err.splitlines()
        assert line.startswith(f"bninv: my_models:{model} has not passed: ")
        assert reason in line


# ---- What needs no PyTorch -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--help",), 0, "check"),
        ((), 2, "check"),
        (("--version",), 0, f"bninv {bninv.__version__} (contract version"),
        (("check", "--help"), 0, "--batch-sizes"),
        (("chekc", TINY), 2, "No such command 'chekc'"),
        (("check", TINY, "--batch-size", "1"), 2, "--batch-sizes"),
        (("check", TINY, "--threads", "x"), 2, "--threads"),
        (("check",), 2, "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("how", ["console script", "module"])
def test_what_is_answered_without_pytorch(
    arguments: tuple[str, ...], status: int, said: str, how: str, tmp_path: Path
) -> None:
    """PyTorch's import takes seconds; here it fails."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    start = ["-c", "from bninv_cli import main; main()"] if how != "module" else ["-m", "bninv"]
    root = Path(bninv.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, *start, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}", "NO_COLOR": "1"},
    )
    assert said in done.stdout + done.stderr
    assert (done.returncode, "torch was imported" in done.stderr) == (status, False)


def test_the_module_runs(tmp_path: Path) -> None:
    """What can be answered without PyTorch is not in the way of the rest."""
    root = Path(bninv.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "bninv", "check", TINY, "--dtype", "float8"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--dtype float8: unknown" in done.stderr
