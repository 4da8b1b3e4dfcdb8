"""Records what google-research/bert, tokenization.py makes of hard text; see README.md beside this.

    python tests/golden/tokenization/record.py FOLDER

FOLDER holds the original's `tokenization.py`. Writes vocab.txt and pieces.jsonl into the folder of
this file. The modules of TensorFlow and absl that the original imports, for reading a file and for
a flag that is off, are replaced by stand-ins.
"""

import json
import random
import sys
import types
import unicodedata
from collections import Counter
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
RANDOM_TEXTS = 1200
SEED = 20181031

BY_HAND = [
    # Nothing, and nothing but white space or dropped characters.
    *("", " ", "\t\r\n", "\u00a0", "\u3000\u2003", "\u200b", "\ufeff", "\x00", "\ufffd", "\u2028"),
    # White space of all kinds inside text.
    *(f"two{space}words" for space in "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000"),
    *(f"two{space}words" for space in "\u2001\u2007\u2009\u200a\u2028\u2029\u202f\u205f\u3000"),
    "  leading and trailing \n",
    # Control, format and zero-width characters.
    *(f"zero{zero}width" for zero in "\u200b\u200c\u200d\u200e\u200f\u2060\u2066\ufeff\xad\u034f"),
    *(f"a{control}b c{control}" for control in "\x00\x01\x07\x08\x1b\x7f\x80\x9f\ufffd\ufffc"),
    "\ufeffThe byte order mark",
    "in\xadvis\xadi\xadble hy\u2010phens \u2011 \u2012",
    "\u202eright to left\u202c \u2067isolate\u2069 \U000e0067\U000e007f tag",
    "private \ue000use\uf8ff \U000f0000",
    "noncharacter\ufdd0 \ufffe",
    "lone\ud800surrogate \udfff x",
    "نمی\u200cخواهم می‌روم",
    "क्\u200dष क्\u200cष",
    # Accents, composed and decomposed.
    "café cafe\u0301 CAFÉ CAFE\u0301",
    "naïve Zoë Ångström A\u030angstro\u0308m \u212b \u212a \u2126",
    "Việt Nam Vie\u0323\u0302t Phở Ðà Nẵng",
    "façade, garçon; señor: ÑANDÚ",
    "ĀĒĪŌŪ āēīōū ǖǘǚǜ",
    "Zażółć gęślą jaźń ŁÓDŹ",
    "Příliš žluťoučký kůň",
    "Øre Æsir œuvre Đorđe Ħal ŧ ø",
    "e\u0301\u0302\u0303\u0304\u0305\u0306\u0307",
    "Z\u0351\u036b\u0343a\u0329\u032bl\u0357g\u0321o",
    "\u0301alone",
    "a \u0301 b",
    "\u0344 \u0340\u0341 \u0345 ᾳ ᾼ Ὦ ᾦ",
    "क़ क\u093c ड़ ਸ਼ ଡ଼ שׁ",
    # Letter case beyond ASCII.
    "İstanbul ISTANBUL ıi Iı İİ i\u0307 DİYARBAKIR",
    "Straße STRASSE STRAẞE ẞ ß Größe",
    "ΟΔΥΣΣΕΥΣ Οδυσσεύς ΣΑΣ Σ Σ. ΑΣ, ΑΣ.",
    "ΑΣ'Α ΑΣ.Α ΑΣ:Α ΑΣ-Α ΑΣ_Α ΑΣ·Α ΑΣ\u00adΑ ΑΣ\u200dΑ",
    "ΑΣ\u0301 ΑΣ\u0301Α 1Σ aΣ aΣb ΑΣ中 中ΣΑ 'ΑΣ' Α\u0301Σ \u0301Σ Α'Σ",
    "ΑΣ\x07Α ΑΣ\ufffdΑ ΑΣ\u2028Α",
    "ΑΣ\ufffdΑ",
    "Ǆ ǅ ǆ Ǉ ǈ Ǌ Ǳ ǲ ǰ J\u030c",
    "ŉ ΐ ΰ ﬀ ﬁ ﬂ ﬃ ﬅ ﬆ ﬓ ﬁrst oﬃce",
    "ＦＵＬＬＷＩＤＴＨ ｆｕｌｌ １２３ ！？，。",
    "ЁЖИК ёжик Йод и\u0306 ЃЌ Ѝ ѐ ґЇ",
    "ႠႡႢ Აბგ ᲐᲑ აბგ Աբգ և",
    "ꭰꭱ ᎠᎡ Ꮿ ᏸ",
    "𐐀𐐁 𐐨𐐩 𞤀𞤁 𞤢 𝐀𝑩 𝔘𝕟 🅰 Ⓐⓐ Ⅷⅷ",
    # Chinese, Japanese, Korean.
    "你好世界",
    "你好world世界2024年",
    "中文，標點。「引號」、《書名》—— ……！？",
    "漢字かな交じり文カタカナ",
    "がぎぐげご か\u3099き\u3099 パピプ ハ\u309a ｶﾞｷﾞ ｱｲｳ ー・々〆〇",
    "한국어 문장입니다. 각 \u1100\u1161\u11a8 ㄱㄴ ᄒᆞᆫ ﾡ",
    "\u3400\u4dbf \u4dc0\u4dff \u4e00\u9fff \ua000",
    "\uf900\ufaff \ufb00 豈 更 \ufa0e \ufa10",
    "\U00020000\U0002a6df\U0002a6e0 \U0002a700\U0002b73f\U0002b740\U0002b81f\U0002b820\U0002ceaf",
    "\U0002ceb0 \U0002ebe0 \U0002f800\U0002fa1f\U0002fa20 \U00030000",
    "⺀⺁ ⼀⼁ ⿰ 〇 〡 ㈠ ㊀ ㍿ ㌀",
    "𠮷野家で𩸽を食べる",
    "a中b国c 1中2 中.国 中'国",
    "ㄅㄆㄇ ㄅˇ ˊ",
    "\u9fd6\u9fea",
    # Other scripts; many of their marks are of category Mn, some of Mc.
    "ภาษาไทย น้ำ ที่ กำ ๑๒๓",
    "हिन्दी में लिखा है। क्षेत्र ज्ञान ॥",
    "বাংলা ভাষা তামিழ் தமிழ்",
    "မြန်မာ ភាសាខ្មែរ ລາວ བོད་སྐད་",
    "العَرَبِيَّة العربية ﷺ ﻻ لا ٱ آ ا\u0653 أ ؟ ، ٪",
    "עִבְרִית שָׁלוֹם ־ ״ ׳",
    "አማርኛ። ፩",
    "ᠮᠣᠩᠭᠣᠯ ᠮ\u180bᠣ",
    "ꦗꦮ ᬩᬮᬶ ᮞᮥ",
    "Mixedсмешанный混合混ぜる혼합مختلط",
    "раypal gооgle",
    "ⲀⲂ ϢϣϤ ϐϑϒϓ ϰϱϲ ϴ ͅ",
    "ʻOkina ʼ ˈ ː ˥ ʰʲ ᵃᵇ",
    # Emoji with joiners, selectors, modifiers, flags and keycaps.
    "😀 hi😀there 😀😀",
    "👨\u200d👩\u200d👧\u200d👦 👩🏽\u200d🚀 🏳️\u200d🌈",
    "❤️ ❤ ☺︎ ☎️ ©️ ™ ®",
    "🇩🇪🇫🇷 1️⃣ #️⃣ *️⃣",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "¯\\_(ツ)_/¯ (╯°□°)╯ ┻━┻ :-) <3",
    "\ufe0f alone x\ufe0f y\ufe0e",
    # Punctuation and symbols.
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "a!b\"c#d$e%f&g'h(i)j*k+l,m-n.o/p:q;r<s=t>u?v@w[x\\y]z^a_b`c{d|e}f~g",
    "“curly” ‘quotes’ «guillemets» ‹single› „low‚ ‟",
    "dash-es – en — em ― bar ‐ ‑ ⸺ 〜 ～ − minus",
    "…ellipsis ‥ · ‧ • ‣ ※ † ‡ ¶ § ¡ ¿ ‽ ⁇ ⁈ ‰ ′ ″",
    "€ £ ¥ ¢ ₹ ₿ ﷼ $ ＄ + ＋ < ＜ ° ¬ ± × ÷ ¦ ¨ ¯ ´ ¸ µ",
    "∑ ∫ ∞ ≤ ≠ → ⇒ ∀ √2 x² H₂O ½ ¼ ⅓ 10⁻³ ™",
    "〈〉 \u2329\u232a ⟨⟩ ⦃ 【】 ［］ ﹙﹚ ⁽⁾",
    "\u037e \u0387 \u1fef \u1ffd \u0060 \u00b4 \u2019s",
    "՚՛՜ ։ ׀ ؉ ٭ ۔ ।॥ ๏ ༄ ၊ ჻ ᐀ ᙮ ᚛᚜ ᛫ ᜵ ។ ᠀ ᥄ ᨞ ᪠ ᭚ ᯼ ᰻ ᱾",
    "᳀ ⳹ ⵰ ⸀ ꓾ ꘍ ꙳ ꛲ ꡴ ꣎ ꤮ ꥟ ꧁ ꩜ ꫞ ꯫ 𐄀 𐎟 𐡗 𑁇 𒑰",
    "snake_case __init__ _ __ a_b",
    "don't can't I'd o'clock rock'n'roll",
    "C++ C# F# .NET node.js a.b.c",
    "3.14 1,000,000 50% #1 @you",
    "http://example.org/a_b?c=d&e=f#g user@example.com",
    "\\n \\t \\u00e9 &amp; &#39; %20",
    "a\\b/c|d",
    "``tex'' --- $x^2_i$",
    # Names of special pieces in running text.
    "[MASK]",
    "a [MASK] b",
    "a[MASK]b",
    "[CLS] x [SEP] y [PAD] [UNK]",
    "[mask] [Mask] [ MASK ] [MASK",
    "[[MASK]] [MA\u200bSK] [MÁSK]",
    "[unused1] [unused99]",
    "##ing # #ing ## ####",
    "<mask> <s> </s> <unk> ▁ ▁the",
    "[MASK][MASK][SEP]",
    # Long words.
    *(character * count for character, count in product("aé中😀", (99, 100, 101, 199, 200, 201))),
    "a" * 199 + "\u200b" + "a",
    "a" * 200 + "\u0301",
    "a\u0301" * 101,
    "É" * 101,
    "İ" * 100,
    "x" * 200 + "." + "y" * 201,
    "b" * 250 + " c",
    "한" * 67,
    "한" * 100,
    # Ordinary text.
    "John Johanson's house",
    "The quick brown fox jumps over the lazy dog.",
    "unaffable UNwanted,running runners' re-running",
    "Mr. O'Neill thinks that the boys' stories about Chile's capital aren't amusing.",
    "Text must not be imperishable: 12:30, 2nd, 1990s, e.g. i.e. U.S.A.",
    "日本語とEnglishの混在テキスト。",
]

