"""Faults in the suppression of boxes, and in what deformable convolutions find."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = [
    Mutant(
        "deform-edge",
        "what lies behind the last pixel counts as inside",
        "deform_conv2d",
        "deform_conv2d.h",
        "before + k < size ?",
        "before + k <= size ?",
    ),
    Mutant(
        "deform-height-first",
        "the chain goes along the height first",
        "deform_conv2d",
        "cuda/deform_conv2d.cu",
        "const int64_t y = place.tap.row[k], x = place.tap.column[j];",
        "const int64_t y = place.tap.row[j], x = place.tap.column[k];",
    ),
    Mutant(
        "nms-ties",
        "of equal scores the higher index comes first",
        "nms",
        "cuda/nms.cu",
        "first + k < own)",
        "first + k > own)",
    ),
    Mutant(
        "nms-apart",
        "boxes that are apart in both directions share an area",
        "nms",
        "nms.h",
        "const V zero(0.0f);",
        "const V zero(-1e30f);",
    ),
    Mutant(
        "nms-barrier",
        "no barrier between the words that were chosen",
        "nms",
        "cuda/nms.cu",
        "      word.kept = kept;\n    }\n    __syncthreads();",
        "      word.kept = kept;\n    }",
    ),
]
