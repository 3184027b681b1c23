"""Times this package against plain reference procedures, as ratios in one run on your machine.

python scripts/benchmark.py data      from Parquet to training batch, beside pure decoding
python scripts/benchmark.py losses    the word matching loss, beside a loop over the captions
python scripts/benchmark.py train     training steps at the published sizes, beside the papers'
"""

import argparse
import io
import multiprocessing
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

CAPTION = "this bird number {} has a red head and long grey wings and sits on a branch"
BATCH_SIZES = {"attngan": 4, "dmgan": 4, "galip": 4, "ssagan": 2, "damsm": 48}


def drawn_photo(rng: np.random.Generator) -> bytes:
    """A JPEG of about 90 kB and 500 x 400 pixels: smooth blobs with grain, which cost a decoder
    what a photograph does."""
    blobs = Image.fromarray(rng.integers(0, 256, (20, 25, 3), dtype=np.uint8)).resize(
        (500, 400), Image.Resampling.BICUBIC
    )
    grain = np.asarray(blobs).astype(int) + rng.integers(-12, 12, (400, 500, 1))
    file = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
    return file.getvalue()


def decode_and_resize(photos: list[bytes], sizes: tuple[int, ...]) -> float:
    """The limit, in images per second: PIL decodes, resizes to 76/64 of the highest size and
    reduces to the lower ones; nothing else."""
    started = time.perf_counter()
    for photo in photos:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        scale = sizes[-1] * 76 / 64 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        square = image.crop((0, 0, sizes[-1], sizes[-1]))
        for size in sizes[:-1]:
            square.resize((size, size), Image.Resampling.BILINEAR)
    return len(photos) / (time.perf_counter() - started)


