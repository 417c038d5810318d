"""digitsum: an MNIST image and a number 0-9 go in, the digit and the sum come out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitsum.model.network import load_model
    from digitsum.prediction import predict

    __version__: str

__all__ = ["__version__", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    # `from digitsum import load_model` must work, but `import digitsum` must not cost an import of torch:
    # the fetch stage does without it.
    if name == "load_model":
        from digitsum.model.network import load_model

        return load_model
    if name == "predict":
        from digitsum.prediction import predict

        return predict
    if name == "__version__":
        from importlib.metadata import version  # takes 20 ms

        return version("digitsum")
    raise AttributeError(f"module 'digitsum' has no attribute {name!r}")
