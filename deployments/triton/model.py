"""Triton's python backend for a bundle: onnxruntime runs the weights that lie beside this file.

Belongs here: what Triton calls. Does not belong here: anything of the platform; only numpy and onnxruntime are at hand.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

CONFIG = "inference_config.json"


class TritonPythonModel:
    """One instance: one session. Requests that Triton has put together run as one batch."""

    def initialize(self, args):
        """Load the weights, if they are those that the description names."""
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        precision = parameters["precision"]["string_value"]
        if precision not in config["usable"]:
            raise pb_utils.TritonModelException(f"{precision} is not usable in this bundle")
        described = config["files"][precision]
        weights = (folder / described["path"]).read_bytes()
        if hashlib.sha256(weights).hexdigest() != described["sha256"]:
            raise pb_utils.TritonModelException(f"{described['path']} is not what {CONFIG} names")
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"]["string_value"])
        options.log_severity_level = 3
        gpu = args["model_instance_kind"] == "GPU"
        providers = ["CUDAExecutionProvider"] * gpu + ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(weights, options, providers=providers)
        self._inputs = [(given["name"], np.dtype(given["dtype"])) for given in config["inputs"]]
        self._outputs = list(config["outputs"])

    def execute(self, requests):
        """Answer each request with the rows of the batch that are its own."""
        held = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name, _ in self._inputs}
            for request in requests
        ]
        batch = {
            name: np.concatenate([row[name] for row in held]).astype(dtype, copy=False)
            for name, dtype in self._inputs
        }
        found = dict(zip(self._outputs, self._session.run(self._outputs, batch), strict=True))
        responses, start = [], 0
        for request, row in zip(requests, held, strict=True):
            stop = start + len(row[self._inputs[0][0]])
            wanted = set(request.requested_output_names())
            tensors = [pb_utils.Tensor(n, v[start:stop]) for n, v in found.items() if n in wanted]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            start = stop
        return responses
