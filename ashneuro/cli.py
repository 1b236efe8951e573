"""Command line of ashneuro. The module of a verb is imported only when that verb runs."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Group, Parameter, UnknownOptionError

from ashneuro import __version__
from ashneuro.cores import share_cores
from ashneuro.errors import AshneuroError

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel, InlineText
    from rich.console import Console, ConsoleOptions

LEARN = Group("Learn", sort_key=1)
DEPLOY = Group("Deploy", sort_key=2)
COST = Group("Cost", sort_key=3)
SETUP = Group("Set-up and data", sort_key=4)

VERBS = (
    (LEARN, "train", "Train on image–text pairs, on this GPU or CPU."),
    (LEARN, "evaluate", "Evaluate retrieval, VQA, entailment or NLVR2, with spikes from torch, the emulator or Lava."),
    (LEARN, "sweep", "Vary factors and seeds: ablations and accuracy–energy trade-offs."),
    (LEARN, "search", "Search pictures with a text, and draw the best matches."),
    (DEPLOY, "check", "Check whether a run or NIR graph runs on a target: every finding at once."),
    (DEPLOY, "export", "Write the deployable bundle, and prove that it computes the same as the network."),
    (DEPLOY, "simulate", "Count spikes in float, in bit-exact integers, or in Lava itself."),
    (DEPLOY, "verify", "Verify a bundle from its own files alone."),
    (COST, "report", "Estimate energy and time, and compare them with an ANN that does the same job."),
    (COST, "profiles", "List hardware profiles, with the source of every number."),
    (SETUP, "data", "List, show, check, fetch and build data sets."),
    (SETUP, "doctor", "Show what is installed, and the commands that install what is missing."),
    (SETUP, "bench", "Measure speed on this machine, as ratios within one run."),
    (SETUP, "demo", "Run the whole job on real data, in minutes."),
)

EXIT_CODES = (
    "Exit codes: 0 done; 1 a finding, such as a failed proof; 2 a user's error; 3 a package or Lava is missing; "
    "4 a fault of ashneuro; 130 interrupted."
)


class _HelpPages:
    """Help pages of cyclopts, with paragraphs of docstrings wrapped at the terminal's width."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one panel."""
        from cyclopts.help.formatters import DefaultFormatter

        for entry in panel.entries:
            _join_lines(entry.description)
        DefaultFormatter()(console, options, panel)

    def render_usage(self, console: Console, options: ConsoleOptions, usage: object) -> None:
        """Print the usage line."""
        from cyclopts.help.formatters import DefaultFormatter

        DefaultFormatter().render_usage(console, options, usage)

    def render_description(self, console: Console, _: ConsoleOptions, description: InlineText) -> None:
        """Print the description of a command."""
        _join_lines(description)
        console.print(description)


def _shown_default(value: object) -> str | None:
    """Return a default as help pages show it; ``None`` if it is ``None``, off or empty."""
    return None if value in (None, False, "", ()) else str(value)


def _join_lines(text: object) -> None:
    """Join the lines of each paragraph of a help text, in place."""
    from rich.text import Text

    whole = getattr(text, "primary_renderable", None)
    if isinstance(whole, Text):
        whole.plain = re.sub(r"(?<!\n)\n(?!\n)", " ", whole.plain)


app = App(
    suppress_keyboard_interrupt=False,  # handled in `main`
    name="ashneuro",
    help="Hybrid ANN–SNN vision–language models: train on GPU, run the spiking part on Lava, know what it costs.",
    version=__version__,
    help_format="plaintext",
    help_formatter=_HelpPages(),
    default_parameter=Parameter(show_default=_shown_default),
    help_epilogue=EXIT_CODES,
)
app.register_install_completion_command(
    help="Install completions of this command for bash, zsh or fish, and load them in the shell's startup file."
)
app["--help"].group = app["--version"].group = app["--install-completion"].group = Group("Options", sort_key=9)
for group, verb, sentence in VERBS:
    app.command(f"ashneuro.commands.{verb}:{verb}", name=verb, group=group, help=sentence)


