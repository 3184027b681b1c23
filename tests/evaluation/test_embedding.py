"""Embeddings of evaluation rows beside what they are of."""

import torch
from conftest import CAPTIONS, encoded, picture, write_dataset

from t2i_supcon.data import EvaluationRows, load_rows
from t2i_supcon.evaluation import embed_images, embed_texts


def test_images_come_with_the_captions_of_their_rows(tmp_path, tokenizer, encoders):
    images = [encoded(picture(i)) for i in range(9)]
    images[4] = b"broken"
    folder = write_dataset(tmp_path / "d", [0] * 9, images=images)
    rows = EvaluationRows(load_rows(str(folder), "train"), tokenizer, 16, max_broken_share=0.2)
    embedded = embed_images(encoders.image_encoder, rows, torch.device("cpu"), batch_size=3)
    assert embedded.indices == [0, 1, 2, 3, 5, 6, 7, 8]
    assert embedded.captions == [[CAPTIONS[i % 4], CAPTIONS[(i + 1) % 4]][i % 2] for i in embedded.indices]
    with torch.no_grad():
        alone = torch.cat([encoders.image_encoder(rows[i][None]).image_emb for i in embedded.indices])
    torch.testing.assert_close(embedded.image_emb, alone)
    texts = embed_texts(encoders.text_encoder, tokenizer, embedded.captions, torch.device("cpu"), batch_size=3)
    assert texts.shape == embedded.image_emb.shape
