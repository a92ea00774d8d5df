"""Small configurations of the architectures of the package ``transformers``, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]

_TOKENS, _BATCH, _VOCABULARY = 19, 2, 120


@dataclass(frozen=True)
class Architecture:
    """A model class of ``transformers``, what its configuration has besides defaults, and what it is called with."""

    model: str
    family: str
    config: Mapping[str, Any]
    inputs: Callable[[], Inputs]
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Make the model; random numbers are the caller's."""
        import transformers

        model_class = getattr(transformers, self.model)
        config = model_class.config_class(
            **self.config, **{name: dict(part) for name, part in self.parts.items()}
        )
        return _Flat(model_class(config).eval(), tuple(self.inputs()))


class _Flat(nn.Module):
    """A model with positional arguments and a tuple of tensors as result, as TorchScript takes them."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        result = self.model(**dict(zip(self.names, values, strict=True)), return_dict=False)
        return tuple(_tensors(result))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, (list, tuple)) else []


# -- Inputs ------------------------------------------------------------------------------------------


def _ids(length: int = _TOKENS) -> Tensor:
    return torch.randint(3, _VOCABULARY, (_BATCH, length))


def _mask(length: int = _TOKENS) -> Tensor:
    mask = torch.ones(_BATCH, length, dtype=torch.int64)
    mask[1, length - 4 :] = 0
    return mask


def _text() -> Inputs:
    return {"input_ids": _ids(), "attention_mask": _mask()}


def _prompt() -> Inputs:
    return {"input_ids": _ids()}


def _pair() -> Inputs:
    return {**_text(), "decoder_input_ids": _ids(7)}


def _boxes() -> Inputs:
    corners = torch.randint(0, 50, (_BATCH, _TOKENS, 2))
    return {**_text(), "bbox": torch.cat([corners, corners + torch.randint(1, 50, corners.shape)], -1)}


def _image(size: int = 32) -> Callable[[], Inputs]:
    return lambda: {"pixel_values": torch.rand(_BATCH, 3, size, size)}


def _video() -> Inputs:
    return {"pixel_values": torch.rand(_BATCH, 2, 3, 32, 32)}


def _wave() -> Inputs:
    return {"input_values": torch.randn(_BATCH, 2000)}


def _image_and_text() -> Inputs:
    return {"input_ids": _ids(), "attention_mask": _mask(), "pixel_values": torch.rand(_BATCH, 3, 32, 32)}


def _spectrum(bins: int, frames: int, name: str = "input_features") -> Callable[[], Inputs]:
    return lambda: {name: torch.randn(_BATCH, bins, frames)}


# -- Configurations ----------------------------------------------------------------------------------

_ENCODER = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_DECODER = {**_ENCODER, "use_cache": False}
_GROUPED = {**_DECODER, "num_key_value_heads": 2, "head_dim": 12}
_VISION = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
}
_SEQUENCES = {
    "vocab_size": _VOCABULARY,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "max_position_embeddings": 64,
    "use_cache": False,
}
_T5 = {
    "vocab_size": _VOCABULARY,
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 96,
    "num_layers": 2,
    "num_heads": 4,
    "use_cache": False,
    "decoder_start_token_id": 0,
}
_SPEECH = {
    **{
        key: _ENCODER[key]
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    },
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 3),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
_FLAT_STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
_STAGES = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}
_TOWERS = {"text_config": {**_ENCODER, "eos_token_id": 2, "bos_token_id": 1}, "vision_config": _VISION}


def _encoders() -> list[Architecture]:
    names = (
        "BertModel CamembertModel DebertaModel DebertaV2Model ErnieModel EsmModel MegatronBertModel MPNetModel RobertaModel"
        " RobertaPreLayerNormModel SplinterModel XLMRobertaModel XLMRobertaXLModel Data2VecTextModel NystromformerModel"
        " EuroBertModel LiltModel"
    )
    own: dict[str, dict[str, Any]] = {
        "AlbertModel": {"embedding_size": 24},
        "BigBirdModel": {"attention_type": "original_full"},
        "ConvBertModel": {"embedding_size": 24, "conv_kernel_size": 5},
        "DistilBertModel": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96},
        "ElectraModel": {"embedding_size": 24},
        "IBertModel": {"quant_mode": False},
        "MobileBertModel": {"embedding_size": 24, "intra_bottleneck_size": 24, "true_hidden_size": 24},
        "ModernBertModel": {"local_attention": 8, "reference_compile": False},
        "RemBertModel": {"input_embedding_size": 24},
        "RoFormerModel": {"embedding_size": 24},
        "SqueezeBertModel": {
            "embedding_size": 48,
            **{f"{part}_groups": 2 for part in ("q", "k", "v", "post_attention", "intermediate", "output")},
        },
        "XmodModel": {"default_language": "en_XX"},
        "FNetModel": {"type_vocab_size": 2},
    }
    plain = [Architecture(name, "encoder", _ENCODER, _text) for name in names.split() if name not in own]
    plain = [
        a if a.model != "LiltModel" else Architecture(a.model, a.family, _ENCODER, _boxes) for a in plain
    ]
    others = [
        Architecture(name, "encoder", {**_ENCODER, **config}, _prompt if name == "FNetModel" else _text)
        for name, config in own.items()
    ]
    others.append(Architecture("LayoutLMModel", "encoder", _ENCODER, _boxes))
    xlnet = {"vocab_size": _VOCABULARY, "d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 96}
    others.append(Architecture("XLNetModel", "encoder", xlnet, _text))
    xlm = {"n_words": _VOCABULARY, "emb_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64}
    others.append(Architecture("XLMModel", "encoder", xlm, _text))
    return plain + others


def _decoders() -> list[Architecture]:
    grouped = (
        "LlamaModel MistralModel Qwen2Model Qwen3Model GemmaModel Gemma2Model Gemma3TextModel PhiModel Phi3Model"
        " StableLmModel Starcoder2Model OlmoModel Olmo2Model CohereModel GraniteModel NemotronModel GlmModel HeliumModel"
        " SmolLM3Model"
    )
    single = "GPTNeoXModel GPTJModel CodeGenModel GPT2Model OpenAIGPTModel BioGptModel PersimmonModel GPTBigCodeModel"
    own: dict[str, dict[str, Any]] = {
        "BloomModel": {"vocab_size": _VOCABULARY, "hidden_size": 48, "n_layer": 2, "n_head": 4, "use_cache": False},
        "MptModel": {"vocab_size": _VOCABULARY, "d_model": 48, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "use_cache": False},
        "OPTModel": {**_DECODER, "ffn_dim": 96, "word_embed_proj_dim": 48},
        "XGLMModel": {
            "vocab_size": _VOCABULARY, "d_model": 48, "num_layers": 2, "attention_heads": 4, "ffn_dim": 96,
            "max_position_embeddings": 64, "use_cache": False,
        },
        "GPTNeoModel": {**_DECODER, "attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 8},
        "FalconModel": {**_DECODER, "new_decoder_architecture": False, "multi_query": True},
        "CTRLModel": {"vocab_size": _VOCABULARY, "n_embd": 48, "n_layer": 2, "n_head": 4, "dff": 96, "n_positions": 64, "use_cache": False},
        "MambaModel": {"vocab_size": _VOCABULARY, "hidden_size": 48, "num_hidden_layers": 2, "state_size": 8, "use_cache": False},
        "MixtralModel": {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    }  # fmt: skip
    rotary = {"GPTJModel": {"rotary_dim": 4}, "CodeGenModel": {"rotary_dim": 4}}
    halves = {"StableLmModel": {"partial_rotary_factor": 0.5}}
    return [
        *(
            Architecture(name, "decoder", {**_GROUPED, **halves.get(name, {})}, _prompt)
            for name in grouped.split()
        ),
        *(
            Architecture(name, "decoder", {**_DECODER, **rotary.get(name, {})}, _prompt)
            for name in single.split()
        ),
        *(Architecture(name, "decoder", config, _prompt) for name, config in own.items()),
    ]


def _encoder_decoders() -> list[Architecture]:
    names = "BartModel MBartModel PegasusModel MarianModel BlenderbotModel BlenderbotSmallModel M2M100Model PLBartModel"
    start = {"pad_token_id": 1, "decoder_start_token_id": 1}
    return [
        *(Architecture(name, "encoder-decoder", {**_SEQUENCES, **start}, _pair) for name in names.split()),
        *(Architecture(name, "encoder-decoder", _T5, _pair) for name in ("T5Model", "MT5Model", "UMT5Model")),
    ]


def _vision() -> list[Architecture]:
    names = "ViTModel DeiTModel BeitModel Dinov2Model ViTMSNModel VitDetModel IJepaModel"
    swin = {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 16,
        "depths": [1, 2],
        "num_heads": [2, 4],
        "window_size": 4,
    }
    hybrid = {
        "image_size": 64, "hidden_sizes": [24, 32, 40], "num_attention_heads": 2,
        "neck_hidden_sizes": [8, 16, 16, 24, 24, 32, 40],
    }  # fmt: skip
    pyramid = {
        "depths": [1, 1, 1, 1], "hidden_sizes": [16, 24, 32, 48], "decoder_hidden_size": 24, "num_attention_heads": [1, 2, 2, 4],
    }  # fmt: skip
    own: dict[str, tuple[dict[str, Any], int]] = {
        "YolosModel": ({**_VISION, "image_size": [32, 32], "num_detection_tokens": 5}, 32),
        "SwinModel": (swin, 32),
        "Swinv2Model": (swin, 32),
        "ConvNextModel": (_STAGES, 64),
        "ConvNextV2Model": (_STAGES, 64),
        "ResNetModel": ({**_STAGES, "embedding_size": 16}, 64),
        "RegNetModel": ({**_STAGES, "embedding_size": 16, "groups_width": 8}, 64),
        "BitModel": ({**_STAGES, "embedding_size": 16, "num_groups": 8}, 64),
        "MobileNetV1Model": ({"image_size": 64, "depth_multiplier": 0.25}, 64),
        "MobileNetV2Model": ({"image_size": 64, "depth_multiplier": 0.35}, 64),
        "EfficientNetModel": ({"image_size": 64, "width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640}, 64),
        "MobileViTModel": (hybrid, 64),
        "SegformerModel": (pyramid, 64),
        "GLPNModel": (pyramid, 64),
        "PoolFormerModel": (_FLAT_STAGES, 64),
        "FocalNetModel": ({"image_size": 32, "embed_dim": 16, "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3]}, 32),
        "PvtV2Model": ({**_FLAT_STAGES, "image_size": 64, "num_attention_heads": [1, 2, 2, 4]}, 64),
        "SwiftFormerModel": ({"image_size": 64, "embed_dims": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}, 64),
    }  # fmt: skip
    return [
        *(Architecture(name, "vision", _VISION, _image()) for name in names.split()),
        *(Architecture(name, "vision", config, _image(size)) for name, (config, size) in own.items()),
        Architecture("VideoMAEModel", "vision", {**_VISION, "num_frames": 2, "tubelet_size": 1}, _video),
        Architecture("TimesformerModel", "vision", {**_VISION, "num_frames": 2}, _video),
    ]


def _audio() -> list[Architecture]:
    names = (
        "Wav2Vec2Model HubertModel WavLMModel UniSpeechModel UniSpeechSatModel SEWModel Data2VecAudioModel"
    )
    whisper = {
        **_SEQUENCES, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 32, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    }  # fmt: skip
    spectrogram = {**_VISION, "num_mel_bins": 16, "max_length": 32, "frequency_stride": 4, "time_stride": 4}
    own = {"SEWModel": {"squeeze_factor": 1}}
    return [
        *(Architecture(name, "audio", {**_SPEECH, **own.get(name, {})}, _wave) for name in names.split()),
        Architecture("WhisperModel", "audio", whisper, lambda: {**_spectrum(16, 40)(), "decoder_input_ids": _ids(7)}),
        Architecture("ASTModel", "audio", spectrogram, _spectrum(32, 16, "input_values")),
    ]  # fmt: skip


def _multimodal() -> list[Architecture]:
    names = "CLIPModel SiglipModel AltCLIPModel ChineseCLIPModel CLIPSegModel BlipModel"
    return [
        *(
            Architecture(name, "multimodal", {"projection_dim": 32}, _image_and_text, _TOWERS)
            for name in names.split()
        ),
    ]


def architectures() -> list[Architecture]:
    """All of them, family by family."""
    return [*_encoders(), *_decoders(), *_encoder_decoders(), *_vision(), *_audio(), *_multimodal()]
