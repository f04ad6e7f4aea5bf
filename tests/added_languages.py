"""Four languages that do not ship, as a user would add them: a folder of data files, and a few sentences of each.

The sentences were written for these tests: two documents a language, of the same two matters. Serbian and Bosnian in
Latin letters, Nynorsk and Egyptian Arabic are what the shipped languages beside them are easily taken for.
"""

import json
from pathlib import Path
from typing import Any

from small_corpus import TOKENIZER

PROSE = {
    "srp_Latn": (
        "Na kraju naše ulice nalazi se mala pekara u kojoj se hleb pravi pre svitanja. Pekar ustaje u tri "
        "sata, loži peć i mesi testo koje je ostavio da naraste prethodne večeri. Deca koja idu u školu "
        "kupuju tople kifle i čekaju autobus ispod lipe. Pre dve nedelje peć se pokvarila, pa je ceo kraj "
        "ostao bez hleba, a ljudi su tek tada shvatili koliko im znači miris koji svako jutro dolazi kroz "
        "prozor.",
        "Prošlog leta smo putovali vozom uz reku i videli gde se uliva u Dunav. Voz je bio spor, ali "
        "nikome se nije žurilo, jer su prozori bili otvoreni i vetar je bio prijatan. Jedna starija žena "
        "delila je breskve iz svoje bašte i pričala nam o vremenu kada je ovde bila samo jedna "
        "prodavnica. Posle podne smo stigli u grad, ostavili stvari u hotelu i otišli da se kupamo, a "
        "uveče smo svi zajedno večerali na obali.",
    ),
    "bos_Latn": (
        "Na kraju naše ulice nalazi se mala pekara u kojoj se hljeb pravi prije zore. Pekar ustaje u tri "
        "sata, loži peć i mijesi tijesto koje je ostavio da naraste prethodne večeri. Djeca koja idu u "
        "školu kupuju tople kifle i lahko zaborave na autobus. Prije dvije sedmice peć se pokvarila, pa "
        "je cijela mahala ostala bez hljeba, a ljudi su tek tada shvatili koliko im znači miris koji "
        "svako jutro dolazi kroz prozor.",
        "Prošlog ljeta smo putovali vozom uz rijeku i vidjeli gdje se Bosna ulijeva u Savu. Voz je bio "
        "spor, ali niko nije žurio, jer su prozori bili otvoreni i vjetar je bio ugodan. Jedna starija "
        "nena dijelila je breskve iz svoje bašče i pričala nam o vremenu kada je ovdje bila samo jedna "
        "prodavnica i kahva se pila kod komšije. Poslije podne smo stigli u grad, ostavili stvari u "
        "hotelu i otišli da se kupamo.",
    ),
    "nno_Latn": (
        "I enden av gata vår ligg eit lite bakeri der dei lagar brød før sola står opp. Bakaren kjem "
        "klokka tre, fyrer i omnen og eltar deigen som han sette kvelden før. Borna som skal til skulen "
        "kjøper varme rundstykke og ventar på bussen under treet. For to veker sidan slutta omnen å "
        "verke, og heile grannelaget vart utan brød. Fyrst då skjøna folk kor mykje dei set pris på lukta "
        "som kjem inn gjennom glaset kvar morgon.",
        "I fjor sommar reiste me med tog langs elva og såg kvar ho renn ut i fjorden. Toget var seint, "
        "men ingen hadde det travelt, for vindauga var opne og vinden var mild. Ei gamal kone delte ut "
        "eple frå hagen sin og fortalde om den tida då det ikkje var meir enn éin butikk her. Om "
        "ettermiddagen kom me fram til byen, sette frå oss sekkene på hotellet og gjekk for å bade, og om "
        "kvelden åt me alle saman nede ved vatnet.",
    ),
    "arz_Arab": (
        "فى آخر الشارع بتاعنا فيه فرن صغير بيعمل العيش قبل الشمس ما تطلع. الفران بيصحى الساعة تلاتة ويولع "
        "الفرن ويعجن العجينة اللى سابها تخمر من بالليل. العيال اللى رايحين المدرسة بيشتروا عيش سخن "
        "ويستنوا الاتوبيس تحت الشجرة. من اسبوعين الفرن باظ والحتة كلها فضلت من غير عيش، والناس ساعتها بس "
        "عرفت قد ايه بتحب الريحة اللى بتدخل من الشباك كل يوم الصبح، وبقوا يسألوا الراجل كل شوية هيصلحه "
        "امتى.",
        "الصيف اللى فات ركبنا القطر جنب النيل وشفنا الغيطان من الشباك. القطر كان بطىء بس محدش كان مستعجل "
        "عشان الشبابيك كانت مفتوحة والهوا كان حلو. واحدة ست كبيرة كانت بتوزع خوخ من جنينتها وبتحكيلنا عن "
        "ايام زمان لما ماكانش فيه هنا غير دكان واحد. بعد الضهر وصلنا البلد وسبنا الشنط فى الاوتيل ورحنا "
        "نعوم، وبالليل اتعشينا كلنا مع بعض على الشط وقعدنا نغنى لحد الفجر.",
    ),
}

