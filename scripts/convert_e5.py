#!/usr/bin/env python3
"""Writes the packed 4-bit file of multilingual-e5-small that the program e5.c reads (magic `E5S1`) as a Hugging Face folder with the files of
sentence-transformers, which `zhenjin embed` opens.

    python scripts/convert_e5.py e5-small-q4.bin ./multilingual-e5-small     (it needs numpy, safetensors and tokenizers)
    zhenjin embed ./multilingual-e5-small --prompt 'query: ' 'How do I boil an egg?'

Weights are written in f32, each the value that its four bits stand for. The file holds the tokenizer's normalisation as a table of code
points; the folder has NFKC and sentencepiece's rules for white space in its place, which differ for a few rare characters (the script
counts them).
"""

import argparse
import json
import struct
from pathlib import Path

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

BLOCK = numpy.dtype([("scale", "<f2"), ("quants", "u1", 16)])
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
TABLES = {"emb.word": "word", "emb.pos": "position", "emb.type": "token_type"}
PREFIXES = {"query": "query: ", "passage": "passage: "}


class Reader:
    def __init__(self, data: bytes):
        self.data, self.place = data, 0

    def take(self, form: str):
        values = struct.unpack_from("<" + form, self.data, self.place)
        self.place += struct.calcsize("<" + form)
        return values if len(values) > 1 else values[0]

    def array(self, dtype: str, count: int) -> numpy.ndarray:
        values = numpy.frombuffer(self.data, dtype, count, self.place)
        self.place += values.nbytes
        return values


def read(path: Path):
    """Sizes, tokenizer and tensors `{name: values in f32, flat}`."""
    reader = Reader(path.read_bytes())
    if reader.take("4s") != b"E5S1":
        raise SystemExit(f"{path}: it does not begin with `E5S1`")
    reader.take("I")
    names = ["hidden", "layers", "heads", "inner", "vocabulary", "positions", "types"]
    sizes = dict(zip(names, reader.take("7i")))
    sizes["epsilon"] = reader.take("f")
    if reader.take("i") != 32:
        raise SystemExit(f"{path}: blocks are not of 32 weights")
    pieces = reader.take("i")
    special = dict(zip(["bos", "eos", "pad", "unk"], reader.take("4i")))
    length = reader.take("Q")
    offsets, scores = reader.array("<u4", pieces + 1), reader.array("<f4", pieces)
    blob = bytes(reader.array("u1", length))
    texts = [blob[start:end].decode() for start, end in zip(offsets[:-1], offsets[1:])]
    count, _ = reader.take("iI")
    table = {}
    for _ in range(count):
        point, outputs = reader.take("IB")
        table[point] = "".join(map(chr, reader.array("<u4", outputs)))
    tensors = {}
    for _ in range(reader.take("i")):
        name = reader.data[reader.place + 2 : reader.place + 2 + reader.take("H")].decode()
        reader.place += len(name)
        kind, count, offset, size = reader.take("BIQQ")
        tensors[name] = values(reader.data[offset : offset + size], count)
    return sizes, (texts, scores, special, table), tensors


def values(data: bytes, count: int) -> numpy.ndarray:
    if len(data) == 4 * count:
        return numpy.frombuffer(data, "<f4")
    blocks = numpy.frombuffer(data, BLOCK)
    quants = numpy.concatenate([blocks["quants"] & 15, blocks["quants"] >> 4], axis=1).astype(numpy.float32) - 8
    return (quants * blocks["scale"].astype(numpy.float32)[:, None]).reshape(-1)


def weights(sizes: dict, tensors: dict) -> dict:
    width = sizes["hidden"]
    named = {f"embeddings.{name}_embeddings.weight": tensors[key].reshape(-1, width) for key, name in TABLES.items()}
    named |= {"embeddings.LayerNorm.weight": tensors["emb.ln.w"], "embeddings.LayerNorm.bias": tensors["emb.ln.b"]}
    for layer in range(sizes["layers"]):
        for key, name in LAYER.items():
            stem = f"encoder.layer.{layer}.{name}"
            weight, bias = tensors[f"l{layer}.{key}.w"], tensors[f"l{layer}.{key}.b"]
            named[f"{stem}.weight"] = weight if key.endswith("ln") else weight.reshape(len(bias), -1)
            named[f"{stem}.bias"] = bias
    return {name: numpy.ascontiguousarray(value) for name, value in named.items()}


def tokenizer(texts: list, scores, special: dict, table: dict) -> Tokenizer:
    made = Tokenizer(models.Unigram([(text, float(score)) for text, score in zip(texts, scores)], special["unk"]))
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(" ", " ")])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    first, last = texts[special["bos"]], texts[special["eos"]]
    made.add_special_tokens(sorted({texts[number] for number in special.values()}, key=texts.index))
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, special["bos"]), (last, special["eos"])]
    )
    differing = sum(made.normalizer.normalize_str(chr(point)).strip() != text.strip() for point, text in table.items())
    print(f"normalisation: {differing} of {len(table)} code points differ from the file's table")
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    sizes, (texts, scores, special, table), tensors = read(arguments.file)
    (arguments.folder / "1_Pooling").mkdir(parents=True)

    def write(name: str, content) -> None:
        (arguments.folder / name).write_text(json.dumps(content, indent=1) + "\n")

    save_file(weights(sizes, tensors), arguments.folder / "model.safetensors", {"format": "pt"})
    tokenizer(texts, scores, special, table).save(str(arguments.folder / "tokenizer.json"))
    write("config.json", {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute",
        "hidden_size": sizes["hidden"], "num_hidden_layers": sizes["layers"], "num_attention_heads": sizes["heads"],
        "intermediate_size": sizes["inner"], "vocab_size": sizes["vocabulary"], "max_position_embeddings": sizes["positions"],
        "type_vocab_size": sizes["types"], "layer_norm_eps": sizes["epsilon"], "pad_token_id": special["pad"],
    })
    names = {f"{name}_token": texts[special[name]] for name in ("bos", "eos", "pad", "unk")}
    write("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": sizes["positions"], **names})
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write("modules.json", [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(modules)
    ])
    write("1_Pooling/config.json", {"word_embedding_dimension": sizes["hidden"], "pooling_mode_mean_tokens": True})
    write("sentence_bert_config.json", {"max_seq_length": sizes["positions"], "do_lower_case": False})
    write("config_sentence_transformers.json", {"prompts": PREFIXES, "default_prompt_name": None})
    print(f"{arguments.folder}: {sizes}")


if __name__ == "__main__":
    main()
