"""The Python kernel of a context: IPython's InteractiveShell behind JSON lines on descriptors 3 (in) and 4 (out).

Before each answer it writes the request's marker to both outputs, through descriptors of its own, so that the agent knows what was printed before it.
"""
import base64
import importlib.util
import json
import os
import signal
import sys
import tempfile
import warnings

# An interrupt counts only while code runs; between two pieces it is nobody's.
signal.signal(signal.SIGINT, signal.SIG_IGN)

requests = os.fdopen(3, "r", encoding="utf-8", newline="\n")
replies = os.fdopen(4, "wb", buffering=0)
marks = [os.fdopen(os.dup(fd), "wb", buffering=0) for fd in (1, 2)]
for fd in (3, 4):
    os.set_inheritable(fd, False)
# Lines appear as they are printed, as on a terminal.
sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")
sys.argv = [""]
sys.path[0] = ""

# What the host takes in one result, and in one line of ours (which is Base64).
MAX_RESULT = 384 * 1024
MAX_TEXT = 48 * 1024

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
# `figure.show()` has nothing to do: the figures are shown when the code is over.
warnings.filterwarnings("ignore", message=".*(non-GUI backend|non-interactive).*")

from IPython.core.displayhook import DisplayHook  # noqa: E402
from IPython.core.displaypub import DisplayPublisher  # noqa: E402
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from traitlets.config import Config  # noqa: E402

_spec = importlib.util.spec_from_file_location("_sandbox_rich", os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_rich.py"))
rich = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rich)

marker = b""
failed = False


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def write_all(stream, data):
    while data:
        data = data[stream.write(data):]


def send(message):
    """Sends an answer whole: an interrupt in the middle of it would leave the agent waiting for the rest."""
    line = (json.dumps(message) + "\n").encode()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        flush()
        if marker:
            for stream in marks:
                write_all(stream, marker)
        write_all(replies, line)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def raw(mime, value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        # IPython hands images over as Base64 text; everything else as itself.
        if mime == "application/pdf" or (mime.startswith("image/") and mime != "image/svg+xml"):
            return base64.b64decode(value)
        return value.encode("utf-8", "replace")
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError):
        # Numbers that are none, keys that are no text, values of numpy.
        return json.dumps(rich.beside("values").plain(value), allow_nan=False).encode()


def show(data, main=False):
    parts, left_out, size = {}, [], 0
    for mime, value in data.items():
        try:
            content = raw(mime, value)
        except Exception as exception:
            left_out.append(f"{mime} ({exception})")
            continue
        if size + len(mime) + len(content) > MAX_RESULT:
            if mime != "text/plain":
                left_out.append(f"{mime} ({len(content)} bytes)")
                continue
            content = content[: max(0, MAX_RESULT - size - len(mime) - 3)] + "…".encode()
        size += len(mime) + len(content)
        parts[str(mime)] = base64.b64encode(content).decode()
    for what in left_out:
        print(f"[sandbox] left out of a result, which takes {MAX_RESULT} bytes: {what}", file=sys.stderr)
    if parts:
        send({"type": "result", "main": main, "count": shell.execution_count, "data": parts})


class Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kwargs):
        show(data)

    def clear_output(self, wait=False):
        pass


class Hook(DisplayHook):
    """Sends the value of the last expression instead of printing it."""

    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        show(format_dict, main=True)

    def finish_displayhook(self):
        pass


def clip(text, most=MAX_TEXT):
    text = str(text).encode("utf-8", "replace").decode()
    return text if len(text) <= most else "…" + text[-most:]


class Shell(InteractiveShell):
    exit_code = None

    def init_display_formatter(self):
        super().init_display_formatter()
        self.display_formatter.active_types = self.display_formatter.format_types
        rich.register(self.display_formatter)

    def enable_matplotlib(self, gui=None):
        # `%matplotlib inline` and its like: figures are results in any case.
        return gui or "inline", "inline"

    def enable_gui(self, gui=None):
        pass

    def ask_exit(self):
        # `exit` and `quit` end the piece of code, as an exit status; the context stays.
        raise SystemExit(0)

    def _showtraceback(self, etype, evalue, stb):
        global failed
        failed = True
        if etype is SystemExit:
            return
        try:
            value = str(evalue)
        except Exception as exception:
            value = f"<no text: {type(exception).__name__}>"
        send({"type": "error", "name": clip(etype.__name__, 1000), "value": clip(value), "traceback": clip("\n".join(stb))})


config = Config()
config.HistoryManager.enabled = False
config.InteractiveShell.colors = "NoColor"
config.InteractiveShell.xmode = "Context"
shell = Shell.instance(
    config=config,
    display_pub_class=Publisher,
    displayhook_class=Hook,
    # Nothing of ours belongs into the user's home.
    ipython_dir=tempfile.mkdtemp(prefix="ipython-"),
)
shell.display_formatter.ipython_display_formatter.enabled = True
rich.watch(show)


def adopt(message):
    """A warm interpreter becomes a context: environment and directory are that context's from now on."""
    os.environ.update(message.get("env") or {})
    if message.get("cwd"):
        try:
            os.chdir(message["cwd"])
        except OSError as error:
            sys.stderr.write("[sandbox] cannot change to the context's directory: %s\n" % error)


def reseed(seed):
    import random

    seed = bytes.fromhex(seed)
    random.seed(seed)
    if "_ssl" in sys.modules:
        # OpenSSL's generator lives in the process and would go on like a sibling's.
        sys.modules["_ssl"].RAND_add(seed, len(seed))
    # Names of temporary files come from a generator of their own.
    tempfile._name_sequence = None
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed([int.from_bytes(seed[i:i + 4], "little") for i in range(0, len(seed), 4)])
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(int.from_bytes(seed[:7], "little"))


def run(request):
    global failed
    failed = False
    environment = request.get("env") or {}
    saved = {name: os.environ.get(name) for name in environment}
    try:
        os.environ.update(environment)
        if request.get("cwd"):
            os.chdir(request["cwd"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            result = shell.run_cell(request["code"], store_history=True)
            failure = result.error_before_exec or result.error_in_exec
            if isinstance(failure, SystemExit):
                value = failure.code
                if value is not None and not isinstance(value, int):
                    print(value, file=sys.stderr)
                return 0 if value is None else value & 255 if isinstance(value, int) else 1
            if failure is None and not failed:
                rich.show_figures(show)
            else:
                # Half-drawn figures must not come with the next piece of code.
                rich.close_figures()
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    except BaseException as exception:
        # Before or after the code itself: a directory that is not there, an interrupt between two steps.
        failed = True
        send({"type": "error", "name": type(exception).__name__, "value": clip(exception), "traceback": f"{type(exception).__name__}: {clip(exception)}"})
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return 1 if failed else 0


send({"type": "ready"})
while True:
    line = requests.readline()
    if not line:
        break
    message = json.loads(line)
    marker = b"\0" + message["marker"].encode() + b"\0"
    outcome = 0
    if message.get("seed"):
        reseed(message["seed"])
        adopt(message)
    else:
        outcome = run(message)
    send({"type": "done", "code": outcome})
    marker = b""
