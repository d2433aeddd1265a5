"""What is under way, so that one can wait for all that was sent so far while more is being sent."""

from __future__ import annotations


class Outstanding:
    """Counts sends by generation: who waits ends a generation, and what comes later is of the next one."""

    def __init__(self) -> None:
        self._generation = 0
        self._under_way: dict[int, int] = {}

    def __len__(self) -> int:
        """How many sends have not been answered."""
        return sum(self._under_way.values())

    def sent(self) -> int:
        """Something was sent; the generation to report its answer with."""
        self._under_way[self._generation] = self._under_way.get(self._generation, 0) + 1
        return self._generation

    def answered(self, generation: int) -> None:
        """A send was answered, well or badly."""
        self._under_way[generation] -= 1
        if not self._under_way[generation]:
            del self._under_way[generation]

    def close(self) -> int:
        """End a generation: what was sent until now is settled once `settled` says so of this number."""
        self._generation += 1
        return self._generation - 1

    def settled(self, generation: int) -> bool:
        """Whether everything of a generation, and of those before it, was answered."""
        return all(number > generation for number in self._under_way)
