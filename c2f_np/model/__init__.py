"""The paper, to be read from top to bottom: each equation once, under its own name, its backward pass beside it.

    graph          R -> A -> the expanded graph: normalisation, and how a weight reaches the loss through it
    degrees        D^-1/2, by which a graph is normalised
    sparse         the sparse product and its adjoint, the only thing that propagation is made of
    propagation    L layers and their mean, over any layer that has a forward and an adjoint: plain, bridged; collapsed
    codebook       soft threshold, bridge, composition
    loss           the batch of triples, BPR, the regulariser
    step           what a model consists of, what a stage is, and one training step: forward, loss, backward, clipping, Adam
    coarse         LEGCF: one codebook                            } one shape for all three: graph, forward, gradients, and what
    fine           the paper's second stage                       } is trained; of the two stages also the gradients of what
    joint          both codebooks and their links, by gradient    } no stage trains: assignments, threshold, gate
    pursuit        the rows of a codebook that explain a vector
    links          which rows an entity is linked to: closed-form updates, exchange, the coding of a table
    sparse_pca     components that are mostly zeros, from which the fine codebook of the second stage starts
    starts         partitions, and the first state of each phase
    sampling       the triples of an epoch, and its batches

Everything here is NumPy and SciPy. The operations that :mod:`c2f_np.model.text` lists have a compiled version of the same name in
:mod:`c2f_np.kernels`; a graph holds one of the two modules as its engine, and whatever works on the graph uses that one.
"""

__all__ = [
    "graph", "degrees", "sparse", "propagation", "codebook", "loss", "step", "coarse", "fine", "joint", "pursuit", "links",
    "sparse_pca", "starts", "sampling", "text",
]  # fmt: skip
