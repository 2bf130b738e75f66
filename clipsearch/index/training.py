"""Train the faiss side of an index: rotation, inverted lists, codes; in steps that can be watched and interrupted.

*Rotation.* Product codes want the variance spread evenly over their pieces, and half the dimensions of a CLIP
embedding hold nearly nothing. ``pca`` projects to the directions of largest second moment and turns them at random:
one eigendecomposition. ``opq`` learns the turn by alternating with the codes; it takes minutes at a million rows, and
on vectors with CLIP's spectrum gained a tenth of a percent (30,000 x 256). Neither takes a mean off: inner products
must survive.

*Lists.* A spherical k-means, one iteration at a time, so that progress can be told and Ctrl-C works in between. Where
faiss sees a GPU, it does the comparing (``gpu.py``).

*Order.* An index is trained with its codes lying one after the other, whatever it will be in the end. Lists in
fast-scan order are packed from those when all rows are in (``packed``): the same bytes as if faiss had put them there
one by one, and until then parts can be saved, copied and joined without looking into them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from clipsearch.index.costs import ITERATIONS, ROTATION_POINTS
from clipsearch.index.faiss_library import faiss_errors, few_threads, load_faiss
from clipsearch.index.gpu import on_device
from clipsearch.index.recipe import Recipe, check_points
from clipsearch.types import Floats

SEED = 1234
Tell = Callable[[int, int], None]  # steps done, steps in all


def train_index(recipe: Recipe, sample: Floats, tell: Tell | None = None, seed: int = SEED) -> Any:
    """Return an empty faiss index, trained with rows (n, D) float32, in its final order; see ``train_plain``."""
    return packed(recipe, train_plain(recipe, sample, tell, seed))


def train_plain(recipe: Recipe, sample: Floats, tell: Tell | None = None, seed: int = SEED) -> Any:
    """Return an empty faiss index, trained with rows (n, D) float32, whose codes lie one after the other.

    Args:
        recipe: what to make; its ``dim`` is D.
        sample: the rows.
        tell: called after each step.
        seed: of the k-means.

    Raises:
        InputError: too few rows, or faiss refuses.
        MissingExtraError: faiss is not installed.
    """
    check_points(recipe, len(sample))
    faiss = load_faiss()
    tell = tell or (lambda *_: None)
    steps = ITERATIONS + 2
    with faiss_errors("train the index"), few_threads(sample.size):
        rotation = _train_rotation(recipe, sample, seed)
        tell(1, steps)
        rotated = sample if rotation is None else rotation.apply(sample)
        quantizer = faiss.IndexFlatIP(recipe.inner_dim)
        _train_lists(recipe, rotated, quantizer, seed, lambda done: tell(done + 1, steps))
        ivf = _make_ivf(recipe, quantizer)
        with few_threads(0 if recipe.nbits == 4 else rotated.size):
            ivf.train(rotated)  # the lists are there; only the codes are left to learn
        tell(steps, steps)
    if rotation is None:
        return ivf
    whole = faiss.IndexPreTransform(rotation, ivf)
    rotation.this.disown()
    ivf.this.disown()
    whole.own_fields = True
    whole.is_trained = True  # it looked at the lists before they were there
    return whole


def packed(recipe: Recipe, index: Any) -> Any:
    """Return an index of ``train_plain`` in the order that its recipe wants; the one given is used up."""
    if not recipe.fast_scan:
        return index
    faiss = load_faiss()
    plain = faiss.downcast_index(faiss.extract_index_ivf(index))
    with faiss_errors("pack the lists"):
        ivf = faiss.IndexIVFPQFastScan(plain)
    plain.own_fields = False  # the quantizer has a new owner
    ivf.own_fields = True
    if recipe.rotation == "none":
        return ivf
    plain.this.own(True)  # Python frees the plain lists; the whole lets go of them here
    index.index = ivf
    ivf.this.disown()
    return index


def _train_rotation(recipe: Recipe, sample: Floats, seed: int) -> Any:
    if recipe.rotation == "none":
        return None
    some = sample[:: max(len(sample) // ROTATION_POINTS, 1)][:ROTATION_POINTS]
    faiss = load_faiss()
    if recipe.rotation == "pca":
        rotation = faiss.LinearTransform(recipe.dim, recipe.inner_dim, False)
        faiss.copy_array_to_vector(_directions(some, recipe.inner_dim, seed).ravel(), rotation.A)
        rotation.is_trained = True
        return rotation
    rotation = faiss.OPQMatrix(recipe.dim, recipe.pq_m or recipe.inner_dim // 8, recipe.inner_dim)
    rotation.niter = ITERATIONS
    if recipe.type == "ivfpq":
        codes = faiss.ProductQuantizer(recipe.inner_dim, recipe.pq_m, recipe.nbits)
        rotation.pq = codes  # learn the turn for the codes that will be used, not for the 8-bit ones it assumes
        rotation.train(some)
        rotation.pq = None  # not owned by faiss: it would point to what Python is about to free
    else:
        rotation.train(some)
    return rotation


def _directions(sample: Floats, n: int, seed: int) -> Floats:
    """Return (n, D): the ``n`` directions of largest second moment, evened out by a random turn."""
    moment = (sample.T @ sample).astype(np.float64)
    _, vectors = np.linalg.eigh(moment)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    return np.ascontiguousarray((vectors[:, ::-1][:, :n] @ turn).T.astype(np.float32))


def _train_lists(recipe: Recipe, rows: Floats, quantizer: Any, seed: int, tell: Callable[[int], None]) -> None:
    """Fill the quantizer with the centroids of a spherical k-means."""
    faiss = load_faiss()
    parameters = faiss.ClusteringParameters()
    parameters.niter = 1
    parameters.spherical = True
    parameters.seed = seed
    parameters.max_points_per_centroid = 1 << 30  # the sample has the size it should have
    parameters.min_points_per_centroid = 1  # ``check_points`` has spoken
    clustering = faiss.Clustering(recipe.inner_dim, recipe.nlist, parameters)
    with on_device(quantizer) as comparing:
        for iteration in range(ITERATIONS):
            comparing.reset()
            clustering.train(rows, comparing)  # goes on from the centroids it holds
            tell(iteration + 1)
    quantizer.reset()
    quantizer.add(faiss.vector_to_array(clustering.centroids).reshape(recipe.nlist, recipe.inner_dim))


def _make_ivf(recipe: Recipe, quantizer: Any) -> Any:
    faiss = load_faiss()
    dim, nlist, metric = recipe.inner_dim, recipe.nlist, faiss.METRIC_INNER_PRODUCT
    if recipe.type == "ivfflat":
        sq = faiss.ScalarQuantizer
        kind = sq.QT_8bit if recipe.storage == "sq8" else sq.QT_fp16
        ivf = faiss.IndexIVFScalarQuantizer(quantizer, dim, nlist, kind, metric)
    else:
        ivf = faiss.IndexIVFPQ(quantizer, dim, nlist, recipe.pq_m, recipe.nbits, metric)
        ivf.by_residual = not recipe.fast_scan  # fast scan has one table for all lists
    quantizer.this.disown()  # from here on the IVF index frees it
    ivf.own_fields = True
    return ivf
