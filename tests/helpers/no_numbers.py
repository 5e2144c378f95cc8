"""Tensors without numbers, on the device "meta": they show where devices mix, or where a number is read."""

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

META = torch.device("meta")


def moved(value: Any) -> Any:
    """A value with all tensors in it, or in its attributes, without numbers."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return leaf.to(META)
        if type(leaf).__module__.startswith("eqinfo."):
            for name, attribute in vars(leaf).items():
                setattr(leaf, name, moved(attribute))
        return META if isinstance(leaf, torch.device) else leaf

    return tree_map(one, value)


def devices_of(value: object) -> set[torch.device]:
    """Where the tensors in a value are."""
    return {leaf.device for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)}
