"""What can be wrong with a file, or with what is asked of one.

* AecError (a ValueError)
    * NotAec: it does not start with the signature
    * UnsupportedVersion: a container version that this release does not read
    * UnsupportedFeature: a flag, mode or critical chunk that this release does not know
    * UnknownModel: the weights that the file names are not installed
    * LimitExceeded: sides, pixels, metadata or chunks beyond the limits in force
    * Corrupt: the bytes contradict the format
        * Truncated: the file ends too early
        * BadChecksum: a CRC-32 does not match
        * SymbolMismatch: the decoded symbols are not the encoded ones
* ConversionWarning (a UserWarning): what a picture lost before it was coded, and what its file held besides
* DamageWarning (a UserWarning): what is missing in a picture that was decoded with errors="conceal"
* TorchMissing (an ImportError): what was asked for needs torch, which is not installed
* TargetMissed (a ValueError): no quality that was tried has the size or the score that was asked for
"""

from dis import opmap

_NO_MEMORY = ("DefaultCPUAllocator", "out of memory")  # in what torch says where it gets none, on a CPU and on a GPU


class AecError(ValueError):
    """Base of every error about the content of an .aec file."""


class NotAec(AecError):
    """The data does not start with the .aec signature."""


class UnsupportedVersion(AecError):
    """The container version is newer than this release."""


class UnsupportedFeature(AecError):
    """A flag, mode, tile size or critical chunk that this release does not know."""


class UnknownModel(AecError):
    """The file needs weights that are not installed."""


class LimitExceeded(AecError):
    """The file or image is larger than the limits in force allow."""


class Corrupt(AecError):
    """The bytes contradict the format."""


class Truncated(Corrupt):
    """The file ends before everything that it promises."""


class BadChecksum(Corrupt):
    """A CRC-32 does not match the bytes that it covers."""


class SymbolMismatch(Corrupt):
    """The symbols decoded without complaint, but are not those that were encoded."""


class ConversionWarning(UserWarning):
    """A picture was converted, or something of its file left out, before it was coded."""


class DamageWarning(UserWarning):
    """A damaged file was decoded as far as it is there."""


class TorchMissing(ImportError):
    """What was asked for needs torch, which is not installed."""


class TargetMissed(ValueError):
    """No quality that was tried meets the target; ``nearest`` is the file that comes closest."""

    def __init__(self, message: str, nearest: bytes):
        super().__init__(message, nearest)  # both, so that it pickles
        self.nearest = nearest

    def __str__(self) -> str:
        return str(self.args[0])


def foreseen(error: Exception) -> bool:
    """Whether an error tells of what was given or of what the machine lacks, not of a mistake in a program.

    That is so of the system's and of what a `raise` of this package raises. Whatever else goes wrong in its lines or in
    a library that they call is a mistake, though it may be of the same class.
    """
    if isinstance(error, AecError | TargetMissed | TorchMissing | OSError | MemoryError):
        return True
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
        return True
    origin = error.__traceback__
    while origin and origin.tb_next:
        origin = origin.tb_next
    if not origin or not isinstance(error, ValueError | ArithmeticError | RuntimeError):
        return False
    module, code = origin.tb_frame.f_globals.get("__name__", ""), origin.tb_frame.f_code.co_code
    return module.startswith(f"{__package__}.") and code[origin.tb_lasti] == opmap["RAISE_VARARGS"]
