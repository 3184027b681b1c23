"""Files in the formats the authors published them in, through the script to a repository that
loads, tokenizes and draws."""

import importlib.util
import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from pathlib import Path

import conftest
import pytest
import torch
from golden.weights import Golden
from torch.testing import assert_close
from transformers import AutoModel, AutoTokenizer, pipeline

from t2i_supcon.conversion import convert_files, load_original, read_state_dict, read_vocabulary
from t2i_supcon.models import GANS, CLIPPairModel, DAMSMModel

# as many as the recorded text encoders know
WORDS = ["<end>", *(f"word{i}" for i in range(1, 25)), "bird", "red", "a", "with", "wings"]
CLIP = {"image_config": {"num_attention_heads": 4}, "text_config": {"num_attention_heads": 2}}


def script():
    spec = importlib.util.spec_from_file_location(
        "convert_checkpoint", Path(__file__).parents[2] / "scripts" / "convert_checkpoint.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def python2_pickle(value) -> bytes:
    """Protocol 2 as Python 2 writes it: strings are byte strings, which Python 3 has no way to
    write."""

    def emit(x) -> bytes:
        if isinstance(x, list):
            return b"](" + b"".join(map(emit, x)) + b"e"
        if isinstance(x, dict):
            return b"}(" + b"".join(emit(k) + emit(v) for k, v in x.items()) + b"u"
        if isinstance(x, int):
            return b"K" + bytes([x]) if 0 <= x < 256 else b"J" + struct.pack("<i", x)
        return b"U" + bytes([len(x)]) + x.encode()

    return b"\x80\x02" + emit(value) + b"."


def vocabulary(words=WORDS) -> list:
    return [[[1, 2, 3]], [[26, 25, 300]], dict(enumerate(words)), {word: i for i, word in enumerate(words)}]


def write(folder: Path, name: str, content) -> str:
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / name)
    return str(folder / name)


def published(state, prefix="", drop_counts=True) -> OrderedDict:
    return OrderedDict(
        (prefix + key, value)
        for key, value in state.items()
        if not (drop_counts and key.endswith("num_batches_tracked"))
    )


@pytest.fixture
def captions(tmp_path) -> str:
    (tmp_path / "captions.pickle").write_bytes(python2_pickle(vocabulary()))
    return str(tmp_path / "captions.pickle")


@pytest.mark.parametrize("arch", ["attngan", "dmgan", "ssagan"])
def test_files_become_a_repository_that_draws(arch, captions, tmp_path, capsys):
    golden = Golden(f"{arch}_train_steps")
    prefix = "module." if arch == "ssagan" else ""  # SSA-GAN's were saved from DataParallel
    files = tmp_path / "files"
    arguments = ["--arch", arch, "--captions", captions, "--output", str(tmp_path / "out")]
    parts = {"generator": "G/", "text-encoder": "Etxt/", "image-encoder": "Eimg/"}
    parts |= {"discriminator": "D/"} if arch == "ssagan" else {f"discriminator{64 << i}": f"D{i}/" for i in range(3)}
    for part, key in parts.items():
        arguments += [f"--{part}", write(files, f"{part}.pth", published(golden.part(key), prefix))]
    script()(arguments)
    assert str(tmp_path / "out") in capsys.readouterr().out

    model, report = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(model) is GANS[arch].composite and not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("A red bird, with unheard-of WINGS!")["input_ids"] == [27, 26, 25, 28, 29]
    assert tokenizer.model_max_length == 25
    encoded = tokenizer(
        ["a red bird", "a bird with red wings"], padding=True, return_tensors="pt", return_token_type_ids=False
    )
    text = load_original(arch, "text_encoder", golden.part("Etxt/"))(**encoded)
    noise = torch.randn(2, model.config.noise_dim)
    given = [noise, text.sent_emb, text.word_embs, text.attention_mask]
    if arch != "ssagan":
        given.append(torch.randn(2, model.config.conditioning_dim))
    with torch.no_grad():
        expected = load_original(arch, "generator", golden.part("G/"))(*given).images[-1]
        assert_close(model.generator(*given).images[-1], expected)
        assert_close(model.text_encoder(**encoded).word_embs, text.word_embs)

        discriminator = GANS[arch].discriminator.from_pretrained(tmp_path / "out", subfolder="discriminator")
        sizes = discriminator.config.image_sizes
        images = tuple(torch.randn(1, 3, size, size) for size in sizes)
        sentence = torch.randn(1, text.sent_emb.shape[1])
        names = ["discriminator"] if arch == "ssagan" else [f"discriminator{size}" for size in sizes]
        for image, name, scale in zip(images, names, discriminator(images, sentence).cond, strict=True):
            assert_close(load_original(arch, name, golden.part(parts[name]))(image, sentence).cond[0], scale)

    encoders = DAMSMModel.from_pretrained(tmp_path / "out" / "encoders")
    assert encoders.config.image_config.align_corners == (arch != "ssagan")
    AutoTokenizer.from_pretrained(tmp_path / "out" / "encoders")
    drawn = pipeline("text-to-image", model=str(tmp_path / "out"))("a red bird", seed=0)
    assert drawn[0].size == (sizes[-1], sizes[-1])


