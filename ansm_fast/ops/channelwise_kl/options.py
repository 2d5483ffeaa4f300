"""The options that are words, each known to the operators by its place or as a truth value."""

REDUCTIONS = ("none", "sum", "batchmean", "channelmean", "mean")
DIRECTIONS = ("input_target", "target_input")
