"""What decides how the copying generator is built."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from semia.core.model_card import GeneratorKind
from semia.training.errors import SettingsError


@dataclass(frozen=True)
class CopyingSettings:
    """The copying generator's settings; nothing in them says how long anything takes, for it is not trained."""

    preset: ClassVar[str] = "default"
    generator: ClassVar[GeneratorKind] = "copying"
    multiple: ClassVar[int] = 1  # canvas sides are taken as they are: it pads them itself
    max_side: ClassVar[int | None] = None  # photographs keep their size

    method: int = 10  # counts up whenever prepared generators of before would draw something else

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {"generator": self.generator, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "CopyingSettings":
        """The inverse of `to_dict`.

        Raises:
            SettingsError: if these are another version's.
        """
        fields = {name: value for name, value in content.items() if name != "generator"}
        if fields != dataclasses.asdict(cls()):
            raise SettingsError("prepared by an older semia: prepare it again with --overwrite")
        return cls()