def test_encoders_alone(captions, tmp_path):
    golden = Golden("attngan_train_steps")
    files = [
        f"--{name}={write(tmp_path / 'files', name, published(golden.part(key)))}"
        for name, key in (("text-encoder", "Etxt/"), ("image-encoder", "Eimg/"))
    ]
    script()(
        [
            "--arch=damsm",
            *files,
            f"--captions={captions}",
            "--align-corners=false",
            "--max-words=18",
            f"--output={tmp_path / 'out'}",
        ]
    )
    encoders = AutoModel.from_pretrained(tmp_path / "out")
    assert isinstance(encoders, DAMSMModel) and not encoders.config.image_config.align_corners
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 18
    assert torch.equal(encoders.text_encoder.embedding.weight, golden.weights["Etxt/encoder.weight"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_galip_training_state_with_a_half_precision_tower(prefix, tmp_path):
    golden = Golden("galip_train_steps")
    clip = golden.part("clip/")
    unused = ("proj", "ln_post.weight", "ln_post.bias")
    tower = {f"mapping.CLIP_ViT.{k}": v.half() for k, v in golden.part("clip/visual.").items() if k not in unused}
    networks = {"netG": golden.part("G/") | tower, "netD": golden.part("D/"), "netC": golden.part("C/")}
    model = {name: published(state, prefix, drop_counts=False) for name, state in networks.items()}
    optimizers = {"optimizer_G": torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).state_dict()}
    state = write(tmp_path / "files", "state_epoch_001.pth", {"model": model, "optimizers": optimizers, "epoch": 1})
    # 60 ids with the padding
    conftest.build_tokenizer([f"w{i}" for i in range(59)], max_words=4).save_pretrained(tmp_path / "tokenizer")
    files = {
        "generator": state,
        "discriminator": state,
        "clip": write(tmp_path / "files", "clip.pth", clip),
        "tokenizer": tmp_path / "tokenizer",
    }
    convert_files("galip", {part: Path(path) for part, path in files.items()}, tmp_path / "out", **CLIP)

    model = AutoModel.from_pretrained(tmp_path / "out")
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length
        == model.config.text_config.max_position_embeddings
    )
    given = torch.randn(2, model.config.noise_dim), torch.randn(2, model.config.text_config.projection_dim)
    with torch.no_grad():
        expected = load_original("galip", "generator", golden.part("G/") | tower, **CLIP)(*given).images[0]
        assert_close(model.generator(*given).images[0], expected)
        pair = CLIPPairModel.from_pretrained(tmp_path / "out" / "encoders")
        seen = pair.image_encoder(expected).local_feats
        original = {
            f"net{key.replace('/', '.')}": v
            for part in "DC"
            for key, v in golden.weights.items()
            if key.startswith(f"{part}/")
        }
        judge = load_original("galip", "discriminator", original, **CLIP)
        loaded = GANS["galip"].discriminator.from_pretrained(tmp_path / "out", subfolder="discriminator")
        assert_close(loaded(seen, given[1]).cond, judge(seen, given[1]).cond)
    assert pipeline("text-to-image", model=str(tmp_path / "out"))("w3 w4", seed=0)[0].size == (224, 224)


def test_vocabulary_has_the_published_ids(captions):
    assert read_vocabulary(Path(captions)) == {word: i for i, word in enumerate(WORDS) if i > 0}


def python2_strings(pickled: bytes) -> bytes:
    """The same pickles with strings as Python 2 writes them."""
    parts, end = [], 0
    for opcode, argument, position in pickletools.genops(pickled):
        if opcode.name == "BINUNICODE":
            text = argument.encode()
            parts += [pickled[end:position], b"U" + bytes([len(text)]) + text]
            end = position + 5 + len(text)
    return b"".join(parts) + pickled[end:]


def save_as_torch_0_3(state: OrderedDict, path: Path) -> None:
    """The format of AttnGAN's and DM-GAN's files: five pickles by Python 2, then the bytes of the
    storages; tensors by an older function."""

    def reduce(tensor, protocol):
        storage = torch.storage.TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)
        return torch._utils._rebuild_tensor, (storage, tensor.storage_offset(), tuple(tensor.size()), tensor.stride())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "__reduce_ex__", reduce)
        torch.save(state, path, _use_new_zipfile_serialization=False)
    content, file = path.read_bytes(), io.BytesIO(path.read_bytes())
    starts = [0]
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
        starts.append(file.tell())
    pickles = [python2_strings(content[start:end]) for start, end in zip(starts, starts[1:])]
    path.write_bytes(b"".join(pickles) + content[starts[-1] :])


