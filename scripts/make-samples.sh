#!/bin/sh
# Makes samples/*.wav and samples/references.tsv: speech by flite (Debian: apt-get install flite), 16 kHz mono 16 bit.
# A dialogue of two voices with 0.5 s between the turns, and a note by one voice. The results are committed, so that the
# demo and the tests need no speech synthesiser; run this only to change what is said.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p samples
printf 'file\tspeakers\treference\n' > samples/references.tsv

# say VOICE TEXT: one turn of the recording that `join` will write.
turns=0
text=''
voices=''
say() {
    turns=$((turns + 1))
    flite -voice "$1" -t "$2" -o "$work/turn-$turns.wav"
    text="$text${text:+ }$2"
    case " $voices " in *" $1 "*) ;; *) voices="$voices${voices:+ }$1" ;; esac
}

# join NAME: the turns so far, with pauses between them, as samples/NAME.wav, and its line in references.tsv.
join() {
    python3 - "samples/$1.wav" "$work" "$turns" <<'PY'
import sys
import wave

out, work, turns = sys.argv[1], sys.argv[2], int(sys.argv[3])
RATE, PAUSE_S = 16_000, 0.5
with wave.open(out, "wb") as joined:
    joined.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
    for turn in range(1, turns + 1):
        with wave.open(f"{work}/turn-{turn}.wav", "rb") as spoken:
            assert (spoken.getnchannels(), spoken.getsampwidth(), spoken.getframerate()) == (1, 2, RATE)
            if turn > 1:
                joined.writeframes(bytes(2 * int(RATE * PAUSE_S)))
            joined.writeframes(spoken.readframes(spoken.getnframes()))
PY
    printf '%s.wav\t%s\t%s\n' "$1" "$voices" "$text" >> samples/references.tsv
    turns=0
    text=''
    voices=''
}

say slt 'Good morning. How can I help you today?'
say rms 'I sent a recording last night, and the network went down.'
say slt 'Your file is safe. Nothing was lost.'
say rms 'Do I have to send the whole file again?'
say slt 'No. Only the part that did not arrive.'
join dialogue

say slt 'This is a short note about the meeting on Friday.'
say slt 'Please send the recording to my office before lunch.'
join note
