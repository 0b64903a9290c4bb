"""The four inner loops of the renderer, compiled: skinning, normals, z-buffer, shading.

They use only IEEE-exact operations (+ - * / sqrt floor, comparisons) in a fixed order: no sine, no power, no fused or
reordered sums. So pictures do not depend on the processor. Their NumPy twins in tests/synthetic/kernels_numpy.py give
the same bytes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

compiled = njit(cache=True, error_model="numpy", fastmath=False)

# materials, as in wardrobe.py
SKIN, CLOTH, HAIR, EYE = 0, 1, 2, 3


@compiled
def skin(v, T, bone, weight):
    """Linear blend skinning, float64 [V, 3] in the unit of `v`.

    v float64 [V, 3], rest positions; T [J, 12], transforms [3, 4] row by row; bone [V, 12] indices and weight [V, 12]
    (each row sums to 1).
    """
    out = np.empty((len(v), 3))
    m = np.empty(12)
    for i in range(len(v)):
        m[:] = 0.0
        for k in range(bone.shape[1]):
            w = weight[i, k]
            if w == 0.0:
                continue
            t = T[bone[i, k]]
            for e in range(12):
                m[e] += w * t[e]
        x, y, z = v[i, 0], v[i, 1], v[i, 2]
        out[i, 0] = m[0] * x + m[1] * y + m[2] * z + m[3]
        out[i, 1] = m[4] * x + m[5] * y + m[6] * z + m[7]
        out[i, 2] = m[8] * x + m[9] * y + m[10] * z + m[11]
    return out


@compiled
def vertex_normals(v, faces):
    """Area-weighted unit normals float32 [V, 3] of float64 vertices [V, 3]; faces int32 [F, 3], counter-clockwise."""
    n = np.zeros((len(v), 3))
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = v[b, 0] - v[a, 0], v[b, 1] - v[a, 1], v[b, 2] - v[a, 2]
        wx, wy, wz = v[c, 0] - v[a, 0], v[c, 1] - v[a, 1], v[c, 2] - v[a, 2]
        x, y, z = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
        for k in range(3):
            i = faces[f, k]
            n[i, 0] += x
            n[i, 1] += y
            n[i, 2] += z
    out = np.empty((len(v), 3), np.float32)
    for i in range(len(v)):
        length = np.sqrt(n[i, 0] * n[i, 0] + n[i, 1] * n[i, 1] + n[i, 2] * n[i, 2]) + 1e-12
        for k in range(3):
            out[i, k] = n[i, k] / length
    return out


@compiled
def rasterize(xy, iz, faces, cut, one_sided, triangle, zbuf):
    """Z-buffer, in place: `triangle` int32 [H, W] gets the face in front, `zbuf` float32 [H, W] its 1/z.

    xy float64 [V, 2] pixels; iz float64 [V], 1/depth (<= 0: behind the camera); faces int32 [F, 3];
    cut float32 [V]: where its interpolation is negative the surface is not there (hems, hair line);
    one_sided bool [F]: not drawn from behind. A nearer 1/z wins, the lower face index among equals.
    """
    height, width = triangle.shape
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        za, zb, zc = iz[a], iz[b], iz[c]
        if za <= 0 or zb <= 0 or zc <= 0:
            continue
        ax, ay, bx, by, cx, cy = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (one_sided[f] and area > 0.0):  # image y points down: front faces have a negative area
            continue
        if cut[a] < 0 and cut[b] < 0 and cut[c] < 0:
            continue
        x0 = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
        # barycentric weights are planes over the picture: w = u·x + v·y + o
        inverse = 1.0 / area
        ua, va, oa = (by - cy) * inverse, (cx - bx) * inverse, (bx * cy - by * cx) * inverse
        ub, vb, ob = (cy - ay) * inverse, (ax - cx) * inverse, (cx * ay - cy * ax) * inverse
        for y in range(y0, y1 + 1):
            py = y + 0.5
            ra = va * py + oa
            rb = vb * py + ob
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = ua * px + ra
                if wa < 0:
                    continue
                wb = ub * px + rb
                if wb < 0:
                    continue
                wc = 1.0 - wa - wb
                if wc < 0:
                    continue
                z = np.float32(wa * za + wb * zb + wc * zc)
                if z > zbuf[y, x]:
                    if wa * za * cut[a] + wb * zb * cut[b] + wc * zc * cut[c] < 0:
                        continue
                    zbuf[y, x] = z
                    triangle[y, x] = f


@compiled
def _wave(u):
    return 4.0 * abs(u - np.floor(u) - 0.5) - 1.0


@compiled
def _pattern(kind, u, v, w, frequency, phase):
    if kind == 1:
        return 1.0 if _wave(w * frequency + phase) > 0.2 else 0.0
    if kind == 2:
        return 1.0 if _wave(u * frequency + phase) > 0.2 else 0.0
    if kind == 3:
        p = 0.5 if _wave(u * frequency) > 0 else 0.0
        q = 0.5 if _wave(w * frequency + phase) > 0 else 0.0
        return p + q
    if kind == 4:
        return 1.0 if _wave(u * frequency) * _wave(w * frequency) * _wave(v * frequency + phase) > 0.25 else 0.0
    if kind == 5:
        return 0.5 + 0.5 * _wave(u * frequency + 0.5 * _wave(w * frequency * 0.7 + phase) + v * frequency)
    if kind == 6:
        p = _wave(u * frequency + 0.3 * _wave(w * 9.0 + phase))
        q = _wave(v * frequency * 1.3 + 0.3 * _wave(w * 7.0 + phase))
        return 0.5 + 0.25 * p + 0.25 * q
    return 0.0


@compiled
def _colour(
    f, px, py, xy, iz, faces, canon, normal, cover, surface, table, garments, brows, irises, brow, eye, light, out
):
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    ax, ay, bx, by, cx, cy = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
    inverse = 1.0 / ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
    wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
    wc = 1.0 - wa - wb
    wa *= iz[a]
    wb *= iz[b]
    wc *= iz[c]
    total = wa + wb + wc
    wa /= total
    wb /= total
    wc /= total
    nx = wa * normal[a, 0] + wb * normal[b, 0] + wc * normal[c, 0]
    ny = wa * normal[a, 1] + wb * normal[b, 1] + wc * normal[c, 1]
    nz = wa * normal[a, 2] + wb * normal[b, 2] + wc * normal[c, 2]
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
    if nx * light[2, 0] + ny * light[2, 1] + nz * light[2, 2] > 0:  # seen from behind
        length = -length
    nx /= length
    ny /= length
    nz /= length
    x = wa * canon[a, 0] + wb * canon[b, 0] + wc * canon[c, 0]
    y = wa * canon[a, 1] + wb * canon[b, 1] + wc * canon[c, 1]
    z = wa * canon[a, 2] + wb * canon[b, 2] + wc * canon[c, 2]
    s = surface[f]
    person = int(table[s, 11])
    if table[s, 0] == SKIN:  # skin under a garment takes the garment's colour: nothing pokes through
        for g in range(3):
            if wa * cover[a, g] + wb * cover[b, g] + wc * cover[c, g] > 0:
                s = garments[person, g]
    material = int(table[s, 0])
    red, green, blue = table[s, 1], table[s, 2], table[s, 3]
    if material in (CLOTH, HAIR):
        k = _pattern(int(table[s, 7]), x, y, z, table[s, 8], table[s, 9])
        if k > 0:
            red += k * (table[s, 4] - red)
            green += k * (table[s, 5] - green)
            blue += k * (table[s, 6] - blue)
    elif material == SKIN:
        if y < eye[1] + 0.03 and abs(z - eye[2] - 0.015) < 0.03:  # eyebrows are painted along the landmarks' line
            u, best, at = abs(x), 9.0, 0.0
            for i in range(len(brow) - 1):
                dx, dz = brow[i + 1, 0] - brow[i, 0], brow[i + 1, 1] - brow[i, 1]
                t = ((u - brow[i, 0]) * dx + (z - brow[i, 1]) * dz) / (dx * dx + dz * dz)
                t = min(1.0, max(0.0, t))
                ex, ez = u - brow[i, 0] - t * dx, z - brow[i, 1] - t * dz
                d = np.sqrt(ex * ex + ez * ez)
                if d < best:
                    best = d
                    at = i + t
            if best < brows[person, 3] * (0.6 + 0.2 * at):
                red, green, blue = brows[person, 0], brows[person, 1], brows[person, 2]
    elif material == EYE:  # pupil and iris by the angle to the forward axis
        ex = x - eye[0] if x > 0 else x + eye[0]
        ey, ez = y - eye[1], z - eye[2]
        forward = -ey / (np.sqrt(ex * ex + ey * ey + ez * ez) + 1e-9)
        if forward > 0.975:
            red, green, blue = 0.03, 0.03, 0.03
        elif forward > 0.87:
            red, green, blue = irises[person, 0], irises[person, 1], irises[person, 2]
    lit = max(0.0, nx * light[0, 0] + ny * light[0, 1] + nz * light[0, 2])
    up = 0.5 + 0.5 * nz
    gloss = max(0.0, nx * light[1, 0] + ny * light[1, 1] + nz * light[1, 2])
    gloss = gloss * gloss
    gloss = gloss * gloss
    fourth = gloss
    gloss = gloss * gloss
    gloss = gloss * gloss
    gloss = table[s, 10] * (gloss * fourth)  # 20th power
    out[0] = red * (light[4, 0] * up + light[5, 0] * (1 - up) + light[3, 0] * lit) + gloss * light[3, 0]
    out[1] = green * (light[4, 1] * up + light[5, 1] * (1 - up) + light[3, 1] * lit) + gloss * light[3, 1]
    out[2] = blue * (light[4, 2] * up + light[5, 2] * (1 - up) + light[3, 2] * lit) + gloss * light[3, 2]


@compiled
def shade(
    triangle,
    behind,
    front,
    xy,
    iz,
    faces,
    canon,
    normal,
    cover,
    surface,
    table,
    garments,
    brows,
    irises,
    brow,
    eye,
    light,
):
    """Colours of a picture at half the resolution of the buffers, float64 [H, W, 3].

    triangle int32 [2H, 2W]: face, -1 = background `behind` [H, W, 3], -2 = occluder `front` [H, W, 3].
    Mesh: xy, 1/depth, faces, canonical positions, normals, garment cover [V, 3], surface of each face.
    Looks: surface table [S, 13], garment surfaces of each person [P, 3], eyebrow colour and width [P, 4],
    iris [P, 3], eyebrow line [N, 2], centre of the left eye [3]; see `wardrobe.py` for their meaning.
    light [6, 3]: direction to the light, half vector, camera's forward axis (world); light, sky and ground colours.
    """
    height, width = behind.shape[0], behind.shape[1]
    out = np.empty((height, width, 3))
    colour = np.empty(3)
    for y in range(height):
        for x in range(width):
            t = (
                triangle[2 * y, 2 * x],
                triangle[2 * y, 2 * x + 1],
                triangle[2 * y + 1, 2 * x],
                triangle[2 * y + 1, 2 * x + 1],
            )
            if t[0] == t[1] and t[0] == t[2] and t[0] == t[3] and t[0] < 0:
                for k in range(3):
                    out[y, x, k] = behind[y, x, k] if t[0] == -1 else front[y, x, k]
                continue
            # four samples of one plain surface differ little: shade the first of them alone
            if t[0] >= 0 and t[1] >= 0 and t[2] >= 0 and t[3] >= 0:
                s = surface[t[0]]
                if table[s, 12] > 0 and s == surface[t[1]] and s == surface[t[2]] and s == surface[t[3]]:
                    _colour(
                        t[0], 2 * x + 0.5, 2 * y + 0.5, xy, iz, faces, canon, normal, cover, surface,
                        table, garments, brows, irises, brow, eye, light, colour,
                    )  # fmt: skip
                    for k in range(3):
                        out[y, x, k] = colour[k]
                    continue
            r, g, b = 0.0, 0.0, 0.0
            for i in range(4):
                if t[i] >= 0:
                    _colour(
                        t[i], 2 * x + i % 2 + 0.5, 2 * y + i // 2 + 0.5, xy, iz, faces, canon, normal, cover, surface,
                        table, garments, brows, irises, brow, eye, light, colour,
                    )  # fmt: skip
                    r += colour[0]
                    g += colour[1]
                    b += colour[2]
                elif t[i] == -1:
                    r += behind[y, x, 0]
                    g += behind[y, x, 1]
                    b += behind[y, x, 2]
                else:
                    r += front[y, x, 0]
                    g += front[y, x, 1]
                    b += front[y, x, 2]
            out[y, x, 0] = r * 0.25
            out[y, x, 1] = g * 0.25
            out[y, x, 2] = b * 0.25
    return out