def test_files_of_python_2_and_torch_0_3_are_read(tmp_path):
    state = published(Golden("attngan_train_steps").part("Etxt/"))
    save_as_torch_0_3(state, tmp_path / "text_encoder200.pth")
    content = (tmp_path / "text_encoder200.pth").read_bytes()
    assert b"_rebuild_tensor\n" in content and b"U\x0eencoder.weight" in content
    found = read_state_dict(tmp_path / "text_encoder200.pth", "text_encoder")
    assert list(found) == list(state) and all(torch.equal(value, state[key]) for key, value in found.items())


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec])
def test_a_malicious_vocabulary_is_refused_and_nothing_of_it_runs(function, protocol, tmp_path):
    trap = tmp_path / "trap"
    order = f"touch {trap}" if function is os.system else f"open({str(trap)!r}, 'w').close()"
    attack = pickle.dumps([[], [], {0: "<end>"}, {"<end>": Malicious(function, order)}], protocol=protocol)
    pickle.loads(attack)
    assert trap.exists()  # the attack works on who reads it carelessly
    trap.unlink()
    (tmp_path / "captions.pickle").write_bytes(attack)
    with pytest.raises(
        ValueError,
        match=r"captions.pickle: not a plain pickle .it asks for .*; only lists, dicts, strings and numbers "
        r"are admitted",
    ):
        read_vocabulary(tmp_path / "captions.pickle")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2, 3]), "a list of two caption lists and two dicts"),
        (pickle.dumps({"a": 1}), "a list of two caption lists and two dicts"),
        (python2_pickle([[], [], {0: "<end>", 1: "a"}, {"<end>": 0, "a": 2}]), "disagree"),
        (python2_pickle([[], [], {0: "<end>", 2: "a"}, {"<end>": 0, "a": 2}]), "without a gap"),
        (python2_pickle([[], [], {0: "a"}, {"a": 0}]), "without a gap"),
        (pickle.dumps([[], [], {0: "<end>", 1: b"a"}, {"<end>": 0, b"a": 1}]), "disagree"),
        (pickle.dumps([[], [], {}, {}]), "without a gap"),
        (pickle.dumps([[], [], {0: "<end>", 1: ["a"]}, {"<end>": 0}]), "disagree"),
        (pickle.dumps([None, [], {0: "<end>"}, {"<end>": 0}]), "a list of two caption lists and two dicts"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.", "not a plain pickle"),  # a byte string of 2^63 bytes
        (b"\x80\x02](", "not a plain pickle"),
        (b"not a pickle", "not a plain pickle"),
        (b"", "not a plain pickle"),
    ],
)
def test_damaged_vocabularies_are_named(content, message, tmp_path):
    (tmp_path / "captions.pickle").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_vocabulary(tmp_path / "captions.pickle")


def test_files_of_anything_but_tensors_are_refused(tmp_path):
    trap = tmp_path / "trap"
    path = tmp_path / "netG.pth"
    torch.save({"weight": Malicious(os.system, f"touch {trap}")}, path)
    with pytest.raises(ValueError, match=r"netG.pth: it is no file of tensors alone"):
        read_state_dict(path, "generator")
    assert not trap.exists()
    torch.save({"epoch": 3, "weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"no state dict of a generator; found epoch, weight"):
        read_state_dict(path, "generator")
    for content in ({1: torch.zeros(1)}, {"model": {"netD": {}, "netC": []}}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="no state dict of a discriminator"):
            read_state_dict(path, "discriminator")
    for odd in (torch.eye(3).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(1).expand(10**12)):
        torch.save({"fine": torch.zeros(1), "odd": odd}, path)
        with pytest.raises(ValueError, match="netG.pth: odd is no plain tensor with all of its numbers in the file"):
            read_state_dict(path, "generator")
    path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match="no file of tensors alone") as caught:
        read_state_dict(path, "generator")
    assert "weights_only" not in str(caught.value)  # torch would advise to switch it off
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))
    with pytest.raises(ValueError, match="TorchScript archive that you trust"):
        read_state_dict(path, "clip")