# Blocks whose rules differ: letters with case and accents, marks, spaces, punctuation, scripts.
BLOCKS = [
    *((0x00, 0x7F), (0x80, 0x24F), (0x2B0, 0x36F), (0x370, 0x52F), (0x531, 0x6FF), (0x900, 0xDFF)),
    *((0xE00, 0xFFF), (0x1000, 0x11FF), (0x1680, 0x1AAD), (0x1B00, 0x1CFF), (0x1D00, 0x1FFF)),
    *((0x2000, 0x206F), (0x2070, 0x2BFF), (0x2C00, 0x2E7F), (0x2E80, 0x33FF), (0x3400, 0x34FF)),
    *((0x4DB0, 0x4E20), (0xA000, 0xABFF), (0xAC00, 0xAC80), (0xE000, 0xE010), (0xF900, 0xFAFF)),
    *((0xFB00, 0xFFFF), (0x10000, 0x107FF), (0x10A00, 0x11FFF), (0x12470, 0x1247F)),
    *((0x1D100, 0x1D1FF), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F), (0x1F300, 0x1F64F)),
    *((0x2A6D0, 0x2A710), (0x2CEA0, 0x2CEB0), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF)),
]
LETTERS = ["abcdeghinorstuAEINOST", "ΑΣσςοςΣ", "İIıi", "éÉüÜñÇ", " ", " ", ".,'-:_", "你好世界"]


