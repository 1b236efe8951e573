"""The command line: one line per verb. A verb's module is imported only when the verb runs."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Group

from ashneuro import __version__
from ashneuro.errors import AshneuroError

LEARN = Group("Learn", sort_key=1)
DEPLOY = Group("Deploy", sort_key=2)
COST = Group("Cost", sort_key=3)
SETUP = Group("Set-up and data", sort_key=4)

VERBS = (
    (LEARN, "train", "Learn from image–text pairs on this GPU or CPU."),
    (
        LEARN,
        "evaluate",
        "How good is a run: retrieval, VQA, entailment, NLVR2? Spikes from torch, the emulator or Lava.",
    ),
    (LEARN, "sweep", "Vary factors and seeds: ablations, accuracy–energy trade-offs."),
    (LEARN, "search", "Show me that it works on my pictures: the best matches of a text."),
    (DEPLOY, "check", "Will this run or NIR graph run on the target, and if not, why? Every finding at once."),
    (DEPLOY, "export", "Write the deployable bundle and prove that it computes the same."),
    (DEPLOY, "simulate", "What does it spike: float, bit-exact integer, or Lava itself."),
    (DEPLOY, "verify", "Prove a bundle again, from the bundle alone."),
    (COST, "report", "What does it cost, against an ANN that does the same job?"),
    (COST, "profiles", "Which chips are known, and where does each number come from?"),
    (SETUP, "data", "List, show, check, fetch and build data sets."),
    (SETUP, "doctor", "What is installed here, and what mends what is missing?"),
    (SETUP, "bench", "How fast is it here? Ratios within one run."),
    (SETUP, "demo", "The whole job on real data, in minutes."),
)

app = App(
    suppress_keyboard_interrupt=False,  # `main` says that what was finished is kept
    name="ashneuro",
    help="Hybrid ANN–SNN vision–language models: train on GPU, run the spiking part on Lava, know what it costs.",
    version=__version__,
    help_format="plaintext",
)
app["--help"].group = app["--version"].group = Group("Options", sort_key=9)
for group, verb, sentence in VERBS:
    app.command(f"ashneuro.commands.{verb}:{verb}", name=verb, group=group, help=sentence)


# What the system refuses, wherever a verb reads or writes: no bug of ours.
_REMEDIES = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG), "check the path"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check who may write there, or choose another folder"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or choose another disk"),
    errno.EEXIST: "something of that name is there already: choose another name",
}


def _open_streams() -> None:
    """Let everything be printed: a stream that is closed takes nothing, a character that its encoding lacks becomes ``?``."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _let_speak(words: Sequence[str]) -> None:
    """Let the verb that is asked for say all about itself; in the list of verbs it has its one sentence."""
    for verb in (name for _, name, _ in VERBS if name in words):
        if (function := app[verb].default_command) is not None and function.__name__ == verb:
            app[verb].help = None


def main() -> None:
    """Run one verb; exit 0 when it is done, 1 when it found that something does not hold, 2 or 3 on errors."""
    _open_streams()
    try:
        _let_speak(sys.argv[1:2])
        status = app(sys.argv[1:], exit_on_error=False, print_error=True, result_action="return_value")
    except CycloptsError:
        sys.exit(2)
    except AshneuroError as error:
        from ashneuro.reporting.terminal import print_error

        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what was finished is kept\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except SystemExit as leaving:  # rich, which prints help, leaves with 1 when nobody reads
        sys.exit(0 if isinstance(leaving.__context__, BrokenPipeError) else leaving.code)
    except OSError as error:
        if (remedy := _REMEDIES.get(error.errno or 0)) is None:
            raise
        from ashneuro.reporting.terminal import print_error

        print_error(AshneuroError(f"cannot use {error.filename or 'the disk'}", error.strerror or str(error), remedy))
        sys.exit(AshneuroError.exit_code)
    sys.exit(status if isinstance(status, int) else 0)
