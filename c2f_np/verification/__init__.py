"""The gradient checker applied to this model: cases for every operation and both stages, float32 bounds, mutants.

The checker itself, :mod:`c2f_np.gradcheck`, knows nothing of the model; everything that does is here.
"""
