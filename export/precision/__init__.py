"""Lower precisions of a graph: half and eight bits."""
