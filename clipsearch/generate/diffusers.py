"""Any text-to-image pipeline of diffusers, from a folder on this machine. Runs in the worker only.

``DiffusionPipeline`` reads the pipeline's class from ``model_index.json``, so that every pipeline of the library loads;
``AutoPipelineForText2Image`` knows only part of them. Only safetensors are read, no remote code is run and nothing
is downloaded.

Each picture has a random generator of its own, on the CPU: it then gets the same noise in any batch and on every
device. On a CPU pictures are drawn one at a time: a batch saves no time there, takes more memory, and rounds otherwise
than a single picture does, by a grey level here and there. Pictures come out as floats, so that NaN is seen before it
is rounded to black.
"""

import inspect
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from clipsearch.errors import GenerationError, InputError, MissingExtraError, WeightsNotFoundError
from clipsearch.generate.base import Options, OutOfMemory, Refused, UnusablePicture
from clipsearch.types import Pixels

try:
    import torch

    diffusers: Any = import_module("diffusers")  # Any: an extra, which a type checker need not find
except ImportError as _problem:  # raised where the worker or a test loads this family, never on import of the room
    raise MissingExtraError(
        f"Drawing with a diffusion pipeline needs a package that this Python lacks: {_problem}.\n"
        "Install with: pip install 'clipsearch[diffusers]'"
    ) from _problem

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


class DiffusersGenerator:
    """Draws with the pipeline in a folder."""

    library = f"diffusers {diffusers.__version__}"

    def __init__(self, folder: str | None, *, device: str = "cpu", dtype: str = "fp32") -> None:
        """Load the pipeline.

        Raises:
            WeightsNotFoundError: the folder holds no whole pipeline.
            GenerationError: the weights are damaged, or the device is not there.
        """
        if dtype not in _DTYPES:
            raise InputError(f"There are no numbers called {dtype!r}. Known: {', '.join(_DTYPES)}.")
        if folder is None or not os.path.isfile(os.path.join(folder, "model_index.json")):
            raise WeightsNotFoundError(
                f"There is no pipeline in {folder}: it has no model_index.json.\n"
                "Name a folder that save_pretrained wrote, or a model that `clipsearch generate --list` shows."
            )
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise GenerationError(f"torch {torch.__version__} sees no GPU here.\nDraw on the CPU: --device cpu")
        self._device, self._dtype, self._folder = device, dtype, folder
        with _translated(folder):
            self._pipe = _load(folder, _DTYPES[dtype])
            self._pipe.set_progress_bar_config(disable=True)
            self._pipe.to(device)
        self._edit: Any = None  # Any: diffusers is loosely typed

    def generate(
        self,
        prompt: str,
        n: int,
        seed: int,
        options: Options = Options(),  # noqa: B008 (frozen)
        source: Pixels | None = None,
    ) -> Pixels:
        """Draw ``n`` pictures: uint8 (n, height, width, 3)."""
        if n > 1 and self._device == "cpu":
            return np.concatenate([self.generate(prompt, 1, seed + i, options, source) for i in range(n)])
        pipe = self._pipe if source is None else self._editor()
        given = _arguments(pipe, prompt, n, options, source)
        given["generator"] = [torch.Generator("cpu").manual_seed(seed + i) for i in range(n)]
        with _translated(self._folder), torch.inference_mode():
            result = pipe(**given)
        if any(getattr(result, "nsfw_content_detected", None) or ()):
            raise Refused("The model's own safety check refused the picture.\nTry another prompt or another seed.")
        return _to_bytes(np.asarray(result.images))

    def offload(self) -> bool:
        """Keep on the GPU only the part that works at the moment; False on a CPU, or where it is so already."""
        if not self._device.startswith("cuda") or getattr(self._pipe, "_all_hooks", None):
            return False
        self._edit = None
        self._pipe.to("cpu")
        torch.cuda.empty_cache()
        self._pipe.enable_sequential_cpu_offload(device=self._device)
        return True

    def to_fp32(self) -> bool:
        """Go on in float32."""
        if self._dtype == "fp32":
            return False
        self._dtype, self._edit = "fp32", None
        with _translated(self._folder):
            self._pipe.to(torch.float32)
        return True

    def _editor(self) -> Any:
        """Return the pipeline that starts from a picture, made of the same weights."""
        if "image" in inspect.signature(self._pipe.__call__).parameters:
            return self._pipe  # one pipeline does both
        if self._edit is None:
            try:
                self._edit = diffusers.AutoPipelineForImage2Image.from_pipe(self._pipe)
            except ValueError:
                raise InputError(
                    f"{type(self._pipe).__name__} cannot start from a picture.\n"
                    "Leave --like out, or take another model."
                ) from None
            self._edit.set_progress_bar_config(disable=True)
        return self._edit


