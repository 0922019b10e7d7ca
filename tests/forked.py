"""A function in a process of its own that has PyTorch loaded already: importing it would take
longer than most notebooks do."""

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import coverage
from places import ROOT, environment

PRELOADED = [
    "torch",
    "torchvision",
    "torch.distributed",
    "lightning_fabric",
    "pandas",
    "scipy.stats",
    "matplotlib.pyplot",
    "sklearn",
    "nbdev.test",
]


def work(output: str, env: dict[str, str], measured: bool, function: Callable, *arguments) -> None:
    "In the new process: the function, its output in a file, its lines of the package counted."
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    os.environ.update(env)
    os.chdir(ROOT)
    sys.path[:] = [str(ROOT), *(p for p in sys.path if p)]
    tracer = coverage.Coverage(
        data_file=str(ROOT / ".coverage"), data_suffix=True, config_file=str(ROOT / ".coveragerc")
    )
    if measured:
        tracer.start()
    status = 1
    try:
        function(*arguments)
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        if measured:
            tracer.stop()
            tracer.save()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)


def start_server() -> multiprocessing.context.BaseContext:
    "The process that the others are copies of; it is not measured itself."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(environment(measured=False))
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def run(function: Callable, *arguments, seconds: float, measured: bool = True) -> tuple[int, str]:
    "The exit status and the output; a process that takes longer is killed, which is a failure."
    measured = measured and any(k.startswith("COVERAGE_PROCESS") for k in os.environ)
    handle, output = tempfile.mkstemp(suffix=".txt")
    os.close(handle)
    try:
        process = start_server().Process(
            target=work, args=(output, environment(measured=False), measured, function, *arguments)
        )
        process.start()
        process.join(seconds)
        late = process.is_alive()
        if late:
            process.kill()
            process.join()
        text = Path(output).read_text(encoding="utf-8", errors="replace")
        return process.exitcode, text + (f"\nnot finished after {seconds} seconds" if late else "")
    finally:
        os.unlink(output)
