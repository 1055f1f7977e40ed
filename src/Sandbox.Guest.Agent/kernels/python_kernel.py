"""The Python kernel of a context: IPython's InteractiveShell behind JSON lines on descriptors 3 (in) and 4 (out)."""
import base64
import json
import os
import signal
import sys

requests = os.fdopen(3, "r", encoding="utf-8", newline="\n")
replies = os.fdopen(4, "w", encoding="utf-8", newline="\n")
os.set_inheritable(3, False)
os.set_inheritable(4, False)
sys.argv = [""]
sys.path.insert(0, "")
os.environ.setdefault("MPLBACKEND", "agg")

# An interrupt counts only while code runs; between two pieces it is nobody's.
signal.signal(signal.SIGINT, signal.SIG_IGN)

from IPython.core.displayhook import DisplayHook  # noqa: E402
from IPython.core.displaypub import DisplayPublisher  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402


def send(message):
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def bundle(data):
    parts = {}
    for mime, value in data.items():
        if isinstance(value, bytes):
            raw = value
        elif isinstance(value, str):
            # IPython hands images over as base64 text; everything else as itself.
            raw = base64.b64decode(value) if mime.startswith("image/") and mime != "image/svg+xml" else value.encode()
        else:
            raw = json.dumps(value).encode()
        parts[mime] = base64.b64encode(raw).decode()
    return parts


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


class Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kwargs):
        flush()
        send({"type": "result", "main": False, "count": self.shell.execution_count, "data": bundle(data)})


class Hook(DisplayHook):
    """Sends the value of the last expression instead of printing it."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        flush()
        send({"type": "result", "main": True, "count": self.shell.execution_count, "data": bundle(format_dict)})

    def finish_displayhook(self):
        pass


class Shell(InteractiveShell):
    def _showtraceback(self, etype, evalue, stb):
        pass

    def init_display_formatter(self):
        super().init_display_formatter()
        self.display_formatter.active_types = self.display_formatter.format_types


shell = Shell.instance(display_pub_class=Publisher, displayhook_class=Hook, colors="NoColor", history_load_length=0)
shell.history_manager.enabled = False


def show_figures():
    """Figures that were drawn and not shown are results, as in a notebook."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    import io

    for number in pyplot.get_fignums():
        buffer = io.BytesIO()
        figure = pyplot.figure(number)
        figure.savefig(buffer, format="png", bbox_inches="tight")
        send({"type": "result", "main": False, "count": shell.execution_count,
              "data": {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": base64.b64encode(repr(figure).encode()).decode()}})
    pyplot.close("all")


def reseed(seed):
    import random

    random.seed(bytes.fromhex(seed))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(list(bytes.fromhex(seed)))


def error(exception):
    # The frames of the shell itself say nothing about the user's code.
    import traceback

    kind = type(exception)
    text = "".join(traceback.format_exception(kind, exception, exception.__traceback__)).replace('File "<ipython-input-', 'File "<input-')
    send({"type": "error", "name": kind.__name__, "value": str(exception), "traceback": text})


def run(request):
    if request.get("cwd"):
        os.chdir(request["cwd"])
    saved = {name: os.environ.get(name) for name in request.get("env", {})}
    os.environ.update(request.get("env", {}))
    code = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        result = shell.run_cell(request["code"], store_history=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        failure = result.error_before_exec or result.error_in_exec
        flush()
        if isinstance(failure, SystemExit):
            value = failure.code
            code = value if isinstance(value, int) else 0 if value is None else 1
        elif failure is not None:
            code = 1
            error(failure)
        else:
            show_figures()
    except KeyboardInterrupt as interrupted:
        code = 1
        error(interrupted)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return code


while True:
    line = requests.readline()
    if not line:
        break
    message = json.loads(line)
    outcome = 0
    if "reseed" in message:
        reseed(message["reseed"])
    else:
        outcome = run(message)
    flush()
    mark = b"\0" + message["marker"].encode() + b"\0"
    os.write(1, mark)
    os.write(2, mark)
    send({"type": "done", "code": outcome})
