"""Reparameterisations, for :class:`pymc_svi.handlers.reparam`."""

from pymc_svi.reparam.auto import AutoReparam
from pymc_svi.reparam.directional import CircularReparam, ProjectedNormal, ProjectedNormalReparam
from pymc_svi.reparam.loc_scale import LocScaleReparam, is_loc_scale
from pymc_svi.reparam.transform import TransformReparam, has_transform, register_transform

__all__ = [
    "AutoReparam",
    "CircularReparam",
    "LocScaleReparam",
    "ProjectedNormal",
    "ProjectedNormalReparam",
    "TransformReparam",
    "has_transform",
    "is_loc_scale",
    "register_transform",
]