def benchmark_data(repeats: int, num_rows: int) -> None:
    """Prints images per second of each path through the data, and as a share of the limit measured
    beside it."""
    from t2i_supcon.data import (  # late: --help should not wait
        Batches,
        BatchSampler,
        Collator,
        IndexedRows,
        Source,
        StreamedRows,
        TrainingRows,
        build_tokenizer,
        load_rows,
        make_row,
        prepare,
    )
    from t2i_supcon.training.memory import keep_freed_memory

    keep_freed_memory()  # as `train` does
    rng = np.random.default_rng(0)
    photos = [drawn_photo(rng) for _ in range(num_rows)]
    rows = [make_row(str(i), [CAPTION.format(i % 50)] * 10, [i % 50], i % 50, str(i), "drawn") for i in range(num_rows)]
    tokenizer = build_tokenizer([CAPTION.format(i) for i in range(50)], 18)
    with tempfile.TemporaryDirectory() as folder:
        source = Source(
            "drawn photographs",
            "none",
            "none",
            [str(i) for i in range(50)],
            {"train": rows},
            lambda file: photos[int(file)],
        )
        prepare(lambda work: source, Path(folder), {})

        def rate(streaming: bool, workers: int, sizes: tuple[int, ...], device: str = "cpu") -> float:
            data = load_rows(folder, "train", streaming=streaming)
            order = StreamedRows(data, "label", 0) if streaming else IndexedRows(data["label"], 0)
            samples = TrainingRows(None if streaming else data, tokenizer, sizes, 0, random_crop=True, flip=True)
            batches = iter(Batches(samples, BatchSampler(order, 20, 0, pairs=True), Collator(2), device, workers))
            list(islice(batches, 2 + 2 * workers))  # workers start, queues fill
            started = time.perf_counter()
            count = sum(len(batch) for batch in islice(batches, 2 * num_rows // 20))
            return count / (time.perf_counter() - started)

        print(
            f"{num_rows} drawn JPEGs of 500 x 400, {sum(map(len, photos)) / num_rows / 1000:.0f} kB; label "
            f"pairs, median of {repeats} runs"
        )
        for sizes in ((299,), (64, 128, 256)):
            # workers hand over uint8 pixels, which a GPU turns into floats; "meta" leaves that out
            # of the training process as a GPU does
            paths = {
                "streaming": (True, 0, sizes),
                "map-style": (False, 0, sizes),
                "streaming, 1 worker": (True, 1, sizes, "meta"),
                "streaming, 2 workers": (True, 2, sizes, "meta"),
            }
            runs = [
                {"limit": decode_and_resize(photos, sizes)} | {k: rate(*path) for k, path in paths.items()}
                for _ in range(repeats)
            ]
            print(f"\n{', '.join(f'{s} px' for s in sizes):30}{'images/s':>10}{'share of the limit':>20}")
            for name in runs[0]:
                print(
                    f"{name:30}{median(r[name] for r in runs):>10.0f}"
                    f"{median(r[name] / r['limit'] for r in runs):>20.2f}"
                )
            print(
                f"{'2 workers / 1 worker':30}{'':10}"
                f"{median(r['streaming, 2 workers'] / r['streaming, 1 worker'] for r in runs):>20.2f}"
            )

        data = load_rows(folder, "train", streaming=True)
        batches = Batches(
            TrainingRows(None, tokenizer, (64,), 0),
            BatchSampler(StreamedRows(data, "label", 0), 20, 0, True),
            Collator(2),
        )
        resident = []
        for number, _ in enumerate(islice(batches, 6 * num_rows // 20), 1):
            if number % (num_rows // 20) == 0:
                resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
        print(f"\nmemory after epochs 1 to 6 of streaming: {', '.join(f'{size:.0f}' for size in resident)} MiB")


class Stopwatch:
    """Adds up the seconds of the parts of a step; what a part nested in another takes counts for
    itself alone."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.open: list[str] = []

    def now(self) -> float:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times the block; `part` "backward" is named after the part it happens in."""
        part = f"{self.open[-1]}, backward" if part == "backward" else part
        started = self.now()
        self.open.append(part)
        try:
            yield
        finally:
            self.open.pop()
            spent = self.now() - started
            self.seconds[part] += spent
            if self.open:
                self.seconds[self.open[-1]] -= spent

    def wrap(self, owner: object, method: str, part: str) -> None:
        """Times every call of a method."""
        plain = getattr(owner, method)

        def timed(*args, **kwargs):
            with self(part):
                return plain(*args, **kwargs)

        setattr(owner, method, timed)


def use_plain_operators() -> None:
    """Puts the networks' operations back to what the papers write, in this process."""
    from torch.nn import functional as F

    from t2i_supcon.models import operators

    def upsampled_conv2d(x, weight, bias, size):
        return F.conv2d(F.interpolate(x, size=size, mode="nearest"), weight, bias, padding=1)

    def channel_glu(x):
        half = x.shape[1] // 2
        return x[:, :half] * x[:, half:].sigmoid()

    operators.upsampled_conv2d = upsampled_conv2d
    operators.channel_glu = channel_glu
    operators.conv2d = operators.wide_conv2d = F.conv2d
    operators.leaky_relu = F.leaky_relu
    operators.upsampled_shortcut = lambda shortcut, x, size: shortcut(F.interpolate(x, size=size, mode="nearest"))
    operators.pooled_shortcut = lambda shortcut, x: F.avg_pool2d(shortcut(x), 2)


def plain_word_loss(region_feats, word_embs, attention_mask, gamma1, gamma2, gamma3):
    """AttnGAN's word matching loss (eq. 7-12), caption by caption, with the copies its code makes:
    the sum of both directions."""
    import torch
    from torch.nn import functional as F

    regions, columns, attentions = region_feats.flatten(2), [], []  # (B, D, R)
    for number, length in enumerate(attention_mask.sum(dim=1).tolist()):
        words = (
            word_embs[number, :length].T.contiguous().repeat(len(regions), 1, 1)
        )  # (B, D, T): the same words for every image
        attention = (regions.mT.contiguous() @ words).softmax(dim=2)  # (B, R, T), over the words
        attention = (gamma1 * attention.mT.contiguous()).softmax(dim=2)  # (B, T, R), over the regions
        context = regions @ attention.mT.contiguous()  # (B, D, T)
        cosine = F.cosine_similarity(context.mT.contiguous(), words.mT.contiguous(), dim=2, eps=1e-8)  # (B, T)
        columns.append((gamma2 * cosine).exp().sum(dim=1).log())
        attentions.append(attention[number])
    similarity = gamma3 * torch.stack(columns, dim=1)  # (image, caption)
    own = torch.arange(len(similarity), device=similarity.device)
    return F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)


def plain_matching(recipe, images, text) -> dict:
    """Both matching losses of DAMSM, each with both directions."""
    from t2i_supcon.losses import sentence_matching_loss

    words = plain_word_loss(
        images.region_feats, text.word_embs, text.attention_mask, recipe.gamma1, recipe.gamma2, recipe.gamma3
    )
    return {"words": words, "sent": sum(sentence_matching_loss(images.image_emb, text.sent_emb, None, recipe.gamma3))}


class PlainProcedure:
    """One training step as the papers' code takes it, with the networks of a phase.

    Gradients flow wherever that code lets them: the generator's also into the discriminators'
    weights and, in GALIP, the discriminator's through the frozen image tower to the pixels. Every
    network has an optimiser that goes tensor by tensor, and so does the average.
    """

    def __init__(self, phase, watch: Stopwatch):
        import torch

        self.phase, self.watch, self.recipe = phase, watch, phase.recipe
        rates = (self.recipe.generator_learning_rate, self.recipe.discriminator_learning_rate)
        self.g_adam = torch.optim.Adam(phase.generator.parameters(), rates[0], self.recipe.betas, foreach=False)
        judges = phase.discriminator.scales if self.recipe.model in ("attngan", "dmgan") else [phase.discriminator]
        self.d_adams = [
            torch.optim.Adam(judge.parameters(), rates[1], self.recipe.betas, foreach=False) for judge in judges
        ]
        self.average = [p.detach().clone() for p in phase.generator.parameters()]
        self.step = {"galip": self.galip, "ssagan": self.ssagan}.get(self.recipe.model, self.stacked)

    def train_step(self, batch) -> dict:
        with self.watch("captions and noise"):
            round_ = self.phase._embed_captions(batch)
        text = round_.text
        with self.watch("generator forward"):
            fake = self.phase.generator(
                round_.noise, text.sent_emb, text.word_embs, text.attention_mask, round_.conditioning_noise
            )
        return {name: value.detach() for name, value in self.step(batch, text, fake).items()}

    def update(self, optimizer, loss) -> None:
        with self.watch("backward"):
            loss.backward()
        with self.watch("optimisers and average"):
            optimizer.step()

    def stacked(self, batch, text, fake) -> dict:
        import torch

        from t2i_supcon.losses import bce_discriminator_loss, bce_generator_loss, kl_loss

        weights, judges = self.recipe.loss_weights, self.phase.discriminator.scales
        terms = {"d_adv": 0}
        for judge, adam, real, drawn in zip(judges, self.d_adams, batch.images, fake.images):
            with self.watch("discriminator"):
                adam.zero_grad()
                of_real, of_fake = judge(real, text.sent_emb, text.sent_emb[1:]), judge(drawn.detach(), text.sent_emb)
                loss = bce_discriminator_loss(
                    of_real.cond[0], of_fake.cond[0], of_real.wrong[0], of_real.uncond[0], of_fake.uncond[0]
                )
                self.update(adam, loss)
                terms["d_adv"] += loss.detach()
        with self.watch("generator update"):
            self.g_adam.zero_grad()
            scores = [judge(drawn, text.sent_emb) for judge, drawn in zip(judges, fake.images)]
            terms["g_adv"] = sum(bce_generator_loss(score.cond[0], score.uncond[0]) for score in scores)
            terms["g_kl"] = kl_loss(fake.mu, fake.logvar)
            with self.watch("image encoder and matching"):
                terms |= plain_matching(self.recipe, self.phase.image_encoder(fake.images[-1]), text)
            self.update(self.g_adam, sum(weight * terms[name] for name, weight in weights.items() if name != "d_adv"))
        with self.watch("optimisers and average"), torch.no_grad():
            for mine, live in zip(self.average, self.phase.generator.parameters()):
                mine.mul_(self.recipe.ema_decay).add_(live, alpha=1 - self.recipe.ema_decay)
        return terms

    def ssagan(self, batch, text, fake) -> dict:
        from t2i_supcon.losses import hinge_discriminator_loss, hinge_generator_loss, matching_aware_gradient_penalty

        weights, judge, (adam,) = self.recipe.loss_weights, self.phase.discriminator, self.d_adams
        with self.watch("discriminator"):
            of_real = judge(batch.images, text.sent_emb, text.sent_emb[1:])
            of_fake = judge(fake.images[-1].detach(), text.sent_emb)
            terms = {"d_adv": hinge_discriminator_loss(of_real.cond[0], of_fake.cond[0], of_real.wrong[0])}
            adam.zero_grad()
            self.update(adam, terms["d_adv"])
        with self.watch("gradient penalty"):
            inputs = (batch.images[-1].detach().requires_grad_(), text.sent_emb.detach().requires_grad_())
            terms["d_magp"] = matching_aware_gradient_penalty(judge(*inputs).cond[0], inputs)
            adam.zero_grad()
            self.update(adam, terms["d_magp"])
        with self.watch("generator update"):
            self.g_adam.zero_grad()
            terms["g_adv"] = hinge_generator_loss(judge(fake.images, text.sent_emb).cond[0])
            with self.watch("image encoder and matching"):
                terms |= plain_matching(self.recipe, self.phase.image_encoder(fake.images[-1]), text)
            self.update(
                self.g_adam, sum(weight * terms[name] for name, weight in weights.items() if not name.startswith("d_"))
            )
        return terms

    def galip(self, batch, text, fake) -> dict:
        from t2i_supcon.losses import (
            cosine_matching_loss,
            hinge_discriminator_loss,
            hinge_generator_loss,
            matching_aware_gradient_penalty,
        )

        weights, judge, (adam,) = self.recipe.loss_weights, self.phase.discriminator, self.d_adams
        sent = text.sent_emb.detach().requires_grad_()
        with self.watch("image encoder and matching"):
            real = self.phase.image_encoder(batch.images[-1].detach().requires_grad_()).local_feats
            seen = self.phase.image_encoder(fake.images[-1])
        with self.watch("discriminator"):
            of_real, of_fake = judge(real, sent, sent.detach().roll(-1, dims=0)), judge(seen.local_feats.detach(), sent)
            terms = {"d_adv": hinge_discriminator_loss(of_real.cond[0], of_fake.cond[0], of_real.wrong[0])}
            terms["d_magp"] = matching_aware_gradient_penalty(of_real.cond[0], (real, sent))
            adam.zero_grad()
            self.update(adam, terms["d_adv"] + terms["d_magp"])
        with self.watch("generator update"):
            self.g_adam.zero_grad()
            terms["g_adv"] = hinge_generator_loss(judge(seen.local_feats, text.sent_emb).cond[0])
            terms["clip_sim"] = cosine_matching_loss(seen.image_emb, text.sent_emb)
            self.update(
                self.g_adam, sum(weight * terms[name] for name, weight in weights.items() if not name.startswith("d_"))
            )
        return terms


class PlainEncoderProcedure:
    """One training step of DAMSM as AttnGAN's code takes it."""

    def __init__(self, phase, watch: Stopwatch):
        import torch

        self.phase, self.watch = phase, watch
        self.adam = torch.optim.Adam(
            [p for p in phase.model.parameters() if p.requires_grad],
            phase.recipe.learning_rate,
            phase.recipe.betas,
            foreach=False,
        )

    def train_step(self, batch) -> dict:
        import torch

        phase, recipe = self.phase, self.phase.recipe
        self.adam.zero_grad()
        with self.watch("image encoder"):
            images = phase.model.image_encoder(batch.images[-1])
        with self.watch("text encoder"):
            text = phase.model.text_encoder(batch.input_ids, batch.attention_mask)
        with self.watch("matching"):
            terms = plain_matching(recipe, images, text)
            with self.watch("backward"):
                sum(terms.values()).backward()
        with self.watch("optimisers and average"):
            torch.nn.utils.clip_grad_norm_(phase.model.text_encoder.parameters(), recipe.text_grad_clip)
            self.adam.step()
        return {name: term.detach() for name, term in terms.items()}


def build_step(
    model: str, batch_size: int, plain: bool, watch: Stopwatch, precision: str, compiled: bool
) -> Callable[[], dict]:
    """A training step of `model` at its published size on one fixed batch, with random weights that
    depend on nothing else."""
    import torch
    from accelerate import Accelerator

    from t2i_supcon.data import Batch
    from t2i_supcon.models import GANS, CLIPPairConfig, CLIPPairModel, DAMSMConfig, DAMSMModel
    from t2i_supcon.training import EncoderPhase, GANPhase
    from t2i_supcon.training.recipe import build_model_config, load_recipe

    overrides = [f"batch_size={batch_size}", "mask_shared_labels=false", f"compile={str(compiled).lower()}"]
    recipe = load_recipe(
        f"{model}-cub-baseline", Path(__file__).parent / "recipes", overrides + ["channels_last=false"] * plain
    )
    accelerator = Accelerator(cpu=watch.device == "cpu", mixed_precision=precision)
    torch.manual_seed(0)
    if model == "damsm":
        phase = EncoderPhase(recipe, accelerator, DAMSMModel(build_model_config(DAMSMConfig, recipe.model_config)))
        sizes, words = (recipe.image_size,), 18
    else:
        encoders = CLIPPairModel(CLIPPairConfig()) if model == "galip" else DAMSMModel(DAMSMConfig())
        given = ("text_config", "image_config") if model == "galip" else ("text_config",)
        config = build_model_config(
            GANS[model].config, recipe.model_config, **{key: getattr(encoders.config, key).to_dict() for key in given}
        )
        generator, discriminator = GANS[model].generator(config), GANS[model].discriminator(config)
        phase = GANPhase(recipe, accelerator, generator, discriminator, encoders.text_encoder, encoders.image_encoder)
        sizes, words = config.image_sizes, recipe.data.max_words
    lengths = torch.randint(8, words + 1, (batch_size,))
    lengths[0] = words
    mask = (torch.arange(words)[None] < lengths[:, None]).long()
    images = tuple(torch.randn(batch_size, 3, size, size).clamp(-1, 1) for size in sizes)
    ids = torch.randint(1, 5000, (batch_size, words)) * mask
    batch = Batch(images, ids, mask, torch.arange(batch_size), ("",) * batch_size, 1).to(watch.device)
    if plain:
        procedure = (PlainEncoderProcedure if model == "damsm" else PlainProcedure)(phase, watch)
        return lambda: procedure.train_step(batch)
    watch.wrap(accelerator, "backward", "backward")
    if model == "damsm":
        watch.wrap(phase.model.image_encoder, "forward", "image encoder")
        watch.wrap(phase.model.text_encoder, "forward", "text encoder")
        watch.wrap(phase, "_backward", "matching")
        watch.wrap(phase.optimizer, "step", "optimisers and average")
        return lambda: phase.train_step(batch)
    watch.wrap(phase, "_embed_captions", "captions and noise")
    watch.wrap(phase.image_encoder, "forward", "image encoder and matching")
    watch.wrap(phase.generator, "forward", "generator forward")
    watch.wrap(phase, "discriminator_step", "discriminator")
    watch.wrap(phase, "penalty_step", "gradient penalty")
    watch.wrap(phase, "generator_step", "generator update")
    for owner in (phase.g_optimizer, phase.d_optimizer):
        watch.wrap(owner, "step", "optimisers and average")
    if phase.ema is not None:
        watch.wrap(phase.ema, "update", "optimisers and average")
    return lambda: phase.train_step(batch)


def count_operations(step: Callable[[], object]) -> int:
    """Multiplications and additions of all matrix products and convolutions in one call."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Counter(TorchDispatchMode):  # torch's own FlopCounterMode cannot count gradients by inputs
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if (count := flop_registry.get(function.overloadpacket)) is not None:
                self.total += count(*args, **(kwargs or {}), out_val=result)
            return result

    with Counter() as counter:
        step()
    return counter.total


def run_steps(
    pipe, model: str, batch_size: int, plain: bool, device: str, precision: str, compiled: bool, keep_memory: bool
) -> None:
    """A process of its own per procedure, so that each has its own peak of memory: takes a step
    whenever it is asked to."""
    import torch

    from t2i_supcon.training.memory import keep_freed_memory

    if plain:
        use_plain_operators()
    if device == "cpu" and (keep_memory or not plain):
        keep_freed_memory()  # as `train` does
    watch = Stopwatch(device)
    try:
        step = build_step(model, batch_size, plain, watch, precision, compiled)
    except ValueError as error:  # a batch size or a precision that the model refuses
        pipe.send(error)
        return
    torch.manual_seed(1)
    terms = {name: float(value) for name, value in step().items()}
    pipe.send((terms, count_operations(step)))
    while pipe.recv():
        watch.seconds.clear()
        started = watch.now()
        step()
        total = watch.now() - started
        pipe.send((total, dict(watch.seconds)))
    peak = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    pipe.send(peak)


def measure_peak(device: str, precision: str) -> float:
    """Operations per second of a large matrix product or convolution, whichever is quicker: the
    most this machine was seen to do."""
    import torch
    from torch.nn import functional as F

    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size = 2048 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=dtype)
    x = torch.randn(16, 256, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    watch, seconds = Stopwatch(device), defaultdict(list)
    for _ in range(6):
        for operations, work in (
            (2 * size**3, lambda: a @ a),
            (2 * x.numel() * weight[0].numel(), lambda: F.conv2d(x, weight, padding=1)),
        ):
            started = watch.now()
            work()
            seconds[operations].append(watch.now() - started)
    return max(operations / min(times) for operations, times in seconds.items())


class Runner:
    """A process that holds one procedure and takes a step whenever it is asked; on its own, so that
    its peak of memory is its own too."""

    def __init__(self, *what):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=run_steps, args=(theirs, *what), daemon=True)
        self.process.start()
        theirs.close()
        answer = self.pipe.recv()
        if isinstance(answer, ValueError):
            raise SystemExit(f"error: {answer}")
        self.terms, self.flops = answer  # of the first steps
        self.totals, self.parts = [], []

    def step(self) -> float:
        self.pipe.send(True)
        total, parts = self.pipe.recv()
        self.totals.append(total)
        self.parts.append(parts)
        return total

    def stop(self) -> int:
        """Ends the process; returns its peak of memory in bytes."""
        self.pipe.send(False)
        peak = self.pipe.recv()
        self.process.join()
        return peak

    def part(self, name: str) -> float:
        return median(parts.get(name, 0.0) for parts in self.parts)


def benchmark_train(
    models: list[str],
    repeats: int,
    batch_size: int | None,
    device: str,
    precision: str,
    compiled: bool,
    keep_memory: bool,
) -> None:
    """Prints seconds, parts, FLOPs and memory of one step of each model, beside the plain
    procedure's."""
    peaks = {kind: measure_peak(device, kind) for kind in ("no", precision)}
    reached = ", ".join(
        f"{peak / 1e9:.0f} GFLOP/s in {'float32' if kind == 'no' else kind}" for kind, peak in peaks.items()
    )
    print(
        f"{device}: large matrix products or convolutions reach {reached}; random weights and images, "
        f"median of {repeats} interleaved steps"
    )
    for model in models:
        rows = batch_size or BATCH_SIZES[model]
        ours = Runner(model, rows, False, device, precision, compiled, True)
        plain = Runner(model, rows, True, device, "no", False, keep_memory)
        ratios = [plain.step() / ours.step() for _ in range(repeats)]
        print(f"\n{model}, {rows} rows{'':12}{'plain, s':>12}{'share':>8}{'here, s':>12}{'share':>8}{'ratio':>8}")
        for name in dict.fromkeys(name for runner in (plain, ours) for parts in runner.parts for name in parts):
            row = [runner.part(name) for runner in (plain, ours)]
            shares = [seconds / median(runner.totals) for seconds, runner in zip(row, (plain, ours))]
            ratio = f"{row[0] / row[1]:8.2f}" if all(row) else f"{'':8}"
            print(f"  {name:34}{row[0]:>10.3f}{shares[0]:>8.0%}{row[1]:>12.3f}{shares[1]:>8.0%}{ratio}")
        totals = [median(runner.totals) for runner in (plain, ours)]
        print(
            f"  {'whole step':34}{totals[0]:>10.3f}{'':8}{totals[1]:>12.3f}{'':8}{median(ratios):>8.2f}  "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
        flops = [runner.flops for runner in (plain, ours)]
        print(
            f"  {'10^9 operations (FLOPs)':34}{flops[0] / 1e9:>10.0f}{'':8}"
            f"{flops[1] / 1e9:>12.0f}{'':8}{flops[0] / flops[1]:>8.2f}"
        )
        used = [count / total / peaks[kind] for count, total, kind in zip(flops, totals, ("no", precision))]
        print(f"  {'share of that peak':34}{used[0]:>10.2f}{'':8}{used[1]:>12.2f}")
        memory = [runner.stop() / 2**30 for runner in (plain, ours)]
        print(f"  {'peak memory, GiB':34}{memory[0]:>10.2f}{'':8}{memory[1]:>12.2f}{'':8}{memory[0] / memory[1]:>8.2f}")
        apart = max(
            abs(plain.terms[name] - value) / max(abs(value), 1e-6)
            for name, value in ours.terms.items()
            if name in plain.terms
        )
        print(f"  losses of the first step differ by at most {apart:.1e} of their size")


def benchmark_losses(repeats: int, batch_size: int | None, device: str) -> None:
    """Prints the time of the word matching loss, forward and backward, beside a loop over the
    captions."""
    import torch

    from t2i_supcon.losses import matching_loss, word_relevance

    torch.manual_seed(0)
    watch = Stopwatch(device)
    print(
        f"word matching loss, 289 regions, 256 wide, captions of 8 to 18 words; {device}, median of "
        f"{repeats} interleaved runs"
    )
    print(f"{'rows':>6}{'loop, ms':>12}{'here, ms':>12}{'ratio':>8}{'difference':>14}")
    for rows in [batch_size] if batch_size else (10, 16, 48):
        regions, words = torch.randn(rows, 256, 17, 17, device=device) / 16, torch.randn(rows, 18, 256, device=device)
        lengths = torch.randint(8, 19, (rows,))
        mask = (torch.arange(18)[None] < lengths[:, None]).long().to(device)
        leaves = [regions.requires_grad_(), words.requires_grad_()]
        losses = {
            "loop": lambda inputs=(*leaves, mask): plain_word_loss(*inputs, 4, 5, 10),
            "here": lambda inputs=(*leaves, mask): sum(matching_loss(10 * word_relevance(*inputs, 4, 5))),
        }
        runs = defaultdict(list)
        for _ in range(repeats + 1):
            for name, loss in losses.items():
                started = watch.now()
                torch.autograd.grad(loss(), leaves)
                runs[name].append(watch.now() - started)
        a, b = (1000 * median(seconds[1:]) for seconds in runs.values())  # the first run warms up
        apart = abs(1 - losses["here"]().item() / losses["loop"]().item())
        print(f"{rows:>6}{a:>12.1f}{b:>12.1f}{a / b:>8.2f}{apart:>14.1e}")


def sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def positive(text: str) -> int:
    """An option's value that must be at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 on")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    data = kinds.add_parser("data", help="the way from Parquet shards to training batches")
    data.add_argument(
        "--repeats", type=positive, default=5, help="interleaved runs, of which the median is printed (default: 5)"
    )
    data.add_argument("--rows", type=positive, default=600, help="images to draw (default: 600)")
    losses = kinds.add_parser("losses", help="the word matching loss")
    train = kinds.add_parser("train", help="whole training steps; about ten minutes on two CPU cores")
    train.add_argument("models", nargs="*", metavar="model", help=f"any of {', '.join(BATCH_SIZES)} (default: all)")
    train.add_argument(
        "--mixed-precision",
        choices=("no", "bf16", "fp16"),
        default="no",
        help="of this package; the plain procedure runs in float32",
    )
    train.add_argument("--compile", action="store_true", help="torch.compile for this package")
    train.add_argument(
        "--keep-memory",
        action="store_true",
        help="let the plain procedure keep freed memory too, to see the rest of the gain alone",
    )
    for parts, repeats, rows in ((losses, 11, "10, 16 and 48"), (train, 5, "4; SSA-GAN 2, DAMSM 48")):
        parts.add_argument("--batch-size", type=positive, help=f"rows (default: {rows})")
        parts.add_argument(
            "--repeats",
            type=positive,
            default=repeats,
            help=f"interleaved runs, of which the median is printed (default: {repeats})",
        )
        parts.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run (default: cpu)")
    options = parser.parse_args(arguments)
    if options.kind != "data" and options.device == "cuda" and not sees_gpu():
        parser.error("--device cuda: torch sees no GPU here")
    if options.kind == "train" and options.mixed_precision == "fp16" and options.device == "cpu":
        parser.error("--mixed-precision fp16 needs --device cuda")
    if options.kind == "data":
        benchmark_data(options.repeats, options.rows)
    elif options.kind == "losses":
        benchmark_losses(options.repeats, options.batch_size, options.device)
    else:
        if unknown := set(options.models) - set(BATCH_SIZES):
            parser.error(f"unknown model {', '.join(sorted(unknown))}; choose from {', '.join(BATCH_SIZES)}")
        models = options.models or list(BATCH_SIZES)
        benchmark_train(
            models,
            options.repeats,
            options.batch_size,
            options.device,
            options.mixed_precision,
            options.compile,
            options.keep_memory,
        )


if __name__ == "__main__":
    main()
