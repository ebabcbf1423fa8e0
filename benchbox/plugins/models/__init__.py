"""Model families, one file each: how to get the module, its inputs, axes, outputs and task metric."""
