"""Token trees: many sequences that share prefixes, of which each token is computed once.

A tree's tokens lie in segments, runs without a branch. The tokens computed in one pass are packed one segment after the other:

    path of the segment's ancestors           own tokens
    [ a b c d e f g ]  computed before,       [ h i j ]        h sees a ... g and itself, i sees a ... h and itself, ...
                       or in this pass

Keys and values of all tokens, those of this pass included, lie in a pool of pages; a token's slot is page * page size + place.

Shapes: T tokens of the pass, S segments, N entries of all paths.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

_BLOCK_KEYS = 1 << 16  # whose keys and values are gathered at a time


@dataclass(frozen=True, slots=True)
class Block:
    """Some segments, R, as a dense attention takes them: padded to L tokens and N keys.

    Attributes:
      tokens: [R, L] int64, which tokens of the pass they are; padding is the segment's first.
      is_token: [R, L] bool, False where it is padding.
      slots: [R, N] int64, of the keys: the path, padding, the segment's own. Padding is a slot that holds something.
      mask: [R, 1, L * group, N] bool, which keys a row sees: row = token * group + head of the group.
    """

    tokens: torch.Tensor
    is_token: torch.Tensor
    slots: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class TokenTree:
    """The tokens of one pass, and what they see.

    Attributes:
      starts: [S + 1] int32, where each segment begins among the tokens; the last is T. No segment is empty.
      slots: [T] int32, where each token's key and value lie.
      paths: [N] int32, slots of ancestors, in the order of their positions.
      path_starts: [S] int32, where each segment's path begins in `paths`; segments of one parent may share it.
      path_lengths: [S] int32, 0 at a root. A segment's i-th token has position path_length + i.
      longest: tokens of the longest segment, >= 1.
    """

    starts: torch.Tensor
    slots: torch.Tensor
    paths: torch.Tensor
    path_starts: torch.Tensor
    path_lengths: torch.Tensor
    longest: int
    # Of `tiles` and `blocks`, by their arguments: every layer of a pass asks for the same.
    _tiles: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _blocks: dict[tuple[int, int | None], list[Block]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def to(self, device: torch.device | str) -> TokenTree:
        """The same on a device."""
        moved = (getattr(self, name).to(device) for name in ("starts", "slots", "paths", "path_starts", "path_lengths"))
        return TokenTree(*moved, self.longest)

    def positions(self) -> torch.Tensor:
        """[T] int64, each token's position in its sequence."""
        lengths = self.starts.diff().long()
        first = (self.path_lengths - self.starts[:-1]).long()
        return torch.arange(len(self.slots), device=self.slots.device) + torch.repeat_interleave(first, lengths)

    def blocks(self, group: int, window: int | None) -> list[Block]:
        """The segments in blocks of bounded size, like segments together; computed once for given arguments.

        Args:
          group: rows of a token.
          window: how many positions a token sees, itself included; None for all.
        """
        if (group, window) not in self._blocks:
            sizes = self.starts.diff().long()
            # Of like lengths, by powers of two, and then of like paths: little of a block is padding.
            lengths, paths = sizes.tolist(), self.path_lengths.tolist()
            order = sorted(range(len(lengths)), key=lambda segment: (lengths[segment].bit_length(), paths[segment]))
            blocks, first = [], 0
            for at in range(1, len(order) + 1):
                same = at < len(order) and lengths[order[at]].bit_length() == lengths[order[first]].bit_length()
                if not same or (at + 1 - first) * (paths[order[at]] + 2 * lengths[order[at]]) > _BLOCK_KEYS:
                    segments = torch.tensor(order[first:at], device=self.slots.device)
                    blocks.append(self._block(segments, sizes, group, window))
                    first = at
            self._blocks[group, window] = blocks
        return self._blocks[group, window]

    def _block(self, segments: torch.Tensor, sizes: torch.Tensor, group: int, window: int | None) -> Block:
        device = self.slots.device
        first, size, path = (column[segments, None].long() for column in (self.starts[:-1], sizes, self.path_lengths))
        place = torch.arange(int(size.max()), device=device)
        is_token = place < size
        tokens = torch.where(is_token, first + place, first)
        own = self.slots[tokens].long()
        before = torch.arange(int(path.max()), device=device)
        is_path = before < path
        of_path = self.paths[torch.where(is_path, self.path_starts[segments, None] + before, 0)].long()
        slots = torch.cat([torch.where(is_path, of_path, own[:, :1]), own], 1)
        never = 1 << 40
        keys_at = torch.cat([torch.where(is_path, before, never), torch.where(is_token, path + place, never)], 1)
        behind = (path + place)[:, :, None] - keys_at[:, None]  # [R, L, N]
        mask = behind >= 0
        mask[:, :, len(before) :] |= torch.eye(len(place), dtype=torch.bool, device=device)  # padding sees itself
        if window is not None:
            mask &= behind < window
        return Block(tokens, is_token, slots, mask.repeat_interleave(group, 1)[:, None])

    def tiles(self, group: int, rows: int) -> torch.Tensor:
        """The pass cut into tiles of rows, none of which is empty; those with most to read come first.

        Computed once for given arguments, on the host, for which the device is waited for.

        Args:
          group: rows of a token.
          rows: of a tile, >= 1. A tile is of one segment; a segment's last may have fewer rows.

        Returns:
          [tiles, 2] int32 on the tree's device: the segment, and the tile's first row in it.
        """
        if (group, rows) not in self._tiles:
            starts, paths = self.starts.cpu().long(), self.path_lengths.cpu().long()
            of_segment = (starts.diff() * group + rows - 1) // rows
            segment = torch.repeat_interleave(torch.arange(len(of_segment)), of_segment)
            first = (torch.arange(len(segment)) - (of_segment.cumsum(0) - of_segment)[segment]) * rows
            # The longest work last would leave the rest of the device idle; a stable order keeps siblings side by side.
            order = torch.argsort(paths[segment] + first // group, descending=True, stable=True)
            tiles = torch.stack([segment, first], 1)[order].to(self.starts.device, torch.int32)
            self._tiles[group, rows] = tiles
        return self._tiles[group, rows]

    def check(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Whether the tensors of an attention over this tree fit it, and each other.

        Raises:
          ValueError: they do not; says which and why.
        """
        if query.dim() != 3 or query.shape[0] != len(self.slots):
            raise ValueError(f"query is {list(query.shape)}: give [{len(self.slots)} tokens, heads, head size]")
        if keys.dim() != 4 or keys.shape != values.shape:
            raise ValueError(
                f"keys are {list(keys.shape)} and values {list(values.shape)}: give [pages, page size, key heads, head size] for both"
            )
        if keys.shape[3] != query.shape[2] or query.shape[1] % keys.shape[2]:
            raise ValueError(
                f"query has {query.shape[1]} heads of {query.shape[2]} and keys {keys.shape[2]} of {keys.shape[3]}: "
                "give heads of one size, and of the query's a multiple of the keys'"
            )
        if not query.dtype == keys.dtype == values.dtype:
            raise ValueError(f"query is {query.dtype}, keys {keys.dtype} and values {values.dtype}: give one dtype")
        if not (query.device == keys.device == values.device == self.slots.device):
            raise ValueError(
                f"query is on {query.device}, keys on {keys.device}, the tree on {self.slots.device}: give one device"
            )
        columns = (self.starts, self.slots, self.paths, self.path_starts, self.path_lengths)
        if not all(column.is_contiguous() for column in columns):
            raise ValueError("a tensor of the tree has gaps: give contiguous ones")
        for name, pool in (("keys", keys), ("values", values)):
            if pool.numel() and not _is_plain(pool):
                raise ValueError(
                    f"{name} have the strides {list(pool.stride())}: give a pool whose slots lie at one distance, "
                    "and the numbers of a head side by side"
                )


def _is_plain(pool: torch.Tensor) -> bool:
    """Whether the address of a slot of [pages, page size, key heads, D] is slot * distance."""
    pages, page, _, size = pool.shape
    return (pages == 1 or page == 1 or pool.stride(0) == page * pool.stride(1)) and (size == 1 or pool.stride(3) == 1)
