"""An ANSM for other programs: ONNX and ``torch.export``, of any batch, height and width."""

from ansm_fast.export.network import OUTPUTS, ExportableANSM
from ansm_fast.export.onnx import export_onnx
from ansm_fast.export.program import export_program, save_program

__all__ = ["OUTPUTS", "ExportableANSM", "export_onnx", "export_program", "save_program"]