# Errors of the operating system that a user can mend. Any other `OSError` is a fault.
_REMEDIES = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG), "check the path"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions, or choose another folder"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or choose another disk"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files, e.g. ulimit -n 4096"),
    **dict.fromkeys((errno.ELOOP, errno.EILSEQ), "rename it, or choose another path"),
    errno.ENOMEM: "give fewer or smaller samples, or use a machine with more memory",
    errno.EEXIST: "a file or folder of that name exists: choose another name",
}


_NO_MEMORY = "can't allocate memory"  # torch says it in a `RuntimeError`


def _open_streams() -> None:
    """Discard the output of closed streams, and print ``?`` for characters they cannot encode."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the parent process, as in `ashneuro … >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _show_full_help(words: Sequence[str]) -> None:
    """Show a command's full docstring on its own help page; the list keeps one sentence."""
    for verb in (name for _, name, _ in VERBS if name in words):
        # A verb with sub-commands is an `App`, whose own help is short already.
        if (function := app[verb].default_command) is not None and function.__name__ == verb:
            app[verb].help = None


def _print_usage_error(error: CycloptsError) -> object:
    """Return cyclopts' panel of a wrong command line, whose words may be names of files."""
    from cyclopts import CycloptsPanel

    from ashneuro.reporting.escape import visible_lines

    text = visible_lines(error, "")
    return CycloptsPanel(f"{text}\n{remedy}" if (remedy := _usage_remedy(error)) else text)


def _usage_remedy(error: CycloptsError) -> str:
    """Return the remedy of an option that a command does not have; empty for other errors.

    ``train --epochs 3`` is meant as a setting: ``--set train.epochs=3``.
    """
    if not isinstance(error, UnknownOptionError):
        return ""
    from ashneuro.config import setting_names

    option = (error.token.keyword or error.token.value).partition("=")[0].lstrip("-").replace("-", "_")
    if error.argument_collection.get("--set", default=None) and (settings := setting_names(option)):
        return "Settings are given with --set: " + ", or ".join(f"--set {name}=…" for name in settings)
    return f"Options: ashneuro {' '.join(error.command_chain or ())} --help"


def _print_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning of a library, which may quote a file, on one line."""
    from ashneuro.reporting.escape import visible

    sys.stderr.write(f"warning: {visible(message)}\n")


def _error_of(error: BaseException) -> AshneuroError:
    """Return the three parts of any exception; a `Fault` where nobody foresaw it."""
    if isinstance(error, AshneuroError):
        return error
    if isinstance(error, OSError) and (remedy := _REMEDIES.get(error.errno or 0)) is not None:
        named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the disk"
        return AshneuroError(f"cannot use {named}", error.strerror or str(error), remedy)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY in str(error)):
        why = str(error).split(_NO_MEMORY + ": ")[-1] or "this machine has no more"
        return AshneuroError("not enough memory", why, "give fewer or smaller samples, or use a larger machine")
    from ashneuro.workflows.fault import log_fault

    return log_fault(error, sys.argv)


def main() -> None:
    """Run one command; `EXIT_CODES` says how it ends."""
    _open_streams()
    share_cores(os.environ)
    warnings.showwarning = _print_warning
    try:
        _show_full_help(sys.argv[1:2])
        status = app(
            sys.argv[1:],
            exit_on_error=False,
            print_error=True,
            error_formatter=_print_usage_error,
            result_action="return_value",
        )
    except CycloptsError:
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what was finished is kept\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except SystemExit as stop:
        # rich prints the help, and turns a closed pipe into exit code 1.
        sys.exit(0 if isinstance(stop.__context__, BrokenPipeError) else stop.code)
    except Exception as error:
        from ashneuro.reporting.terminal import print_error

        known = _error_of(error)
        print_error(known)
        sys.exit(known.exit_code)
    sys.exit(status if isinstance(status, int) else 0)
