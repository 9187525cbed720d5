"""`pipeline inspect`: what is in the chunks, before a model is trained on them."""

from pipeline.inspection.plot import draw
from pipeline.inspection.report import as_json, sections
from pipeline.inspection.survey import Inspection, Wanted, check, inspect_chunks

__all__ = ["Inspection", "Wanted", "as_json", "check", "draw", "inspect_chunks", "sections"]
