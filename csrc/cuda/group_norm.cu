#include "kernels.h"
namespace bninv { namespace cuda { void group_norm(const GroupNormArgs&, void*) {} } }