def random_texts(generator: random.Random) -> list[str]:
    """Mixtures of two blocks and of letters, each block by some of its characters."""
    pools = []
    for first, last in BLOCKS:
        characters = map(chr, range(first, last + 1))
        assigned = [c for c in characters if unicodedata.category(c) not in ("Cn", "Cs")]
        chosen = generator.sample(assigned, min(60, len(assigned)))
        pools.append([assigned[0], assigned[-1], *chosen])
    texts = []
    for _ in range(RANDOM_TEXTS):
        chosen = [generator.choice(pools), generator.choice(pools), *LETTERS]
        picked = generator.choices(chosen, [4, 3] + [1] * len(LETTERS), k=generator.randint(1, 15))
        texts.append("".join(generator.choice(pool) for pool in picked))
    return texts


def small_vocabulary(words: list[str], generator: random.Random) -> list[str]:
    """Seven of eight characters, frequent beginnings and ends of words."""
    words = [word for word in words if word.isprintable()]
    characters = sorted(set("".join(words)))
    kept = [c for c in characters if c.isascii() or generator.random() < 7 / 8]
    starts = Counter(word[:size] for word in words for size in (2, 3, 5) if len(word) > size)
    ends = Counter(word[-size:] for word in words for size in (2, 3, 4) if len(word) > size)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", *kept]
    pieces += ["##" + c for c in kept if generator.random() < 15 / 16]
    pieces += [start for start, _ in starts.most_common(300)]
    pieces += ["##" + end for end, _ in ends.most_common(300)]
    return list(dict.fromkeys(pieces))


