"""The OpenAI SDK, where it sends forms with files."""

import base64
import io

import openai
import pytest
from conftest import PIXEL, settles

# Large enough that nothing holds it by accident, and full of what boundaries are made of.
RECORDING = b"RIFF\r\n--" * 400_000


def recording():
    file = io.BytesIO(RECORDING)
    file.name = "speech.wav"
    return file


def heard(model):
    return f"I hear {len(RECORDING)} bytes of speech.wav with {model}"


@pytest.mark.parametrize("name", ["gpt-4o-transcribe", "house-voice", "shared-voice"])
def test_transcription(chat, name):
    reply = chat.audio.transcriptions.create(model=name, file=recording(), language="en")
    assert reply.text == heard("shared-voice" if name == "shared-voice" else "gpt-4o-transcribe")
    assert reply.usage.input_tokens == 14


def test_transcription_as_text(chat):
    for form, end in [("text", "\n"), ("srt", "\n")]:
        reply = chat.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording(), response_format=form)
        assert heard("gpt-4o-transcribe") in reply
        assert reply.endswith(end)


def test_transcription_streamed(chat):
    stream = chat.audio.transcriptions.create(model="house-voice", file=recording(), stream=True)
    events = list(stream)
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) > 3
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "".join(deltas) == heard("gpt-4o-transcribe")


def test_translation(chat):
    reply = chat.audio.translations.create(model="house-voice", file=recording())
    assert reply.text == heard("gpt-4o-transcribe")


def test_pictures(chat):
    pixel = base64.b64decode(PIXEL)
    pictures = [("a.png", pixel, "image/png"), ("b.png", pixel * 2, "image/png")]
    reply = chat.images.edit(model="gpt-image-1", image=pictures, prompt="A grain of sand.")
    assert reply.data[0].b64_json == PIXEL
    assert reply.data[0].revised_prompt == f"A grain of sand. [{len(pixel)}, {2 * len(pixel)}]"
    assert reply.usage.total_tokens == 150
    reply = chat.images.create_variation(model="gpt-image-1", image=pictures[0])
    assert reply.data[0].revised_prompt == f" [{len(pixel)}]"


def test_what_cannot_be_served(chat):
    with pytest.raises(openai.UnprocessableEntityError) as error:
        chat.audio.transcriptions.create(model="claude-sonnet-4-5", file=recording())
    assert "does not serve" in error.value.message
    with pytest.raises(openai.NotFoundError) as error:
        chat.audio.transcriptions.create(model="gpt-4o-transcripe", file=recording())
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        chat.audio.transcriptions.create(model="wrong-key", file=recording())
    assert settles()
