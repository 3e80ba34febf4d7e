"""yardstick: llama.cpp's half of tests/bench/engine.py; runs inside a virtual environment that has llama-cpp-python.

Usage: yardstick.py MODEL THREADS PREFILL DECODE. Prints one JSON line: tokens per second of prefill and decode, the
version and the system information. Its extra (AMX) buffers are off; see docs/BENCHMARKS.md.
"""
import json
import sys
import time

import llama_cpp

model, threads, prefill, decode = sys.argv[1], *map(int, sys.argv[2:5])
llm = llama_cpp.Llama(model_path=model, n_ctx=prefill + decode + 16, n_batch=prefill, n_ubatch=prefill,
                      n_threads=threads, n_threads_batch=threads, verbose=False)
vocab = llm.n_vocab()
ids = [(i * 7919 + 13) % vocab for i in range(prefill)]
llm.eval(ids[:16])
llm.reset()
begin = time.perf_counter()
llm.eval(ids)
prefill_s = time.perf_counter() - begin
begin = time.perf_counter()
for i in range(decode):
    llm.eval([ids[i]])
decode_s = time.perf_counter() - begin
print(json.dumps({"prefill_tok_s": prefill / prefill_s, "decode_tok_s": decode / decode_s,
                  "version": llama_cpp.__version__, "system": llama_cpp.llama_print_system_info().decode().strip()}))
