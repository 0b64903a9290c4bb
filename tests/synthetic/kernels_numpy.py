"""NumPy twins of the compiled loops in `synthetic/kernels.py`: same operations, same order, same bytes."""

from __future__ import annotations

import numpy as np

SKIN, CLOTH, HAIR, EYE = 0, 1, 2, 3
CANDIDATES = 2_000_000  # pixel candidates of the rasteriser in memory at once


def skin(v: np.ndarray, T: np.ndarray, bone: np.ndarray, weight: np.ndarray) -> np.ndarray:
    m = np.zeros((len(v), 12))
    for k in range(bone.shape[1]):
        m += weight[:, k, None] * T[bone[:, k]]
    x, y, z = v.T
    return np.stack([m[:, i] * x + m[:, i + 1] * y + m[:, i + 2] * z + m[:, i + 3] for i in (0, 4, 8)], axis=1)


def vertex_normals(v: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = v[faces[:, 0]], v[faces[:, 1]], v[faces[:, 2]]
    (ux, uy, uz), (wx, wy, wz) = (b - a).T, (c - a).T
    of_face = (uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx)
    corner = faces.ravel()
    # bincount adds in the order of the corners, as the loop does
    n = np.stack([np.bincount(corner, np.repeat(k, 3), minlength=len(v)) for k in of_face], axis=1)
    length = np.sqrt(n[:, 0] * n[:, 0] + n[:, 1] * n[:, 1] + n[:, 2] * n[:, 2]) + 1e-12
    return (n / length[:, None]).astype(np.float32)


def rasterize(
    xy: np.ndarray,
    iz: np.ndarray,
    faces: np.ndarray,
    cut: np.ndarray,
    one_sided: np.ndarray,
    triangle: np.ndarray,
    zbuf: np.ndarray,
) -> None:
    height, width = triangle.shape
    a, b, c = xy[faces[:, 0]], xy[faces[:, 1]], xy[faces[:, 2]]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    seen = (iz[faces] > 0).all(axis=1) & (area != 0) & ~(one_sided & (area > 0)) & (cut[faces] >= 0).any(axis=1)
    low = np.ceil(np.minimum(np.minimum(a, b), c) - 0.5).clip(0, None)
    high = np.floor(np.maximum(np.maximum(a, b), c) - 0.5).clip(None, [width - 1, height - 1])
    seen &= (high >= low).all(axis=1)
    face = np.flatnonzero(seen)
    low, size = low[face].astype(np.int64), (high[face] - low[face] + 1).astype(np.int64)
    count = size[:, 0] * size[:, 1]
    # the winner of a pixel has the largest 1/z (positive floats order like their bits), then the lowest face
    best = np.full(height * width, -1, np.int64)
    ends = np.cumsum(count)
    start = 0
    while start < len(face):
        stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + CANDIDATES, side="right")))
        which = np.repeat(np.arange(start, stop), count[start:stop])
        k = np.arange(len(which)) - np.repeat(
            ends[start:stop] - count[start:stop] - (ends[start - 1] if start else 0), count[start:stop]
        )
        x, y = low[which, 0] + k % size[which, 0], low[which, 1] + k // size[which, 0]
        f = face[which]
        wa, wb, wc = _planes(f, x + 0.5, y + 0.5, xy, faces)
        za, zb, zc = iz[faces[f]].T
        ca, cb, cc = cut[faces[f]].T
        kept = (wa >= 0) & (wb >= 0) & (wc >= 0) & (wa * za * ca + wb * zb * cb + wc * zc * cc >= 0)
        z = (wa * za + wb * zb + wc * zc).astype(np.float32)
        pixel = y * width + x
        kept &= z > zbuf.ravel()[pixel]
        key = (z.view(np.int32).astype(np.int64) << 32) | (0x7FFFFFFF - f)
        np.maximum.at(best, pixel[kept], key[kept])
        start = stop
    won = np.flatnonzero(best >= 0)
    triangle.ravel()[won] = (0x7FFFFFFF - (best[won] & 0x7FFFFFFF)).astype(np.int32)
    zbuf.ravel()[won] = (best[won] >> 32).astype(np.int32).view(np.float32)


