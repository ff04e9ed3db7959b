"""Both stages in PyTorch with autograd, written from the equations of docs/model.md and not from our code.

Nothing of c2f_np is used here: the graph is assembled anew, derivatives are autograd's, the optimiser is torch's. So an
agreement of losses and gradients is evidence, and the times are those of the same arithmetic.

Shapes
------
R : (U, I)     S_coarse : (N, C)     S_fine : (C, M)     X_hat : (N + C [+ M],) * 2     X, H : (N + C [+ M], d)
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse


def expanded_graph(R, S_coarse, S_fine=None) -> sparse.csr_array:
    """norm([[norm(B), S_c, 0], [S_c^T, 0, S_f], [0, S_f^T, 0]]), from lists of edges; weights must be positive.

    Parameters
    ----------
    R : sparse, shape (U, I)
    S_coarse : sparse, shape (N, C)
    S_fine : sparse, shape (C, M), optional

    Returns
    -------
    csr_array of float64
    """
    n_users = R.shape[0]
    n, c = S_coarse.shape
    R = sparse.coo_array(R)
    users, items = R.coords[0].astype(np.int64), R.coords[1].astype(np.int64) + n_users
    left, right, weights = _symmetric(users, items, np.ones(len(users)))
    weights = _normalised(left, right, weights, n)
    S = sparse.coo_array(S_coarse)
    edges = [(left, right, weights), _symmetric(S.coords[0], S.coords[1] + n, S.data.astype(np.float64))]
    size = n + c
    if S_fine is not None:
        S = sparse.coo_array(S_fine)
        edges.append(_symmetric(S.coords[0] + n, S.coords[1] + n + c, S.data.astype(np.float64)))
        size += S_fine.shape[1]
    left, right, weights = (np.concatenate(column) for column in zip(*edges, strict=True))
    weights = _normalised(left, right, weights, size)
    return sparse.csr_array(sparse.coo_array((weights, (left, right)), shape=(size, size)))


def _symmetric(left, right, weights):
    return np.concatenate([left, right]), np.concatenate([right, left]), np.concatenate([weights, weights])


def _normalised(left, right, weights, n: int) -> np.ndarray:
    degree = np.bincount(left, weights=weights, minlength=n)
    root = np.sqrt(np.where(degree > 0, degree, 1))
    return weights / (root[left] * root[right])


def sparse_tensor(torch, matrix, layout: str, dtype):
    """A SciPy matrix as a torch tensor in "csr" (32-bit indices, which its MKL product takes as they are) or "coo" layout."""
    matrix = sparse.csr_array(matrix)
    matrix.sort_indices()
    values = torch.from_numpy(np.ascontiguousarray(matrix.data)).to(dtype)
    if layout == "csr":
        rows, columns = (torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices))
        return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape)
    coordinates = sparse.coo_array(matrix)
    places = torch.from_numpy(np.stack(coordinates.coords).astype(np.int64))
    return torch.sparse_coo_tensor(places, values, matrix.shape).coalesce()


def linear_map(torch, matrix, kind: str, dtype):
    """The product with a constant sparse matrix, known to autograd.

    Parameters
    ----------
    torch : module
    matrix : SciPy sparse
    kind : {"csr", "csr_transpose", "coo"}
        ``torch.sparse.mm`` in one of the two layouts with autograd's own backward pass; or, as csr, with a backward pass
        through a transpose that is made once, because autograd's makes one in every call.
    dtype : torch.dtype

    Returns
    -------
    callable
        X to M X.
    """
    if kind in ("csr", "coo"):
        tensor = sparse_tensor(torch, matrix, kind, dtype)
        return lambda X: torch.sparse.mm(tensor, X)
    forward_tensor = sparse_tensor(torch, matrix, "csr", dtype)
    backward_tensor = sparse_tensor(torch, sparse.csr_array(matrix).T, "csr", dtype)

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(context, X):
            return torch.sparse.mm(forward_tensor, X)

        @staticmethod
        def backward(context, gradient):
            return torch.sparse.mm(backward_tensor, gradient.contiguous())

    return Product.apply


class TorchStage:
    """One of the two stages with its optimiser.

    Parameters
    ----------
    torch : module
    R, S_coarse, S_fine : sparse
        `S_fine` is None in the coarse stage.
    E_coarse, E_fine, bias, bias_global : ndarray
    settings : object
        With n_layers, gate, threshold, l2, decay, max_grad_value, coarse_lr, fine_lr, dtype, as
        :class:`c2f_np.settings.Settings` has them; composition "coarse" and layer_bridge "raw" are what is computed here.
    kind : str
        See :func:`linear_map`.
    """

    def __init__(self, torch, R, S_coarse, E_coarse, bias, bias_global, settings, kind, S_fine=None, E_fine=None):
        self.torch, self.settings = torch, settings
        dtype = getattr(torch, settings.dtype)
        self.n, self.c = S_coarse.shape
        self.is_fine = S_fine is not None
        self.graph = linear_map(torch, expanded_graph(R, S_coarse, S_fine), kind, dtype)
        self.compose = linear_map(torch, S_coarse, kind, dtype)
        self.E_coarse = torch.tensor(E_coarse, dtype=dtype, requires_grad=not self.is_fine)
        self.bias = torch.tensor(bias, dtype=dtype, requires_grad=True)
        self.bias_global = torch.tensor(bias_global, dtype=dtype, requires_grad=True)
        self.codebook, rate = self.E_coarse, settings.coarse_lr
        if self.is_fine:
            self.bridge = linear_map(torch, S_fine, kind, dtype)
            self.codebook = torch.tensor(E_fine, dtype=dtype, requires_grad=True)
            rate = settings.fine_lr
        self.parameters = [self.codebook, self.bias, self.bias_global]
        self.optimiser = torch.optim.Adam(self.parameters, lr=rate)

    def embeddings(self):
        """Ego embeddings Z and propagated embeddings H of all nodes."""
        torch = self.torch
        Z = torch.tanh(self.compose(self.E_coarse))
        if self.is_fine:
            F = torch.nn.functional.softshrink(self.codebook, self.settings.threshold)
            g = self.settings.gate
            layer = torch.cat([Z, g * self.bridge(F) + (1 - g) * self.E_coarse, torch.tanh(F)])
        else:
            layer = torch.cat([Z, self.codebook])
        total = layer
        for _ in range(self.settings.n_layers):
            layer = self.graph(layer)
            if self.is_fine:
                layer = self._bridged(layer)
            total = total + layer
        return Z, total / (self.settings.n_layers + 1)

    def _bridged(self, layer):
        g = self.settings.gate
        h, p, q = layer[: self.n], layer[self.n : self.n + self.c], layer[self.n + self.c :]
        fine = self.bridge(q)
        h = h - self.compose(p)
        p = p - fine
        p = g * fine + (1 - g) * p
        h = h + self.compose(p)
        return self.torch.cat([h, p, q])

    def losses(self, users, positives, negatives):
        """BPR loss and regulariser (with l2, without decay) of a batch of entity numbers."""
        Z, H = self.embeddings()
        row = self.torch.nn.functional.embedding

        def score(items):
            products = (row(users, H) * row(items, H)).sum(dim=1)
            return products + self.bias[users] + self.bias[items] + self.bias_global

        bpr = self.torch.nn.functional.softplus(score(negatives) - score(positives)).mean()
        squares = sum(row(entities, Z).square().sum() for entities in (users, positives, negatives))
        return bpr, self.settings.l2 * squares / len(users)

    def backward(self, batch):
        """Loss and clipped gradients of a batch; the latter are left in the parameters."""
        self.optimiser.zero_grad(set_to_none=True)
        bpr, regulariser = self.losses(*batch)
        (bpr + self.settings.decay * regulariser).backward()
        self.torch.nn.utils.clip_grad_value_(self.parameters, self.settings.max_grad_value)
        return bpr, regulariser

    def step(self, batch):
        """One optimisation step."""
        losses = self.backward(batch)
        self.optimiser.step()
        return losses


def stage_of(torch, stage: str, state, R, settings, kind: str) -> TorchStage:
    """The stage of a state of c2f_np."""
    fine = {"S_fine": state.S_fine, "E_fine": state.E_fine} if stage == "fine" else {}
    return TorchStage(torch, R, state.S_coarse, state.E_coarse, state.bias, state.bias_global, settings, kind, **fine)


def tensors(torch, batch) -> tuple:
    """A batch of index arrays as tensors that share their memory."""
    return tuple(torch.from_numpy(column) for column in batch)
