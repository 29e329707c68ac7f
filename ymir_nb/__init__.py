"""ymir-nb: an active-learning workbench for computer vision that lives in the notebook."""
