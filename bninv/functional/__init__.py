"""The contract's operators under the names and signatures of `torch.nn.functional`.

Every element of a result is one fixed expression of IEEE operations (docs/numerics.md), so it
depends neither on the batch size, the position in the batch and the other samples, nor on memory
format, thread count, instruction set or device.

Tensors are float32, float16, bfloat16 or float64, on the CPU or on a CUDA GPU; those of one call
have one dtype, but the normalizations take float32 parameters beside a narrower input. Narrower
dtypes are computed in float32 and rounded once. Other dtypes and devices raise an error. Under
`torch.autocast` a function casts as its stock namesake does. The first eager call compiles the
operators if nobody has yet.

Gradients: a result of inputs that require gradients carries a `grad_fn` whose backward raises
NotImplementedError.
"""

from __future__ import annotations

from bninv.operators import ROOMS as _ROOMS
from bninv.operators.attention import *  # noqa: F403
from bninv.operators.batch_norm import *  # noqa: F403
from bninv.operators.binary import *  # noqa: F403
from bninv.operators.conv2d import *  # noqa: F403
from bninv.operators.conv3d import *  # noqa: F403
from bninv.operators.conv_transpose import *  # noqa: F403
from bninv.operators.deform_conv2d import *  # noqa: F403
from bninv.operators.grid_sample import *  # noqa: F403
from bninv.operators.group_norm import *  # noqa: F403
from bninv.operators.layer_norm import *  # noqa: F403
from bninv.operators.linear import *  # noqa: F403
from bninv.operators.matmul import *  # noqa: F403
from bninv.operators.nms import *  # noqa: F403
from bninv.operators.norms import *  # noqa: F403
from bninv.operators.pool2d import *  # noqa: F403
from bninv.operators.pool3d import *  # noqa: F403
from bninv.operators.resample import *  # noqa: F403
from bninv.operators.roi import *  # noqa: F403
from bninv.operators.scan import *  # noqa: F403
from bninv.operators.softmax import *  # noqa: F403
from bninv.operators.statistics import *  # noqa: F403
from bninv.operators.sum import *  # noqa: F403
from bninv.operators.unary import *  # noqa: F403

__all__ = [name for room in _ROOMS for name in room.__all__]
