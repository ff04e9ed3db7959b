"""The parts of the benchmark, in the order in which they are run: each maps (plan, workloads) to records."""

from . import assignment, epoch, evaluation, graph, memory, outside, product, sampling, scaling, start, steps, timeline

PARTS = {
    "product": product.run,
    "steps": steps.run,
    "timeline": timeline.run,
    "graph": graph.run,
    "assignment": assignment.run,
    "sampling": sampling.run,
    "evaluation": evaluation.run,
    "epoch": epoch.run,
    "scaling": scaling.run,
    "memory": memory.run,
    "start": start.run,
    "outside": outside.run,
}