def _load(folder: str, dtype: Any) -> Any:
    # Called torch_dtype until some release; the helper that resolves the two came with the new name.
    named = "dtype" if hasattr(import_module("diffusers.pipelines.pipeline_utils"), "_resolve_dtype") else "torch_dtype"
    return diffusers.DiffusionPipeline.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, variant=_variant(folder), **{named: dtype}
    )


def _variant(folder: str) -> str | None:
    """Return "fp16" where only such weights were fetched."""
    parts = [place for place, _, _ in os.walk(folder) if place != folder]  # above them lie whole checkpoints of others
    names = [name for place in parts for name in os.listdir(place) if name.endswith(".safetensors")]
    halves = [name for name in names if ".fp16." in name]
    return "fp16" if halves and len(halves) == len(names) else None


def _arguments(pipe: Any, prompt: str, n: int, options: Options, source: Pixels | None) -> dict[str, Any]:
    """Return the arguments of a pipeline's call; what was asked for and it does not know is refused by name."""
    known = inspect.signature(pipe.__call__).parameters
    wanted: dict[str, Any] = {"num_inference_steps": options.steps, "guidance_scale": options.guidance_scale}
    if options.negative_prompt is not None:
        wanted["negative_prompt"] = [options.negative_prompt] * n
    if options.sampler is not None:
        wanted["sampler"] = options.sampler
    if source is not None:
        from PIL import Image

        wanted["image"] = [Image.fromarray(source)] * n
        if "strength" in known:
            strength = 0.6 if options.strength is None else options.strength
            # Of so many steps only the share `strength` is walked, and none at all is an error inside.
            wanted["strength"] = strength
            wanted["num_inference_steps"] = max(options.steps or 0, math.ceil(1 / strength)) if options.steps else None
        elif options.strength is not None:
            raise InputError(f"{type(pipe).__name__} knows no strength: it edits as the prompt says. Leave it out.")
    given = {name: value for name, value in wanted.items() if value is not None}
    unknown = [name for name in given if name not in known]
    if unknown:
        what = ", ".join(unknown)
        raise InputError(f"{type(pipe).__name__} does not know {what}. Leave it out, or take another model.")
    for name, value in (("width", options.width), ("height", options.height)):
        if name in known:
            given[name] = value
    return {"prompt": [prompt] * n, "output_type": "np", **given}


def _to_bytes(images: np.ndarray) -> Pixels:
    """Return float pictures (n, H, W, 3) from 0 to 1 as uint8."""
    if not np.isfinite(images).all():
        raise UnusablePicture("The model gave numbers that are no picture (NaN).\nTry --dtype fp32, or another model.")
    return np.clip(np.rint(images * 255.0), 0, 255).astype(np.uint8)


@contextmanager
def _translated(folder: str) -> Iterator[None]:
    """Say in our words what torch, diffusers and the file system raise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of renamed arguments and rounding: nothing that a user can change
            yield
    except (GenerationError, InputError):
        raise
    except MemoryError as problem:
        raise OutOfMemory("There is too little memory to draw.\nTry a smaller size or a smaller model.") from problem
    except (RuntimeError, OSError, ValueError, ImportError) as problem:
        raise _own(problem, folder) from problem
    except Exception as problem:  # safetensors raises a class of its own
        raise GenerationError(f"The pipeline in {folder} failed: {_line(problem)}.\nFetch it anew.") from problem


def _own(problem: Exception, folder: str) -> Exception:
    text = str(problem).lower()
    if isinstance(problem, torch.OutOfMemoryError) or any(words in text for words in _MEMORY):
        return OutOfMemory(f"There is too little memory to draw: {_line(problem)}.\nTry a smaller size or model.")
    if isinstance(problem, ImportError):
        return MissingExtraError(f"The pipeline needs a package: {_line(problem)}.\nInstall it, then try again.")
    if isinstance(problem, OSError):
        return WeightsNotFoundError(
            f"The pipeline in {folder} is not whole: {_line(problem)}.\nFetch it again; what is there is kept."
        )
    return GenerationError(f"The pipeline in {folder} failed: {_line(problem)}.\nTry other options or another model.")


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split()).rstrip(".")[:200] or type(problem).__name__
