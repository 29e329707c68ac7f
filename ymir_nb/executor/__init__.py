r"""The reference executor: a small centre-heatmap detector behind YMIR's `/in /out` contract.

It trains, mines and infers through files alone, and imports nothing of `ymir_nb.backend`: torch,
numpy, Pillow, PyYAML, safetensors and tensorboard are all it needs. In a container it runs as::

    python -m ymir_nb.executor

and reads `/in/env.yaml`. Without one, the environment variable ``DEFAULT_ENV_FILE_PATH`` names that
file, and every path in it is a real path::

    work/in/env.yaml            task_id, run_training | run_mining | run_infer, input: {...}, output: {...}
    work/in/config.yaml         class_names and any key of img-man/*-template.yaml that shall differ
    work/in/train-index.tsv     <image>\t<annotation>, a line an image; val-index.tsv likewise
    work/in/candidate-index.tsv <image>, a line an image, for mining and inference

    DEFAULT_ENV_FILE_PATH=work/in/env.yaml python -m ymir_nb.executor

What it writes, all of it below the output folders that env.yaml names:

- training: `models/step_<n>/{weights.safetensors,model.yaml}` for `n_checkpoints` stages,
  `models/result.yaml`, TensorBoard scalars (`loss/*`, `val/mAP`, `learning_rate`);
- inference: `infer-result.json`; besides the contract's whole-pixel `box`, every detection carries
  `xyxy`, the same box as four floats with an exclusive far edge;
- inference with `features: true`: also `features/`, plain arrays, see `features.write_features`;
- mining: `result.tsv`, the most informative image first;
- always: `monitor.txt`, growing from 0 to 1, with state 4, a return code and a reason after a failure.

The same seed gives the same bytes on the same machine's CPU, whatever the order of the index lines.
`max_steps` is the training budget: 400 steps of 16 images at 320 x 240 by default. Boxes lie on the
image as it is seen, that is with its EXIF orientation applied.

Source: YMIR's executor contract, protocol version 1.1.0.
"""
