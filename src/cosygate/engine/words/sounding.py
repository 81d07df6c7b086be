"""A guess at the sounds of a word that the dictionary does not know: good enough to find where it was said."""

from __future__ import annotations

import re

# Spelling=phones, which are ARPABET, as the CMU dictionary writes it. The longest spelling counts.
_RULES = """
    a=AE b=B c=K d=D e=EH f=F g=G h=HH i=IH j=JH k=K l=L m=M n=N o=AA p=P q=K r=R s=S t=T u=AH v=V w=W x=K,S y=IY z=Z
    ai=EY ar=AA,R au=AO aw=AO ay=EY ea=IY ee=IY ei=EY er=ER ew=UW ey=IY ie=IY igh=AY ir=ER oa=OW oi=OY oo=UW or=AO,R
    ou=AW ow=OW oy=OY ur=ER ce=S,EH ch=CH ci=S,IH ck=K cy=S,IY dge=JH gh=G ng=NG ph=F qu=K,W sch=SH sh=SH sion=ZH,AH,N
    tch=CH th=TH tion=SH,AH,N wh=W wr=R
"""
_PHONES = {spelling: phones.split(",") for spelling, phones in (rule.split("=") for rule in _RULES.split())}
_SPELLINGS = re.compile("|".join(sorted(_PHONES, key=len, reverse=True)))
_DOUBLE = re.compile(r"([b-df-hj-np-tv-z])\1")
_SILENT_E = re.compile(r"(?<=[a-z]{2}[b-df-hj-np-tv-z])e(?=s?$)")


def sounds(word: str) -> str:
    """The phones, parted by spaces; at least one. `word`: lower-case ASCII letters, and apostrophes, which are not
    heard."""
    letters = _SILENT_E.sub("", _DOUBLE.sub(r"\1", word.replace("'", "")))
    return " ".join(phone for spelling in _SPELLINGS.findall(letters) for phone in _PHONES[spelling])
