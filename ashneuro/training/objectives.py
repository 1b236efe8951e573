"""Training objectives: one function each, with its equation and shapes. All return scalars.

B is the number of pairs in a batch. Embeddings are unit vectors, so products are cosines, and
``scale`` s is the inverse temperature 1/τ. Equal numbers in ``concepts`` (B,) mark pairs that show
the same thing; two such pairs are neither positives nor negatives of each other. N(i) is the set
of pairs that pair i is contrasted with: all pairs of other concepts, and i itself where said so.
Where images and texts are compared, ``concepts`` may be a mask (B, B) instead, `same_texts`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def itc(images: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float, smoothing: float = 0.0) -> Tensor:
    """Return L_ITC, the contrast of images u and texts t, both (B, E), in both directions.

    ::

        p_ij  = e^{s·u_i·t_j} / Σ_{k ∈ N(i)} e^{s·u_i·t_k}
        q_ij  = e^{s·t_i·u_j} / Σ_{k ∈ N(i)} e^{s·t_i·u_k}
        l_ij  = log p_ij + log q_ij
        L_ITC = −1/(2B) Σ_i [ (1 − ε) l_ii + ε/|N(i)| Σ_{j ∈ N(i)} l_ij ]

    N(i) includes i. The label smoothing ε reduces overfitting on small data.
    """
    logits = (scale * images @ texts.T).masked_fill(_same_concept(concepts), -math.inf)
    return (_smoothed(logits, smoothing) + _smoothed(logits.T, smoothing)) / 2


def contrast(first: Tensor, second: Tensor, concepts: Tensor, scale: float, beta: float, synthetic: int = 0) -> Tensor:
    """Return L_CL, the contrast of two views z_i and z'_i (B, E) of every image.

    ::

        L_CL = −1/B Σ_i log  e^{s·z_i·z'_i} / D_i
        D_i  = e^{s·z_i·z'_i} + Σ_{j ∈ N(i)} w_ij e^{s·z_i·z'_j} + Σ_m e^{s·z_i·h_im}
        w_ij = |N(i)| e^{β z_i·z'_j} / Σ_{k ∈ N(i)} e^{β z_i·z'_k}

    N(i) excludes i. The weights w have no gradient and tilt the negatives toward hard ones; at
    β = 0, w_ij = 1, this is InfoNCE. h_im are the ``synthetic`` negatives of `synthetic_negatives`.
    Applied at the spiking encoder's input, so that similar images cause similar currents.
    """
    similarity = first @ second.T
    itself = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    excluded = itself | _same_concept(concepts)
    # log w_ij, from a softmax over N(i) times |N(i)|. clamp: an empty N(i) would be log 0.
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
    """Return negatives mixed from the hardest ones (B, count, E), and a mask of those that exist.

    ::

        h_im = norm((n_{i,m} + n_{i,m+1}) / 2)

    n_{i,1}, n_{i,2}, … are the z'_j with j ∈ N(i), the most similar to z_i first. The mixed vectors
    are unit vectors without gradient. The mask (B, count) is False where N(i) has too few members.
    """
    similarity = (first.detach() @ second.detach().T).masked_fill(excluded, -math.inf)
    best = similarity.topk(min(count + 1, len(similarity)), dim=1)
    hardest = second.detach()[best.indices]
    mixed = F.normalize(hardest[:, :-1] + hardest[:, 1:], dim=-1)
    real = best.values[:, 1:].isfinite()
    short = count - mixed.shape[1]
    return F.pad(mixed, (0, 0, 0, short)), F.pad(real, (0, short))


def hard_negatives(similarity: Tensor, concepts: Tensor, random: torch.Generator) -> Tensor:
    """Return one negative j (B,) per row i of similarities (B, B), drawn from other concepts.

    ::

        p_ij ∝ e^{similarity_ij}

    Rows without pairs of other concepts get −1.
    """
    excluded = _same(concepts)
    # A diverged network has NaN here. Its loss reports that; drawing must not fail before.
    shares = similarity.detach().float().nan_to_num().masked_fill(excluded, -math.inf).softmax(1)
    possible = ~excluded.all(1)
    shares = torch.where(possible[:, None], shares, torch.full_like(shares, 1 / len(shares)))
    # Drawn on the CPU, where ``random`` is, so that every device draws the same.
    drawn = torch.multinomial(shares.cpu(), 1, generator=random).flatten().to(similarity.device)
    return torch.where(possible, drawn, torch.full_like(drawn, -1))


def itm(scores: Tensor, matched: Tensor) -> Tensor:
    """Return L_ITM, image–text matching.

    ::

        L_ITM = −1/M Σ_m log softmax(scores_m)[y_m]

    Args:
        scores: (M, 2).
        matched: y (M,), 1 for a pair, 0 for a drawn negative.
    """
    return F.cross_entropy(scores, matched)


def mlm(scores: Tensor, targets: Tensor) -> Tensor:
    """Return L_MLM, the prediction of masked words from the other words and the image.

    ::

        L_MLM = −1/|K| Σ_{(b, m) ∈ K} log softmax(scores_bm)[w_bm]

    K is the set of masked positions; 0 if there are none.

    Args:
        scores: (B, M, words).
        targets: w (B, M), −1 where not masked.
    """
    masked = targets >= 0
    if not masked.any():
        return scores.sum() * 0.0  # a zero in the graph: the step may have no other loss
    return F.cross_entropy(scores[masked], targets[masked])


def mask_words(tokens: Tensor, share: float, mask: int, words: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return tokens (B, M) with masked words, and the targets (B, M): masked words, −1 elsewhere.

    A word is chosen with probability ``share``, at least one in every text that has words. As in
    BERT, 80 % of the chosen ones become ``mask``, 10 % a random word (2…``words`` − 1), 10 % stay.
    """
    draws = torch.rand(3, *tokens.shape, generator=random).to(tokens.device)
    real = tokens > 0
    chosen = (draws[0] < share) & real
    # A text without a chosen word gets the one with the smallest draw.
    least = draws[0].masked_fill(~real, math.inf)
    chosen |= real & (least == least.min(1, keepdim=True).values) & ~chosen.any(1, keepdim=True)
    targets = tokens.masked_fill(~chosen, -1)
    others = 2 + (draws[2] * (words - 2)).long().clamp(max=max(0, words - 3))
    hidden = torch.where(draws[1] < 0.8, torch.full_like(tokens, mask), torch.where(draws[1] < 0.9, others, tokens))
    return torch.where(chosen, hidden, tokens), targets


def stua(abstract: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float) -> Tensor:
    """Return L_STUA, Spiking-to-Text Uni-Alignment of read-outs a (B, E) to texts t (B, E).

    ::

        L_STUA = −1/B Σ_i log  e^{s·a_i·sg(t_i)} / Σ_{j ∈ N(i)} e^{s·a_i·sg(t_j)}

    sg is the stop-gradient: read-outs move to the texts, never the reverse, and there is no
    text-to-spike term. N(i) includes i.
    """
    logits = (scale * abstract @ texts.detach().T).masked_fill(_same_concept(concepts), -math.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def stua_soft(abstract: Tensor, texts: Tensor, scale: Tensor | float, candidates: Tensor | None = None) -> Tensor:
    """Return L_STUA with soft targets: the similarities of the texts to candidate texts.

    ::

        q_ij   = e^{s·t_i·c_j} / Σ_k e^{s·t_i·c_k}
        p_ij   = e^{s·a_i·c_j} / Σ_k e^{s·a_i·c_k}
        L_STUA = 1/B Σ_i Σ_j q_ij log(q_ij / p_ij),   t = sg(t), c = sg(c)

    Read-outs a (B, E) move to the texts t (B, E), never the reverse.

    Args:
        candidates: c (N, E); by default the texts t themselves. All count, those of the pair's
            concept as well: they are similar, so they share the target.
    """
    texts = texts.detach()
    candidates = texts if candidates is None else candidates.detach()
    target = (scale * texts @ candidates.T).softmax(1)
    return F.kl_div((scale * abstract @ candidates.T).log_softmax(1), target, reduction="batchmean")


def balanced_assignment(images: Tensor, candidates: Tensor, scale: Tensor | float, rounds: int = 3) -> Tensor:
    """Return the share q (U, N) of each image v (U, E) that is assigned to each text c (N, E).

    ::

        q_ij ∝ e^{s·v_i·c_j},   Σ_j q_ij = 1,   Σ_i q_ij ≈ U/N

    Rows and columns are scaled in turn (Sinkhorn–Knopp), rows last. Without balanced columns the
    images would gather at a few texts and confirm each other. No gradient. Source: Caron et al.,
    SwAV, arXiv 2006.09882.
    """
    logits = scale * images.detach() @ candidates.detach().T
    for _ in range(rounds):
        logits = logits.log_softmax(0)
        logits = logits.log_softmax(1)
    return logits.exp()


def pseudo_alignment(images: Tensor, assigned: Tensor, candidates: Tensor, scale: Tensor | float) -> Tensor:
    """Return the alignment of unlabelled images u (U, E) to the texts c (N, E) assigned to them.

    ::

        L = −1/U Σ_i Σ_j q_ij log ( e^{s·u_i·c_j} / Σ_n e^{s·u_i·c_n} )

    Args:
        assigned: q (U, N), the shares of `balanced_assignment`.
    """
    return F.cross_entropy(scale * images @ candidates.detach().T, assigned)


def text_contrast(fragments: Tensor, texts: Tensor, tokens: Tensor, scale: Tensor | float) -> Tensor:
    """Return the contrast of fragments f (U, E) of texts to the whole texts t (U, E).

    ::

        L = −1/U Σ_i log  e^{s·f_i·sg(t_i)} / Σ_{j ∈ N(i)} e^{s·f_i·sg(t_j)}

    Words that occur together become similar, without any image. N(i) are the texts of other words,
    and i itself.

    Args:
        tokens: word indices (U, M) of the whole texts.
    """
    same = (tokens[:, None] == tokens[None, :]).all(2)
    same &= ~torch.eye(len(tokens), dtype=torch.bool, device=tokens.device)
    logits = (scale * fragments @ texts.detach().T).masked_fill(same, -math.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def stua_symmetric(abstract: Tensor, texts: Tensor, concepts: Tensor, scale: Tensor | float) -> Tensor:
    """Return L_STUA as alignment in both directions: `itc` between read-outs and texts; both move.

    ::

        L = −1/(2B) Σ_i [ log softmax_j(s·a_i·t_j)_i + log softmax_j(s·t_i·a_j)_i ],  j ∈ N(i)

    N(i) includes i.
    """
    return itc(abstract, texts, concepts, scale)


def stua_reconstruction(rebuilt: Tensor, texts: Tensor) -> Tensor:
    """Return L_STUA as reconstruction of text features that pass the spiking encoder.

    ::

        L = 1/B Σ_i (1 − â_i·sg(t_i))

    Args:
        rebuilt: unit vectors â (B, E), read out of the spikes that the current W_x sg(t_i) causes.
        texts: t (B, E).
    """
    return (1 - (rebuilt * texts.detach()).sum(1)).mean()


def stua_words(scores: Tensor, tokens: Tensor) -> Tensor:
    """Return L_STUA as bag of words: the text's words are predicted from the spikes.

    ::

        L = −1/B Σ_i 1/|W_i| Σ_{w ∈ W_i} log softmax(scores_i)[w]

    W_i are the distinct words of text i. B does not count texts without words.

    Args:
        scores: (B, words).
        tokens: word indices (B, M), 0 for padding.
    """
    present = torch.zeros_like(scores).scatter_(1, tokens, 1.0)
    present[:, 0] = 0.0  # padding
    counts = present.sum(1)
    shares = -(scores.log_softmax(1) * present).sum(1) / counts.clamp(min=1)
    return shares.sum() / (counts > 0).sum().clamp(min=1)


def distil(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    taught_images: Tensor,
    taught_texts: Tensor,
    taught_scale: Tensor | float,
) -> Tensor:
    """Return the divergence of a teacher's image–text similarities from the student's.

    ::

        p_ij = softmax_j(s·u_i·t_j),  q_ij = softmax_j(s'·u'_i·t'_j)       u', t', s' of the teacher
        L    = 1/(2B) Σ_i [ KL(q_i ‖ p_i) + the same of texts to images ]

    All pairs of the batch count, those of one concept too. Embeddings are (B, E); the teacher's may
    have another width.
    """
    logits, taught = scale * images @ texts.T, (taught_scale * taught_images @ taught_texts.T).detach()
    return (_divergence(taught, logits) + _divergence(taught.T, logits.T)) / 2


def distil_embedding(images: Tensor, taught_images: Tensor) -> Tensor:
    """Return the distance of image embeddings u (B, E) from a teacher's u' (B, E).

    ::

        L = 1/B Σ_i (1 − u_i·sg(u'_i))
    """
    return (1 - (images * taught_images.detach()).sum(1)).mean()


def codebook_loss(z: Tensor, entries: Tensor, commitment: float = 0.25) -> Tensor:
    """Return the loss of a VQ codebook: entries e move to the inputs z, and z, less, to e; (B, K).

    ::

        L = mean (sg(z) − e)² + commitment · mean (z − sg(e))²
    """
    return F.mse_loss(entries, z.detach()) + commitment * F.mse_loss(z, entries.detach())


def answer_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of VQA, a binary cross-entropy per answer with soft targets.

    ::

        L = −1/B Σ_b Σ_l [ y_bl log σ(s_bl) + (1 − y_bl) log(1 − σ(s_bl)) ]

    Args:
        scores: s (B, L).
        targets: y (B, L), share of the annotators' credit that each answer earns, 0…1.
    """
    return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum") / len(scores)


def label_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of entailment and NLVR2, a cross-entropy.

    ::

        L = −1/B Σ_b log softmax(s_b)[y_b]

    Args:
        scores: s (B, L).
        labels: y (B,).
    """
    return F.cross_entropy(scores, labels)


def firing_rate_penalty(layers: Iterable[Tensor], target: float) -> Tensor:
    """Return the penalty on firing rates above ``target`` spikes per neuron and timestep.

    ::

        L_rate = mean over layers of max(0, mean(s_l) / target − 1)²

    Args:
        layers: spikes s_l (T, B, ...), or their means.
    """
    excess = [F.relu(spikes.mean() / target - 1) ** 2 for spikes in layers]
    return torch.stack(excess).mean()


def synops_penalty(count: Tensor, target: float) -> Tensor:
    """Return the penalty on synops above ``target``.

    ::

        L_synops = max(0, N / target − 1)²

    Args:
        count: N, as `synops` returns it.
    """
    return F.relu(count / target - 1) ** 2


def synops(layers: Mapping[str, Tensor], fan_out: Mapping[str, Tensor]) -> Tensor:
    """Return N, the mean number of synaptic operations per sample, differentiable.

    ::

        N = 1/B Σ_l Σ_{t, b, n} s_l[t, b, n] · fan_out_l[n]

    Args:
        layers: spikes s_l (T, B, ...) by population.
        fan_out: synapses per neuron (...) by population.
    """
    counts = [
        torch.einsum("tbn,n->", spikes.flatten(2), fan_out[name].flatten().to(spikes)) / spikes.shape[1]
        for name, spikes in layers.items()
    ]
    return torch.stack(counts).sum()


def synops_at_rate(rate: Tensor, sent: Tensor, fan_out: float) -> Tensor:
    """Return `synops` of a population whose neurons have the same fan-out, from its firing rate.

    Args:
        rate: messages per neuron and timestep, with their gradient.
        sent: messages (T, B, ...), for the shape.
        fan_out: synapses per neuron.
    """
    return rate * (fan_out * sent.numel() / sent.shape[1])


def changes(
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    units: Mapping[str, Tensor],
    fan_out: Mapping[str, Tensor],
) -> Tensor:
    """Return L_changes, the synops of the change between two pictures over those of a picture.

    ::

        L_changes = N(|s − s'| / Δ) / sg(N([s ≠ 0]))          N as of `synops`

    |s − s'|/Δ is the number of levels that a message changes by, and 1 or more where it is sent.

    Args:
        first, second: spikes or values s_l, s'_l (T, B, ...) by population.
        units: Δ_l: scalars by population.
        fan_out: synapses per neuron (...) by population.
    """
    moved = {name: (first[name] - second[name]).abs() / units[name] for name in first}
    sent = {name: (values != 0).to(values) for name, values in first.items()}
    return synops(moved, fan_out) / synops(sent, fan_out).detach().clamp(min=1.0)


def shifted(images: Tensor, random: torch.Generator) -> Tensor:
    """Return images (B, C, H, W), each moved by −1, 0 or 1 pixel along each axis, not by 0 and 0.

    Pixels at an edge are repeated.
    """
    ways = torch.tensor([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x])
    moves = ways[torch.randint(len(ways), (len(images),), generator=random)].to(images.device)
    height, width = (torch.arange(size, device=images.device) for size in images.shape[2:])
    rows = (height + moves[:, :1]).clamp(0, len(height) - 1)
    columns = (width + moves[:, 1:]).clamp(0, len(width) - 1)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return images[index, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _divergence(taught: Tensor, logits: Tensor) -> Tensor:
    """Return the mean over rows of KL(softmax(taught) ‖ softmax(logits))."""
    return F.kl_div(logits.log_softmax(1), taught.log_softmax(1), reduction="batchmean", log_target=True)


def _smoothed(logits: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy of logits (B, B) whose target is the diagonal.

    The target is smoothed over the finite entries of a row; infinite ones are masked pairs.
    """
    log_share = logits.log_softmax(1)
    finite = log_share.isfinite()
    even = log_share.masked_fill(~finite, 0.0).sum(1) / finite.sum(1)
    return -((1 - smoothing) * log_share.diagonal() + smoothing * even).mean()


def same_texts(concepts: Tensor, texts: Tensor | None) -> Tensor:
    """Return a mask (B, B): pairs i and j are of one concept, or text j equals one of image i's.

    Args:
        concepts: (B,).
        texts: (B, 1 + C), as in `Batch`; ``None``: texts of several concepts differ, and
            ``concepts`` comes back.
    """
    if texts is None:
        return concepts
    same = concepts[:, None] == concepts[None, :]
    for own in texts[:, 1:].T:  # a column at a time: (B, B, C) may be large
        same |= own[:, None] == texts[None, :, 0]
    return same


def _same(concepts: Tensor) -> Tensor:
    return concepts if concepts.dim() == 2 else concepts[:, None] == concepts[None, :]


def _same_concept(concepts: Tensor) -> Tensor:
    """Return a mask (B, B), True for two different pairs of one concept, or of equal texts."""
    same = _same(concepts)
    return same & ~torch.eye(len(concepts), dtype=torch.bool, device=concepts.device)
