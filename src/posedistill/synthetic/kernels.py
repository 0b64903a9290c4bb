"""The four inner loops of the renderer: skinning, normals, z-buffer, shading.

numba compiles them; where numba is missing (or the environment variable POSEDISTILL_NO_NUMBA is set) NumPy versions
run instead, several times slower, with the same bytes as result. Both use only IEEE-exact operations (+ - * / sqrt
floor, comparisons), each in the same order: no sine, no power, no fused or reordered sums. So pictures do not depend on
the processor either.

Every function here is pure: arrays in, arrays out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import ModuleType

import numpy as np

from posedistill.synthetic import kernels_numpy

_loops: ModuleType = kernels_numpy
if not os.environ.get("POSEDISTILL_NO_NUMBA"):
    with suppress(ImportError):
        from posedistill.synthetic import kernels_numba

        _loops = kernels_numba

COMPILED = _loops is not kernels_numpy


def skin(vertices: np.ndarray, transforms: np.ndarray, bone: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear blend skinning.

    vertices [V, 3] rest positions; transforms [J, 3, 4]; bone [V, 12] indices and weight [V, 12] (each row sums to 1).
    Returns float64 [V, 3], the unit of `vertices`.
    """
    return _loops.skin(np.ascontiguousarray(vertices, np.float64), transforms.reshape(-1, 12), bone, weight)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals float32 [V, 3] of float64 vertices [V, 3]; faces int32 [F, 3], counter-clockwise."""
    return _loops.vertex_normals(vertices, faces)


def rasterize(
    xy: np.ndarray,
    inverse_depth: np.ndarray,
    faces: np.ndarray,
    cut: np.ndarray,
    one_sided: np.ndarray,
    triangle: np.ndarray,
    depth_buffer: np.ndarray,
) -> None:
    """Z-buffer, in place: `triangle` int32 [H, W] gets the face in front, `depth_buffer` float32 [H, W] its 1/z.

    xy float64 [V, 2] pixels; inverse_depth float64 [V] (<= 0: behind the camera); faces int32 [F, 3];
    cut float32 [V]: where its interpolation is negative the surface is not there (hems, hair line);
    one_sided bool [F]: not drawn from behind. A nearer 1/z wins, the lower face index among equals.
    """
    _loops.rasterize(xy, inverse_depth, faces, cut, one_sided, triangle, depth_buffer)


def shade(
    triangle: np.ndarray,
    behind: np.ndarray,
    front: np.ndarray,
    mesh: tuple[np.ndarray, ...],
    looks: tuple[np.ndarray, ...],
    light: np.ndarray,
) -> np.ndarray:
    """Colours of a picture at half the resolution of the buffers, float64 [H, W, 3].

    triangle int32 [2H, 2W]: face, -1 = background `behind` [H, W, 3], -2 = occluder `front` [H, W, 3].
    mesh = (xy, inverse depth, faces, canonical positions, normals, garment cover [V, 3], surface of each face);
    looks = (surface table [S, 13], garment surfaces of each person [P, 3], eyebrow colour and width [P, 4],
    iris [P, 3], eyebrow line [N, 2], centre of the left eye [3]); see `wardrobe.py` for their meaning.
    light [6, 3] = direction to the light, half vector, camera's forward axis (world); light, sky and ground colours.
    """
    return _loops.shade(triangle, behind, front, *mesh, *looks, light)
