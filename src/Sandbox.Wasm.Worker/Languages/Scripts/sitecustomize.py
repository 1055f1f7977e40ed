# A program for WASI begins in "/": the session's directory is named by the environment.
import os

try:
    os.chdir(os.environ.get("PWD", "/"))
except OSError:
    pass
