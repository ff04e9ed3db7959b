"""Both stages and joint training in PyTorch with autograd, written from the equations of docs/model.md and not from our code.

Nothing of c2f_np is used here: the graph is assembled anew, derivatives are autograd's, the optimiser is torch's. So an
agreement of losses and gradients is evidence, and the times are those of the same arithmetic.

Shapes
------
R : (U, I)     S_coarse : (N, C)     S_fine : (C, M)     S_direct : (N, M)     A : (N, N)     Y, Z : (N, d)
X_hat : (N + C [+ M],) * 2     X, H : (N + C [+ M], d)
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
    n, c = S_coarse.shape
    A, S = sparse.coo_array(adjacency(R)), sparse.coo_array(S_coarse)
    edges = [(*(places.astype(np.int64) for places in A.coords), A.data)]
    edges.append(_symmetric(S.coords[0], S.coords[1] + n, S.data.astype(np.float64)))
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


def adjacency(R) -> sparse.csr_array:
    """norm(B) of the interactions alone."""
    n_users, n_items = R.shape
    R = sparse.coo_array(R)
    left, right, weights = _symmetric(
        R.coords[0].astype(np.int64), R.coords[1].astype(np.int64) + n_users, np.ones(len(R.coords[0]))
    )
    n = n_users + n_items
    return sparse.csr_array(sparse.coo_array((_normalised(left, right, weights, n), (left, right)), shape=(n, n)))


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


class TorchModel:
    """What is trained, its loss and its optimiser; :meth:`embeddings` is the subclasses'.

    Parameters
    ----------
    torch : module
    settings : object
        With n_layers, gate, threshold, l2, decay, max_grad_value, dtype, as :class:`c2f_np.settings.Settings` has them.
    rate : float
        Learning rate.
    parameters : dict of str to ndarray
        What is trained, by the names that our states use; "bias" and "bias_global" among it.
    """

    def __init__(self, torch, settings, rate, parameters):
        self.torch, self.settings, self.dtype = torch, settings, getattr(torch, settings.dtype)
        self.parameters = {
            name: torch.tensor(values, dtype=self.dtype, requires_grad=True) for name, values in parameters.items()
        }
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=rate)

    def embeddings(self):
        """Ego embeddings Z and propagated embeddings H; the entities come first."""
        raise NotImplementedError

    def losses(self, users, positives, negatives):
        """BPR loss and regulariser (with l2, without decay) of a batch of entity numbers."""
        Z, H = self.embeddings()
        row, bias = self.torch.nn.functional.embedding, self.parameters["bias"]

        def score(items):
            products = (row(users, H) * row(items, H)).sum(dim=1)
            return products + bias[users] + bias[items] + self.parameters["bias_global"]

        bpr = self.torch.nn.functional.softplus(score(negatives) - score(positives)).mean()
        squares = sum(row(entities, Z).square().sum() for entities in (users, positives, negatives))
        return bpr, self.settings.l2 * squares / len(users)

    def backward(self, batch):
        """Loss and clipped gradients of a batch; the latter are left in the parameters."""
        self.optimiser.zero_grad(set_to_none=True)
        bpr, regulariser = self.losses(*batch)
        (bpr + self.settings.decay * regulariser).backward()
        self.torch.nn.utils.clip_grad_value_(self.parameters.values(), self.settings.max_grad_value)
        return bpr, regulariser

    def step(self, batch):
        """One optimisation step."""
        losses = self.backward(batch)
        self.optimiser.step()
        return losses


class TorchStage(TorchModel):
    """One of the two stages; composition "coarse" and layer_bridge "raw" are what is computed here.

    Parameters
    ----------
    torch : module
    R : sparse
    state : object
        With E_coarse, S_coarse, bias, bias_global and, in the fine stage, E_fine, S_fine.
    settings : object
        See :class:`TorchModel`; with coarse_lr, fine_lr.
    kind : str
        See :func:`linear_map`.
    """

    def __init__(self, torch, R, state, settings, kind):
        self.is_fine = state.S_fine is not None
        self.n, self.c = state.S_coarse.shape
        name, rate = ("E_fine", settings.fine_lr) if self.is_fine else ("E_coarse", settings.coarse_lr)
        names = (name, "bias", "bias_global")
        super().__init__(torch, settings, rate, {each: getattr(state, each) for each in names})
        self.codebook = self.parameters[name]
        # In the fine stage it is a constant.
        self.E_coarse = torch.tensor(state.E_coarse, dtype=self.dtype) if self.is_fine else self.codebook
        self.graph = linear_map(torch, expanded_graph(R, state.S_coarse, state.S_fine), kind, self.dtype)
        self.compose = linear_map(torch, state.S_coarse, kind, self.dtype)
        self.bridge = linear_map(torch, state.S_fine, kind, self.dtype) if self.is_fine else None

    def embeddings(self):
        """Ego embeddings of the entities, propagated embeddings of all nodes."""
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


class TorchJoint(TorchModel):
    """Joint training without a bridge: Y = S_c E_c + S_d F over A alone, with the weights of the links; or a table, Y = E.

    Every entity has equally many links, so a user of torch would look rows up and weigh them, rather than multiply by a sparse
    matrix whose values are trained.

    Parameters
    ----------
    torch, R, settings, kind
        As in :class:`TorchStage`; `kind` is that of the product with A.
    state : object
        With E_coarse, S_coarse, E_fine, S_direct, bias, bias_global; E_fine is None of a table.
    rate : float
    """

    def __init__(self, torch, R, state, settings, kind, rate):
        is_table = state.E_fine is None
        codebooks = {"E_coarse": "S_coarse"} if is_table else {"E_coarse": "S_coarse", "E_fine": "S_direct"}
        parameters = {name: getattr(state, name) for name in (*codebooks, "bias", "bias_global")}
        n = state.S_coarse.shape[0]
        self.links = {}
        for codebook, name in {} if is_table else codebooks.items():
            S = getattr(state, name)
            self.links[codebook] = name, torch.from_numpy(S.indices.reshape(n, -1).astype(np.int64))
            parameters[name] = S.data
        super().__init__(torch, settings, rate, parameters)
        self.graph = linear_map(torch, adjacency(R), kind, self.dtype)

    def embeddings(self):
        """Ego and propagated embeddings of the entities."""
        torch, layer = self.torch, 0
        for codebook, (name, columns) in self.links.items():
            E = self.parameters[codebook]
            if codebook == "E_fine":
                E = torch.nn.functional.softshrink(E, self.settings.threshold)
            weights = self.parameters[name].reshape(columns.shape)
            layer = layer + (weights[:, :, None] * torch.nn.functional.embedding(columns, E)).sum(dim=1)
        Z = layer = torch.tanh(layer if self.links else self.parameters["E_coarse"])
        total = layer
        for _ in range(self.settings.n_layers):
            layer = self.graph(layer)
            total = total + layer
        return Z, total / (self.settings.n_layers + 1)


def torch_model(torch, stage: str, state, R, settings, kind: str) -> TorchModel:
    """The competitor that trains a state of c2f_np: "coarse", "fine", "joint" or "table"."""
    if stage in ("coarse", "fine"):
        return TorchStage(torch, R, state, settings, kind)
    return TorchJoint(torch, R, state, settings, kind, settings.start_lr if stage == "table" else settings.coarse_lr)


def tensors(torch, batch) -> tuple:
    """A batch of index arrays as tensors that share their memory."""
    return tuple(torch.from_numpy(column) for column in batch)