LANGUAGES_CSV = """\
code,name,iso639_1,scripts,family,region,aliases,identified_as
srp_Latn,Serbian (Latin),,Latn,Slavic,Europe,sr-Latn,hrv_Latn slv_Latn
nno_Latn,Norwegian Nynorsk,nn,Latn,Germanic,Europe,,nob_Latn dan_Latn swe_Latn
bos_Latn,Bosnian,bs,Latn,Slavic,Europe,,hrv_Latn slv_Latn
arz_Arab,Arabic (Egyptian),,Arab,Semitic,Middle East,masri,arb_Arab
"""
LIMITS = {
    "max_duplicate_5_grams": 0.15,
    "max_word_length": 12,
    "min_alphabetic_words": 0.75,
    "min_stop_words": 2,
    "min_words": 30,
    "language_score": 0.3,
}
STOP_WORDS = {
    "srp_Latn": "i je da u se na su koji",
    "nno_Latn": "og i på det som ikkje me frå",
    "bos_Latn": "i je da u se na su koji",
    "arz_Arab": "فى من اللى كان بس كل على عن",
}


def write_folder(folder: Path) -> Path:
    """`languages.csv`, `limits.csv` and `stop_words.csv` of the four."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "languages.csv").write_text(LANGUAGES_CSV, "utf-8")
    limits = [f"{code},{limit},{value}" for code in PROSE for limit, value in LIMITS.items()]
    (folder / "limits.csv").write_text("\n".join(["language,limit,value", *limits, ""]), "utf-8")
    words = [f"{code},{word}" for code, words in STOP_WORDS.items() for word in words.split()]
    (folder / "stop_words.csv").write_text("\n".join(["language,word", *words, ""]), "utf-8")
    return folder


def write_documents(folder: Path) -> Path:
    """Both documents of each language as `CODE/text.jsonl`."""
    for code, texts in PROSE.items():
        rows = [{"id": f"{code}-{i}", "text": text} for i, text in enumerate(texts)]
        (folder / code).mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / code / "text.jsonl").write_text("".join(lines), "utf-8")
    return folder


def values(folder: Path) -> dict[str, Any]:
    """A recipe over `folder`/text with the languages of `folder`/languages: relative paths, as a user writes them."""
    write_folder(folder / "languages")
    write_documents(folder / "text")
    return {
        "family": "four",
        "stage": 1,
        "tokenizer": {"path": str(TOKENIZER)},
        "languages_from": "languages",
        "languages": list(PROSE),
        "sources": {"web": {"paths": ["text/{language}/*.jsonl"], "fields": {"id": "id"}, "licence": "CC0-1.0"}},
        "mixture": {"web": {"weight": 1}},
    }
