"""The peer: sentence-transformers, by PyTorch or by ONNX Runtime. `peer.py torch|onnx FOLDER THREADS`; see compare.py for the lines."""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

kind, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.environ.update(OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="true", RAYON_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1")

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer

# The library sorts texts by their length and pads each batch to its longest.
BATCH = 32


class Onnx(torch.nn.Module):
    """Stands in the place of the transformer's model: the same graph, computed by ONNX Runtime."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        import onnxruntime

        self.config, self.dtype = model.config, torch.float32
        file = Path(tempfile.mkdtemp()) / "model.onnx"
        names = ["input_ids", "attention_mask", "token_type_ids"]
        example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
        axes = {name: {0: "batch", 1: "length"} for name in [*names, "hidden"]}

        class Hidden(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state

        torch.onnx.export(Hidden().eval(), example, str(file), input_names=names, output_names=["hidden"], dynamic_axes=axes, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.version = f"ONNX Runtime {onnxruntime.__version__}"

    def encode(self, features: dict) -> torch.Tensor:
        ids, mask = features["input_ids"], features["attention_mask"]
        types = features.get("token_type_ids", torch.zeros_like(ids))
        fed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy(), "token_type_ids": types.numpy()}
        return torch.from_numpy(self.session.run(["hidden"], fed)[0])


torch.set_num_threads(threads)
model = SentenceTransformer(folder, device="cpu")
version = f"sentence-transformers {sentence_transformers.__version__}, PyTorch {torch.__version__}"
if kind == "onnx":
    runtime = Onnx(model[0].auto_model.float().eval())
    version = runtime.version
    model[0].forward = lambda features, **_: {**features, "token_embeddings": runtime.encode(features)}


def encode(texts):
    return model.encode(texts, batch_size=BATCH, show_progress_bar=False)


encode(["ready"])
print(json.dumps({"version": version}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    texts = request["texts"]
    started = time.perf_counter()
    vectors = encode(texts) if request["together"] else [encode(text) for text in texts]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "last": vectors[-1].tolist(), "peak_bytes": peak}), flush=True)
