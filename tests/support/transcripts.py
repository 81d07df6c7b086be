"""Transcripts for tests of what is made from them: hand-written ones, and those that Hypothesis thinks up."""

from __future__ import annotations

from hypothesis import strategies as st

from cosygate.model.transcript import EngineName, Segment, Transcript, Word

ENGINE = EngineName("e", "m", "1")


def transcript(*segments: Segment, language: str | None = "en") -> Transcript:
    return Transcript("t", 3600.0, language, "", segments, ENGINE)


def spoken(text: str, start: float, end: float, speaker: str | None = None) -> Segment:
    """With the time of each word that spaces separate, evenly, and a silence behind each."""
    words = text.split()
    each = (end - start) / len(words)
    times = tuple(Word(w, start + each * n, start + each * (n + 0.8)) for n, w in enumerate(words))
    return Segment(0, start, end, text, speaker=speaker, words=times)


_TOKENS = st.one_of(
    st.text(alphabet="abcdefghij", min_size=1, max_size=9),
    st.sampled_from(
        ["the", "a", "of", "and", "Mary", "Jones,", "well.", "Yes!", "no?", "NOTE", "1", "42", "e\u0301te\u0301"]
    ),
    st.sampled_from(
        ["--", "-->", "--->", "<i>", "</v>", "<00:00:01.000>", "&amp;", "{\\an8}", "\x00", "\x1b[0m", "\ud800"]
    ),
    st.sampled_from(
        ["Donaudampfschifffahrtselektrizitätenhauptbetriebswerk", "https://example.org/a/very/long/address"]
    ),
    st.sampled_from(
        ["今天的会议，改到星期五下午三点。", "「東京」へ行きました。", "コンピューターー", "회의는", "한국어로"]
    ),
    st.sampled_from(
        ["สวัสดีครับผมชื่อ", "مرحبا", "👩\u200d👩\u200d👧", "\u2028", "\ufeff", "e\u0301te\u0301", "\x1b[0m", "\ud800"]
    ),
    st.text(max_size=12),
)
_SPEAKERS = st.sampled_from([None, "A", "B", 'Tom & <"Ann"> --> {x}', "a name that goes on and on and on and on", "  "])


@st.composite
def transcripts(draw: st.DrawFn, overlapping: bool = False) -> Transcript:
    """Up to eight segments in order, some with words, some without text, now and then too fast to be true."""
    segments = []
    at = 0.0
    for n in range(draw(st.integers(0, 8))):
        text = draw(st.sampled_from([" ", " ", "", "\n\n"])).join(draw(st.lists(_TOKENS, max_size=30)))
        start = draw(st.floats(0, 20)) if overlapping else at + draw(st.sampled_from([0.0, 0.05, 0.4, 1.0, 3.0, 500.0]))
        at = start + draw(st.sampled_from([0.0, 0.3, 1.0, 2.5, 6.0, 15.0, 60.0]))
        tokens = text.split()
        known = draw(st.booleans())
        words = tuple(
            Word(token, start + (at - start) * k / len(tokens), start + (at - start) * (k + 0.7) / len(tokens),
                 speaker=draw(_SPEAKERS) if draw(st.integers(0, 9)) == 0 else None)
            for k, token in enumerate(tokens)
        ) if known else ()  # fmt: skip
        segments.append(Segment(n, start, at, text, speaker=draw(_SPEAKERS), words=words))
    segments.sort(key=lambda segment: segment.start)
    return transcript(*segments, language=draw(st.sampled_from([None, "en", "en-GB", "zh", "ja", "ko", "de", "xx"])))
