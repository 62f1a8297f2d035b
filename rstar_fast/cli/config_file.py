"""The YAML file of settings that --config names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rstar_fast.types import InvalidInput


def load_config(path: Path) -> dict[str, Any]:
    """The settings in a YAML file.

    Raises:
      InvalidInput: there is no such file, or it holds something else than a mapping of settings.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}: give a YAML file of settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date and is none
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise InvalidInput(f"{path} is not valid YAML{where}: {getattr(error, 'problem', None) or error}") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise InvalidInput(f"{path} holds no settings: give lines like 'rollouts: 16'")
    return settings
