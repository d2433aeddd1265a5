"""Container images by the names that orchestrators have for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from deploytrail_schemas.scopes import matches


@dataclass(frozen=True, slots=True)
class Image:
    """An image as a template names it: `registry/path[:tag][@sha256:…]`."""

    reference: str

    @property
    def digest(self) -> str:
        """The digest that it is pinned to; empty where it is not."""
        return self.reference.partition("@")[2]

    @property
    def name(self) -> str:
        """Registry and path alone."""
        bare = self.reference.partition("@")[0]
        path, colon, tag = bare.rpartition(":")
        return path if colon and "/" not in tag else bare

    @property
    def tag(self) -> str:
        """The tag; empty where it has none."""
        return self.reference.partition("@")[0][len(self.name) + 1 :]


def is_exempt(image: Image, patterns: tuple[str, ...]) -> bool:
    """Whether an image fits a pattern, in which `*` stands for any text."""
    return any(matches(pattern, image.reference) or matches(pattern, image.name) for pattern in patterns)
