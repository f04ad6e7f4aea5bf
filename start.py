"""Set up and start marco-data with nothing but Python 3.11 or 3.12.

    python3 start.py build-stage 3      any marco-data command: see `python3 start.py --help`
    python3 start.py test               the tests; further arguments go to pytest

In: the arguments. Out: a virtual environment in `.venv` beside this file, made once and again whenever
`constraints.txt` or `pyproject.toml` change, and then the command itself, which takes this process over.
This file is written in the Python that Python 2 and 3 share, so that an old one can read it far enough to refuse.
"""

import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
MADE_HERE = os.path.join(VENV, "made-by-start.py")
STAMP = os.path.join(VENV, "set-up")
PYTHON = os.path.join(VENV, "bin", "python")
CONSTRAINTS = os.path.join(HERE, "constraints.txt")
ACCEPTED = ((3, 11), (3, 12))
# A file's fixtures are made once. Files come by name: xdist's own order, those of most tests first, puts the heaviest,
# which have one or two, at the end, where one process waits for the other. One process more than there are cores:
# a third of the time of a test is waiting, for processes that start and for locks that end.
PROCESSES = str(min(4, (os.cpu_count() or 1) + 1))
IN_PARALLEL = ["-n", PROCESSES, "--dist", "loadfile", "--no-loadscope-reorder"]


def main(arguments):
    refuse_other_pythons()
    testing = arguments[:1] == ["test"]
    set_up("dev" if testing else "core")
    sys.stdout.flush()
    if testing:
        os.chdir(HERE)
        os.execv(PYTHON, [PYTHON, "-m", "pytest"] + IN_PARALLEL + arguments[1:])
    program = os.path.join(VENV, "bin", "marco-data")
    os.execv(program, [program] + arguments)


def refuse_other_pythons():
    if tuple(sys.version_info[:2]) in ACCEPTED:
        return
    refuse(
        "it needs Python 3.11 or 3.12, and this is Python %d.%d: run the same with python3.11 or python3.12."
        % tuple(sys.version_info[:2])
    )


def set_up(level):
    """Make the environment, unless it is there as these files describe it. A set-up cut short leaves no stamp."""
    digest = description()
    have = stamp()
    if have in ([digest, level], [digest, "dev"]):
        return
    if have[:1] == [digest]:
        os.remove(STAMP)
    else:
        make_environment()
    say("installing the exact versions of constraints.txt (once)")
    extra = "[dev]" if level == "dev" else ""
    install = [PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON]
    if not sys.stderr.isatty():
        install.append("--quiet")
    step(install + ["-c", CONSTRAINTS, "-b", CONSTRAINTS, "-e", HERE + extra], with_the_index_of_pip())
    with open(STAMP + ".new", "w") as file:
        file.write(digest + " " + level)
    os.rename(STAMP + ".new", STAMP)


def description():
    """What the environment depends on: the files, the Python, and where it lies (its scripts hold that path)."""
    digest = hashlib.sha256(os.fsencode(sys.version + sys.base_prefix + HERE))
    for path in (CONSTRAINTS, os.path.join(HERE, "pyproject.toml"), os.path.abspath(__file__)):
        with open(path, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def stamp():
    if not os.path.exists(STAMP):
        return []
    with open(STAMP) as file:
        return file.read().split()


def make_environment():
    try:
        import ensurepip  # noqa: F401  (some systems ship it apart, and `venv` fails obscurely without)
    except ImportError:
        refuse(
            "this Python cannot make virtual environments, because its ensurepip is missing: install it "
            "(Debian and Ubuntu: apt install python%d.%d-venv) and run the same again." % tuple(sys.version_info[:2])
        )
    if os.path.exists(VENV) and not os.path.exists(MADE_HERE):
        refuse("%s was not made by start.py, which would replace it: move it away and run the same again." % VENV)
    say("making %s with Python %d.%d" % ((VENV,) + tuple(sys.version_info[:2])))
    shutil.rmtree(VENV, ignore_errors=True)
    os.mkdir(VENV)
    with open(MADE_HERE, "w") as file:
        file.write("start.py made this folder and replaces it when it has to.\n")
    step([sys._base_executable, "-m", "venv", VENV])  # sys.executable may lie in the folder removed above
    step([PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", CONSTRAINTS, "uv"])


def with_the_index_of_pip():
    """The environment for uv, which does not read pip's settings: a mirror set up for pip holds for it too."""
    environment = dict(os.environ)
    index = environment.get("PIP_INDEX_URL")
    if not index:
        asked = subprocess.Popen(
            [PYTHON, "-m", "pip", "config", "get", "global.index-url"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        index = asked.communicate()[0].decode("utf-8").strip()
    if index:
        environment.setdefault("UV_DEFAULT_INDEX", index)
    return environment


def step(command, environment=None):
    """Run one part of the set-up; what it prints goes to stderr, because stdout belongs to the command."""
    status = subprocess.call(command, stdout=sys.stderr.fileno(), env=environment)
    if status:
        sys.exit("marco-data: setting up failed, see above; the same command starts it afresh.")


def refuse(why):
    say(why)
    sys.exit(2)


def say(what):
    sys.stderr.write("marco-data: " + what + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
