"""Writes report.md from what the stages wrote. Pure: documents in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import markdown
from tests.gpu import record, report_cause, report_speed, report_tensor
from tests.gpu.stages import STAGES

Document = Mapping[str, Any]


def build(documents: Mapping[str, Document], images: Sequence[str] = ()) -> str:
    """The report.

    Args:
        documents: the JSON files by name; any may be missing or half done.
        images: names of PNG files beside the report.
    """
    run = documents.get("run", {})
    documents = of_these_sources(documents, run.get("stages", {}))
    parts = [
        heading(run.get("about", {})),
        outcomes(run.get("stages", {})),
        failures(documents),
        built(documents.get("build", {})),
        report_speed.section(documents, images),
        models(documents.get("matrix", {}) or documents.get("matrix_quick", {})),
        autocast(documents.get("autocast", {})),
        large(documents.get("large", {})),
        operators(documents.get("operators", {})),
        suite(documents.get("suite", {})),
        report_tensor.section(documents.get("tensor_facts", {}), documents.get("tensor_speed", {})),
        sanitizer(documents.get("sanitize", {})),
        report_cause.section(documents.get("cause", {}).get("rows", {})),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def of_these_sources(
    documents: Mapping[str, Document], stages: Mapping[str, Any]
) -> dict[str, Document]:
    """Without what an earlier run made from other sources, and this one did not reach."""
    kept = dict(documents)
    for stage in STAGES:
        digest = stages.get(stage.name, {}).get("digest")
        if digest and documents.get(stage.document, {}).get("digest", digest) != digest:
            kept.pop(stage.document)
    return kept


def heading(about: Mapping[str, Any]) -> str:
    titles = {
        "": "bninv: single stages",
        "emulated": "bninv, emulated on the host: no GPU was used",
    }
    slug = about.get("slug", "")
    names = ("driver", "cuda", "cudnn", "torch", "torchvision", "timm", "python")
    facts = [] if slug in titles else [about.get("gpu", "an unknown GPU")]
    facts += [f"{name} {about[name]}" for name in names if name in about]
    return f"# {titles.get(slug, 'bninv on a GPU')}\n\n{', '.join(facts)}".rstrip()


def outcomes(stages: Mapping[str, Any]) -> str:
    """What passed, what failed, what was not reached."""
    rows = []
    for stage in STAGES:
        found = stages.get(stage.name, {"status": "not run"})
        status = found["status"] if found["status"] == "passed" else f"**{found['status']}**"
        why = " ".join(found.get("why", "").split())
        rows.append((stage.name, status, str(found.get("seconds", "")), why[-300:]))
    return markdown(("stage", "outcome", "seconds", ""), rows)


def failures(documents: Mapping[str, Document]) -> str:
    """The first rows of each stage that are wrong, with what they say."""
    lines = []
    for stage in STAGES:
        failed = {} if stage.script else record.failures(documents.get(stage.document, {}))
        for name, row in list(failed.items())[:3]:
            texts = row.get("failures") or [row.get("error") or row.get("first", "")]
            lines.append(f"### {stage.name}: {name}\n\n```\n{texts[0].strip()[-900:]}\n```")
    return "\n\n".join(["## What was wrong", *lines]) if lines else ""


def built(document: Document) -> str:
    row = document.get("rows", {}).get("operators", {})
    if "build_seconds" not in row:
        return ""
    return (
        f"The operators were compiled for {row['built_for']} in {row['build_seconds']} s on "
        f"{row['processors']} processors."
    )


def models(document: Document) -> str:
    rows = document.get("rows", {})
    if not rows:
        return ""
    lines = [
        (name, row.get("compared", ""), row.get("differed", "raised"), row.get("first", ""))
        for name, row in rows.items()
    ]
    note = (
        "One sample's outputs, alone and at random positions of batches of random images and of "
        "NaN, under every setting, against the CPU's bits."
    )
    titles = ("patched model", "compared", "differed", "first")
    return f"## One sample, one set of bits\n\n{note}\n\n{markdown(titles, lines)}"


def autocast(document: Document) -> str:
    rows = document.get("rows", {})
    if not rows:
        return ""
    lines = [
        (
            name,
            row.get("compared", ""),
            row.get("differed", "raised"),
            {True: "yes", False: "no"}.get(row.get("equals_cpu", None), ""),
            row.get("first", ""),
        )
        for name, row in rows.items()
    ]
    note = (
        "The same in float32 models under torch.autocast, against the sample alone on the GPU. A "
        "CPU's autocast has other lists of what it casts; where they agree, so do the bits."
    )
    titles = ("patched model", "compared", "differed", "the CPU's bits", "first")
    return f"### Under autocast\n\n{note}\n\n{markdown(titles, lines)}"


def large(document: Document) -> str:
    rows = document.get("rows", {})
    if not rows:
        return ""
    compared = sum(row.get("compared", 0) for row in rows.values())
    wrong = sum(row.get("differed", 0) for row in rows.values())
    left_out = sum("left_out" in row for row in rows.values())
    memory = f"; {left_out} were left out for want of memory" if left_out else ""
    return (
        "### Past 65535 samples and 2^31 elements\n\n"
        f"BatchNorm on both sides of stock's switches, convolution and ReLU past 2^31 elements: "
        f"{len(rows)} tensors, {compared} parts of them against the CPU's bits: {wrong} "
        f"differed{memory}."
    )


def operators(document: Document) -> str:
    rows = document.get("rows", {})
    if not rows:
        return ""
    calls = sum(row.get("compared", 0) for row in rows.values())
    wrong = sum(row.get("differed", 0) for row in rows.values())
    kinds = len({name.split()[0] for name in rows})
    return (
        f"## Operators\n\n{kinds} operators in their dtypes ({len(rows)} of {document['total']} "
        f"pairs), {calls} random calls against the CPU's bits: {wrong} differed."
    )


def suite(document: Document) -> str:
    rows = document.get("rows", {})
    if not rows:
        return ""
    titles = ("passed", "failed", "skipped")
    lines = [
        (name, *(row.get(title, "not reached") for title in titles)) for name, row in rows.items()
    ]
    return f"## Tests\n\n{markdown(('file', *titles), lines)}"


def sanitizer(document: Document) -> str:
    """Of `make gpu-sanitize`, which is a command of its own."""
    if not document:
        return ""
    lines = [
        (name, row["status"], row["summary"], f"{row['reached']} of {row['total']}", row["seconds"])
        for name, row in document["tools"].items()
    ]
    titles = ("tool", "outcome", "summary", "operators and dtypes", "seconds")
    first = [f"```\n{row['first']}\n```" for row in document["tools"].values() if row["first"]]
    return "\n\n".join(["## compute-sanitizer", markdown(titles, lines), *first])