def _planes(f: np.ndarray, px: np.ndarray, py: np.ndarray, xy: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, ...]:
    """Barycentric weights as the rasteriser's loop computes them."""
    (ax, ay), (bx, by), (cx, cy) = (xy[faces[f, k]].T for k in range(3))
    inverse = 1.0 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    wa = (by - cy) * inverse * px + ((cx - bx) * inverse * py + (bx * cy - by * cx) * inverse)
    wb = (cy - ay) * inverse * px + ((ax - cx) * inverse * py + (cx * ay - cy * ax) * inverse)
    return wa, wb, 1.0 - wa - wb


def _corners(
    f: np.ndarray, px: np.ndarray, py: np.ndarray, xy: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Barycentric weights as the shading loop computes them."""
    (ax, ay), (bx, by), (cx, cy) = (xy[faces[f, k]].T for k in range(3))
    inverse = 1.0 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
    wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
    return wa, wb, 1.0 - wa - wb


def _wave(u: np.ndarray) -> np.ndarray:
    return 4.0 * np.abs(u - np.floor(u) - 0.5) - 1.0


def _pattern(
    kind: np.ndarray, u: np.ndarray, v: np.ndarray, w: np.ndarray, fr: np.ndarray, ph: np.ndarray
) -> np.ndarray:
    stripes = _wave(w * fr + ph) > 0.2
    columns = _wave(u * fr + ph) > 0.2
    plaid = np.where(_wave(u * fr) > 0, 0.5, 0.0) + np.where(_wave(w * fr + ph) > 0, 0.5, 0.0)
    dots = _wave(u * fr) * _wave(w * fr) * _wave(v * fr + ph) > 0.25
    zigzag = 0.5 + 0.5 * _wave(u * fr + 0.5 * _wave(w * fr * 0.7 + ph) + v * fr)
    p = _wave(u * fr + 0.3 * _wave(w * 9.0 + ph))
    q = _wave(v * fr * 1.3 + 0.3 * _wave(w * 7.0 + ph))
    strands = 0.5 + 0.25 * p + 0.25 * q
    kinds = [kind == k for k in range(1, 7)]
    return np.select(kinds, [stripes, columns, plaid, dots, zigzag, strands], 0.0)


def _colours(
    f: np.ndarray,
    px: np.ndarray,
    py: np.ndarray,
    xy: np.ndarray,
    iz: np.ndarray,
    faces: np.ndarray,
    canon: np.ndarray,
    normal: np.ndarray,
    cover: np.ndarray,
    surface: np.ndarray,
    table: np.ndarray,
    garments: np.ndarray,
    brows: np.ndarray,
    irises: np.ndarray,
    brow: np.ndarray,
    eye: np.ndarray,
    light: np.ndarray,
) -> np.ndarray:
    a, b, c = faces[f].T
    wa, wb, wc = _corners(f, px, py, xy, faces)
    wa, wb, wc = wa * iz[a], wb * iz[b], wc * iz[c]
    total = wa + wb + wc
    wa, wb, wc = wa / total, wb / total, wc / total

    def blend(values: np.ndarray) -> np.ndarray:
        return wa * values[a] + wb * values[b] + wc * values[c]

    nx, ny, nz = (blend(normal[:, k]) for k in range(3))
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    length = np.where(nx * light[2, 0] + ny * light[2, 1] + nz * light[2, 2] > 0, -length, length)
    nx, ny, nz = nx / length, ny / length, nz / length
    x, y, z = (blend(canon[:, k]) for k in range(3))
    s = surface[f].astype(np.int64)
    person = table[s, 11].astype(np.int64)
    bare = table[s, 0] == SKIN
    for g in range(3):
        s = np.where(bare & (blend(cover[:, g]) > 0), garments[person, g], s)
    material = table[s, 0]
    rgb = table[s, 1:4]
    k = _pattern(table[s, 7], x, y, z, table[s, 8], table[s, 9])
    k = np.where((material == CLOTH) | (material == HAIR), k, 0.0)[:, None]
    rgb = rgb + k * (table[s, 4:7] - rgb)
    # eyebrows
    u, best, at = np.abs(x), np.full(len(f), 9.0), np.zeros(len(f))
    for i in range(len(brow) - 1):
        dx, dz = brow[i + 1, 0] - brow[i, 0], brow[i + 1, 1] - brow[i, 1]
        t = ((u - brow[i, 0]) * dx + (z - brow[i, 1]) * dz) / (dx * dx + dz * dz)
        t = np.minimum(1.0, np.maximum(0.0, t))
        ex, ez = u - brow[i, 0] - t * dx, z - brow[i, 1] - t * dz
        d = np.sqrt(ex * ex + ez * ez)
        at = np.where(d < best, i + t, at)
        best = np.minimum(d, best)
    painted = (material == SKIN) & (y < eye[1] + 0.03) & (np.abs(z - eye[2] - 0.015) < 0.03)
    painted &= best < brows[person, 3] * (0.6 + 0.2 * at)
    rgb = np.where(painted[:, None], brows[person, :3], rgb)
    # eyes
    ex = np.where(x > 0, x - eye[0], x + eye[0])
    ey, ez = y - eye[1], z - eye[2]
    forward = -ey / (np.sqrt(ex * ex + ey * ey + ez * ez) + 1e-9)
    ball = material == EYE
    rgb = np.where((ball & (forward > 0.87))[:, None], irises[person], rgb)
    rgb = np.where((ball & (forward > 0.975))[:, None], 0.03, rgb)
    # light
    lit = np.maximum(0.0, nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2])
    up = 0.5 + 0.5 * nz
    gloss = np.maximum(0.0, nx * light[1, 0] + ny * light[1, 1] + nz * light[1, 2])
    gloss = gloss * gloss
    gloss = fourth = gloss * gloss
    gloss = gloss * gloss
    gloss = gloss * gloss
    gloss = table[s, 10] * (gloss * fourth)
    channels = [
        rgb[:, i] * (light[4, i] * up + light[5, i] * (1 - up) + light[3, i] * lit) + gloss * light[3, i]
        for i in range(3)
    ]
    return np.stack(channels, axis=1)


def shade(triangle: np.ndarray, behind: np.ndarray, front: np.ndarray, *mesh_looks_light: np.ndarray) -> np.ndarray:
    surface, table = mesh_looks_light[6], mesh_looks_light[7]
    height, width = behind.shape[:2]
    # [H, W, 4]: the samples of a pixel, row by row
    t = triangle.reshape(height, 2, width, 2).transpose(0, 2, 1, 3).reshape(height, width, 4)
    s = surface[np.maximum(t, 0)].astype(np.int64)
    plain = (t >= 0).all(axis=2) & (s == s[..., :1]).all(axis=2) & (table[s[..., 0], 12] > 0)
    wanted = t >= 0
    wanted[plain, 1:] = False
    y, x, i = np.nonzero(wanted)
    sample = np.where((t == -1)[..., None], behind[:, :, None], front[:, :, None]).astype(np.float64)
    if len(y):
        sample[y, x, i] = _colours(t[y, x, i], 2 * x + i % 2 + 0.5, 2 * y + i // 2 + 0.5, *mesh_looks_light)
    mean = (sample[:, :, 0] + sample[:, :, 1] + sample[:, :, 2] + sample[:, :, 3]) * 0.25
    alone = plain | ((t == t[..., :1]).all(axis=2) & (t[..., 0] < 0))
    return np.where(alone[..., None], sample[:, :, 0], mean)