def load_original(folder: str) -> types.ModuleType:
    flags = types.ModuleType("absl.flags")
    flags.FLAGS = types.SimpleNamespace(preserve_unused_tokens=False)
    flags.DEFINE_bool = lambda *_: None
    tensorflow = types.ModuleType("tensorflow.compat.v1")
    tensorflow.gfile = types.SimpleNamespace(
        GFile=lambda path, mode: open(path, mode, encoding="utf-8", newline="\n")  # noqa: SIM115
    )
    absl, compat = types.ModuleType("absl"), types.ModuleType("tensorflow.compat")
    absl.flags, compat.v1 = flags, tensorflow
    sys.modules |= {"absl": absl, "absl.flags": flags, "tensorflow": types.ModuleType("tensorflow")}
    sys.modules |= {"tensorflow.compat": compat, "tensorflow.compat.v1": tensorflow}
    sys.modules["six"] = types.SimpleNamespace(PY3=True, PY2=False)
    sys.path.insert(0, folder)
    import tokenization

    return tokenization


def main() -> None:
    original = load_original(sys.argv[1])
    generator = random.Random(SEED)
    texts = BY_HAND + random_texts(generator)
    words = []
    for lowercase in (True, False):
        basic = original.BasicTokenizer(do_lower_case=lowercase)
        words += [word for text in texts for word in basic.tokenize(text)]
    vocab = HERE / "vocab.txt"
    pieces = small_vocabulary(words, generator)
    vocab.write_text("".join(piece + "\n" for piece in pieces), encoding="utf-8", newline="\n")
    uncased, cased = (
        original.FullTokenizer(str(vocab), do_lower_case=lowercase) for lowercase in (True, False)
    )
    with open(HERE / "pieces.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for text in texts:
            row = [text, " ".join(uncased.tokenize(text)), " ".join(cased.tokenize(text))]
            legible = all(part.isprintable() for part in row)
            file.write(json.dumps(row, ensure_ascii=not legible) + "\n")


if __name__ == "__main__":
    main()
