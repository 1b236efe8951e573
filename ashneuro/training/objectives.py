"""What training minimises: one function per objective, each with its equation and shapes.

B pairs in a batch. Embeddings are unit vectors, so products are cosines. ``scale`` is the inverse temperature 1/τ.
``concepts`` (B,) holds equal numbers where two pairs show the same thing: such pairs are neither positives nor negatives of
each other, unless they are the same pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def itc(images: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float, smoothing: float = 0.0) -> Tensor:
    """Return the image–text contrast (scalar) of images (B, E) and texts (B, E), in both directions.

    ::

        p_ij  = e^{s·u_i·t_j} / Σ_{k ∈ N(i)} e^{s·u_i·t_k}        q_ij likewise from text to image
        L_ITC = −1/(2B) Σ_i [ (1 − ε) (log p_ii + log q_ii)  +  ε/|N(i)| Σ_{j ∈ N(i)} (log p_ij + log q_ij) ]

    N(i): pair i itself, and all pairs of other concepts. ε (``smoothing``) keeps small data from being learned by heart.
    """
    logits = (scale * images @ texts.T).masked_fill(_same_concept(concepts), -math.inf)
    return (_smoothed(logits, smoothing) + _smoothed(logits.T, smoothing)) / 2


def contrast(first: Tensor, second: Tensor, concepts: Tensor, scale: float, beta: float, synthetic: int = 0) -> Tensor:
    """Return L_CL (scalar): two views of an image, z_i and z'_i (B, E), come together; hard negatives weigh more.

    ::

        L_CL = −1/B Σ_i log  e^{s·z_i·z'_i} / ( e^{s·z_i·z'_i} + Σ_{j ∈ N(i)} w_ij e^{s·z_i·z'_j} + Σ_m e^{s·z_i·h_im} )
        w_ij = |N(i)| e^{β z_i·z'_j} / Σ_{k ∈ N(i)} e^{β z_i·z'_k}        (no gradient; β = 0: w_ij = 1, plain InfoNCE)

    N(i): pairs of other concepts. h_im: the ``synthetic`` hard negatives of `synthetic_negatives`, none by default. Read at the spiking
    encoder's input: similar images shall cause similar currents.
    """
    similarity = first @ second.T
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    excluded = itself | _same_concept(concepts)
    tilt = (beta * similarity.detach()).masked_fill(excluded, -math.inf)
    count = (~excluded).sum(1, keepdim=True).clamp(min=1).log()
    log_weight = (tilt - tilt.logsumexp(1, keepdim=True) + count).masked_fill(excluded, 0.0)
    logits = (scale * similarity + log_weight).masked_fill(_same_concept(concepts), -math.inf)
    if synthetic:
        mixed, real = synthetic_negatives(first, second, excluded, synthetic)
        harder = scale * torch.einsum("be,bme->bm", first, mixed)
        logits = torch.cat([logits, harder.masked_fill(~real, -math.inf)], 1)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def synthetic_negatives(first: Tensor, second: Tensor, excluded: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return ``count`` mixed negatives per image (B, count, E), no gradient, and which of them there are (B, count).

    ::

        h_im = norm((n_{i,m} + n_{i,m+1}) / 2)        n_{i,1}, n_{i,2}, …: the z'_j allowed for i, the most similar to z_i first

    So each lies between two of the hardest negatives, and is unit length: on the sphere, where no image is.
    """
    similarity = (first.detach() @ second.detach().T).masked_fill(excluded, -math.inf)
    best = similarity.topk(min(count + 1, len(similarity)), dim=1)
    hardest = second.detach()[best.indices]
    mixed = F.normalize(hardest[:, :-1] + hardest[:, 1:], dim=-1)
    real = best.values[:, 1:].isfinite()
    short = count - mixed.shape[1]
    return F.pad(mixed, (0, 0, 0, short)), F.pad(real, (0, short))


def hard_negatives(similarity: Tensor, concepts: Tensor, random: torch.Generator) -> Tensor:
    """Return for each row i of the similarities (B, B) one column j (B,), drawn with ``p_ij ∝ e^{similarity_ij}`` from other concepts.

    Where every other pair is of the same concept there is no negative: −1.
    """
    excluded = concepts[:, None] == concepts[None, :]
    # A network that has diverged has a loss that says so, and draws as well as any.
    shares = similarity.detach().float().nan_to_num().masked_fill(excluded, -math.inf).softmax(1)
    possible = ~excluded.all(1)
    shares = torch.where(possible[:, None], shares, torch.full_like(shares, 1 / len(shares)))
    drawn = torch.multinomial(shares.cpu(), 1, generator=random).flatten().to(similarity.device)
    return torch.where(possible, drawn, torch.full_like(drawn, -1))


def itm(scores: Tensor, matched: Tensor) -> Tensor:
    """Return L_ITM (scalar), image–text matching: do a text and a picture belong together?

    ::

        L_ITM = −1/M Σ_m log softmax(scores_m)[y_m]        scores: (M, 2), y (``matched``): (M,), 1 for a pair, 0 for a drawn negative
    """
    return F.cross_entropy(scores, matched)


def mlm(scores: Tensor, targets: Tensor) -> Tensor:
    """Return L_MLM (scalar): masked words, told from the other words and the picture.

    ::

        L_MLM = −1/|M| Σ_{(b, m) ∈ M} log softmax(scores_bm)[w_bm]        scores: (B, M, words); targets w: (B, M), −1 where not masked

    0 where nothing is masked.
    """
    masked = targets >= 0
    if not masked.any():
        return scores.sum() * 0.0
    return F.cross_entropy(scores[masked], targets[masked])


def mask_words(tokens: Tensor, share: float, mask: int, words: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens (B, M) with words hidden, and the words to tell (B, M), −1 elsewhere.

    A word is chosen with probability ``share``, at least one in each text that has any; of those chosen 80 % become ``mask``, 10 % another
    word (2…``words`` − 1), and 10 % stay.
    """
    draws = torch.rand(3, *tokens.shape, generator=random).to(tokens.device)
    real = tokens > 0
    chosen = (draws[0] < share) & real
    # The smallest draw of a text is chosen where no other is.
    least = draws[0].masked_fill(~real, math.inf)
    chosen |= real & (least == least.min(1, keepdim=True).values) & ~chosen.any(1, keepdim=True)
    targets = tokens.masked_fill(~chosen, -1)
    others = 2 + (draws[2] * (words - 2)).long().clamp(max=max(0, words - 3))
    hidden = torch.where(draws[1] < 0.8, torch.full_like(tokens, mask), torch.where(draws[1] < 0.9, others, tokens))
    return torch.where(chosen, hidden, tokens), targets


def stua(abstract: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float) -> Tensor:
    """Return L_STUA (scalar), Spiking-to-Text Uni-Alignment: the abstract read-out a (B, E) moves to the text, never the reverse.

    ::

        L_STUA = −1/B Σ_i log  e^{s·a_i·sg(t_i)} / Σ_{j ∈ N(i)} e^{s·a_i·sg(t_j)}

    sg: stop-gradient. N(i): pair i itself, and all pairs of other concepts. There is no text-to-spike term.
    """
    logits = (scale * abstract @ texts.detach().T).masked_fill(_same_concept(concepts), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def stua_symmetric(abstract: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float) -> Tensor:
    """Return L_STUA read as alignment both ways (scalar): `itc` between read-out and text, both of which move.

    ::

        L = −1/(2B) Σ_i [ log softmax_j(s·a_i·t_j)_i + log softmax_j(s·t_i·a_j)_i ]        j ∈ N(i), as in `stua`
    """
    return itc(abstract, texts, concepts, scale)


def stua_reconstruction(rebuilt: Tensor, texts: Tensor) -> Tensor:
    """Return L_STUA read as "only text features" (scalar): a text goes through the spiking encoder and comes back.

    ::

        L = 1/B Σ_i (1 − â_i·sg(t_i))        â_i (B, E): unit length, read out of the spikes that the current W_x sg(t_i) causes
    """
    return (1 - (rebuilt * texts.detach()).sum(1)).mean()


def stua_words(scores: Tensor, tokens: Tensor) -> Tensor:
    """Return L_STUA read as naming (scalar): the text's words are told from the spikes, whatever their order.

    ::

        L = −1/B Σ_i 1/|W_i| Σ_{w ∈ W_i} log softmax(scores_i)[w]        scores: (B, words); W_i: distinct words of text i; tokens: (B, M)

    Texts without a word count nothing.
    """
    present = torch.zeros_like(scores).scatter_(1, tokens, 1.0)
    present[:, 0] = 0.0
    counts = present.sum(1)
    shares = -(scores.log_softmax(1) * present).sum(1) / counts.clamp(min=1)
    return shares.sum() / (counts > 0).sum().clamp(min=1)


def codebook_loss(z: Tensor, entries: Tensor, commitment: float = 0.25) -> Tensor:
    """Return what moves the codebook's entries e to z, and z, less, to them (scalar); both (B, K).

    ::

        L = mean (sg(z) − e)² + commitment · mean (z − sg(e))²
    """
    return F.mse_loss(entries, z.detach()) + commitment * F.mse_loss(z, entries.detach())


def answer_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of VQA (scalar): every answer is worth what people think of it.

    ::

        L = −1/B Σ_b Σ_l [ y_bl log σ(s_bl) + (1 − y_bl) log(1 − σ(s_bl)) ]        scores s, soft targets y: (B, L)
    """
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(scores)


def label_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of entailment and NLVR2 (scalar): ``−1/B Σ_b log softmax(s_b)[y_b]`` of scores (B, L) and labels (B,)."""
    return F.cross_entropy(scores, labels)


def firing_rate_penalty(layers: Iterable[Tensor], target: float) -> Tensor:
    """Return how far populations fire above ``target`` spikes per neuron and step (scalar).

    ::

        L_rate = mean over layers of max(0, mean(s_l) / target − 1)²        s_l: (T, B, ...)
    """
    excess = [F.relu(spikes.mean() / target - 1) ** 2 for spikes in layers]
    return torch.stack(excess).mean()


def synops_penalty(count: Tensor, target: float) -> Tensor:
    """Return how far N, the synaptic operations of a sample (scalar, `synops`), lies above ``target`` (scalar).

    ::

        L_synops = max(0, N / target − 1)²
    """
    return F.relu(count / target - 1) ** 2


def synops(layers: Mapping[str, Tensor], fan_out: Mapping[str, Tensor]) -> Tensor:
    """Return N, the mean number of synaptic operations of a sample (scalar, differentiable).

    ::

        N = 1/B Σ_l Σ_{t, b, n} s_l[t, b, n] · fan_out_l[n]

    layers: spikes s_l (T, B, ...) by population; fan_out: (...) by the same names.
    """
    counts = [
        torch.einsum("tbn,n->", spikes.flatten(2), fan_out[name].flatten().to(spikes)) / spikes.shape[1]
        for name, spikes in layers.items()
    ]
    return torch.stack(counts).sum()


def _smoothed(logits: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of rows whose target is the diagonal, smoothed over the finite entries."""
    log_share = logits.log_softmax(1)
    finite = log_share.isfinite()
    even = log_share.masked_fill(~finite, 0.0).sum(1) / finite.sum(1)
    return -((1 - smoothing) * log_share.diagonal() + smoothing * even).mean()


def _same_concept(concepts: Tensor) -> Tensor:
    """Return (B, B): True for two different pairs of one concept."""
    same = concepts[:, None] == concepts[None, :]
    return same & ~torch.eye(len(concepts), dtype=torch.bool, device=concepts.device)
