"""The compiled loops and their NumPy twins, and what both must get right."""

import kernels_numpy
import numpy as np
import pytest

from posedistill.synthetic import kernels

LOOPS = [pytest.param(kernels_numpy, id="numpy"), pytest.param(kernels, id="compiled")]


def soup(rng, count=300, size=40):
    """Random triangles: positions, 1/depth, faces, cut coordinates, one-sidedness."""
    xy = rng.uniform(-5, size + 5, (count, 2))
    inverse = rng.uniform(-0.2, 2, count)
    faces = rng.integers(0, count, (2 * count, 3)).astype(np.int32)
    cut = rng.normal(0.5, 1, count).astype(np.float32)
    return xy, inverse, faces, cut, rng.random(2 * count) < 0.5


def buffers(size=40):
    return np.full((size, size), -1, np.int32), np.zeros((size, size), np.float32)


def test_rasterize_same_bytes():
    rng = np.random.default_rng(0)
    for _ in range(5):
        mesh = soup(rng)
        results = []
        for loops in (kernels_numpy, kernels):
            triangle, depth = buffers()
            triangle[10:20, 5:30], depth[10:20, 5:30] = -2, 1.7
            loops.rasterize(*mesh, triangle, depth)
            results.append((triangle.tobytes(), depth.tobytes()))
        assert results[0] == results[1]
        assert (triangle >= 0).mean() > 0.3 and (triangle == -2).any()


def test_rasterize_same_bytes_in_small_batches(monkeypatch):
    mesh = soup(np.random.default_rng(1))
    whole, depth = buffers()
    kernels_numpy.rasterize(*mesh, whole, depth)
    monkeypatch.setattr(kernels_numpy, "CANDIDATES", 500)
    parts, depth = buffers()
    kernels_numpy.rasterize(*mesh, parts, depth)
    assert np.array_equal(whole, parts)


@pytest.mark.parametrize("loops", LOOPS)
def test_rasterize_nearer_wins_and_sides(loops):
    xy = np.array([[0, 0], [0, 10], [10, 0]], float).repeat(2, axis=0)[[0, 2, 4, 1, 3, 5]]
    inverse = np.array([1.0, 1, 1, 2, 2, 2])
    faces = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    cut = np.ones(6, np.float32)

    def draw(faces, one_sided, cut=cut, inverse=inverse):
        triangle, depth = buffers(10)
        loops.rasterize(xy, inverse, faces, cut, np.array(one_sided), triangle, depth)
        return triangle

    assert draw(faces, [False, False])[2, 2] == 1  # nearer
    assert draw(faces[:1], [True])[2, 2] == 0  # counter-clockwise as seen with y up: the front
    assert draw(faces[:1, ::-1].copy(), [True])[2, 2] == -1
    assert draw(faces[:1, ::-1].copy(), [False])[2, 2] == 0
    assert draw(faces[:1], [False], cut=np.float32([-1, -1, 3, 0, 0, 0]))[0, 0] == -1  # beyond the hem
    assert draw(faces[:1], [False], cut=np.float32([-1, -1, 3, 0, 0, 0]))[0, 8] == 0
    assert draw(faces[:1], [False], inverse=np.array([-1.0, 1, 1, 1, 1, 1]))[2, 2] == -1  # behind the camera


def test_skin_and_normals_same_bytes():
    rng = np.random.default_rng(2)
    v, T = rng.normal(size=(200, 3)), rng.normal(size=(9, 12))
    bone, weight = rng.integers(0, 9, (200, 5)), rng.random((200, 5)) * (rng.random((200, 5)) < 0.6)
    assert kernels_numpy.skin(v, T, bone, weight).tobytes() == kernels.skin(v, T, bone, weight).tobytes()
    faces = rng.integers(0, 200, (500, 3)).astype(np.int32)
    assert kernels_numpy.vertex_normals(v, faces).tobytes() == kernels.vertex_normals(v, faces).tobytes()


@pytest.mark.parametrize("loops", LOOPS)
def test_skin_moves_with_its_bone(loops):
    v = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    turn = np.array([[0, -1, 0, 5.0], [1, 0, 0, 0], [0, 0, 1, 0]])
    stay = np.eye(3, 4)
    T = np.stack([turn.ravel(), stay.ravel()])
    out = loops.skin(v, T, np.array([[0, 1], [0, 1]]), np.array([[1.0, 0], [0.5, 0.5]]))
    np.testing.assert_allclose(out, [[5, 1, 0], [2, 0.5, 0]])


@pytest.mark.parametrize("loops", LOOPS)
def test_normals_point_outwards(loops):
    corner = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], float)
    n = loops.vertex_normals(corner, np.array([[0, 1, 2]], np.int32))
    np.testing.assert_allclose(n, np.tile([0, 0, 1], (3, 1)), atol=1e-6)
