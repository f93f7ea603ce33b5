"""SOAP (Vyas et al. 2024): Adam in the eigenbasis of Shampoo's preconditioner, made lean enough for two CPU cores.

What is leaner than in the paper's code: matrices of one shape go through every product together; the first moment
lives in the rotated basis and is turned when the basis turns, so that a step needs two rotations and not three; the
second moments of rows and columns, which change slowly, are looked at every few steps only; and the products are done
in bfloat16 where the processor is fast at that.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

GRAM_STEPS = 4  # between two looks at the gradients' second moments of rows and columns
BASIS_STEPS = 20  # between two turns of the bases, a QR decomposition each
SETTLED = 2000  # steps, after which both are done a third as often
LARGEST = 512  # a longer side of a matrix keeps its basis: its turns would take longer than the rest of the step


class Soap(torch.optim.Optimizer):
    """For parameters that are matrices with a side of at most `LARGEST`. No weight decay.

    ``reduced``: do the products in bfloat16. The first step sets up the bases and changes nothing.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float],
        reduced: bool,
        eps: float = 1e-8,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})
        self.kind = torch.bfloat16 if reduced else torch.float32
        shapes = defaultdict(list)
        for p in parameters:
            shapes[p.shape].append(p)
        self.stacks = list(shapes.values())
        for stack in self.stacks:
            k, (m, n) = len(stack), stack[0].shape
            like = stack[0].detach()
            self.state[stack[0]] = state = {
                "step": torch.tensor(0.0),
                "first": like.new_zeros(k, m, n),  # moments of the rotated gradient
                "second": like.new_zeros(k, m, n),
            }
            for side, size in (("rows", m), ("columns", n)):
                if size <= LARGEST:
                    state[f"{side}_gram"] = like.new_zeros(k, size, size)  # averages of G·Gᵀ or Gᵀ·G
                    state[side] = torch.eye(size, device=like.device).repeat(k, 1, 1)  # their eigenvectors, as columns

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        lr, (beta1, beta2), eps = group["lr"], group["betas"], group["eps"]
        for stack in self.stacks:
            s = self.state[stack[0]]
            gradient = torch.stack([p.grad for p in stack]).to(self.kind)  # type: ignore[misc]  # [k, m, n]
            step = int(s["step"])
            s["step"] += 1
            rarer = 1 if step < SETTLED else 3
            # a side is turned as the rows of a matrix or of its transpose
            sides = [(side, side == "columns") for side in ("rows", "columns") if side in s]
            if step % (rarer * GRAM_STEPS) == 0:
                keep = beta2 ** (rarer * GRAM_STEPS)
                for side, transpose in sides:
                    g = gradient.mT if transpose else gradient
                    s[f"{side}_gram"].lerp_((g @ g.mT).float(), 1 - keep)
            if step == 0:
                for side, _ in sides:
                    s[side].copy_(torch.linalg.eigh(s[f"{side}_gram"])[1].flip(-1))
                continue
            bases = [(s[side].to(self.kind), transpose) for side, transpose in sides]
            rotated = gradient
            for basis, transpose in bases:
                rotated = rotated @ basis if transpose else basis.mT @ rotated
            s["first"].lerp_(rotated.float(), 1 - beta1)
            s["second"].lerp_(rotated.float() ** 2, 1 - beta2)
            update = s["first"] / (s["second"].sqrt() + eps)
            update = update.to(self.kind)
            for basis, transpose in bases:
                update = update @ basis.mT if transpose else basis @ update
            rate = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
            for p, change in zip(stack, update.float(), strict=True):
                p.sub_(change, alpha=rate)
            if step % (rarer * BASIS_STEPS) == 0:
                for side, transpose in sides:
                    rotation, order = _turn(s[f"{side}_gram"], s[side])
                    first, second = (s[n].mT if transpose else s[n] for n in ("first", "second"))
                    first.copy_(rotation.mT @ first)
                    second.copy_(second.take_along_dim(order[:, :, None], 1))


def _turn(gram: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the basis ``[k, m, m]``, in place, towards the eigenvectors of ``gram``, largest first.

    Returns the rotation from the old to the new coordinates, and the order of the old ones in the new.
    """
    power = gram @ basis
    order = (basis * power).sum(1).argsort(1, descending=True)  # by Rayleigh quotient, [k, m]
    turned = torch.linalg.qr(power.take_along_dim(order[:, None, :], 2))[0]  # one step of orthogonal iteration
    rotation = basis.mT @ turned
    basis.copy_(turned)
    return rotation, order
