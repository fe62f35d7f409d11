"""The main job on two servers of its own: `cdc demo`."""
