"""How bad a break between two pieces of text is: good after punctuation and before conjunctions and prepositions, bad
between an article and its noun (Netflix, "Line Treatment"). No dictionary: function words, punctuation, scripts."""

from __future__ import annotations

import re

from cosygate.model.subtitles.script import ideographic

SENTENCE, CLAUSE, OPENS, PLAIN, CLINGS, INSIDE = 0.0, 2.0, 4.0, 9.0, 22.0, 90.0

# Conjunctions and prepositions: a break stands before them, not behind.
_OPENING = {
    "en": "and but or nor so yet because although though while when where if unless until that which who than as after "
    "before since of in on at to from with without by for about into over under between through during against",
    "de": "und aber oder denn sondern weil dass daß obwohl wenn als ob während damit bis nachdem bevor in an auf aus "
    "bei mit nach von vor zu für über unter zwischen durch gegen ohne um im am zum zur vom beim",
    "fr": "et mais ou donc or ni car que qui quand lorsque si comme parce puisque de du des à au aux en dans sur sous "
    "avec sans pour par chez entre vers",
    "es": "y e o u pero sino porque que cuando si como aunque mientras donde a al de del en con sin por para sobre "
    "entre hasta desde hacia",
    "it": "e ed o ma però perché che quando se come mentre dove a ad al alla di del della da dal in nel nella con su "
    "sul per tra fra senza",
    "pt": "e ou mas porque que quando se como embora enquanto onde a ao de do da dos das em no na nos nas com sem por "
    "pelo pela para sobre entre até",
}
# Articles, possessives, subject pronouns, auxiliaries, negations: they belong to the word behind.
_CLINGING = {
    "en": "a an the this these those my your his her its our their some any no every each i you he she we they it am "
    "is are was were be been have has had do does did will would can could shall should may might must not don't "
    "didn't won't can't i'm you're we're they're it's i've we've mr mrs ms dr very",
    "de": "der die das den dem des ein eine einen einem einer eines mein dein sein ihr unser kein keine ich du er sie "
    "es wir bin ist sind war waren habe hat haben wird werden kann nicht sehr herr frau",
    "fr": "le la les un une l' mon ma mes ton ta tes son sa ses notre nos votre vos leur leurs ce cet cette ces je tu "
    "il elle on nous vous ils elles ne n' est sont ai a ont très m mme",
    "es": "el la los las un una unos unas mi tu su mis tus sus nuestro este esta estos estas ese esa yo tú él ella "
    "nosotros ellos no me te se lo le he ha han es son está muy",
    "it": "il lo la i gli le un uno una mio mia tuo suo nostro questo questa quel quella io tu lui lei noi voi loro "
    "non mi ti si ho ha hanno è sono molto",
    "pt": "o os as um uma uns umas meu minha seu sua nosso este esta esse essa eu tu ele ela nós eles não me te se é "
    "são está foi tem muito",
}
_OPENERS = {language: frozenset(words.split()) for language, words in _OPENING.items()}
_CLINGERS = {language: frozenset(words.split()) for language, words in _CLINGING.items()}

_ENDS_SENTENCE = re.compile(r"""[.!?…。！？][)\]"'”’」』）】》]*$""")
_ENDS_CLAUSE = re.compile(r"""[,;:、，；：—–][)\]"'”’」』）】》]*$|[)\]”」』）】》]$""")
_TITLE = re.compile(r"(?:\w|mr|mrs|ms|dr|prof|st|vs|hr|fr|sr|sra)\.", re.IGNORECASE)
_EDGES = re.compile(r"^\W+|\W+$")

# Never first: what Japanese and Chinese hang onto the word before.
_PARTICLES = frozenset("はがをにでとものへやかねよだるたてりれなさしいうくすつぬむ的了着过過吗嗎呢吧们們")
# Of two characters and so frequent that a break which nothing else forbids would often fall into them.
_FREQUENT = (
    "因为 因為 所以 但是 而且 如果 虽然 雖然 可以 可能 没有 沒有 什么 什麼 这个 這個 那个 那個 时候 時候 时间 時間 "
    "现在 現在 今天 明天 已经 已經 就是 不是 还是 還是 或者 自己 知道 问题 問題 一个 一個 大家 工作 开始 開始 觉得 "
    "覺得 应该 應該 怎么 怎麼 非常 需要 这样 這樣 那么 那麼 然后 然後 其实 其實 日本 中国 中國 今日 会社 時代 世界"
)
_WORDS = frozenset(_FREQUENT.split())


def break_cost(left: str, right: str, spaced: bool, language: str | None) -> float:
    """Of a break between two pieces, 0 (a sentence ends) to INSIDE (a word would be torn)."""
    if _ENDS_SENTENCE.search(left) and not _TITLE.fullmatch(left):
        return SENTENCE
    if _ENDS_CLAUSE.search(left):
        return CLAUSE
    if not spaced:
        return _within(left[-1], right[0])
    spoken = (language or "en").lower().split("-")[0]
    openers, clingers = _OPENERS.get(spoken, frozenset()), _CLINGERS.get(spoken, frozenset())
    before, after = _EDGES.sub("", left).casefold(), _EDGES.sub("", right).casefold()
    if before in openers or before in clingers:
        return CLINGS
    if after in openers:
        return OPENS
    if after in clingers:
        return OPENS + 2  # where a phrase begins
    if left[:1].isupper() and right[:1].isupper():
        return CLINGS if spoken != "de" else PLAIN  # a first and a last name
    return PLAIN


def _within(last: str, first: str) -> float:
    """Where no space stands: the scripts tell where a word may begin."""
    if not (ideographic(last) or ideographic(first)):
        return INSIDE
    old, new = _script(last), _script(first)
    if old == new == "katakana":
        return CLINGS + PLAIN
    if first in _PARTICLES or last + first in _WORDS:
        return CLINGS
    if old == "hiragana" and new != "hiragana":
        return CLINGS if last in "おご" else OPENS
    if old == "han" and first in "おご":
        return OPENS  # an honorific, with the word behind it
    return PLAIN + 4 if old == new else PLAIN


def _script(char: str) -> str:
    if "\u3040" <= char <= "\u309f":
        return "hiragana"
    if "\u30a0" <= char <= "\u30ff":
        return "katakana"
    return "han" if ideographic(char) else "other"
