"""Run by `make bench`: `python -m unittest discover bench`."""

import tempfile
import unittest
from pathlib import Path

import report
import server_report
import workload
from load import Load
from statistics_of import ratios, windows

RESULTS = {
    "machine": {"cpu": "A processor", "cores": 2, "instructions": ["avx2"], "memory_bytes": 1, "system": "Linux"},
    "threads": 2,
    "rounds": 3,
    "programs": {
        "zhenjin": {"version": "1", "settings": {"kv_cache": "f32", "activations": "int8", "flags": "none", "build": "x"}},
        "llama_cpp": {"version": "2", "settings": {"kv_cache": "f16", "activations": "q8", "flags": "none", "build": "x"}},
        "openvino": {"missing": "no wheel for this machine"},
    },
    "tests": [
        {
            "type": "Q4_1",
            "label": "prefill 512 tokens",
            "unit": "tok/s",
            "programs": {"zhenjin": {"values": [300.0, 200.0, 400.0]}, "llama_cpp": {"values": [100.0, 100.0, 100.0]}},
        },
        {
            "type": "Q4_1",
            "label": "load",
            "unit": "s",
            "programs": {"zhenjin": {"values": [0.5]}, "llama_cpp": {"values": [], "refused": "no such type"}},
        },
    ],
}


class ReportTest(unittest.TestCase):
    def test_ratios_pair_rounds_and_turn_round_where_less_is_better(self):
        self.assertEqual(ratios([4.0, 2.0], [2.0, 4.0]), [2.0, 0.5])
        self.assertEqual(ratios([4.0, 2.0], [2.0], less_is_better=True), [0.5])

    def test_refusals_and_missing_programs_are_said(self):
        page = report.page(RESULTS)
        self.assertIn("2.00 / 3.00 / 4.00", page)
        self.assertIn("not done [1]", page)
        self.assertIn("[1] no such type", page)
        self.assertIn("no wheel for this machine", page)
        self.assertIn("no wheel for this machine", report.summary(RESULTS))

    def test_the_summary_has_six_rows_of_the_first_type(self):
        values = {"zhenjin": {"values": [2.0]}, "llama_cpp": {"values": [1.0]}}
        rows = [
            {"type": kind, "label": f"{label}, and so on", "unit": "tok/s", "programs": values}
            for kind in ("Q4_1", "Q8_0")
            for label in (*report.SUMMARY, "prefill 4,096 tokens")
        ]
        lines = report.summary_table(RESULTS | {"tests": rows}).splitlines()
        self.assertEqual(len(lines), 2 + 6)
        self.assertEqual(lines[0], "| Q4_1 | Zhenjin | × llama.cpp |")
        self.assertEqual(lines[4], "| prefill 512 tokens, and so on | 2.00 tok/s | 2.00 / 2.00 / 2.00 |")

    def test_the_summary_of_the_servers_is_of_the_most_chats(self):
        servers = {"zhenjin": [600.0], "llama-server": [100.0]}
        rows = [{"label": f"{chats} chats: all tokens", "unit": "tok/s", "servers": servers} for chats in (4, 16)]
        sentence = server_report.summary({**RESULTS, "tests": rows})
        self.assertIn("Measured on A processor, 2 cores (avx2), 2 threads, 3 rounds", sentence)
        self.assertIn("16 chats at once", sentence)
        self.assertIn("600 / 600 / 600, which is 6.00 / 6.00 / 6.00 × llama-server", sentence)

    def test_only_what_stands_between_the_marks_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            document = Path(folder) / "README.md"
            document.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
            report.replace_between(document, "bench", "new")
            self.assertEqual(document.read_text(), "before\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nafter\n")
            with self.assertRaises(SystemExit):
                report.replace_between(document, "server", "new")

    def test_every_stretch_of_a_busy_machine_counts(self):
        self.assertEqual(windows([1.0, 4.0, 1.0, 1.0, 3.0], 10, 5.0), [4.0, 4.0, 6.0])
        self.assertEqual(windows([1.0], 10, 5.0), [])
        self.assertEqual(Load(0).fair_share(2, 2), 1)
        self.assertEqual(Load(2, 2).fair_share(2, 2), 1 / 3)
        self.assertEqual(Load(2).fair_share(8, 2), 0.8)

    def test_the_worst_stretch_is_compared_with_the_fair_share(self):
        cells = [("idle machine", 1.0, [100.0, 120.0, 110.0]), ("2 spinning", 0.5, [44.0, 60.0, 50.0])]
        busy = [
            {"test": "decode", "load": load, "fair_share": share, "programs": {"zhenjin": {"values": values}}}
            for load, share, values in cells
        ]
        self.assertIn("| decode | 2 spinning | 44.0 / 50.0 / 60.0 | 80% |", report.busy_table({"busy": busy}))

    def test_the_table_of_perplexities_names_both_models_or_says_that_one_was_not_given(self):
        row = {"model": "one", "text": "text.txt", "scored_tokens": 20400, "f32": 10.0, "served": 10.02}
        both = {"rows": [row, {**row, "model": "two", "served": 9.99}], "missing": []}
        table = report.perplexity_table({"perplexity": both})
        self.assertIn("| one | text.txt | 20,400 | 10.0000 | 10.0200 | +0.20 % |", table)
        self.assertIn("| two | text.txt | 20,400 | 10.0000 | 9.9900 | -0.10 % |", table)
        page = report.page({**RESULTS, "perplexity": {"rows": [row], "missing": ["A second model was not given"]}})
        self.assertIn("A second model was not given.", page)

    def test_what_was_not_measured_is_said_and_has_no_empty_table(self):
        page = report.page(RESULTS)
        self.assertIn("The speed on a busy machine was not measured in this run.", page)
        self.assertIn("The perplexity with the KV cache that is served was not measured in this run.", page)
        self.assertNotIn("| other processes |", page)
        self.assertNotIn("| tokens scored |", page)

    def test_answers_share_no_prompt(self):
        prompts = workload.prompts(workload.Test("answers", 64, 16, 100), 49152)
        self.assertEqual(len({tokens[0] for tokens in prompts}), 16)
        self.assertEqual(prompts[0][:2], [(16 * 104_729 + 13) % 49152, (7919 + 16 * 104_729 + 13) % 49152])


class Models(unittest.TestCase):
    def test_another_model_is_named_without_its_type(self):
        from compare import name_of

        for file, name in [
            ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b-instruct"),
            ("qwen3-1.7b-random.Q4_K_M.gguf", "qwen3-1.7b-random"),
            ("SmolLM2-135M-Instruct.F32.gguf", "SmolLM2-135M-Instruct"),
            ("Qwen3-4B.gguf", "Qwen3-4B"),
        ]:
            self.assertEqual(name_of({"path": f"/models/{file}"}), name)


if __name__ == "__main__":
    unittest.main()
