"""Become another program that dies with its parent: `python launch.py [options] -- program arguments…`.

Run as a script with the standard library alone: between fork and exec of a process that already has threads, Python
code is not safe, so what must happen there happens here, in a process of its own that then turns into the program.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from ctypes import Structure, byref, c_int, c_uint32

# <linux/prctl.h> and <linux/capability.h>: fixed numbers of the kernel's interface.
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAPABILITIES = {"override": 1, "search": 2}


class _Header(Structure):
    _fields_ = (("version", c_uint32), ("pid", c_int))


class _Data(Structure):
    _fields_ = (("effective", c_uint32), ("permitted", c_uint32), ("inheritable", c_uint32))


def permitted_capabilities() -> frozenset[str]:
    """Return those of `override` (any file) and `search` (any folder, reading) that this process may keep."""
    if not sys.platform.startswith("linux"):
        return frozenset()
    data = (_Data * 2)()
    ctypes.CDLL(None, use_errno=True).capget(byref(_Header(CAPABILITY_VERSION_3, 0)), data)
    return frozenset(name for name, bit in CAPABILITIES.items() if data[0].permitted >> bit & 1)


def _call(function: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _become(user: int, group: int, capability: str | None) -> None:
    """Give up root for good; only `capability`, if named, outlives it and the exec that follows."""
    if capability:
        # Keeps capabilities over setuid, and lets access(2) honour them: PostgreSQL asks it for its own programs.
        _call("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    if capability:
        bits = 1 << CAPABILITIES[capability]
        _call("capset", byref(_Header(CAPABILITY_VERSION_3, 0)), (_Data * 2)(_Data(bits, bits, bits)))
        _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAPABILITIES[capability], 0, 0)


def die_with(parent: int, signal_number: int) -> None:
    """Have the kernel send `signal_number` when `parent` is gone; exit if it is gone already.

    Set after the change of user, which clears it. Systems other than Linux have no such thing: there an orphan is found
    and stopped by the next start.
    """
    if sys.platform.startswith("linux"):
        _call("prctl", PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def main() -> None:
    """Apply the options and exec the program; exits 1 with the system's words if one of them is refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--capability", choices=CAPABILITIES)
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    try:
        if options.user is not None:
            _become(options.user, options.group, options.capability)
        die_with(options.parent, options.death_signal)
        os.execvp(options.program[0], options.program)
    except OSError as problem:
        raise SystemExit(f"{options.program[0]}: {problem}") from None


if __name__ == "__main__":
    main()
