# Runs in a session's Python: takes requests, one a line, from the channel that the argument names, and answers there in lines of JSON.
# Standard output and error are the user's own.
import ast
import base64
import builtins
import io
import json
import linecache
import os
import sys
import traceback


def _serve(fd):
    namespace = {"__name__": "__main__", "__doc__": None, "__builtins__": builtins}
    main = type(sys)("__main__")
    main.__dict__.update(namespace)
    sys.modules["__main__"] = main
    namespace = main.__dict__
    count = 0
    limit = 40 * 1024

    def say(message):
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(fd, data):]

    def read_line():
        parts = []
        while True:
            piece = os.read(fd, 65536)
            if not piece:
                return None
            parts.append(piece)
            if piece.endswith(b"\n"):
                return b"".join(parts)

    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass

    def encode(value):
        return base64.b64encode(value if isinstance(value, bytes) else value.encode("utf-8", "replace")).decode()

    def bundle(value):
        data = {}
        maker = getattr(value, "_repr_mimebundle_", None)
        if callable(maker) and not isinstance(value, type):
            try:
                made = maker()
                made = made[0] if isinstance(made, tuple) else made
                data.update({k: v for k, v in (made or {}).items() if isinstance(v, (str, bytes))})
            except Exception:
                pass
        for kind, name in (("text/html", "_repr_html_"), ("text/markdown", "_repr_markdown_"), ("image/svg+xml", "_repr_svg_"), ("text/latex", "_repr_latex_")):
            method = getattr(value, name, None)
            if kind not in data and callable(method) and not isinstance(value, type):
                try:
                    made = method()
                    if isinstance(made, str):
                        data[kind] = made
                except Exception:
                    pass
        data.setdefault("text/plain", repr(value))
        return {k: encode(v) for k, v in data.items()}

    def show(value, main):
        flush()
        say({"type": "result", "main": main, "count": count, "data": bundle(value)})

    def display(*values):
        for value in values:
            show(value, False)

    builtins.display = display

    def fail(kind, value, trace):
        # The frames of this driver are of no interest to anybody.
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        try:
            text = "".join(traceback.format_exception(kind, value, trace))
            said = str(value)
        except Exception:
            text = said = "<the error cannot be shown>"
        flush()
        say({"type": "error", "name": kind.__name__, "value": said[-limit:], "traceback": text[-limit:]})

    def run(source, name):
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        tree = ast.parse(source, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        if tree.body:
            exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if value is not None:
                namespace["_"] = value
                show(value, True)

    say({"type": "ready"})
    while True:
        line = read_line()
        if line is None:
            return
        request = json.loads(line)
        code = 0
        before = {}
        try:
            if request.get("adopt"):
                os.environ.clear()
                os.environ.update(request["env"])
                os.chdir(request["cwd"])
                if "" not in sys.path:
                    sys.path.insert(0, "")
            else:
                for key, value in request.get("env", {}).items():
                    before[key] = os.environ.get(key)
                    os.environ[key] = value
                if request.get("cwd"):
                    os.chdir(request["cwd"])
                count += 1
                run(request["code"], "<cell %d>" % count)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
            if stop.code is not None and not isinstance(stop.code, int):
                print(stop.code, file=sys.stderr)
        except BaseException:
            code = 1
            fail(*sys.exc_info())
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value
        flush()
        say({"type": "done", "code": code})


_serve(os.open(sys.argv[1], os.O_RDWR))
