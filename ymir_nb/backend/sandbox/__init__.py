"""An endless building site: drawn detection datasets with exact boxes, from a seed.

See `draw_sandbox` for a dataset on disk and `draw_scene` for one picture.
"""

from __future__ import annotations

from ymir_nb.backend.sandbox.folder import draw_sandbox, scene_seed
from ymir_nb.backend.sandbox.scene import LABELS, RARE_SHARE, Scene, draw_scene

__all__ = ["LABELS", "RARE_SHARE", "Scene", "draw_sandbox", "draw_scene", "scene_seed"]
