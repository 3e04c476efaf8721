"""Loads the image encoder that the settings name."""

from dedup_service.image.encoder import EncoderUnavailable, ImageEncoder


def load_image_encoder(spec: str) -> ImageEncoder:
    """Load the encoder named by `spec`.

    Args:
        spec: "dct"; "open-clip:<model>/<pretrained>" where <pretrained> is a tag that open_clip knows or the path
            of a checkpoint file, for example "open-clip:ViT-B-32/laion2b_s34b_b79k" or
            "open-clip:ViT-B-32//models/clip.safetensors"; or "onnx:<path>[?mean=R,G,B&std=R,G,B&size=S]".

    Raises:
        EncoderUnavailable: with a stable reason.
    """
    if spec == "dct":
        from dedup_service.image.dct import DctEncoder

        return DctEncoder()
    kind, _, rest = spec.partition(":")
    if kind == "onnx" and rest:
        from dedup_service.image.onnx import load_onnx

        return load_onnx(rest)
    model, slash, pretrained = rest.partition("/")
    if kind != "open-clip" or not (model and slash and pretrained):
        raise EncoderUnavailable(
            "ENCODER_UNKNOWN",
            f"unknown image encoder {spec!r}; use dct, open-clip:<model>/<pretrained or path> or onnx:<path>",
        )
    from dedup_service.image.open_clip import load_open_clip

    return load_open_clip(model, pretrained)
