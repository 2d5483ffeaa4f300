// Channel-wise KL divergence with its gradients: host kernels. The formulas, the traffic and the
// choices behind them are in README.md of this folder.
#pragma once

#include "columns.h"
#include "rows.h"
#include "scale.h"
