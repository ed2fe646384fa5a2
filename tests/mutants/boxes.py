"""Faults in the suppression of boxes, in regions, and in what deformable convolutions find."""

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
    Mutant(
        "roi-stale-row",
        "the chain of a point's second row is that of the point before",
        "roi",
        "cuda/roi_align.cu",
        "else if (taps.after != last_after)",
        "else if (last_after < 0)",
    ),
    Mutant(
        "roi-no-image",
        "whether there is an image of a region's index is not looked at",
        "roi",
        "cuda/roi_align.cu",
        "if (roi.index < 0 || !rows.exists || !columns.exists) {",
        "if (!rows.exists || !columns.exists) {",
    ),
    Mutant(
        "roi-last-of-equal",
        "of equal pixels the last one is the greatest",
        "roi",
        "cuda/roi_pool.cu",
        "if (value > best) best = value, place",
        "if (value >= best) best = value, place",
    ),
]