def test_pipes_folders_and_damaged_tokenizers_are_one_line(captions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    golden = Golden("galip_train_steps")
    clip = write(tmp_path, "clip.pth", golden.part("clip/"))
    damsm = ("--arch=damsm", "--text-encoder=clip.pth", "--output=out")
    galip = ("--arch=galip", f"--clip={clip}", f"--generator={clip}", "--output=out")
    for arguments, message in (
        ((*damsm, "--image-encoder=pipe", f"--captions={captions}"), "pipe: a pipe or device, no file"),
        ((*damsm, "--image-encoder=folder", f"--captions={captions}"), "folder: a folder, no file"),
        ((*damsm, "--image-encoder=loop", f"--captions={captions}"), "there is no file loop"),
        ((*damsm, "--image-encoder=clip.pth", "--captions=pipe"), "pipe: a pipe or device, no file"),
        ((*galip, "--tokenizer=clip.pth"), "clip.pth: a tokenizer is a folder, and this is none"),
    ):
        with pytest.raises(SystemExit, match=message) as stop:
            script()([*arguments])
        assert stop.value.code.startswith("error: ") and "\n" not in stop.value.code
    files = {"generator": Path(clip), "clip": Path(clip), "tokenizer": tmp_path / "tokenizer"}
    for content in ("{}", "", "[1]"):
        (tmp_path / "tokenizer" / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match="tokenizer '.*tokenizer': missing, damaged or of another kind") as error:
            convert_files("galip", files, tmp_path / "out", **CLIP)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02]q\x00.", b"\x80\x02K\x05.", b"\x00" * 999, b"(" * 9**5]
)
def test_any_damage_of_a_file_of_tensors_is_one_error(content, tmp_path):
    (tmp_path / "netG.pth").write_bytes(content)
    with pytest.raises(ValueError, match="netG.pth: it (is no file of tensors|holds no state dict)") as error:
        read_state_dict(tmp_path / "netG.pth", "generator")
    assert "weights_only" not in str(error.value)


def test_networks_of_different_trainings_are_refused(captions, tmp_path):
    golden, output = Golden("attngan_train_steps"), tmp_path / "out"
    parts = {"generator": "G/", "text_encoder": "Etxt/", "image_encoder": "Eimg/"} | {
        f"discriminator{64 << i}": f"D{i}/" for i in range(3)
    }
    files = {part: Path(write(tmp_path / "files", part, golden.part(key))) for part, key in parts.items()} | {
        "captions": Path(captions)
    }
    alone = {key: value for key, value in golden.part("D2/").items() if not key.startswith("UNCOND")}
    with pytest.raises(ValueError, match="the discriminator256 has single_scale True, but the other networks False"):
        convert_files("attngan", files | {"discriminator256": Path(write(tmp_path / "files", "alone", alone))}, output)
    narrow = golden.part("Eimg/")
    narrow |= {key: narrow[key][:8] for key in ("emb_features.weight", "emb_cnn_code.weight", "emb_cnn_code.bias")}
    with pytest.raises(ValueError, match="take two encoders trained together"):
        convert_files("attngan", files | {"image_encoder": Path(write(tmp_path / "files", "narrow", narrow))}, output)
    assert not output.exists()


def test_files_that_do_not_fit_leave_nothing_behind(captions, tmp_path):
    golden, output = Golden("attngan_train_steps"), tmp_path / "out"
    files = {"captions": Path(captions)}
    for part, key in (("generator", "G/"), ("text_encoder", "Etxt/"), ("discriminator64", "D0/")):
        files[part] = Path(write(tmp_path / "files", part, golden.part(key)))
    with pytest.raises(
        ValueError,
        match="has the scales discriminator64, discriminator128, discriminator256; given are discriminator64",
    ):
        convert_files("attngan", files, output)
    with pytest.raises(ValueError, match="attngan has no clip: it needs generator, text_encoder, captions"):
        convert_files("attngan", files | {"clip": files["generator"]}, output)
    with pytest.raises(ValueError, match="attngan lacks the text_encoder"):
        convert_files("attngan", {"generator": files["generator"]}, output)
    with pytest.raises(ValueError, match="max_words is 0"):
        convert_files("attngan", files, output, max_words=0)
    with pytest.raises(ValueError, match="no image encoder is given"):
        convert_files("attngan", files, output, align_corners=True)
    with pytest.raises(FileNotFoundError, match="no file .*none.pth"):
        convert_files("attngan", files | {"generator": tmp_path / "none.pth"}, output)
    del files["discriminator64"]
    with pytest.raises(ValueError, match="does not fit attngan generator"):
        convert_files(
            "attngan",
            files | {"generator": Path(write(tmp_path / "files", "dm", Golden("dmgan_train_steps").part("G/")))},
            output,
        )
    files["captions"].write_bytes(python2_pickle(vocabulary(WORDS[:-1])))
    with pytest.raises(ValueError, match="captions.pickle has 29 words, but the text encoder was trained with 30"):
        convert_files("attngan", files, output)
    assert not output.exists() and not list(tmp_path.glob(".partial*"))
    output.mkdir()
    with pytest.raises(SystemExit, match="error: .*out exists already"):
        script()(
            [
                "--arch=attngan",
                f"--generator={files['generator']}",
                f"--text-encoder={files['text_encoder']}",
                f"--captions={captions}",
                f"--output={output}",
            ]
        )
