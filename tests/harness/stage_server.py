"""Runs stages in forks of a process that has imported PyTorch and the like: seconds saved, hundreds of times.

The tests put a program named `python` first on the PATH. For `python -m stages NAME` it asks this server, over a Unix
socket, to run the stage with its own folder, environment and streams, and ends with the stage's exit code. The
project's own code is not in the server: each run imports that of its folder. One server serves all workers of pytest.

    python stage_server.py SOCKET
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback
import warnings
from pathlib import Path

# What stages import from elsewhere; the first optimizer imports torch._dynamo, the first figure a backend.
LIBRARIES = ["faults", "torch._dynamo", "safetensors.torch", "ruamel.yaml", "tqdm", "sklearn.metrics"]
LIBRARIES += ["sklearn.model_selection", "matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg"]
LIBRARIES += ["onnx", "onnxruntime", "onnxscript", "sympy", "wasmtime"]

# Standard library only, and no site packages, so that it starts in a moment. {python}: the real one.
CLIENT = """#!{python} -SE
import json, os, socket, sys

if sys.argv[1:3] != ["-m", "stages"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [b" "], [0, 1, 2])
order = {{"folder": os.getcwd(), "environment": dict(os.environ), "arguments": sys.argv[3:]}}
server.sendall(json.dumps(order).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.makefile().read() or 137))  # a stage that was killed does not answer
"""


def run(folder, environment, arguments):
    """Do what `python -m MODULE` does, in this process, a fork of the server; give the exit code."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(Path.cwd())
    if "FAULT" in environment:
        import faults  # beside this file: the server has imported it

        faults.install(environment["FAULT"])
    code = 0
    try:
        sys.argv[1:] = arguments
        runpy.run_module("stages", run_name="__main__", alter_sys=True)
    except SystemExit as exit_:  # as the interpreter does: a text is printed, and means failure
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def answer(client):
    """Run what a client orders, with its streams, and tell it the exit code."""
    _, streams, _, _ = socket.recv_fds(client, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    client.sendall(str(run(**json.loads(client.makefile().read()))).encode())


def serve(address):
    """Answer every client in a fork of its own, until this process is ended."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)  # who calls before the imports are done will wait
    for module in LIBRARIES:
        importlib.import_module(module)
    # The first export of a process takes twice as long as the next: 2.5 s that each stage `export` would need.
    torch = sys.modules["torch"]
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(torch.nn.Linear(1, 1), (torch.zeros(1, 1),), dynamo=True, verbose=False)
    gc.freeze()  # or each fork would soon collect garbage among all of PyTorch: a quarter of a second
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            answer(client)
            os._exit(0)
        client.close()


if __name__ == "__main__":
    serve(sys.argv[1])
